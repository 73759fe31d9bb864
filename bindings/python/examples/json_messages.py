"""Messages and calls in JSON: plain dictionaries, readable by every language.

Usage: python json_messages.py PATH
"""

import json
import sys
from typing import Any

import ringpost


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


def service(request: bytes, peer: ringpost.Peer) -> bytes:
    order = json.loads(request)
    return encode({"total": order["count"] * order["price"], "for": peer.name})


def main() -> None:
    path = sys.argv[1]
    with ringpost.Server(path, service), ringpost.Client("alice", path) as alice:
        print(json.loads(alice.call(encode({"count": 3, "price": 14}), timeout=5)))

        with ringpost.Client("bob", path) as bob:
            alice.send("bob", encode({"event": "shipped", "items": [1, 2]}), timeout=5)
            print(json.loads(bob.recv(timeout=5).payload))


if __name__ == "__main__":
    main()
