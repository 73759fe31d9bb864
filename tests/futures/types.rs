//! Every future can be moved between threads. This is checked when the tests are compiled.

use ringpost::{Async, Caller, Client, Inbox, Link, Listener, OwnedRequest, Responder, ServiceError};

fn is_send<T: Send>(value: T) -> T {
    value
}

async fn service(request: OwnedRequest) -> Result<Vec<u8>, ServiceError> {
    Ok(request.payload().to_vec())
}

#[allow(dead_code, reason = "compiling it is the test")]
fn futures_are_send(
    client: &mut Async<Client>,
    caller: &mut Async<Caller>,
    inbox: &mut Async<Inbox>,
    link: &mut Async<Link>,
    listener: &mut Async<Listener>,
    responder: &mut Async<Responder>,
    leaving: [Async<Client>; 1],
) {
    drop(is_send(client.call(b"x")));
    drop(is_send(client.submit("x")));
    drop(is_send(client.response()));
    drop(is_send(client.send("bob", b"x")));
    drop(is_send(client.look_up("bob")));
    drop(is_send(client.list()));
    drop(is_send(client.ping()));
    drop(is_send(client.statistics()));
    drop(is_send(client.connect("bob")));
    drop(is_send(client.listen()));
    drop(is_send(client.recv()));
    drop(is_send(caller.call(b"x")));
    drop(is_send(caller.connect(client.get_ref().key())));
    drop(is_send(inbox.recv()));
    drop(is_send(link.call(b"x")));
    drop(is_send(link.post(b"x")));
    drop(is_send(link.response()));
    drop(is_send(listener.accept()));
    drop(is_send(responder.serve(service)));
    for client in leaving {
        drop(is_send(client.unregister()));
    }
}

#[test]
fn ends_are_send_and_sync() {
    fn check<T: Send + Sync + Unpin>() {}
    check::<Async<Client>>();
    check::<Async<Caller>>();
    check::<Async<Inbox>>();
    check::<Async<Link>>();
    check::<Async<Listener>>();
    check::<Async<Responder>>();
}
