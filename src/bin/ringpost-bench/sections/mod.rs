//! Builds the sections of the report's page from the measurements' JSON objects.

mod links;
mod loads;
mod peers;
pub mod read;
mod ready;
mod topics;
mod trips;

use serde_json::Value;

use crate::glance;
use crate::machine::Machine;
use crate::page::Page;
use crate::plot::{Axis, Plot, Scale};
use crate::results::{Ran, Results};
use read::{distribution, line, times};

/// Builds the whole page.
pub fn page(results: &Results) -> String {
    let mut page = Page::new();
    let machine = &results.machine;
    if results.quick {
        page.warning("This was a quick run with only a few blocks. The figures are not reliable.");
    }
    if !machine.optimized {
        page.warning("The programs were built without optimisation. The figures are not reliable.");
    }
    about_machine(&mut page, machine);
    at_a_glance(&mut page, results);
    latency(&mut page, results);
    for (name, heading, write) in PARTS {
        page.section(name, heading);
        if let Some(ran) = results.ran(name) {
            came(&mut page, ran, write);
        }
    }
    if let Some(others) = &results.peers {
        peers::peers(&mut page, others);
    }
    method(&mut page, results);
    let under = format!("ringpost {}; {}; {}", results.version, machine.cpu, machine.time);
    page.finish("Ringpost, measured", &under)
}

/// Writes what a measurement has found.
type Write = fn(&mut Page, &Value);

/// The sections of one measurement each.
const PARTS: [(&str, &str, Write); 11] = [
    ("wakeup", "Ends that sleep", trips::wakeup),
    ("gaps", "After idle gaps", trips::gaps),
    ("copy", "By size", trips::copy),
    ("throughput", "Throughput", loads::throughput),
    ("forward", "From client to client", loads::forward),
    ("clients", "Many clients", loads::clients),
    ("register", "Registering", loads::register),
    ("link", "Links", links::links),
    ("ready", "In event loops", ready::ready),
    ("topics", "Topics", topics::topics),
    ("observe", "Being observed", loads::observe),
];

fn about_machine(page: &mut Page, machine: &Machine) {
    page.section("machine", "The machine");
    page.facts(&[
        ("processor", machine.cpu.clone()),
        ("CPUs that may be used", machine.cpus.clone()),
        ("cores", machine.same_core.clone()),
        ("virtual machine", if machine.virtual_machine { "yes".into() } else { "not detected".into() }),
        ("memory", machine.memory.clone()),
        ("kernel", machine.kernel.clone()),
        ("system", machine.system.clone()),
        ("frequency governor", machine.governor.clone()),
        ("measured", machine.time.clone()),
    ]);
    if machine.virtual_machine {
        page.text(
            "The host may move virtual CPUs between cores, which changes all times, including the floors, within seconds. \
             Therefore blocks of each measurement alternate with blocks of its floor, and the ratio is the median of the \
             pairs' ratios.",
        );
    }
}

/// The medians of all measurements.
fn at_a_glance(page: &mut Page, results: &Results) {
    page.section("summary", "At a glance");
    page.text(
        "Medians; each ratio is that of the pairs of blocks. A round trip is a request and its complete response. Each section \
         below says what its floor is and how it was measured.",
    );
    for part in glance::PARTS.iter().filter(|part| part.on_page) {
        let content = (part.make)(results);
        if content.is_some() {
            page.heading(part.title);
        }
        page.content(content);
    }
    page.text(
        "A floor is the simplest way to do the same work, not the least time in which it can be done, so a ratio may be below \
         1: bare words are stored without fetching their lines first, as a ring does, and a futex pair sleeps each time, where \
         an end that waits adaptively looks first.",
    );
}

/// The results of a measurement, or why it failed.
fn came(page: &mut Page, ran: &Ran, write: Write) {
    match &ran.failure {
        None => {
            for note in &ran.notes {
                page.warning(note.trim_start_matches("ringpost-bench: "));
            }
            write(page, &ran.found);
        }
        Some(why) => page.warning(&format!("The measurement failed: {why}")),
    }
    page.commands(&ran.command);
}

