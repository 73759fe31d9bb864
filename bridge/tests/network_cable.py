"""Network namespaces for the nodes of a test, and the cable between them.

Every node has a network namespace with one interface, `eth0`, whose other end lies in the namespace of the test. There the
cable carries frames from end to end, as a hub does. So it can delay frames, lose some of them, and carry none between two
nodes. The kernel's own means for that (`tc netem`) are not in every kernel; this one only needs veth pairs and packet sockets,
which root of a user namespace may have, too. What is lost follows from a seed, and from the order in which frames come.
"""

import ctypes
import heapq
import os
import random
import selectors
import socket
import subprocess
import sys
import threading
import time

SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING, ETH_P_ALL = 263, 15, 23, 3
CLONE_NEWNET = 0x40000000
# In front of each frame: what the sender's kernel left undone, checksums and segments. The receiver's kernel takes it as it is.
VNET_HEADER = 10


def isolated():
    """Runs this program again in namespaces of its own. Returns None there, and the reason where that cannot be."""
    while (opened := os.open(os.devnull, os.O_RDWR)) < 3:
        pass  # a descriptor that is passed on must not be that of standard input
    os.close(opened)
    asked = os.environ.get("RINGPOST_NETWORK_TEST")
    if asked:
        return None if asked == "isolated" else f"RINGPOST_NETWORK_TEST is {asked}"
    why = "there is no program `unshare`"
    for options in (["--user", "--map-root-user", "--net"], ["--net"]):
        # All that the nodes need is tried here: a pair, and a namespace inside the namespace.
        probe = "ip link add p0 type veth peer name p1 && unshare --net nsenter --version"
        try:
            tried = subprocess.run(["unshare", *options, "sh", "-c", probe], stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired) as error:
            why = str(error)
            continue
        if tried.returncode == 0:
            os.environ["RINGPOST_NETWORK_TEST"] = "isolated"
            os.execvp("unshare", ["unshare", *options, sys.executable, *sys.argv])
        why = tried.stderr.decode(errors="replace").strip().partition("\n")[0] or f"status {tried.returncode}"
    return why


def namespace():
    """A descriptor of a new network namespace, which lives as long as it. (Python 3.11 has no os.unshare.)"""
    opened = []

    def make():
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) == 0:
            opened.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return opened[0]


class Place:
    """A node's network namespace."""

    def __init__(self, number):
        self.address, self.outer, self.net = f"10.99.0.{number}", f"port{number}", namespace()
        mac = f"02:00:00:00:00:{number:02x}"
        self.run("ip", "link", "add", self.outer, "type", "veth", "peer", "name", "eth0", "address", mac, "netns", self.path())
        self.run("ip", "link", "set", self.outer, "up")
        for words in (["link", "set", "lo", "up"], ["address", "add", f"{self.address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"]):
            self.run(*self.inside(), "ip", *words)

    def path(self):
        return f"/proc/self/fd/{self.net}"

    def run(self, *command):
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=20, pass_fds=[self.net])

    def inside(self):
        """What comes before a command that runs at this place, and becomes it. It must be given the descriptor."""
        return ["nsenter", f"--net={self.path()}", "--"]

    def start(self, command, **options):
        return subprocess.Popen([*self.inside(), *command], pass_fds=[self.net], **options)

    def plug(self, is_in):
        self.run("ip", "link", "set", self.outer, "up" if is_in else "down")

    def end(self):
        os.close(self.net)


