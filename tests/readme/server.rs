use ringpost::Server;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder(ringpost::default_path()?)
        .service(|request, response| {
            response.write(b"hello ")?;
            response.write(request.payload())
        })
        .start()?;
    server.join(); // serves until it is killed, or a `Stopper` stops it
    Ok(())
}
