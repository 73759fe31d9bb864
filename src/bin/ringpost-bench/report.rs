//! `ringpost-bench report`: runs all measurements as separate commands, and writes their results as an HTML
//! page.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Args;
use clap::builder::PossibleValuesParser;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::machine::{self, Machine};
use crate::results::{Ran, Results};
use crate::sections;
use ringpost::cli::child::bound;
use ringpost::cli::exit::{Failure, Outcome, note, one_line};
use ringpost::cli::out;
use ringpost::cli::place::{sibling, this_program};
use ringpost::cli::signals::Interrupt;
use ringpost::cli::stats::thousandths;

#[derive(Debug, Args)]
pub struct ReportOptions {
    /// The directory for report.html and the JSON files; created if missing
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,

    /// Measure only a few blocks, to try it out; the figures are not reliable
    #[arg(long)]
    pub quick: bool,

    /// Measure only these, by the names of their JSON files
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = PossibleValuesParser::new(names()))]
    pub only: Vec<String>,

    /// Take what is not measured from the report.json of an earlier report, also other systems
    #[arg(long, value_name = "FILE")]
    pub earlier: Option<PathBuf>,

    /// The JSON of the comparison with other systems (benches/peers), to include it in the page
    #[arg(long, value_name = "FILE")]
    pub peers: Option<PathBuf>,
}

/// One measurement of the report.
pub struct Item {
    /// The name of its file and of its section in the page.
    pub name: &'static str,
    arguments: &'static [&'static str],
    quick: &'static [&'static str],
}

const fn item(
    name: &'static str,
    arguments: &'static [&'static str],
    quick: &'static [&'static str],
) -> Item {
    Item { name, arguments, quick }
}

/// All measurements, in the order of the page.
pub const SET: [Item; 15] = [
    item("latency", &["latency"], &["--blocks", "3", "--count", "2000"]),
    item("latency-free", &["latency", "--wait", "adaptive", "--free"], &["--blocks", "3", "--count", "2000"]),
    item("rate-10000", &["latency", "--rate", "10000"], &["--blocks", "2", "--count", "500"]),
    item("rate-100000", &["latency", "--rate", "100000"], &["--blocks", "2", "--count", "2000"]),
    item("wakeup", &["wakeup"], &["--blocks", "2", "--count", "20"]),
    item("gaps", &["gaps"], &["--blocks", "1", "--count", "3", "--gaps", "10us,1ms"]),
    item("copy", &["copy"], &["--blocks", "2", "--count", "5", "--sizes", "0,64,4K,1M"]),
    item(
        "throughput",
        &["throughput"],
        &["--blocks", "2", "--count", "500", "--sizes", "56,4K", "--windows", "1,16"],
    ),
    item("forward", &["forward"], &["--blocks", "2", "--count", "20"]),
    item(
        "clients",
        &["clients"],
        &[
            "--blocks",
            "1",
            "--clients",
            "1,2,4",
            "--seconds",
            "0.05",
            "--idle",
            "20",
            "--idle-seconds",
            "0.1",
        ],
    ),
    item("register", &["register"], &["--blocks", "2", "--count", "10"]),
    item(
        "link",
        &["link"],
        &[
            "--blocks",
            "2",
            "--count",
            "500",
            "--sizes",
            "64,4K",
            "--windows",
            "1,16",
            "--opens",
            "5",
            "--busy",
            "4",
            "--seconds",
            "0.05",
            "--idle",
            "20",
            "--idle-seconds",
            "0.1",
        ],
    ),
    item(
        "ready",
        &["ready"],
        &[
            "--blocks",
            "2",
            "--count",
            "20",
            "--many",
            "4",
            "--seconds",
            "0.05",
            "--idle",
            "20",
            "--idle-seconds",
            "0.1",
        ],
    ),
    item(
        "topics",
        &["topics"],
        &[
            "--blocks",
            "2",
            "--count",
            "2000",
            "--subscriptions",
            "4",
            "--inboxes",
            "3",
            "--few",
            "3",
            "--frame",
            "64K",
            "--held",
            "5",
        ],
    ),
    item("observe", &["observe"], &["--blocks", "2", "--rounds", "1", "--clients", "5", "--looks", "3"]),
];

/// The names of all measurements.
fn names() -> [&'static str; SET.len()] {
    SET.each_ref().map(|item| item.name)
}

