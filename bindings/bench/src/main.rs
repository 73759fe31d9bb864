//! The Rust ends that `bindings/figures` starts: a server whose service is echo, and a client whose calls are
//! those to compare with.
//!
//! ```text
//! ends server PATH WAIT    serves until its standard input ends
//! ends call PATH WAIT      makes as many calls as each line says, and prints the nanoseconds of one
//! ```

use std::error::Error;
use std::hint::black_box;
use std::io;
use std::path::Path;
use std::time::Instant;

use ringpost::{Client, Request, Response, Server, WaitStrategy};

const WARM: u32 = 2_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [role, path, wait] = &arguments[..] else {
        return Err("usage: ends server|call PATH WAIT".into());
    };
    let (path, wait) = (Path::new(path), wait.parse()?);
    match role.as_str() {
        "server" => serve(path, wait),
        "call" => io::stdin().lines().try_for_each(|line| {
            println!("{}", calls(path, wait, line?.trim().parse()?)?);
            Ok(())
        }),
        _ => Err(format!("no role {role:?}: server or call").into()),
    }
}

fn serve(path: &Path, wait: WaitStrategy) -> Result<(), Box<dyn Error>> {
    let echo = |request: Request<'_>, response: &mut Response<'_>| response.write(request.payload());
    let server = Server::builder(path).wait(wait).service(echo).start()?;
    println!("ready");
    io::copy(&mut io::stdin(), &mut io::sink())?;
    server.join_after_shutdown();
    Ok(())
}

/// The nanoseconds of a call. A client of its own for each block, so that none is there to spin beside
/// others.
fn calls(path: &Path, wait: WaitStrategy, count: u32) -> Result<f64, Box<dyn Error>> {
    let mut client = Client::builder(path).wait(wait).register("rust")?;
    let request = [7_u8; 48];
    for _ in 0..WARM {
        if client.call(&request)?.payload() != request {
            return Err("the response is not the request".into());
        }
    }
    let start = Instant::now();
    for _ in 0..count {
        black_box(client.call(black_box(&request))?.payload());
    }
    let time = start.elapsed();
    client.unregister()?;
    Ok(time.as_nanos() as f64 / f64::from(count))
}
