"""Typed requests and responses by msgspec, in MessagePack. What does not fit the type is refused with a text.

Usage: python msgspec_calls.py PATH
"""

import sys

import msgspec
import ringpost


class Order(msgspec.Struct):
    item: str
    count: int


class Receipt(msgspec.Struct):
    item: str
    total: float


# One of each is enough for all calls.
orders = msgspec.msgpack.Decoder(Order)
receipts = msgspec.msgpack.Decoder(Receipt)
encoder = msgspec.msgpack.Encoder()


def service(request: bytes, peer: ringpost.Peer) -> bytes:
    try:
        order = orders.decode(request)
    except msgspec.ValidationError as error:
        raise ringpost.errors.ServiceError(f"this is no order: {error}") from None
    return encoder.encode(Receipt(order.item, order.count * 2.5))


def main() -> None:
    path = sys.argv[1]
    with ringpost.Server(path, service), ringpost.Client("alice", path) as alice:
        receipt = receipts.decode(alice.call(encoder.encode(Order("pens", 4)), timeout=5))
        print(f"{receipt.item}: {receipt.total}")
        try:
            alice.call(encoder.encode({"item": "pens", "count": "many"}), timeout=5)
        except ringpost.errors.ServiceFailed as failed:
            print(failed)


if __name__ == "__main__":
    main()