pub fn run(socket: Option<PathBuf>, options: &ReportOptions) -> Outcome {
    let peers = options.peers.as_deref().map(read_peers).transpose()?;
    let mut earlier = options.earlier.as_deref().map(Results::read).transpose()?;
    let out = &options.out;
    // Check first what could make the report fail at its end.
    sibling("ringpost-server")?;
    fs::create_dir_all(out).map_err(|error| cannot_write(out, &error))?;
    let page = out.join("report.html");
    write(&page, b"")?;
    let interrupt = Interrupt::install()?;
    let mut results = Results {
        version: env!("CARGO_PKG_VERSION").into(),
        machine: Machine::look(),
        quick: options.quick,
        measurements: Vec::new(),
        peers: peers.or_else(|| earlier.as_mut()?.peers.take()),
    };
    for item in &SET {
        interrupt.check()?;
        if !options.only.is_empty() && !options.only.iter().any(|name| name == item.name) {
            let kept = earlier.as_mut().and_then(|earlier| earlier.take(item.name));
            results.measurements.extend(kept);
            continue;
        }
        let ran = measure(item, socket.as_deref(), options.quick, &interrupt)?;
        interrupt.check()?;
        match &ran.failure {
            None => {
                note(format_args!("{}: {:.1} s", ran.command, ran.seconds));
                write(&out.join(format!("{}.json", item.name)), format!("{}\n", ran.found).as_bytes())?;
            }
            Some(why) => note(format_args!("{}: {}", ran.command, one_line(why))),
        }
        results.measurements.push(ran);
    }
    if let Some(peers) = &results.peers {
        write(&out.join("peers.json"), format!("{peers}\n").as_bytes())?;
    }
    write(&out.join("report.json"), results.text()?.as_bytes())?;
    write(&page, sections::page(&results).as_bytes())?;
    out::line(&page.display().to_string())?;
    match results.measurements.iter().filter(|ran| ran.failure.is_some()).count() {
        0 => Ok(()),
        failed => Err(Failure::failed(format!(
            "{failed} of {} measurements failed; see {}",
            results.measurements.len(),
            page.display()
        ))),
    }
}

fn read_peers(path: &Path) -> Result<Value, Failure> {
    let wrong = |why: String| Failure::usage(format!("--peers {}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let object: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if object.get("entries").is_some_and(Value::is_array) {
        Ok(object)
    } else {
        Err(wrong("this is not the JSON of the comparison with other systems: \"entries\" is missing".into()))
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot write {}: {error}", path.display()))
}

/// Writes a whole file.
pub fn write(path: &Path, bytes: &[u8]) -> Outcome {
    fs::write(path, bytes).map_err(|error| cannot_write(path, &error))
}

/// Runs one measurement in its own process.
fn measure(item: &Item, socket: Option<&Path>, quick: bool, interrupt: &Interrupt) -> Result<Ran, Failure> {
    use std::os::unix::process::CommandExt;

    let mut arguments = item.arguments.to_vec();
    if quick {
        arguments.extend(item.quick);
    }
    arguments.push("--json");
    let (date, began) = (machine::now(), Instant::now());
    let mut command = Command::new(this_program()?);
    // Its own process group, so that Ctrl-C signals only this process, which passes the signal on.
    bound(&mut command).arg("--with-parent").args(&arguments).process_group(0);
    if let Some(socket) = socket {
        command.arg("--socket").arg(socket);
    }
    let cannot = |error| Failure::failed(format!("cannot run {}: {error}", item.name));
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(cannot)?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    interrupt.then(move || {
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
        }
    });
    let stderr = child.stderr.take();
    let notes = std::thread::spawn(move || {
        let lines = stderr.map(|stderr| BufReader::new(stderr).lines().map_while(Result::ok));
        lines.into_iter().flatten().collect::<Vec<String>>()
    });
    let mut output = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut output).map_err(cannot)?;
    }
    let notes = notes.join().unwrap_or_default();
    // The action uses the process id, so it must be removed before the process is waited for.
    interrupt.forget();
    let status = child.wait().map_err(cannot)?;
    let found = if status.success() {
        serde_json::from_str(&output).map_err(|error| format!("its output is not JSON: {error}"))
    } else {
        Err(notes.last().cloned().unwrap_or_else(|| status.to_string()))
    };
    let (found, failure) = match found {
        Ok(found) => (found, None),
        Err(why) => (Value::Null, Some(why)),
    };
    Ok(Ran {
        name: item.name.into(),
        command: format!("ringpost-bench {}", arguments.join(" ")),
        began: date,
        seconds: thousandths(began.elapsed().as_secs_f64()),
        notes,
        found,
        failure,
    })
}
