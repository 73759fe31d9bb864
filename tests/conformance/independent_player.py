"""Plays the steps of cases.txt with the client of tests/independent.py, as far as that goes: see play.py.

It knows what docs/PROTOCOL.md says, and nothing of the library.
"""

import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import independent
from words import escaped, unescaped

# Of docs/PROTOCOL.md: why the socket refuses, and what a response says.
REFUSALS = {4: "invalid-name", 5: "name-taken", 6: "quota", 7: "not-allowed", 8: "shutting-down", 11: "quota", 16: "not-allowed"}
STATUSES = {3: "not-found", 4: "full", 5: "timed-out", 6: "gone", 7: "too-large", 10: "shutting-down", 15: "not-allowed"}
DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
ENTRY = struct.Struct("<16sBIIIQQQQQQQBIB")


def key_text(key):
    number = int.from_bytes(key, "little")
    return "".join(DIGITS[number >> shift & 31] for shift in range(125, -5, -5))


class Player:
    def __init__(self):
        self.client = None

    def answer(self, line):
        operation, *words = line.split(" ")
        return getattr(self, "do_" + operation.replace("-", "_"))(*map(unescaped, words))

    def do_register(self, path, name):
        try:
            name.decode()
        except UnicodeDecodeError:
            return "inexpressible"
        try:
            self.client = independent.Client(path.decode(), name.decode())
        except PermissionError as refused:
            return f"error {REFUSALS[refused.errno]}"
        return "ok"

    def do_unregister(self):
        status, _ = self.client.do(independent.UNREGISTER)
        self.do_reset()
        return f"error {STATUSES[status]}" if status else "ok"

    def do_reset(self):
        if self.client:
            self.client.close()
        self.client = None
        return "ok"

    def do_key(self):
        return key_text(self.client.key)

    def do_limits(self):
        return f"{self.client.largest - 8} {self.client.largest - 88}"

    def do_ping(self):
        return "ok" if self.client.do(independent.PING) == (0, b"") else "error other"

    def do_list(self):
        names, slot = [], 0
        while slot != 0xFFFFFFFF:
            status, page = self.client.do(independent.OWN_LIST, struct.pack("<I", slot))
            assert status == 0, "a page of clients"
            slot, place = struct.unpack_from("<I", page)[0], 4
            while place < len(page):
                length = ENTRY.unpack_from(page, place)[-1]
                place += ENTRY.size
                names.append(escaped(page[place : place + length]))
                place += length
        return " ".join(sorted(names))

    def do_look_up(self, name):
        status, key = self.client.do(independent.LOOK_UP, name)
        return "none" if status == 3 else key_text(key)

    def do_call(self, request):
        if len(request) > self.client.largest - 8:
            return "error too-large"
        status, response = self.client.do(independent.CALL, request)
        assert status == 0, "a call"
        return "reply " + escaped(response)

    def do_send(self, to, message):
        """To a name, or to a key, which has another form than any name."""
        key = bytes(16)
        if len(to) == 26 and set(to.decode()) <= set(DIGITS):
            number = 0
            for digit in to.decode():
                number = number << 5 | DIGITS.index(digit)
            key = number.to_bytes(16, "little")
        else:
            status, key = self.client.do(independent.LOOK_UP, to)
            if status:
                return f"error {STATUSES[status]}"
        if len(message) > self.client.largest - 88:
            return "error too-large"
        status, _ = self.client.do(independent.SEND, key + message)
        return f"error {STATUSES[status]}" if status else "ok"

    def do_recv(self, time=b""):
        if time and not self.client.inbox.header(self.client.inbox.position):
            return "error timed-out"
        key, name, payload, _ = self.client.receive()
        return f"message {escaped(name.encode())} {key_text(key)} {escaped(payload)}"


def main():
    player = Player()
    for line in sys.stdin:
        print(player.answer(line.rstrip("\n")), flush=True)


if __name__ == "__main__":
    main()
