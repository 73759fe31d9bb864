//! One publishes prices, two subscribe, and one of them watches who is there.
//!
//! ```text
//! cargo run --release --example topics
//! ```
//!
//! The clients run in threads here; in processes of their own their code would be the same.

use std::error::Error;
use std::path::Path;
use std::thread;
use std::time::Duration;

use ringpost::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use ringpost::{Change, Client, Policy, Server, Subscriber};

const PATIENCE: Duration = Duration::from_secs(5);

/// An error that a thread can return.
type Failure = Box<dyn Error + Send + Sync>;

/// A sample of a fixed layout, which needs no encoding.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Tick {
    price: f64,
    volume: u64,
}

fn main() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("bus.sock");
    let _server = Server::builder(&path).start()?;

    thread::scope(|scope| {
        let watcher = scope.spawn(|| watcher(&path));
        let teller = scope.spawn(|| teller(&path));
        let exchange = scope.spawn(|| exchange(&path));
        for (name, client) in [("exchange", exchange), ("teller", teller), ("watcher", watcher)] {
            client.join().map_err(|_| format!("{name} panicked"))??;
        }
        Ok(())
    })
}

/// Publishes two topics.
fn exchange(path: &Path) -> Result<(), Failure> {
    let mut client = Client::register(path, "exchange")?;
    let mut apple = client.publish("prices/AAPL")?;
    let mut state = client.publish("state/exchange")?;
    state.send("open")?;
    // A publisher does not wait for subscribers: what these two miss, they were not there for.
    while apple.subscribers() == 0 || state.subscribers() < 2 {
        thread::sleep(Duration::from_millis(5));
    }
    for volume in 1..=1000 {
        apple.send(Tick { price: 181.0 + volume as f64 / 100.0, volume }.as_bytes())?;
    }
    state.send("closed")?;
    client.unregister()?;
    Ok(())
}

/// Adds up the prices, and counts what it missed.
fn teller(path: &Path) -> Result<(), Failure> {
    let mut client = Client::register(path, "teller")?;
    let settings = Subscriber::options().history(1); // also the state from before
    let mut state = settings.subscribe(client.caller(), "state/exchange")?;
    let mut prices = client.subscribe("prices/*")?;
    let (mut volume, mut taken, mut missed) = (0, 0, 0);
    while taken + missed < 1000 {
        let sample = prices.recv_timeout(PATIENCE)?;
        volume += sample.read::<Tick>()?.volume;
        taken += 1;
        missed += sample.missed();
    }
    println!("teller: {taken} prices taken and {missed} missed, a volume of {volume}");
    while state.recv_timeout(PATIENCE)?.payload() != b"closed" {}
    println!("teller: the exchange is closed");
    client.unregister()?;
    Ok(())
}

/// Looks only at the newest state, and at who comes and goes.
fn watcher(path: &Path) -> Result<(), Failure> {
    let mut client = Client::register(path, "watcher")?;
    let mut presence = client.presence()?;
    let settings = Subscriber::options().policy(Policy::Latest).history(1);
    let mut state = settings.subscribe(client.caller(), "state/*")?;
    loop {
        let sample = state.recv_timeout(PATIENCE)?;
        let (publisher, text) = (sample.publisher().name, String::from_utf8_lossy(sample.payload()));
        println!("watcher: {publisher} is {text}");
        if sample.payload() == b"closed" {
            break;
        }
    }
    loop {
        match presence.recv_timeout(PATIENCE)? {
            Change::Present(peer) | Change::Appeared(peer) => println!("watcher: {} is here", peer.name),
            Change::Vanished { peer, reason } => {
                println!("watcher: {} has left: {reason}", peer.name);
                if peer.name.as_str() == "exchange" {
                    client.unregister()?;
                    return Ok(());
                }
            }
            _ => {}
        }
    }
}
