//! Where metrics are served: a TCP port, of this computer alone unless it is said to be public, or a Unix
//! socket.

use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::str::FromStr;

/// The mode of the Unix socket: the server's user and its group may ask.
const MODE: u32 = 0o660;

/// What is behind `--metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    /// A TCP port that other computers may reach, too.
    Public(SocketAddr),
    Unix(PathBuf),
}

/// A socket that listens.
#[derive(Debug)]
pub enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        const VALID: &str = "give ADDRESS:PORT, such as 127.0.0.1:9464 or [::1]:9464, or unix:PATH";
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() {
                Ok(Address::Unix(path))
            } else {
                Err(format!("{path:?} is not an absolute path: begin it with /"))
            };
        }
        let (is_public, text) = match text.strip_prefix("public:") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let address: SocketAddr = text.parse().map_err(|_| VALID.to_owned())?;
        if is_public {
            Ok(Address::Public(address))
        } else if address.ip().is_loopback() {
            Ok(Address::Tcp(address))
        } else {
            Err(format!(
                "{} can be reached from other computers, and whoever asks is told what the bus does: use 127.0.0.1, or write \
                 public:{address} if it is meant to be public",
                address.ip()
            ))
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "http://{address}/metrics"),
            Address::Public(address) => write!(f, "http://{address}/metrics"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Address {
    /// Listens there. Returns the address with the port that was given, if any was asked for (port 0).
    pub fn listen(&self) -> Result<(Listening, Address), String> {
        let cannot = |error: io::Error| {
            let remedy = match error.kind() {
                io::ErrorKind::AddrInUse => "choose another one, or end the program that listens there",
                io::ErrorKind::PermissionDenied => "choose one that this user may use",
                io::ErrorKind::NotFound => "make its directory first, or choose another path",
                // As in the units for systemd.
                _ if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                    "this process may have no sockets for the network: use unix:PATH"
                }
                io::ErrorKind::AddrNotAvailable => "choose an address of this computer",
                _ => "choose another one",
            };
            format!("--metrics: cannot listen at {self}: {error}; {remedy}")
        };
        let (listening, found) = match self {
            Address::Tcp(address) | Address::Public(address) => {
                let listener = TcpListener::bind(address).map_err(cannot)?;
                listener.set_nonblocking(true).map_err(cannot)?;
                let found = match address.port() {
                    0 => listener.local_addr().map_err(cannot)?,
                    _ => *address,
                };
                (Listening::Tcp(listener), found)
            }
            Address::Unix(path) => {
                remove_stale(path).map_err(cannot)?;
                let listener = UnixListener::bind(path).map_err(cannot)?;
                listener.set_nonblocking(true).map_err(cannot)?;
                fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(cannot)?;
                return Ok((Listening::Unix(listener), self.clone()));
            }
        };
        let found = match self {
            Address::Public(_) => Address::Public(found),
            _ => Address::Tcp(found),
        };
        Ok((listening, found))
    }

    /// Whether only this computer can ask, over TCP. Then a web page in a browser here could, too.
    pub fn is_local_port(&self) -> bool {
        matches!(self, Address::Tcp(_))
    }

    /// The file of the socket, if it has one.
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Address::Unix(path) => Some(path),
            _ => None,
        }
    }
}

/// Removes a socket at which nobody listens any more. What is not a socket stays.
fn remove_stale(path: &PathBuf) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket
        && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    {
        fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_taken_as_it_is() {
        let parse = |text: &str| text.parse::<Address>();
        for local in ["127.0.0.1:9464", "127.1.2.3:0", "[::1]:9464"] {
            assert!(parse(local).unwrap().is_local_port(), "{local}");
        }
        for open in ["0.0.0.0:9464", "[::]:9464", "10.0.0.1:80"] {
            let why = parse(open).unwrap_err();
            assert!(why.contains(&format!("public:{open}")), "{why}");
            let public = parse(&format!("public:{open}")).unwrap();
            assert!(!public.is_local_port());
        }
        assert_eq!(parse("unix:/run/x"), Ok(Address::Unix("/run/x".into())));
        for wrong in [
            "",
            "9464",
            ":9464",
            "localhost:9464",
            "127.0.0.1",
            "unix:",
            "unix:x",
            "public:",
            "public:unix:/x",
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics");
        let address = Address::Unix(path.clone());
        drop(address.listen().unwrap());
        assert!(path.exists(), "it is left there");
        let (listening, _) = address.listen().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        let why = address.listen().unwrap_err();
        assert!(why.contains("choose another one"), "{why}");
        drop(listening);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        address.listen().unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }
}
