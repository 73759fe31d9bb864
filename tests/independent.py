#!/usr/bin/env python3
"""A client in pure Python, written from docs/PROTOCOL.md alone, and what it says to a server: a test of that document.

    tests/independent.py target/checked/ringpost-server

It needs nothing but Python 3.11 and an x86-64 processor, whose plain loads and stores have the order that the document asks
for. It sleeps in futexes, so wakes are tested in both directions.
"""

import array
import ctypes
import fcntl
import mmap
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

PROTOCOL_VERSION = 7
LAYOUT_VERSION = 3
MAGIC = b"RINGPOST"
DATAGRAM = struct.Struct("<8sIHH")
BLOCK = struct.Struct("<HHI")
REGISTER, LIST = 1, 2
CALL, SEND, LOOK_UP, OWN_LIST, PING, UNREGISTER = 1, 2, 3, 4, 5, 7
PATIENCE = 30.0

libc = ctypes.CDLL(None, use_errno=True)
FUTEX, FUTEX_WAIT, FUTEX_WAKE = 202, 0, 1


def fence(lock=threading.Lock()):
    """A SeqCst fence: on this processor every locked instruction is one, and a mutex has such."""
    with lock:
        pass


def connect(path):
    """Connects as the document says: a server that starts may refuse for some time."""
    end = time.monotonic() + PATIENCE
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(PATIENCE)
        try:
            connection.connect(path)
            return connection
        except (FileNotFoundError, ConnectionRefusedError, PermissionError):
            connection.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


def ask(connection, code, body=b"", version=PROTOCOL_VERSION):
    """One request on the socket: the reply's code and body, and the descriptors that came with it."""
    connection.send(DATAGRAM.pack(MAGIC, version, code, 0) + body)
    reply, ancillary, _, _ = connection.recvmsg(16384, socket.CMSG_SPACE(8 * 4))
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) // 4 * 4])
    magic, version, code, _ = DATAGRAM.unpack_from(reply)
    assert (magic, version) == (MAGIC, PROTOCOL_VERSION), "header of a reply"
    return code, reply[DATAGRAM.size :], list(descriptors)


