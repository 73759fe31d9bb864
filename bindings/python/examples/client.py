"""Registers a name, calls the server, sends a message by key, and unregisters.

Usage: python client.py NAME [PATH]
"""

import sys

import ringpost


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "alice"
    with ringpost.Client(name, sys.argv[2] if len(sys.argv) > 2 else None) as client:
        print(f"{client.name} has the key {client.key}")
        print("the server says", client.call(b"hello", timeout=5).decode())

        # Whoever knows the key can write to this registration. The name would do as well.
        client.send(client.key, b"a note to myself", timeout=5)
        message = client.recv(timeout=5)
        print(f"{message.sender_name} sent: {message.payload.decode()}")
    # Here it is unregistered, and another one can have the name.


if __name__ == "__main__":
    main()
