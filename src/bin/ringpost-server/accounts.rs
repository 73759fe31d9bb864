//! Users and groups by name or number, from /etc/passwd and /etc/group.

use std::fs;

/// The number of the user that `text` names.
pub fn user(text: &str) -> Result<u32, String> {
    resolve(text, "user", "/etc/passwd")
}

/// The number of the group that `text` names.
pub fn group(text: &str) -> Result<u32, String> {
    resolve(text, "group", "/etc/group")
}

fn resolve(text: &str, kind: &str, path: &str) -> Result<u32, String> {
    // Without the file, numbers still do.
    let accounts = fs::read(path).unwrap_or_default();
    number_of(text, &String::from_utf8_lossy(&accounts)).ok_or_else(|| {
        format!("no such {kind}: give a name that is in {path}, or a number from 0 to 4294967294")
    })
}

/// A name comes before a number, since a name may consist of digits. Both files have the name first, the
/// number third.
fn number_of(text: &str, accounts: &str) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    accounts
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            if fields.next()? == text { fields.nth(1)?.parse().ok() } else { None }
        })
        .or_else(|| if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None })
        // The last number means "no one" to the kernel.
        .filter(|&number| number != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNTS: &str = "root:x:0:0:root:/root:/bin/sh\n# a comment\n\nbroken\n\
        alice:x:1000:1001::/home/alice:\n42:x:7:7::/:\nnone:x:4294967295::\n";

    #[test]
    fn a_name_is_looked_up_and_a_number_stands_for_itself() {
        assert_eq!(number_of("root", ACCOUNTS), Some(0));
        assert_eq!(number_of("alice", ACCOUNTS), Some(1000));
        assert_eq!(number_of("1234", ACCOUNTS), Some(1234));
        assert_eq!(number_of("42", ACCOUNTS), Some(7), "a name comes first");
        assert_eq!(number_of("0", ""), Some(0));
    }

    #[test]
    fn what_is_neither_is_refused() {
        for wrong in
            ["", "bob", "broken", "none", "-1", "+1", "4294967295", "4294967296", "x", "alice:x", " root"]
        {
            assert_eq!(number_of(wrong, ACCOUNTS), None, "{wrong:?}");
        }
    }
}
