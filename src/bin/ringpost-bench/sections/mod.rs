//! Builds the sections of the report's page from the measurements' JSON objects.

mod links;
mod loads;
mod peers;
pub mod read;
mod ready;
mod topics;
mod trips;

use serde_json::Value;

use crate::machine::Machine;
use crate::page::Page;
use crate::plot::{Axis, Plot, Scale};
use crate::report::Ran;
use read::{distribution, line, list, number, ratio, row, short_time, size, text, time, times};

/// Builds the whole page.
pub fn page(machine: &Machine, set: &[Ran], others: Option<&Value>, quick: bool) -> String {
    let mut page = Page::new();
    if quick {
        page.warning("This was a quick run with only a few blocks. The figures are not reliable.");
    }
    if !machine.optimized {
        page.warning("The programs were built without optimisation. The figures are not reliable.");
    }
    about_machine(&mut page, machine);
    at_a_glance(&mut page, set);
    latency(&mut page, set);
    part(&mut page, set, "wakeup", "Ends that sleep", trips::wakeup);
    part(&mut page, set, "gaps", "After idle gaps", trips::gaps);
    part(&mut page, set, "copy", "By size", trips::copy);
    part(&mut page, set, "throughput", "Throughput", loads::throughput);
    part(&mut page, set, "forward", "From client to client", loads::forward);
    part(&mut page, set, "clients", "Many clients", loads::clients);
    part(&mut page, set, "register", "Registering", loads::register);
    part(&mut page, set, "link", "Links", links::links);
    part(&mut page, set, "ready", "In event loops", ready::ready);
    part(&mut page, set, "topics", "Topics", topics::topics);
    if let Some(others) = others {
        peers::peers(&mut page, others);
    }
    method(&mut page, set);
    let under = format!("ringpost {}; {}; {}", env!("CARGO_PKG_VERSION"), machine.cpu, machine.time);
    page.finish("Ringpost, measured", &under)
}

fn object<'a>(set: &'a [Ran], name: &str) -> Option<&'a Value> {
    set.iter().find(|ran| ran.name == name)?.result.as_ref().ok()
}

fn rows<'a>(set: &'a [Ran], name: &str, path: &str) -> &'a [Value] {
    object(set, name).map_or(&[], |found| list(found, path))
}

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
fn at_a_glance(page: &mut Page, set: &[Ran]) {
    page.section("summary", "At a glance");
    let mut table = Vec::new();
    let mut add = |what: &str, found: &Value, paths: [&str; 3]| {
        let [ours, floor, to] = paths;
        table.push(row(what, [time(found, ours), time(found, floor), ratio(found, to)]));
    };
    const CALL: [&str; 3] = ["/call_ns/p50", "/floor_ns/p50", "/ratio_p50"];
    const BESIDE: [&str; 3] = ["/ns/p50", "/floor_ns/p50", "/ratio/p50"];
    for (name, what) in [
        ("latency", "call of 48 B, spinning, pinned"),
        ("latency-free", "call of 48 B, adaptive, not pinned"),
    ] {
        if let Some(found) = object(set, name) {
            add(what, found, CALL);
        }
    }
    for place in rows(set, "wakeup", "/places") {
        let one = text(place, "/place") == "same";
        add(
            if one { "call between sleepers, one CPU" } else { "call between sleepers, two CPUs" },
            place,
            BESIDE,
        );
    }
    for gap in rows(set, "gaps", "/gaps") {
        add(&format!("call after an idle gap of {}", short_time(number(gap, "/gap_ns"))), gap, BESIDE);
    }
    for copied in rows(set, "copy", "/sizes") {
        if [4096.0, 65_536.0, 1_048_576.0].contains(&number(copied, "/size")) {
            add(&format!("call of {}", size(copied, "/size")), copied, BESIDE);
        }
    }
    for call in rows(set, "link", "/calls") {
        let place = if text(call, "/place") == "same" { "one CPU" } else { "two CPUs" };
        add(&format!("call over a link, {}, {place}", text(call, "/wait")), call, BESIDE);
    }
    for (name, what) in
        [("forward", "message from client to client and back"), ("register", "register and unregister")]
    {
        if let Some(found) = object(set, name) {
            add(what, found, BESIDE);
        }
    }
    if let Some(found) = object(set, "topics").and_then(|found| found.get("trips")) {
        add("a sample and its answer over two topics", found, BESIDE);
    }
    page.table(&["medians", "Ringpost", "floor", "ratio"], &table);
    page.text(
        "A round trip is a request and its complete response. Each section below says what its floor is and how it was \
         measured.",
    );
}

/// The section of one measurement.
fn part(page: &mut Page, set: &[Ran], name: &str, heading: &str, write: fn(&mut Page, &Value)) {
    page.section(name, heading);
    if let Some(ran) = set.iter().find(|ran| ran.name == name) {
        came(page, ran, write);
    }
}

/// The results of a measurement, or why it failed.
fn came(page: &mut Page, ran: &Ran, write: fn(&mut Page, &Value)) {
    match &ran.result {
        Ok(object) => {
            for note in &ran.notes {
                page.warning(note.trim_start_matches("ringpost-bench: "));
            }
            write(page, object);
        }
        Err(why) => page.warning(&format!("The measurement failed: {why}")),
    }
    page.commands(&ran.command);
}

fn latency(page: &mut Page, set: &[Ran]) {
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
        .filter_map(|(name, path, shown)| Some(line(shown, distribution(object(set, name)?, path))))
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
    for ran in set.iter().filter(|ran| ran.name.starts_with("latency") || ran.name.starts_with("rate")) {
        page.heading(match ran.name {
            "latency" => "Closed loop, both ends spinning, pinned",
            "latency-free" => "Closed loop, adaptive waiting, not pinned",
            "rate-10000" => "10,000 calls per second, due at fixed times",
            _ => "100,000 calls per second, due at fixed times",
        });
        came(page, ran, if ran.name.starts_with("rate") { trips::paced } else { trips::closed });
    }
}

fn method(page: &mut Page, set: &[Ran]) {
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
        set.iter().map(|ran| format!("{}   # {:.1} s", ran.command, ran.time.as_secs_f64())).collect();
    page.commands(&commands.join("\n"));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_comes_of_whatever_there_is() {
        let mut machine = Machine::look();
        machine.cpu = "a <cpu>".into();
        let names = crate::report::SET.each_ref().map(|item| item.name);
        for result in [Ok(json!({})), Err("it <failed>".to_string())] {
            let set = names.map(|name| Ran {
                name,
                command: format!("bench {name}"),
                result: result.clone(),
                notes: vec!["a <note>".into()],
                time: Duration::ZERO,
            });
            let html = page(&machine, &set, None, true);
            assert!(html.contains("a &lt;cpu&gt;"));
            assert!(!html.contains("<failed>") && !html.contains("<note>") && !html.contains("NaN"));
            for name in names {
                assert!(html.contains(&format!("bench {name}")), "{name}");
            }
        }
    }
}
