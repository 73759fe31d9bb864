use ringpost::Client;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut alice = Client::register(ringpost::default_path()?, "alice")?;
    assert_eq!(alice.call(b"world")?, b"hello world"); // one request, one response

    // Messages go to the key behind a name. Here alice finds herself; "bob" in another process works the same way.
    let name = "alice".parse()?;
    let key = alice.look_up(&name)?.ok_or("nobody has this name")?;
    alice.send(key, b"a note")?; // Ok means: it lies in the receiver's inbox
    let message = alice.recv()?;
    println!("{} sent {:?}", message.from_name(), String::from_utf8_lossy(message.payload()));
    Ok(alice.unregister()?) // dropping alice does it, too
}
