"""Two clients: one serves, the other calls it over a link of their own. The server only introduces them.

Usage: python link.py PATH
"""

import sys

import ringpost


def service(request: bytes, peer: ringpost.Peer) -> bytes:
    if not request:
        raise ringpost.errors.ServiceError("there is nothing to greet")  # the caller gets this text
    return b"hello " + request


def main() -> None:
    path = sys.argv[1]
    with ringpost.Server(path) as server:
        # Usually each is a process of its own.
        with ringpost.Client("bob", path) as bob, ringpost.Client("alice", path) as alice:
            with bob.serve(service) as serving, alice.connect("bob") as link:
                print(link.peer.name, "answers", link.call(b"alice", timeout=5).decode())

                # Several calls at once: their responses come in order.
                for name in (b"one", b"two", b"three"):
                    link.submit(name, timeout=5)
                print(*(link.response(timeout=5).decode() for _ in range(3)), sep=", ")

                try:
                    link.call(b"", timeout=5)
                except ringpost.errors.ServiceFailed as failed:
                    print("it fails:", failed)

                server.stop()
                print("without the server:", link.call(b"again", timeout=5).decode())
                print("served:", [peer.name for peer in serving.links()])


if __name__ == "__main__":
    main()
