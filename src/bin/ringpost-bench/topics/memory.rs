//! The memory of a subscription, the kernel's included.
//!
//! Once with one subscription and once with many, of one client to one topic, each of which has taken a
//! sample. The difference is counted: what the publisher's process, the subscriber's and the server's have of
//! their own (resident, not shared), and of the whole computer shared memory (the pages), slabs (inodes,
//! files, mappings), stacks and page tables. `MemFree` is told beside it: it has the same and all noise.

use std::fs;
use std::time::Duration;

use ringpost::cli::exit::Failure;
use ringpost::cli::stats::thousandths;
use ringpost::cli::usage::memory;
use serde::Serialize;

use super::partner::{Partner, Role, sample};
use super::spinning::{plan, publisher, wait_for_readers};
use crate::measurement::Session;
use crate::setup::Setup;

#[derive(Serialize)]
pub struct Taken {
    pub subscriptions: u32,
    /// All of the following, for each subscription.
    pub kib_per_subscription: Option<f64>,
    /// Private memory of the three processes.
    pub publisher_kib: Option<f64>,
    pub subscriber_kib: Option<f64>,
    pub server_kib: Option<f64>,
    /// Shared memory of the whole computer: the pages that publisher and subscription share.
    pub shared_kib: Option<f64>,
    /// The kernel's own memory of the whole computer: slabs, stacks and page tables.
    pub kernel_kib: Option<f64>,
    /// By how much the computer's free memory shrank.
    pub free_kib: Option<f64>,
}

/// In KiB: of the three processes, shared, the kernel's, free.
struct Look([Option<u64>; 6]);

impl Look {
    fn at(processes: [u32; 3]) -> Look {
        let private =
            processes.map(|pid| memory(pid).map(|memory| memory.rss_kib.saturating_sub(memory.shared_kib)));
        let [publisher, subscriber, server] = private;
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kernel = ["Slab:", "KernelStack:", "PageTables:"].iter().map(|name| field(&text, name)).sum();
        Look([publisher, subscriber, server, field(&text, "Shmem:"), kernel, field(&text, "MemFree:")])
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

pub fn taken(session: &Session, subscriptions: u32) -> Result<Taken, Failure> {
    session.with(plan(session), |setup| {
        let mut publisher = publisher(setup, "memory")?;
        publisher.send(&sample(1)).map_err(Failure::failed)?;
        let mut held = |count: u32| {
            setup.progress.show(format_args!("memory of subscriptions: {count}"));
            let holder = Partner::start(setup, Role::Holder, "memory", count)?;
            wait_for_readers(&publisher, count)?;
            // What was freed a moment ago is given back later.
            rest(setup)?;
            let look = Look::at([std::process::id(), holder.process.id(), setup.server()]);
            drop(holder);
            while publisher.subscribers() > 0 {
                rest(setup)?;
            }
            Ok::<_, Failure>(look)
        };
        // The first time, so that what each process needs once is not counted.
        held(1)?;
        let (one, many) = (held(1)?, held(subscriptions)?);
        let more = f64::from(subscriptions.max(2) - 1);
        let [publisher_kib, subscriber_kib, server_kib, shared_kib, kernel_kib, free] = [0, 1, 2, 3, 4, 5]
            .map(|at| {
                let (many, one) = (many.0[at]?, one.0[at]?);
                Some(thousandths((many as f64 - one as f64) / more))
            });
        let all = [publisher_kib, subscriber_kib, server_kib, shared_kib, kernel_kib];
        Ok(Taken {
            subscriptions,
            kib_per_subscription: all.into_iter().sum::<Option<f64>>().map(thousandths),
            publisher_kib,
            subscriber_kib,
            server_kib,
            shared_kib,
            kernel_kib,
            free_kib: free.map(|free| -free),
        })
    })
}

fn rest(setup: &Setup) -> Result<(), Failure> {
    setup.interrupt.check()?;
    std::thread::sleep(Duration::from_millis(200));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_meminfo_are_read() {
        let text = "MemTotal:       100 kB\nSlab:            42 kB\nHugePages_Total:       0\n";
        assert_eq!(field(text, "Slab:"), Some(42));
        assert_eq!((field(text, "HugePages_Total:"), field(text, "Shmem:")), (None, None));
        // Of this process and twice of itself.
        let id = std::process::id();
        assert!(Look::at([id; 3]).0.iter().all(Option::is_some));
    }
}
