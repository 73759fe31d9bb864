//! The table of `ringpost-bench topics` for people.

use ringpost::cli::args::readable_bytes;
use ringpost::cli::stats::{Beside, nanoseconds};
use ringpost::cli::table::Table;

use super::Measured;
use super::memory::Taken;
use crate::measurement::{About, Figures};
use crate::rows::ratio;

impl Figures for Measured {
    fn text(&self, about: &About) -> String {
        let size = readable_bytes(self.size);
        let mut table = Table::new("| p50 | beside it | | p50 | ratio | p10 to p90");
        let mut row = |what: &str, beside: &Beside, other: &str| {
            let [ours, floor] = [beside.ns, beside.floor_ns].map(|times| nanoseconds(times.p50));
            let range = format!("{} to {}", ratio(beside.ratio.p10), ratio(beside.ratio.p90));
            table.row([
                what.into(),
                ours,
                other.into(),
                String::new(),
                floor,
                ratio(beside.ratio.p50),
                range,
            ]);
        };
        if let Some(found) = &self.publish {
            let what =
                format!("published to a spinning reader, {:.1} % received", 100.0 * found.received.p50);
            row(&what, &found.blocks, "ring of one reader, one at a time");
        }
        if let Some(found) = &self.trips {
            row("there and back over two topics, spinning", &found.blocks, "floor: two bare words");
        }
        if let Some(found) = &self.cost {
            let what = format!("published, {} subscriptions that never sleep", found.subscriptions);
            row(&what, &found.blocks, "one such subscription");
        }
        if let Some(found) = &self.wakes {
            let what = format!("until the last of {} that sleep has a sample", found.subscribers);
            row(&what, &found.blocks, "as many bare futex wakes");
        }
        if let Some(found) = &self.sends {
            let what = format!("until the last of {} that sleep has a sample", found.subscribers);
            row(&what, &found.blocks, "as many acknowledged sends");
            if let Some(bare) = &found.bare {
                row("the same", bare, "as many bare futex wakes");
            }
        }
        if let Some(found) = &self.frames {
            let what = format!("{} in place, from commit to open view", readable_bytes(found.size));
            row(&what, &found.blocks, &format!("{} in place", readable_bytes(found.small_size)));
        }
        if let Some(found) = &self.malicious {
            let what = format!("published beside a malicious subscriber, {} left", found.subscriptions);
            row(&what, &found.publisher, "without it");
            row("there and back beside it", &found.others, "without it");
        }
        let mut text = about.heading(&format!("Topics, samples of {size}"));
        text.push('\n');
        text.push_str(&table.text());
        if let Some(found) = &self.cost {
            text.push_str(&format!(
                "\nWith {} subscriptions that may sleep and do not now: {}, {:+.1} ns beside one that never sleeps\n",
                found.subscriptions,
                nanoseconds(found.may_sleep_ns.p50),
                found.may_sleep_more_ns.p50,
            ));
        }
        text.extend(self.memory.as_ref().map(memory));
        text
    }
}

fn memory(taken: &Taken) -> String {
    let kib = |value: Option<f64>| value.map_or("unknown".into(), |kib| format!("{kib:.1} KiB"));
    format!(
        "\nMemory of a subscription, of {}: {}: publisher {}, subscriber {}, server {}, shared {}, kernel {}; free memory \
         shrank by {}\n",
        taken.subscriptions,
        kib(taken.kib_per_subscription),
        kib(taken.publisher_kib),
        kib(taken.subscriber_kib),
        kib(taken.server_kib),
        kib(taken.shared_kib),
        kib(taken.kernel_kib),
        kib(taken.free_kib),
    )
}
