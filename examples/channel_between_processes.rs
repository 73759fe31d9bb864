//! A channel between two processes without a server: this program starts itself again and passes the channel
//! on.
//!
//! ```text
//! cargo run --release --example channel_between_processes
//! ```
//!
//! The host makes the channel and answers requests. The guest gets its descriptor as standard input, checks
//! and maps it, and sends requests. Neither trusts what the other writes. A channel alone does not notice the
//! death of the other process; so the host waits for its child, and then closes the channel.

use std::error::Error;
use std::io;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use ringpost::WaitStrategy;
use ringpost::channel;
use ringpost::ring::RecvError;

/// The argument that makes a process the guest.
const GUEST: &str = "--guest";

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1).as_deref() {
        None => host(),
        Some(GUEST) => guest(),
        Some(other) => Err(format!("{other:?}: this example takes no arguments").into()),
    }
}

fn host() -> Result<(), Box<dyn Error>> {
    let (mut host, descriptor) = channel::create(64 * 1024, WaitStrategy::Adaptive)?;

    // The descriptor becomes the child's standard input, and is closed in this process.
    let mut child =
        Command::new(std::env::current_exe()?).arg(GUEST).stdin(Stdio::from(descriptor)).spawn()?;
    println!("host  (pid {}): the guest is pid {}", std::process::id(), child.id());

    // Whichever way the child ends, this also ends the wait for requests below.
    let closer = host.closer.clone();
    let waiter = thread::spawn(move || {
        let status = child.wait();
        closer.close();
        status
    });

    host.inbox.send(b"welcome")?;
    let mut request = Vec::new();
    let mut answered = 0;
    loop {
        match host.requests.recv(&mut request) {
            Ok(_) => {}
            // The guest dropped its ends, or the thread above closed the channel.
            Err(RecvError::Disconnected(_)) => break,
            // The guest broke a rule of the rings. The channel is closed, but no harm was done.
            Err(error) => return Err(error.into()),
        }
        request.reverse();
        host.responses.send(&request)?;
        answered += 1;
    }
    println!("host  (pid {}): {answered} requests answered, and no more will come", std::process::id());

    let status = waiter.join().map_err(|_| "the waiting thread panicked")??;
    if status.success() { Ok(()) } else { Err(format!("the guest failed: {status}").into()) }
}

fn guest() -> Result<(), Box<dyn Error>> {
    let mut guest = channel::open(io::stdin(), WaitStrategy::Adaptive)?;
    let pid = std::process::id();
    let mut block = Vec::new();

    guest.inbox.recv_timeout(&mut block, Duration::from_secs(5))?;
    println!("guest (pid {pid}): the inbox holds {:?}", String::from_utf8_lossy(&block));

    for request in ["stressed", "diaper", "drawer"] {
        guest.requests.send(request.as_bytes())?;
        guest.responses.recv_timeout(&mut block, Duration::from_secs(5))?;
        println!("guest (pid {pid}): {request} -> {}", String::from_utf8_lossy(&block));
    }

    for number in 0..100_000_u32 {
        guest.requests.send(&number.to_le_bytes())?;
        guest.responses.recv_timeout(&mut block, Duration::from_secs(5))?;
        if block != number.to_be_bytes() {
            return Err(format!("the response to {number} is {block:?}").into());
        }
    }
    println!("guest (pid {pid}): 100000 more, each response checked");
    Ok(())
    // Dropping the guest's ends closes the channel.
}
