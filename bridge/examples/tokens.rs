//! A bare Zenoh program that declares liveliness tokens and counts those that it hears of: for
//! `scale/measure.py`.
//!
//! Arguments: mode, endpoint to listen on or `-`, endpoint to connect to or `-`. Then each line of standard
//! input is answered by one line.

use std::collections::VecDeque;
use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zenoh::Wait;
use zenoh::sample::SampleKind;

fn main() -> zenoh::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, mode, listen, connect] = &arguments[..] else { panic!("mode, listen and connect are needed") };
    let list = |endpoint: &String| match endpoint.as_str() {
        "-" => "[]".to_owned(),
        endpoint => format!("[\"{endpoint}\"]"),
    };
    let mut config = zenoh::Config::default();
    config.insert_json5("mode", &format!("\"{mode}\""))?;
    config.insert_json5("scouting/multicast/enabled", "false")?;
    config.insert_json5("scouting/gossip/enabled", "false")?;
    config.insert_json5("listen/endpoints", &list(listen))?;
    config.insert_json5("connect/endpoints", &list(connect))?;
    let session = zenoh::open(config).wait()?;
    let (mut tokens, mut subscribers) = (VecDeque::new(), Vec::new());
    let (came, went) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split(' ').collect::<Vec<_>>()[..] {
            // PREFIX FIRST COUNT
            ["declare", prefix, first, count] => {
                let first: u64 = first.parse()?;
                for number in first..first + count.parse::<u64>()? {
                    tokens.push_back(
                        session.liveliness().declare_token(format!("{prefix}{number:07}")).wait()?,
                    );
                }
            }
            // The oldest COUNT.
            ["undeclare", count] => {
                for token in tokens.drain(..count.parse::<usize>()?) {
                    token.undeclare().wait()?;
                }
            }
            ["subscribe", pattern] => {
                let (came, went) = (came.clone(), went.clone());
                let heard = move |sample: zenoh::sample::Sample| {
                    let count = if sample.kind() == SampleKind::Put { &came } else { &went };
                    count.fetch_add(1, Ordering::Relaxed);
                };
                let pattern = pattern.to_owned();
                subscribers.push(
                    session.liveliness().declare_subscriber(pattern).history(true).callback(heard).wait()?,
                );
            }
            ["counts"] => {}
            _ => panic!("no operation {line}"),
        }
        println!("{} {}", came.load(Ordering::Relaxed), went.load(Ordering::Relaxed));
    }
    Ok(())
}
