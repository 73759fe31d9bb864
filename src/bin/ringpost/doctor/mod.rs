//! `ringpost doctor`: looks for what keeps a bus from working well on this computer, and says what mends it.

mod finding;
mod kernel;
mod limits;
mod processors;
mod socket;
mod subject;
mod tree;

use serde::Serialize;

use crate::cli::DoctorOptions;
use finding::{Finding, Verdict, text, worst};
use ringpost::cli::args::SocketOption;
use ringpost::cli::exit::{Failure, Outcome};
use ringpost::cli::out;
use subject::Subject;
use tree::Tree;

/// The width of text that is not written to a terminal.
const WIDTH: usize = 100;

/// The JSON output.
#[derive(Serialize)]
struct Report<'a> {
    verdict: Verdict,
    findings: &'a [Finding],
}

pub fn run(socket: &SocketOption, options: &DoctorOptions) -> Outcome {
    let tree = Tree::at("/");
    let (mut findings, server) = match socket.path() {
        Ok(path) => socket::check(&path, &socket::usual_places()),
        Err(why) => {
            let means = "Servers and clients that are not told another socket do not start.";
            let mend = "as the text says";
            (vec![Finding::problem("socket", why.to_string(), means, mend)], None)
        }
    };
    let subject = Subject::of(&tree, server.as_ref());
    if server.is_some() && !subject.is_server {
        findings.push(Finding::unknown(
            "process",
            "the server's process cannot be seen from here, so what follows is about this one; run doctor where the server runs",
        ));
    }
    findings.extend(limits::check(&tree, &subject));
    findings.extend(processors::check(&tree, &subject));
    findings.extend(kernel::check(&tree, &subject));
    let verdict = worst(&findings);
    if options.json {
        out::json(&Report { verdict, findings: &findings })?;
    } else {
        let width = out::terminal_width().unwrap_or(WIDTH).min(WIDTH);
        out::put(text(&findings, width).as_bytes())?;
    }
    match verdict {
        Verdict::Ok | Verdict::Unknown => Ok(()),
        Verdict::Warning => Err(Failure::Told(1)),
        Verdict::Problem => Err(Failure::Told(2)),
    }
}
