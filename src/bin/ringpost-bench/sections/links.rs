//! The report's section about calls from client to client over links.

use serde_json::Value;

use super::read::{
    PERCENTILES, list, paired, pairs, percentiles, ratio, row, size, tenths, text, time, whole,
};
use crate::glance::place;
use crate::page::Page;

pub fn links(page: &mut Page, found: &Value) {
    page.text(
        "One client calls another over a link, which the server opened and takes no part in. The floors are a bare \
         shared-memory round trip, a raw futex pair where both ends sleep, and raw copies by size. In turn with them the same \
         call goes to the server’s own service.",
    );
    calls(page, list(found, "/calls"));
    let cells = |name: String, found: &Value| {
        let [floor, server, link] = ["/floor_ns/p50", "/server/floor_ns/p50", "/ns/p50"];
        let times = [floor, server, link].map(|path| time(found, path));
        let ratios = ["", "/server"].map(|path| paired(found, path));
        row(&name, times.into_iter().chain(ratios))
    };
    const HEADINGS: [&str; 6] = ["", "floor p50", "server p50", "link p50", "link/floor", "link/server"];
    let sizes = list(found, "/sizes").iter().map(|found| cells(size(found, "/size"), found));
    page.table(&HEADINGS, &sizes.collect::<Vec<_>>());
    let windows = list(found, "/windows");
    let windows =
        windows.iter().map(|found| cells(format!("{} outstanding", whole(found, "/window")), found));
    page.table(&HEADINGS, &windows.collect::<Vec<_>>());
    page.table(
        &["", "time", "per second", "ratio", "beside"],
        &[
            row(
                "a post",
                [
                    time(found, "/posts/ns/p50"),
                    whole(found, "/posts/per_second"),
                    paired(found, "/posts"),
                    "a raw copy one way".into(),
                ],
            ),
            row(
                "opening and closing a link",
                [
                    time(found, "/open/ns/p50"),
                    whole(found, "/open/per_second"),
                    paired(found, "/open"),
                    "registering and unregistering".into(),
                ],
            ),
        ],
    );
    many(page, found);
}

fn calls(page: &mut Page, calls: &[Value]) {
    let name = |found: &Value| format!("{}, {}", text(found, "/wait"), place(found));
    let cells = |found: &Value| {
        row(
            &name(found),
            [
                time(found, "/floor_ns/p50"),
                time(found, "/server/floor_ns/p50"),
                time(found, "/ns/p50"),
                paired(found, ""),
                pairs(found, "/server/floor_ns/p50", "/floor_ns/p50", "/server_to_floor/p50"),
                paired(found, "/server"),
            ],
        )
    };
    page.table(
        &["", "floor p50", "server p50", "link p50", "link/floor", "server/floor", "link/server"],
        &calls.iter().map(cells).collect::<Vec<_>>(),
    );
    let each = |found: &Value| percentiles(&name(found), found, "/rtt_ns");
    page.table(&PERCENTILES, &calls.iter().map(each).collect::<Vec<_>>());
}

fn many(page: &mut Page, found: &Value) {
    page.text(&format!(
        "{} clients that all call made {} calls per second over links to one client, {} to the server; ratio {}.",
        whole(found, "/busy/links"),
        whole(found, "/busy/per_second/p50"),
        whole(found, "/busy/server_per_second/p50"),
        ratio(found, "/busy/ratio/p50"),
    ));
    page.heading(&format!("{} idle links", whole(found, "/idle/links")));
    let cells = |name: &str, unit: &str, fields: [&str; 3]| {
        let shown = |field: &str| match field {
            "" => String::new(),
            field => format!("{}{unit}", tenths(found, &format!("/idle/{field}"))),
        };
        row(name, fields.map(shown))
    };
    page.table(
        &["", "caller", "who serves", "server"],
        &[
            cells("CPU time", " ms", ["caller_cpu_ms", "serving_cpu_ms", "server_cpu_ms"]),
            cells("memory for each", " KiB", ["caller_kib_per_link", "serving_kib_per_link", ""]),
            cells(
                "descriptors for each",
                "",
                ["caller_descriptors_per_link", "serving_descriptors_per_link", ""],
            ),
            cells("more descriptors for all", "", ["", "", "server_descriptors"]),
            cells("more threads for all", "", ["", "", "server_threads"]),
        ],
    );
    page.text(&format!(
        "Memory is that beyond used pages of the rings. The kernel’s own memory: {} KiB for each link.",
        tenths(found, "/idle/kernel_kib_per_link")
    ));
}
