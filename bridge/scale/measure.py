#!/usr/bin/env python3
"""Measures what liveliness tokens of Zenoh cost: the figures of docs/SCALE.md, with a bare Zenoh program.

    cargo build --release --manifest-path bridge/Cargo.toml --example tokens
    bridge/scale/measure.py bridge/target/release/examples/tokens
"""

import os
import socket
import subprocess
import sys
import threading
import time

TICK = os.sysconf("SC_CLK_TCK")
KEY = "ringpost/1/node-{:04}/0123456789abcdef/client/{}sensor-01/0000000001X5KHD7AFC"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Relay:
    """A TCP connection through here, whose bytes are counted."""

    def __init__(self, port):
        self.server, self.target, self.bytes = socket.create_server(("127.0.0.1", 0)), port, 0
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.server.accept()
            far = socket.create_connection(("127.0.0.1", self.target))
            for one, other in ((near, far), (far, near)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self.pump, args=(one, other), daemon=True).start()

    def pump(self, one, other):
        try:
            while data := one.recv(1 << 18):
                self.bytes += len(data)
                other.sendall(data)
        except OSError:
            pass


class Node:
    def __init__(self, mode, listen=None, connect=None):
        words = [f"tcp/127.0.0.1:{port}" if port else "-" for port in (listen, connect)]
        self.process = subprocess.Popen([sys.argv[1], mode, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return tuple(map(int, self.process.stdout.readline().split()))

    def until(self, counts, limit=60):
        end = time.monotonic() + limit
        while self.ask("counts") != counts:
            assert time.monotonic() < end, f"{self.ask('counts')}, not {counts}"
            time.sleep(0.005)

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            return sum(map(int, file.read().rpartition(")")[2].split()[11:13])) / TICK

    def memory(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) * 1024

    def end(self):
        self.process.kill()
        self.process.wait()


def churn(wild, most):
    """Two peers, and names that come and go, each once."""
    port = free_port()
    hears, relay = Node("peer", port), Relay(port)
    tells = Node("peer", connect=relay.port)
    hears.ask("subscribe", "ringpost/**")
    time.sleep(0.5)
    start, done = relay.bytes, 0
    while done < most:
        before = hears.cpu(), tells.cpu(), hears.memory()
        for _ in range(5):
            tells.ask("declare", KEY.format(1, wild), done, 1000)
            tells.ask("undeclare", 1000)
            done += 1000
            hears.until((done, done))
        print(f"{done} names: {(hears.cpu() - before[0]) / 5000 * 1e6:.0f} and {(tells.cpu() - before[1]) / 5000 * 1e6:.0f} µs of CPU each, "
              f"{(hears.memory() - before[2]) / 5000:.0f} bytes stay, {(relay.bytes - start) / done:.0f} bytes on the link", flush=True)
    hears.end()
    tells.end()


def routers(nodes, importers):
    """Tokens of many nodes at one router, then at a second one, which loses the first."""
    port = free_port()
    router = Node("router", port)
    hears = [Node("client", connect=port) for _ in range(importers)]
    for importer in hears:
        importer.ask("subscribe", "ringpost/**")
    tells, live, came, went = Node("client", connect=port), 0, 0, 0
    for goal in nodes:
        before, first = (router.cpu(), router.memory(), hears[0].memory()), came
        for node in range(live // 100, goal):
            tells.ask("declare", KEY.format(node, "*/"), came, 100)
            came, live = came + 100, live + 100
        for importer in hears:
            importer.until((came, went))
        count = came - first
        print(f"{importers} importers, up to {live} tokens: a router takes one in {(router.cpu() - before[0]) / count * 1e6:.0f} µs, in "
              f"{(router.memory() - before[1]) / count:.0f} bytes; an importer in {(hears[0].memory() - before[2]) / count:.0f}", end="")
        before = router.cpu()
        tells.ask("undeclare", 500)
        went += 500
        for importer in hears:
            importer.until((came, went))
        print(f"; it drops one in {(router.cpu() - before) / 500 * 1e6:.0f} µs", flush=True)
        for node in range(5):
            tells.ask("declare", KEY.format(5000 + node, "*/"), came, 100)
            came += 100
    other_port, began = free_port(), time.monotonic()
    other = Node("router", other_port, port)
    far = Node("client", connect=other_port)
    far.ask("subscribe", "ringpost/**")
    far.until((came - went, 0))
    print(f"a second router learns {came - went} tokens in {time.monotonic() - began:.1f} s", end="", flush=True)
    began = time.monotonic()
    router.end()
    far.until((came - went, came - went))
    print(f", and drops them in {time.monotonic() - began:.1f} s when the first one is killed")
    for node in (*hears, tells, other, far):
        node.end()


churn("", 10_000)
churn("*/", 40_000)
routers([10, 40, 100, 300], 1)
routers([20], 9)
