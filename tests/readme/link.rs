use ringpost::Client;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut bob = Client::register(ringpost::default_path()?, "bob")?;
    let _serving = bob.listen()?.serve(|request, response| response.write(request.payload()))?;

    // Usually in another program:
    let mut alice = Client::register(ringpost::default_path()?, "alice")?;
    let mut link = alice.connect("bob")?;
    assert_eq!(link.call(b"ping")?, b"ping");
    Ok(link.post(b"no response wanted")?)
}