class Cable:
    """Carries frames between places, on a thread of its own."""

    def __init__(self, places, seed):
        # Each of these is replaced as a whole, and read once for a frame.
        self.delay, self.loss, self.parted = 0.0, 0.0, frozenset()
        self.carried, self.lost = 0, 0
        # Bytes that are looked for in each frame, and in how many they were.
        self.sought, self.found = None, 0
        self.random, self.due, self.number = random.Random(seed), [], 0
        self.ports = []
        for place in places:
            port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            port.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
            port.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            port.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            port.bind((place.outer, 0))
            port.setblocking(False)
            self.ports.append(port)
        self.stop_read, self.stop_write = os.pipe()
        self.thread = threading.Thread(target=self.work, name="cable", daemon=True)
        self.thread.start()

    def part(self, *ways):
        """From now on nothing goes from the first to the second place of each way. Nobody is told."""
        self.parted = frozenset(ways)

    def work(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self.stop_read, selectors.EVENT_READ)
            for at, port in enumerate(self.ports):
                selector.register(port, selectors.EVENT_READ, at)
            while True:
                wait = max(0, self.due[0][0] - time.monotonic()) if self.due else None
                for key, _ in selector.select(wait):
                    if key.data is None:
                        return
                    self.take(key.data)
                while self.due and self.due[0][0] <= time.monotonic():
                    _, _, to, frame = heapq.heappop(self.due)
                    self.give(to, frame)

    def take(self, source):
        for _ in range(64):
            try:
                frame = self.ports[source].recv(1 << 17)
            except OSError:
                return
            first, last = frame[VNET_HEADER], frame[VNET_HEADER + 5]
            everybody = first & 1
            if self.sought and self.sought in frame:
                self.found += 1
            for to in range(len(self.ports)):
                if to != source and (everybody or last == to + 1) and (source, to) not in self.parted:
                    if self.loss and self.random.random() < self.loss:
                        self.lost += 1
                    elif self.delay:
                        self.number += 1
                        heapq.heappush(self.due, (time.monotonic() + self.delay, self.number, to, frame))
                    else:
                        self.give(to, frame)

    def give(self, to, frame):
        try:
            self.ports[to].send(frame)
            self.carried += 1
        except OSError:
            self.lost += 1  # the place is unplugged, or its queue is full

    def end(self):
        os.write(self.stop_write, b"x")
        self.thread.join(20)
        for port in self.ports:
            port.close()
        os.close(self.stop_read)
        os.close(self.stop_write)


ECHO = """
import socket, sys
with socket.create_server(("", 7)) as server:
    print("listens", flush=True)
    peer, _ = server.accept()
    while data := peer.recv(65536):
        peer.sendall(data)
"""
ASK = """
import socket, sys, time
peer = socket.create_connection((sys.argv[1], 7), 10)
sent = back = 0
for line in sys.stdin:
    length, patience = line.split()
    sent, began = sent + int(length), time.monotonic()
    peer.settimeout(float(patience))
    try:
        peer.sendall(bytes(int(length)))
        while back < sent:
            back += len(peer.recv(65536))
        print(time.monotonic() - began, flush=True)
    except TimeoutError:
        print("nothing", flush=True)
"""


def prove(places, cable):
    """That the cable carries, delays, loses and parts: a TCP echo between two places, without a bridge."""
    a, b = places[:2]
    python = [sys.executable, "-c"]
    with b.start([*python, ECHO], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as echo:
        echo.stdout.readline()
        with a.start([*python, ASK, b.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as ask:
            def trip(length, patience=10):
                ask.stdin.write(f"{length} {patience}\n")
                ask.stdin.flush()
                return ask.stdout.readline().strip()

            try:
                quick = float(trip(1))
                cable.delay = 0.05
                slow = float(trip(1))
                assert slow >= 0.1, f"a delay of 50 ms each way took {slow} s"
                cable.delay, cable.loss, lost = 0.001, 0.1, cable.lost
                whole = trip(200_000)
                assert whole != "nothing" and cable.lost > lost, f"{whole}, {cable.lost - lost} frames lost"
                cable.loss = cable.delay = 0.0
                cable.part((0, 1), (1, 0))
                assert trip(1, 0.5) == "nothing", "it went through a parted cable"
                cable.part()
                assert trip(1) != "nothing", "it did not heal"
                a.plug(False)
                assert trip(1, 0.5) == "nothing", "it went through a cable that is out"
                a.plug(True)
                assert trip(1) != "nothing", "it did not heal after it was plugged in"
            finally:
                ask.kill()
                echo.kill()
                cable.loss = cable.delay = 0.0
                cable.part()
    return quick
