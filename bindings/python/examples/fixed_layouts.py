"""Fixed layouts, as structs in C and Rust have them: by struct, by ctypes, and by numpy. All three read the
same bytes.

Usage: python fixed_layouts.py PATH
"""

import ctypes
import struct
import sys

import numpy as np
import ringpost

# #[repr(C)] struct Tick { sequence: u64, price: f64, volume: u32, flags: u32 }
TICK = struct.Struct("<QdII")


class Tick(ctypes.Structure):
    _fields_ = [
        ("sequence", ctypes.c_uint64),
        ("price", ctypes.c_double),
        ("volume", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    ]


TICKS = np.dtype([("sequence", "<u8"), ("price", "<f8"), ("volume", "<u4"), ("flags", "<u4")])


def main() -> None:
    path = sys.argv[1]
    with ringpost.Server(path), ringpost.Client("alice", path) as alice, ringpost.Client("bob", path) as bob:
        ticks = bob.subscribe("ticks/*")
        with alice.publish("ticks/ACME") as acme:
            acme.send(TICK.pack(1, 187.5, 100, 0))
            acme.send(Tick(2, 187.25, 50, 1))  # a ctypes structure is a buffer
            acme.send(np.array([(3, 187.0, 75, 0), (4, 186.5, 25, 0)], TICKS))  # an array of them, too

        sequence, price, volume, flags = TICK.unpack(ticks.recv(timeout=5).payload)
        print(sequence, price, volume, flags)

        tick = Tick.from_buffer_copy(ticks.recv(timeout=5).payload)
        print(tick.sequence, tick.price, tick.volume, tick.flags)

        # Without a copy: the array keeps the sample's bytes.
        several = np.frombuffer(ticks.recv(timeout=5).payload, TICKS)
        print(several["sequence"], several["price"].mean())


if __name__ == "__main__":
    main()
