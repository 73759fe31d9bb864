use ringpost::Client;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut bob = Client::register(ringpost::default_path()?, "bob")?;
    let _serving = bob.listen()?.serve(|request, response| response.write(request.payload()))?;
    let mut prices = bob.subscribe("prices/*")?;

    // Usually in another program:
    let mut alice = Client::register(ringpost::default_path()?, "alice")?;
    let mut link = alice.connect("bob")?;
    assert_eq!(link.call(b"ping")?, b"ping");
    link.post(b"no response wanted")?;
    let mut price = alice.publish("prices/AAPL")?;
    price.send(b"181.20")?; // waits for nobody: a subscriber can only read
    assert_eq!(prices.recv()?.payload(), b"181.20");
    Ok(())
}
