//! The report's section about ends that wait in event loops.

use serde_json::Value;

use super::read::{list, paired, plain, ratio, row, text, time, whole};
use crate::glance::place;
use crate::page::Page;

pub fn ready(page: &mut Page, found: &Value) {
    page.text(
        "The client sleeps in epoll. The floor is two processes over pipes and epoll, each with a pipe and an epoll instance \
         of its own. In turn with them the same call blocks. Wake-ups and kicks are per call; fruitless ones found nothing.",
    );
    let mut calls = Vec::new();
    for path in ["/calls", "/loops"] {
        for found in list(found, path) {
            let times = ["/floor_ns/p50", "/blocking/floor_ns/p50", "/ns/p50"].map(|path| time(found, path));
            let ratios = ["", "/blocking"].map(|path| paired(found, path));
            let name = match text(found, "/by") {
                "caller" => "to a server that sleeps",
                "client" => "the same, by a whole client’s descriptor",
                _ => "over a link that is served in a loop",
            };
            let name = format!("{name}, {}", place(found));
            calls.push(row(&name, times.into_iter().chain(ratios).chain(wakes(found))));
        }
    }
    page.table(
        &["", "floor p50", "blocking p50", "p50", "ratio", "to blocking", "wake-ups", "fruitless", "kicks"],
        &calls,
    );
    with_tokio(page, found);
    page.text(&format!(
        "{} armed idle clients of one process used {} ms of CPU in {} s, and the server {} ms. Their process has {} threads \
         beside its own, and {} descriptors for each client. They were woken for nothing {} times.",
        whole(found, "/idle/clients"),
        plain(found, "/idle/clients_cpu_ms"),
        plain(found, "/idle/seconds"),
        plain(found, "/idle/server_cpu_ms"),
        whole(found, "/idle/threads"),
        plain(found, "/idle/descriptors_per_client"),
        whole(found, "/idle/fruitless"),
    ));
    let kickable = [("a call over a link", "/kickable/link"), ("a call to the server", "/kickable/server")];
    let cells = |(name, path): (&str, &str)| {
        let times = ["floor_ns", "ns"].map(|field| time(found, &format!("{path}/{field}/p50")));
        row(name, times.into_iter().chain([paired(found, path)]))
    };
    page.table(
        &["spinning, never armed", "may not be armed, p50", "may be armed, p50", "ratio"],
        &kickable.map(cells),
    );
}

fn with_tokio(page: &mut Page, found: &Value) {
    if found.get("tokio") != Some(&Value::Bool(true)) {
        return;
    }
    let cells = |name: &str, found: &Value| {
        let times = ["/floor_ns/p50", "/ns/p50"].map(|path| time(found, path));
        row(name, times.into_iter().chain([paired(found, "")]).chain(wakes(found)))
    };
    let mut rows: Vec<_> = list(found, "/futures")
        .iter()
        .map(|found| cells(&format!("a server that sleeps, {}", place(found)), found))
        .collect();
    if let Some(soon) = found.get("soon").filter(|soon| soon.is_object()) {
        rows.push(cells("a server that spins", soon));
    }
    page.table(
        &["a tokio client", "beside it, p50", "p50", "ratio", "wake-ups", "fruitless", "kicks"],
        &rows,
    );
    page.text(&format!(
        "Beside a tokio client of a server that sleeps is an echo over a Unix socket, with tokio at both ends; beside that of \
         a server that spins, a blocking adaptive call. {} tokio clients of one process that all call made {} calls per \
         second, as many such sockets {}; ratio {}.",
        whole(found, "/many/clients"),
        whole(found, "/many/per_second/p50"),
        whole(found, "/many/socket_per_second/p50"),
        ratio(found, "/many/ratio/p50"),
    ));
}

fn wakes(found: &Value) -> [String; 3] {
    ["per_call", "fruitless_per_call", "kicks_per_call"].map(|field| plain(found, &format!("/wakes/{field}")))
}
