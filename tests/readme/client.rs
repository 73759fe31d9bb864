use ringpost::Client;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut alice = Client::register(ringpost::default_path()?, "alice")?;
    assert_eq!(alice.call(b"world")?, b"hello world"); // one request, one response
    // Messages go to a name or a key: here to alice herself, but "bob" in another process works the same.
    alice.send("alice", b"a note")?; // Ok means: it lies in the receiver's inbox
    let message = alice.recv()?;
    println!("{} sent {:?}", message.sender_name(), String::from_utf8_lossy(message.payload()));
    Ok(alice.unregister()?) // dropping alice does it, too
}