class Ring:
    """One ring, seen from either end."""

    def __init__(self, memory, control, data, size):
        self.memory, self.data, self.size, self.position = memory, data, size, 0
        self.head = ctypes.c_uint64.from_buffer(memory, control)
        self.taken = ctypes.c_uint64.from_buffer(memory, control + 8)
        self.consumer_parked = ctypes.c_uint32.from_buffer(memory, control + 128)
        self.producer_parked = ctypes.c_uint32.from_buffer(memory, control + 256)
        self.headers = (ctypes.c_uint64 * (size // 8)).from_buffer(memory, data)

    def header(self, position):
        return self.headers[position % self.size // 8]

    def store_header(self, position, length, kind):
        line = position // 64 % (1 << 30)
        self.headers[position % self.size // 8] = length | kind << 32 | line << 34

    def put(self, block):
        """Publishes a block; `False` if there is no room."""
        record = -(-(8 + len(block)) // 64) * 64
        rest = self.size - self.position % self.size
        padding = rest if record > rest else 0
        if self.position + padding + record + 64 - self.head.value > self.size:
            return False
        start = self.position + padding
        place = self.data + start % self.size + 8
        self.memory[place : place + len(block)] = block
        self.headers[(start + record) % self.size // 8] = 0
        self.store_header(start, len(block), 1)
        if padding:
            self.store_header(self.position, padding - 8, 2)
        self.position = start + record
        wake(self.consumer_parked)
        return True

    def get(self):
        """Takes a block, or `None` if none is there."""
        while header := self.header(self.position):
            length, kind, line = header & 0xFFFFFFFF, header >> 32 & 3, header >> 34
            assert line == self.position // 64 % (1 << 30), "line of a record"
            offset = self.position % self.size
            if kind == 2:
                assert offset and length == self.size - offset - 8, "padding"
                self.position += self.size - offset
                continue
            assert kind == 1 and offset + 8 + length <= self.size, "a record"
            place = self.data + offset + 8
            block = bytes(self.memory[place : place + length])
            self.position += -(-(8 + length) // 64) * 64
            self.head.value = self.position
            wake(self.producer_parked)
            return block
        return None


def wake(parked):
    fence()
    if was := parked.value:
        parked.value = 0
        if was == 1:
            libc.syscall(FUTEX, ctypes.byref(parked), FUTEX_WAKE, 1, None, None, 0)


class Client:
    """A registration, with the three rings of its channel."""

    def __init__(self, path, name):
        self.connection = connect(path)
        code, body, descriptors = ask(self.connection, REGISTER, name.encode())
        if code:
            self.connection.close()
            raise PermissionError(code, body.decode())
        self.name, self.key, self.sequence = name, body[:16], 0
        assert len(body) == 32 and len(descriptors) == 1, "answer to REGISTER"
        descriptor = descriptors[0]
        # Seals: shrink, grow, seal.
        assert fcntl.fcntl(descriptor, 1034) & 7 == 7, "seals of the channel"
        length = os.fstat(descriptor).st_size
        self.memory = mmap.mmap(descriptor, length)
        os.close(descriptor)
        magic, version, _, size, self.largest = struct.unpack_from("<8sIIQQ", self.memory)
        assert (magic, version) == (MAGIC, LAYOUT_VERSION), "header of the channel"
        assert length == 8192 + 3 * size and size & (size - 1) == 0, "size of the channel"
        self.size = size
        self.closed = ctypes.c_uint32.from_buffer(self.memory, 128)
        self.requests = Ring(self.memory, 256, 8192, size)
        self.responses = Ring(self.memory, 640, 8192 + size, size)
        self.inbox = Ring(self.memory, 1024, 8192 + 2 * size, size)

    def take(self, ring):
        """Waits for a block, asleep in the futex for limited times, as the document says."""
        end = time.monotonic() + PATIENCE
        pause = (ctypes.c_long * 2)(0, 50_000_000)
        while (block := ring.get()) is None:
            ring.consumer_parked.value = 1
            fence()
            if ring.header(ring.position) == 0 and self.closed.value == 0:
                word = ctypes.byref(ring.consumer_parked)
                libc.syscall(FUTEX, word, FUTEX_WAIT, 1, ctypes.byref(pause), None, 0)
            ring.consumer_parked.value = 0
            if self.closed.value and ring.header(ring.position) == 0:
                raise ConnectionError(self.closed.value)
            assert time.monotonic() < end, "nothing came"
        return block

    def submit(self, operation, body=b"", flags=0):
        sequence, self.sequence = self.sequence, (self.sequence + 1) & 0xFFFFFFFF
        if not self.requests.put(BLOCK.pack(operation, flags, sequence) + body):
            self.sequence = sequence
            return None
        return sequence

    def answer(self, expected):
        block = self.take(self.responses)
        status, flags, sequence = BLOCK.unpack_from(block)
        assert (flags, sequence) == (0, expected), "header of a response"
        return status, block[BLOCK.size :]

    def do(self, operation, body=b"", flags=0):
        return self.answer(self.submit(operation, body, flags))

    def receive(self):
        block = self.take(self.inbox)
        code, name, count = BLOCK.unpack_from(block)
        assert code == 0x100, "code of a message"
        self.inbox.taken.value = count + 1
        return block[8:24], block[24 : 24 + name].decode(), block[24 + name :], count

    def close(self):
        self.connection.close()


def check_socket(path):
    connection = connect(path)
    assert ask(connection, LIST, bytes(4), version=PROTOCOL_VERSION + 1)[0] == 2, "another version"
    connection.close()
    for name, code in ("", 4), (" x", 4), ("a\n", 4), ("x" * 65, 4), ("alice", 5):
        try:
            Client(path, name).close()
            raise AssertionError(f"{name!r} was registered")
        except PermissionError as refused:
            assert refused.errno == code, (name, refused)


def check_questions(alice, bob):
    assert alice.do(PING, b"anything") == (0, b"")
    assert alice.do(LOOK_UP, b"bob") == (0, bob.key)
    assert alice.do(LOOK_UP, b"nobody") == (3, b"")
    status, page = alice.do(OWN_LIST, bytes(4))
    assert status == 0 and alice.key in page and bob.key in page
    status, text = alice.do(999)
    assert status == 1 and text.decode()
    assert alice.do(OWN_LIST, b"1")[0] == 2


def check_calls(alice, echoes):
    """All lengths around the lines, twice around the ring, and pipelined until the ring is full."""
    for length in [*range(0, 200), *range(alice.largest - 8 - 70, alice.largest - 8 + 1)]:
        payload = os.urandom(length)
        status, answer = alice.do(CALL, payload)
        assert status == 0 and answer == (payload if echoes else b""), length
    due, answered = [], 0
    while answered < 6 * alice.size // 64:
        payload = struct.pack("<Q", alice.sequence)
        sequence = alice.submit(CALL, payload)
        if sequence is not None:
            due.append((sequence, payload))
        if sequence is None:
            sequence, payload = due.pop(0)
            assert alice.answer(sequence) == (0, payload if echoes else b"")
            answered += 1
    for sequence, payload in due:
        assert alice.answer(sequence) == (0, payload if echoes else b"")


def check_messages(alice, bob):
    for number in range(2000):
        payload = os.urandom(min(number, alice.largest - 88))
        assert alice.do(SEND, bob.key + payload)[0] == 0
        assert bob.receive() == (alice.key, "alice", payload, number)
    assert alice.do(SEND, bytes(15) + b"\xff" + b"x")[0] == 3
    big = bytes(alice.largest - 88)
    sent = 0
    while (status := alice.do(SEND, bob.key + big)[0]) == 0:
        sent += 1
    assert status == 4 and sent > 0, status
    assert alice.do(SEND, bob.key + struct.pack("<Q", 1_000_000) + big, flags=1)[0] == 5
    # One that waits is delivered when there is room; the server sleeps for it meanwhile.
    waiting = alice.submit(SEND, bob.key + struct.pack("<Q", 20_000_000_000) + big, flags=1)
    assert [len(bob.receive()[2]) for _ in range(sent + 1)] == [len(big)] * (sent + 1)
    assert alice.answer(waiting)[0] == 0


def check_end(path, alice, bob):
    assert alice.do(UNREGISTER) == (0, b"")
    try:
        alice.take(alice.responses)
        raise AssertionError("the channel is open")
    except ConnectionError as ended:
        assert ended.args == (3,)
    again = Client(path, "alice")
    bob.close()
    end = time.monotonic() + PATIENCE
    while again.do(LOOK_UP, b"bob")[0] != 3:
        assert time.monotonic() < end, "a connection that ended is noticed"
        time.sleep(0.01)
    again.close()


def run(program, ring_size):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "bus.sock")
        server = subprocess.Popen([program, "--socket", path, "--ring-size", ring_size], stderr=subprocess.DEVNULL)
        try:
            alice, bob = Client(path, "alice"), Client(path, "bob")
            echoes = alice.do(CALL, b"?")[1] == b"?"
            check_socket(path)
            check_questions(alice, bob)
            check_calls(alice, echoes)
            check_messages(alice, bob)
            check_end(path, alice, bob)
        finally:
            server.terminate()
            server.wait(PATIENCE)


def main():
    for ring_size in "256K", "4K":
        run(sys.argv[1], ring_size)
    print("2 passed, 0 failed")


if __name__ == "__main__":
    main()
