//! Options that several programs share, and parsing and formatting of times and sizes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::exit::Failure;

/// `--socket PATH`, before or after a subcommand.
#[derive(Debug, Clone, clap::Args)]
pub struct SocketOption {
    /// The server's socket [default: $RINGPOST_SOCKET, else $XDG_RUNTIME_DIR/ringpost/bus.sock, else
    /// /tmp/ringpost-UID/bus.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

impl SocketOption {
    /// Whether the path is the default one: neither the option nor the environment variable is set.
    pub fn is_default(&self) -> bool {
        choose(self.socket.clone(), std::env::var_os("RINGPOST_SOCKET")).is_none()
    }

    /// The socket's path: from the option, else the environment variable, else the default.
    pub fn path(&self) -> Result<PathBuf, Failure> {
        match choose(self.socket.clone(), std::env::var_os("RINGPOST_SOCKET")) {
            Some(path) => Ok(path),
            None => crate::default_path().map_err(Failure::failed),
        }
    }
}

/// Prefers the option. An empty variable counts as unset.
fn choose(option: Option<PathBuf>, variable: Option<OsString>) -> Option<PathBuf> {
    option.or_else(|| variable.filter(|path| !path.is_empty()).map(PathBuf::from))
}

/// The longest time that an option accepts: a year, in seconds.
const LONGEST: f64 = 31_536_000.0;

/// Parses a time in seconds, such as `5` or `0.25`.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let wanted = "give a number of seconds from 0.001 to 31536000 (a year), such as 5 or 0.25";
    let number: f64 = text.parse().map_err(|_| wanted.to_owned())?;
    // NaN is in no range.
    if (0.001..=LONGEST).contains(&number) {
        Ok(Duration::from_secs_f64(number))
    } else if number <= 0.0 {
        Err(format!("a time must be positive: {wanted}"))
    } else {
        Err(wanted.to_owned())
    }
}

/// Parses a time from a microsecond to ten seconds with its unit, such as `10us`, `1ms` or `0.5s`.
pub fn short_time(text: &str) -> Result<Duration, String> {
    let wanted = || "give a time from 1us to 10s, such as 10us, 1ms or 0.5s".to_string();
    let unit = text.find(|character: char| character.is_ascii_alphabetic() || character == 'µ');
    let (number, unit) = text.split_at(unit.ok_or_else(wanted)?);
    let nanoseconds = match unit {
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return Err(wanted()),
    };
    let number: f64 = number.parse().map_err(|_| wanted())?;
    let time = number * nanoseconds;
    if (1e3..=1e10).contains(&time) { Ok(Duration::from_nanos(time as u64)) } else { Err(wanted()) }
}

/// Parses a number of bytes. The suffix K, M or G multiplies by 1024, 1024² or 1024³.
pub fn bytes(text: &str) -> Result<usize, String> {
    let wanted = || "give a number of bytes, such as 65536, 64K or 1M".to_string();
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    // `parse` would also accept a sign.
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(wanted());
    }
    let number: usize = digits.parse().map_err(|_| wanted())?;
    number.checked_mul(1 << shift).ok_or_else(wanted)
}

/// Formats a number of bytes in the largest unit that fits exactly: `64 KiB`, `100 B`.
pub fn readable_bytes(value: usize) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if value >= 1 << shift && value.is_multiple_of(1 << shift) {
            return format!("{} {unit}", value >> shift);
        }
    }
    format!("{value} B")
}

/// Formats a time in its two largest units: `42 s`, `3 min 20 s`, `5 h 3 min`, `2 d 4 h`.
pub fn readable_time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_wins_over_the_variable_and_an_empty_variable_is_ignored() {
        assert_eq!(choose(Some("a".into()), Some("b".into())), Some("a".into()));
        assert_eq!(choose(None, Some("b".into())), Some("b".into()));
        assert_eq!(choose(None, Some("".into())), None);
        assert_eq!(choose(None, None), None);
    }

    #[test]
    fn seconds_are_a_positive_number_without_a_unit() {
        assert_eq!(seconds("5"), Ok(Duration::from_secs(5)));
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(seconds("1e2"), Ok(Duration::from_secs(100)));
        for wrong in ["", " ", "-1", "0", "0.0001", "NaN", "inf", "-inf", "1e300", "5s", "31536001"] {
            assert!(seconds(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn short_times_need_a_unit() {
        assert_eq!(short_time("10us"), Ok(Duration::from_micros(10)));
        assert_eq!(short_time("10µs"), Ok(Duration::from_micros(10)));
        assert_eq!(short_time("0.5ms"), Ok(Duration::from_micros(500)));
        assert_eq!(short_time("2s"), Ok(Duration::from_secs(2)));
        for wrong in ["", "10", "us", "-1us", "0us", "1h", "11s", "1e99s", "10 u"] {
            assert!(short_time(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn bytes_accept_the_suffixes_k_m_and_g() {
        assert_eq!(bytes("0"), Ok(0));
        assert_eq!(bytes("100"), Ok(100));
        assert_eq!(bytes("64K"), Ok(65_536));
        assert_eq!(bytes("1m"), Ok(1 << 20));
        assert_eq!(bytes("2G"), Ok(2 << 30));
        for wrong in [
            "",
            "K",
            "-1",
            "+1",
            "1.5K",
            "1KB",
            "1 K",
            "é",
            "1é",
            "18446744073709551615K",
            "99999999999999999999",
        ] {
            assert!(bytes(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_fits() {
        assert_eq!(readable_bytes(0), "0 B");
        assert_eq!(readable_bytes(100), "100 B");
        assert_eq!(readable_bytes(1024), "1 KiB");
        assert_eq!(readable_bytes(1025), "1025 B");
        assert_eq!(readable_bytes(3 << 20), "3 MiB");
    }

    #[test]
    fn times_are_shown_in_their_two_largest_units() {
        assert_eq!(readable_time(Duration::from_millis(59_999)), "59 s");
        assert_eq!(readable_time(Duration::from_secs(200)), "3 min 20 s");
        assert_eq!(readable_time(Duration::from_secs(18_180)), "5 h 3 min");
        assert_eq!(readable_time(Duration::from_secs(187_200)), "2 d 4 h");
    }
}
