// Hidden set-up of documentation examples: a server that echoes, and two clients of it.
//
//     # let (_bus, mut alice, mut bob) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/two.rs"));
//     alice.send(bob.key(), b"hello")?;
{
    let path = include!("path.rs");
    let server = ringpost::Server::builder(&path).start().expect("a server");
    let alice = ringpost::Client::register(&path, "alice").expect("a client");
    let bob = ringpost::Client::register(&path, "bob").expect("a client");
    ((server, path), alice, bob)
}