fn latency(page: &mut Page, results: &Results) {
    page.section("latency", "Latency");
    page.text(
        "One call at a time from a client process to the server. The floor is a bare shared-memory round trip between two \
         processes on the same CPUs: each answers the other's word, and the two words are in different cache lines.",
    );
    let curves = [
        ("latency", "/distribution", "closed loop, spinning, pinned"),
        ("latency-free", "/distribution", "closed loop, adaptive, not pinned"),
        ("rate-10000", "/distribution", "10,000 per second, from when due"),
        ("rate-100000", "/distribution", "100,000 per second, from when due"),
        ("rate-100000", "/floor/distribution", "floor, 100,000 per second, from when due"),
    ];
    let lines = curves
        .iter()
        .filter_map(|(name, path, shown)| Some(line(shown, distribution(results.found(name)?, path))))
        .collect();
    let plot = Plot {
        about: "The distribution of latencies, from the fastest to the slowest calls".into(),
        x: Axis {
            label: "fraction of calls that took at most this long",
            scale: Scale::Nines,
            text: |value| format!("{} %", (value * 1e8).round() / 1e6),
            ticks: Vec::new(),
        },
        y: times("latency of a call", Vec::new()),
        lines,
    };
    page.figure(
        "Each call is timed, including one reading of the clock. Both axes are logarithmic.",
        &plot.svg(),
    );
    let these = |ran: &&Ran| ran.name.starts_with("latency") || ran.name.starts_with("rate");
    for ran in results.measurements.iter().filter(these) {
        page.heading(match &*ran.name {
            "latency" => "Closed loop, both ends spinning, pinned",
            "latency-free" => "Closed loop, adaptive waiting, not pinned",
            "rate-10000" => "10,000 calls per second, due at fixed times",
            _ => "100,000 calls per second, due at fixed times",
        });
        came(page, ran, if ran.name.starts_with("rate") { trips::paced } else { trips::closed });
    }
}

fn method(page: &mut Page, results: &Results) {
    page.section("method", "Method");
    page.text(
        "Client and server are separate processes, each pinned to a CPU unless a section says otherwise. Blocks of the \
         measured work alternate with blocks of the floor. A block is timed as a whole, unless each call is timed. Times are \
         medians over the blocks, ratios are medians of the pairs’ ratios. Responses are compared with their requests byte \
         by byte, outside the timed parts of the blocks. Percentiles are those of single calls.",
    );
    page.text(
        "With a rate, calls are due at fixed times and timed from then, so that a stall counts for all calls that were due \
         in it; the floor does the same at the same rate. No floor is taken from another run.",
    );
    page.text(
        "Not measured: services that do work, other processors, machines under load. In a virtual machine the host \
         contributes to the tail latencies.",
    );
    page.heading("The commands of this page");
    let commands: Vec<String> =
        results.measurements.iter().map(|ran| format!("{}   # {:.1} s", ran.command, ran.seconds)).collect();
    page.commands(&commands.join("\n"));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_comes_of_whatever_there_is() {
        let names = crate::report::SET.each_ref().map(|item| item.name);
        for (found, failure) in [(json!({}), None), (Value::Null, Some("it <failed>".to_string()))] {
            let ran = |name: &str| Ran {
                name: name.into(),
                command: format!("bench {name}"),
                began: String::new(),
                seconds: 0.0,
                notes: vec!["a <note>".into()],
                found: found.clone(),
                failure: failure.clone(),
            };
            let mut machine = Machine::look();
            machine.cpu = "a <cpu>".into();
            let measurements = names.iter().map(|name| ran(name)).collect();
            let results = Results { version: "0".into(), machine, quick: true, measurements, peers: None };
            let html = page(&results);
            assert!(html.contains("a &lt;cpu&gt;"));
            assert!(!html.contains("<failed>") && !html.contains("<note>") && !html.contains("NaN"));
            for name in names {
                assert!(html.contains(&format!("bench {name}")), "{name}");
            }
        }
    }
}
