// Hidden set-up of documentation examples: a server that echoes, and a client of it.
//
//     # let (_bus, mut client) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/one.rs"));
//     assert_eq!(client.call(b"ping")?, b"ping");
{
    let path = include!("path.rs");
    let server = ringpost::Server::builder(&path).start().expect("a server");
    let client = ringpost::Client::register(&path, "alice").expect("a client");
    ((server, path), client)
}
