//! Looks up users and groups by name or number, in /etc/passwd and /etc/group.

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
    // Numbers work even without the file.
    let accounts = fs::read(path).unwrap_or_default();
    number_of(text, &String::from_utf8_lossy(&accounts))
        .ok_or_else(|| format!("no such {kind}: give a name from {path}, or a number from 0 to 4294967294"))
}

/// Looks for a name first, because a name may consist of digits. In both files the first field is the name
/// and the third the number.
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
        // For the kernel, the largest number means "nobody".
        .filter(|&number| number != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNTS: &str = "root:x:0:0:root:/root:/bin/sh\n# a comment\n\nbroken\n\
        alice:x:1000:1001::/home/alice:\n42:x:7:7::/:\nnone:x:4294967295::\n";

    #[test]
    fn names_are_looked_up_and_numbers_are_accepted() {
        assert_eq!(number_of("root", ACCOUNTS), Some(0));
        assert_eq!(number_of("alice", ACCOUNTS), Some(1000));
        assert_eq!(number_of("1234", ACCOUNTS), Some(1234));
        assert_eq!(number_of("42", ACCOUNTS), Some(7), "a name comes first");
        assert_eq!(number_of("0", ""), Some(0));
    }

    #[test]
    fn other_texts_are_refused() {
        for wrong in
            ["", "bob", "broken", "none", "-1", "+1", "4294967295", "4294967296", "x", "alice:x", " root"]
        {
            assert_eq!(number_of(wrong, ACCOUNTS), None, "{wrong:?}");
        }
    }
}
