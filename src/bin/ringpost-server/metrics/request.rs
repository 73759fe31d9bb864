//! Requests over HTTP: what was asked, and the head of an answer.

use std::net::IpAddr;

/// The longest head of a request, in bytes. A scraper's has a few hundred.
pub const LONGEST: usize = 8192;

/// The most headers of a request.
const HEADERS: usize = 64;

/// What the metrics are written in.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The metrics of the server and of users.
    Metrics,
    /// Those of each client, link and topic.
    Clients,
    /// What there is.
    Hint,
}

/// A request, or why it gets no more than a status.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// Its head has not come to its end.
    Incomplete,
    Asks {
        wanted: Wanted,
        /// Only the head of the answer is asked for.
        head: bool,
    },
    Refused(Status),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    BadRequest,
    ForeignHost,
    NotFound,
    NotAllowed,
    TooLarge,
    Failed,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Status::BadRequest => "400 Bad Request",
            Status::ForeignHost => "421 Misdirected Request",
            Status::NotFound => "404 Not Found",
            Status::NotAllowed => "405 Method Not Allowed",
            Status::TooLarge => "431 Request Header Fields Too Large",
            Status::Failed => "500 Internal Server Error",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Status::BadRequest => "This is not an HTTP request.\n",
            Status::ForeignHost => {
                "Ask by an address, or as localhost: other names are refused, so that no web page can ask.\n"
            }
            Status::NotFound => "Ask for /metrics or /metrics/clients.\n",
            Status::NotAllowed => "Use GET or HEAD.\n",
            Status::TooLarge => "The request is too long.\n",
            Status::Failed => "The metrics cannot be read now.\n",
        }
    }

    /// The whole answer.
    pub fn answer(self) -> Vec<u8> {
        let allow = if self == Status::NotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
        answer(self.line(), "text/plain; charset=utf-8", allow, self.text(), false)
    }
}

/// What is said at `/`.
const HINT: &str = "ringpost-server: /metrics has the metrics of the server and its users, /metrics/clients those of each client, \
                    link and topic.\n";

/// The answer with these metrics.
pub fn found(metrics: &str, head: bool) -> Vec<u8> {
    answer("200 OK", TEXT, "", metrics, head)
}

/// The answer at `/`.
pub fn hint(head: bool) -> Vec<u8> {
    answer("200 OK", "text/plain; charset=utf-8", "", HINT, head)
}

fn answer(status: &str, kind: &str, more: &str, body: &str, head: bool) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nX-Content-Type-Options: nosniff\r\n\
         Cache-Control: no-store\r\n{more}Connection: close\r\n\r\n",
        body.len()
    );
    if !head {
        answer.push_str(body);
    }
    answer.into_bytes()
}

impl Request {
    /// Reads a request's head as far as it has come. `local`: names other than this computer's are refused.
    pub fn read(bytes: &[u8], local: bool) -> Request {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) if bytes.len() < LONGEST => return Request::Incomplete,
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Request::Refused(Status::TooLarge);
            }
            Err(_) => return Request::Refused(Status::BadRequest),
        }
        let host = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("host"));
        if local && host.is_some_and(|host| !is_here(host.value)) {
            return Request::Refused(Status::ForeignHost);
        }
        let head = match request.method {
            Some("GET") => false,
            Some("HEAD") => true,
            _ => return Request::Refused(Status::NotAllowed),
        };
        let path = request.path.unwrap_or_default();
        let wanted = match path.split(['?', '#']).next().unwrap_or_default() {
            "/metrics" => Wanted::Metrics,
            "/metrics/clients" => Wanted::Clients,
            "/" => Wanted::Hint,
            _ => return Request::Refused(Status::NotFound),
        };
        Request::Asks { wanted, head }
    }
}

/// Whether a host is an address or `localhost`. A web page of a stranger could otherwise have its own name
/// lead here, and read what is answered.
fn is_here(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let host = host.trim();
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) && (name.ends_with(']') || !name.contains(':')) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Request {
        Request::read(text.as_bytes(), true)
    }

    #[test]
    fn what_is_asked_for_is_understood() {
        let get = |path: &str| read(&format!("GET {path} HTTP/1.1\r\nHost: localhost:9464\r\n\r\n"));
        let asks = |wanted| Request::Asks { wanted, head: false };
        assert_eq!(get("/metrics"), asks(Wanted::Metrics));
        assert_eq!(get("/metrics?x=y"), asks(Wanted::Metrics));
        assert_eq!(get("/metrics/clients"), asks(Wanted::Clients));
        assert_eq!(get("/"), asks(Wanted::Hint));
        assert_eq!(get("/metrics/"), Request::Refused(Status::NotFound));
        assert_eq!(read("HEAD / HTTP/1.0\r\n\r\n"), Request::Asks { wanted: Wanted::Hint, head: true });
        assert_eq!(read("POST /metrics HTTP/1.1\r\n\r\n"), Request::Refused(Status::NotAllowed));
    }

    #[test]
    fn heads_that_are_no_heads_are_refused() {
        for part in ["", "G", "GET /metrics HTTP/1.1\r\nHost: x"] {
            assert_eq!(read(part), Request::Incomplete, "{part:?}");
        }
        for wrong in [
            "\u{16}\u{3}\u{1}",
            "GET\0/ HTTP/1.1\r\n\r\n",
            "GET / HTTP/9.9\r\n\r\n",
            "GET / HTTP/1.1\r\na b: c\r\n\r\n",
        ] {
            assert_eq!(read(wrong), Request::Refused(Status::BadRequest), "{wrong:?}");
        }
        let long = format!("GET /{} HTTP/1.1", "x".repeat(LONGEST));
        assert_eq!(read(&long), Request::Refused(Status::TooLarge));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS + 1));
        assert_eq!(read(&many), Request::Refused(Status::TooLarge));
    }

    #[test]
    fn a_local_port_answers_no_foreign_name() {
        let with = |host: &str, local| {
            let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            matches!(Request::read(text.as_bytes(), local), Request::Asks { .. })
        };
        for here in ["localhost", "LOCALHOST:9464", "127.0.0.1:9464", "[::1]:9464", "[::1]", "10.0.0.7"] {
            assert!(with(here, true), "{here}");
        }
        for foreign in
            ["evil.example", "evil.example:9464", "localhost.evil.example", "", "127.0.0.1.evil.example:1"]
        {
            assert!(!with(foreign, true) && with(foreign, false), "{foreign}");
        }
    }

    #[test]
    fn an_answer_has_its_length_and_a_head_no_body() {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let whole = text(found("a 1\n", false));
        assert!(whole.starts_with("HTTP/1.1 200 OK\r\n") && whole.ends_with("\r\n\r\na 1\n"), "{whole}");
        assert!(whole.contains("\r\nContent-Length: 4\r\n") && whole.contains("version=0.0.4"), "{whole}");
        let head = text(found("a 1\n", true));
        assert!(head.ends_with("\r\n\r\n") && head.contains("Content-Length: 4"), "{head}");
        assert!(text(Status::NotAllowed.answer()).contains("\r\nAllow: GET, HEAD\r\n"));
    }
}
