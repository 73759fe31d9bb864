#!/usr/bin/env python3
"""Bridges on nodes of their own, over a network that is cut, delayed, lossy and healed.

    cargo build --manifest-path bridge/Cargo.toml
    cargo build --features cli,serde,tokio,async-io --bin ringpost-server --example player
    bridge/tests/network.py --bridge bridge/target/debug/ringpost-bridge --server target/debug/ringpost-server \\
        --player target/debug/examples/player [--scenario TEXT] [--seed N]

Each node has a server, a bridge, and clients: players of the conformance tests, one process each. With the namespaces of
network_cable.py each node has an address of its own; where they cannot be made this says so, and the scenarios that do not
need to touch the network run on loopback addresses. RINGPOST_NETWORK_TEST=loopback asks for that.

What must hold is the same everywhere. A message that was acknowledged arrives once, one whose sender was told that it was not
sent never arrives, and one of which that is not known arrives at most once. What arrives of one sender is in order. Names that
are there can be looked up within BOUND seconds of the time at which bridge and network let them, and vanish within BOUND
seconds of their end.
"""

import argparse
import collections
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import network_cable  # noqa: E402
from network_stage import (BOUND, Drift, Player, Receiving, Sending, Server, Stage, account, appears, expect,  # noqa: E402
                           until, vanishes)

# Seconds for one scenario, and for all of them.
SCENARIO, ALL = 30, 150


def network(scenario):
    """Marks a scenario that touches the network, and so needs the cable."""
    scenario.needs_cable = True
    return scenario


def messages_and_errors(stage):
    """Messages of all sizes both ways, under the sender's name at its node; errors as they are at home."""
    a, b = stage.join()
    alice, bob = a.client("alice"), b.client("bob")
    bob_at_a = appears(alice, "bob@b")
    appears(bob, "alice@a")
    most = int(alice.ask("limits").split()[1]) - 64
    for size in (0, 1, 47, 48, 49, 1000, 4096, most):
        text = "y" * size or "''"
        for sender, receiver, to, name in ((alice, bob, "bob@b", "alice@a"), (bob, alice, "alice@a", "bob@b")):
            expect(sender, f"send {to} {text} 5000", "ok")
            came = receiver.ask("recv 5000").split()
            if [came[0], came[1], came[-1]] != ["message", name.replace("@", "%40"), text]:
                raise Drift(f"{size} bytes from {name}: {' '.join(came)[:200]}")
    expect(alice, f"send {bob_at_a} by-key 5000", "ok")
    if bob.ask("recv 5000").split()[-1] != "by-key":
        raise Drift("a message to a key did not come")
    expect(alice, "send nobody@b text 2000", "error not-found")
    expect(alice, "send bob@z text 2000", "error not-found")
    expect(alice, "recv 0", "error timed-out")


def calls(stage):
    """Calls over a link to a client of another node: in order, pipelined, with the service's failures, and its end."""
    a, b = stage.join()
    alice, bob = a.client("alice"), b.client("bob")
    appears(alice, "bob@b")
    came = alice.ask("link bob@b 5000")
    if not came.startswith("error not-serving"):
        raise Drift(f"a link to a client that does not serve: {came}")
    expect(bob, "serve", "ok")
    expect(alice, "link bob@b 5000", "ok")
    expect(alice, "link-call who 5000", "reply alice%40a")
    for size in (0, 1, 47, 48, 1000, 20_000):
        text = "z" * size or "''"
        expect(alice, f"link-call {text} 5000", f"reply {text}")
    expect(alice, "link-call fail%20no 5000", "error service-failed no maybe")
    for number in range(50):
        expect(alice, f"link-submit call-{number}", "ok")
    for number in range(50):
        expect(alice, "link-response 5000", f"reply call-{number}")
    bob.kill()
    came = until(alice, "link-call late 1000", lambda came: came.startswith("error disconnected") and came)
    vanishes(alice, "bob@b")
    return came


def topics(stage):
    """Samples with their publisher and sequence; late subscribers; two publishers."""
    a, b = stage.join()
    alice, bob, carol = a.client("alice"), b.client("bob"), b.client("carol")
    appears(alice, "bob@b")
    expect(alice, "subscribe prices/** lossy 0", "ok")
    expect(bob, "publish prices/x 0 0", "ok")
    expect(carol, "publish prices/y 0 0", "ok")
    until(bob, "subscribers", lambda came: came != "0")
    until(carol, "subscribers", lambda came: came != "0")
    for number in range(1, 51):
        expect(bob, f"publish-sample b{number}", "ok")
        expect(carol, f"publish-sample c{number}", "ok")
    came = collections.defaultdict(list)
    while sum(map(len, came.values())) < 100:
        words = alice.ask("sample 5000").split()
        if words[0] != "sample":
            raise Drift(f"{sum(map(len, came.values()))} samples, and then {' '.join(words)}")
        came[words[1], words[2]].append((int(words[3]), int(words[4]), words[5]))
    for letter, topic, name in (("b", "prices/x", "bob%40b"), ("c", "prices/y", "carol%40b")):
        got = came[topic, name]
        first = got[0][0] if got else 0
        if got != [(first + at, 0, f"{letter}{at + 1}") for at in range(50)]:
            raise Drift(f"of {name} on {topic}: {got[:3]} … {got[-3:]}, all: {list(came)}")


def presence(stage):
    """Names come and go with clients, with bridges, and only where they are let."""
    a, b = stage.build()
    b.start_bridge()
    a.start_bridge(export="public/*")
    bob = b.client("bob")
    hidden, shown = a.client("hidden"), a.client("public/1")
    appears(bob, "public/1@a")
    appears(shown, "bob@b")
    expect(bob, "look-up hidden@a", "none")
    if (came := bob.ask("send hidden@a x 1000")).startswith("ok"):
        raise Drift("a message reached a client that is not exported")
    expect(hidden, "recv 0", "error timed-out")
    shown.kill()
    gone = vanishes(bob, "public/1@a")
    again = a.client("public/1")
    appears(bob, "public/1@a")
    expect(again, "unregister", "ok")
    vanishes(bob, "public/1@a")
    a.client("public/2")
    appears(bob, "public/2@a")
    a.kill_bridge()
    lost = vanishes(bob, "public/2@a")
    return f"a name was gone {gone:.2f} s after its process, and {lost:.2f} s after its bridge; to a hidden one: {came}"


def nothing_without_a_line(stage):
    """A bridge that is told to let nothing through lets nothing through."""
    a, b = stage.build()
    a.start_bridge(export=None, patterns=None)
    b.start_bridge()
    alice, bob = a.client("alice"), b.client("bob")
    end = time.monotonic() + 3
    while time.monotonic() < end:
        expect(bob, "look-up alice@a", "none")
        expect(alice, "look-up bob@b", "none")
        time.sleep(0.1)


def bridge_killed(stage):
    """A bridge is killed while messages flow to its node, and started again."""
    a, b = stage.join()
    alice, bob, looks = a.client("alice"), b.client("bob"), a.client("looks")
    appears(looks, "bob@b")
    sending, receiving = Sending(alice, "bob@b"), Receiving(bob)
    for _ in range(2):
        sending.wait_for(50)
        b.kill_bridge()
        b.start_bridge()
        sending.wait_for(50)
    said = account(sending.stop(), receiving.stop(), "alice%40a")
    sending, receiving = Sending(alice, "bob@b"), Receiving(bob)
    sending.wait_for(50)
    a.kill_bridge()
    vanishes(looks, "bob@b")
    a.start_bridge()
    sending.wait_for(50)
    return f"{said}; the sender's: {account(sending.stop(), receiving.stop(), 'alice%40a')}"


def node_name_taken(stage):
    """The second bridge that claims a node's name is refused, and the first one goes on."""
    a, b, c = stage.join(3)
    alice, bob = a.client("alice"), b.client("bob")
    appears(alice, "bob@b")
    c.kill_bridge()
    c.start_bridge(name="b")
    try:
        status = c.bridge.wait(BOUND)
    except subprocess.TimeoutExpired:
        raise Drift("a second bridge goes on under the name b") from None
    expect(alice, "send bob@b still 5000", "ok")
    return f"it ended with status {status}"


def three_nodes(stage):
    """Everybody sees everybody, and messages go every way at once."""
    nodes = stage.join(3)
    clients = {node.name: node.client(f"client-{node.name}") for node in nodes}
    for at in "abc":
        for to in set("abc") - {at}:
            appears(clients[at], f"client-{to}@{to}")
    receiving = {at: Receiving(node.client(f"inbox-{at}")) for at, node in zip("abc", nodes)}
    said = []
    for at in "abc":
        to = {"a": "b", "b": "c", "c": "a"}[at]
        appears(clients[at], f"inbox-{to}@{to}")
    sendings = {at: Sending(clients[at], f"inbox-{to}@{to}") for at, to in zip("abc", "bca")}
    for sending in sendings.values():
        sending.wait_for(100)
    outcomes = {at: sending.stop() for at, sending in sendings.items()}
    for at, to in zip("abc", "bca"):
        said.append(account(outcomes[at], receiving[to].stop(), f"client-{at}%40{at}"))
    return "; ".join(said)


def many_names(stage):
    """Clients that come and go leave nothing behind in the bridge that tells of them."""
    a, b = stage.join()
    alice, passing = a.client("alice"), Player("passing", [stage.programs.player])
    b.players.append(passing)

    def come_and_go(count, last):
        for number in range(count):
            expect(passing, f"register {b.bus} {last}-{number}", "ok")
            expect(passing, "unregister", "ok")
        b.client(last)
        appears(alice, f"{last}@b")
        status = pathlib.Path(f"/proc/{b.bridge.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    before, count = come_and_go(500, "first"), 1500
    each = (come_and_go(count, "second") - before) / count
    if each > 1000:
        raise Drift(f"each name leaves {each:.0f} bytes behind")
    return f"{each:.0f} bytes for each of {count} names"


@network
def link_cut(stage):
    """The link of a node is down for two seconds while messages flow both ways."""
    a, b = stage.join()
    alice, bob, to_a, to_b = a.client("alice"), b.client("bob"), a.client("inbox-a"), b.client("inbox-b")
    appears(alice, "inbox-b@b")
    appears(bob, "inbox-a@a")
    ways = [(Sending(alice, "inbox-b@b"), Receiving(to_b), "alice%40a"), (Sending(bob, "inbox-a@a"), Receiving(to_a), "bob%40b")]
    for sending, _, _ in ways:
        sending.wait_for(50)
    stage.places[0].plug(False)
    time.sleep(2)
    stage.places[0].plug(True)
    for sending, _, _ in ways:
        sending.wait_for(50)
    return "; ".join(account(sending.stop(), receiving.stop(), name) for sending, receiving, name in ways)


@network
def slow_and_lossy(stage):
    """20 ms each way, and one frame in 33 lost: messages and calls are whole and in order."""
    a, b = stage.join()
    alice, bob, caller = a.client("alice"), b.client("bob"), a.client("caller")
    expect(bob, "serve", "ok")
    appears(alice, "bob@b")
    stage.cable.delay, stage.cable.loss, stage.cable.sought = 0.02, 0.03, b"x" * 100
    sending, receiving = Sending(alice, "bob@b", patience=8000, size=500), Receiving(bob)
    expect(caller, "link bob@b 8000", "ok")
    for number in range(20):
        expect(caller, f"link-call number-{number} 10000", f"reply number-{number}")
    sending.wait_for(20)
    said = account(sending.stop(), receiving.stop(), "alice%40a")
    if not stage.cable.found:
        raise Drift("no message was seen on the cable, although nothing hides them")
    return f"{said}; {stage.cable.lost} frames lost so far"


@network
def certificates(stage):
    """Nodes with certificates, over a slow and lossy cable that is cut for two seconds and shows no message."""
    if not shutil.which("openssl"):
        return "not run: there is no program `openssl`, which issues the certificates"
    a, b = stage.join(certified=True)
    alice, bob = a.client("alice"), b.client("bob")
    expect(bob, "serve", "ok")
    appears(alice, "bob@b")
    appears(bob, "alice@a")
    stage.cable.delay, stage.cable.loss, stage.cable.sought = 0.01, 0.02, b"x" * 100
    sending, receiving = Sending(alice, "bob@b", patience=4000, size=500), Receiving(bob)
    sending.wait_for(20)
    stage.places[0].plug(False)
    time.sleep(2)
    stage.places[0].plug(True)
    sending.wait_for(20)
    expect(a.client("caller"), "link bob@b 8000", "ok")
    said = account(sending.stop(), receiving.stop(), "alice%40a")
    if stage.cable.found:
        raise Drift(f"{stage.cable.found} frames show a message to whoever listens")
    return f"{said}; {stage.cable.lost} frames lost so far"


@network
def partition(stage):
    """A node is cut off, silently and for longer than names may stay, and comes back."""
    a, b, c = stage.join(3)
    alice, bob, carol = a.client("alice"), b.client("bob"), c.client("carol")
    appears(alice, "bob@b")
    appears(alice, "carol@c")
    appears(bob, "carol@c")
    inbox = c.client("inbox")
    appears(alice, "inbox@c")
    sending, receiving = Sending(a.client("sender"), "inbox@c", patience=1000), Receiving(inbox)
    sending.wait_for(20)
    stage.cable.part((0, 2), (2, 0), (1, 2), (2, 1))
    gone = vanishes(alice, "carol@c")
    vanishes(bob, "carol@c", 3)
    vanishes(carol, "alice@a", 3)
    expect(alice, "look-up nobody@b", "none")
    if alice.ask("look-up bob@b") == "none":
        raise Drift("bob@b vanished with carol@c")
    late = c.client("late")
    stage.cable.part()
    began = time.monotonic()
    appears(alice, "carol@c")
    appears(bob, "carol@c")
    appears(alice, "late@c")
    appears(late, "alice@a")
    back = time.monotonic() - began
    sending.wait_for(20)
    return f"gone after {gone:.1f} s, back after {back:.1f} s; " + account(sending.stop(), receiving.stop(), "sender%40a")


@network
def answers_lost(stage):
    """For two seconds messages get through and their answers do not."""
    a, b = stage.join()
    alice, bob = a.client("alice"), b.client("bob")
    appears(alice, "bob@b")
    sending, receiving = Sending(alice, "bob@b", patience=1000), Receiving(bob)
    sending.wait_for(50)
    stage.cable.part((1, 0))
    time.sleep(2)
    stage.cable.part()
    sending.wait_for(50)
    return account(sending.stop(), receiving.stop(), "alice%40a")


def bridge_frozen(stage):
    """A bridge is stopped for longer than the lease while messages flow to its node, and goes on."""
    a, b = stage.join()
    alice, bob, looks = a.client("alice"), b.client("bob"), a.client("looks")
    appears(looks, "bob@b")
    sending, receiving = Sending(alice, "bob@b", patience=1000), Receiving(bob)
    sending.wait_for(50)
    b.bridge.send_signal(signal.SIGSTOP)
    gone = vanishes(looks, "bob@b")
    b.bridge.send_signal(signal.SIGCONT)
    appears(looks, "bob@b")
    sending.wait_for(50)
    return f"gone after {gone:.1f} s; " + account(sending.stop(), receiving.stop(), "alice%40a")


def server_restarted(stage):
    """The server of a node is killed and started again: its bridge joins the new one, and its names come back."""
    a, b = stage.join()
    alice, bob = a.client("alice"), b.client("bob")
    appears(alice, "bob@b")
    b.server.end(signal.SIGKILL)
    gone = vanishes(alice, "bob@b")
    bob.kill()
    b.server = Server(stage.programs.server, b.bus, [])
    again = b.client("bob")
    appears(alice, "bob@b")
    appears(again, "alice@a")
    expect(alice, "send bob@b text 5000", "ok")
    expect(again, "recv 5000", f"message alice%40a {until(again, 'look-up alice@a', lambda came: came)} text")
    return f"gone after {gone:.2f} s"


def strangers(stage):
    """Whoever connects without being a bridge harms nobody: bytes of any kind, and many connections that say nothing."""
    a, b = stage.join()
    alice, bob = a.client("alice"), b.client("bob")
    appears(alice, "bob@b")
    stranger = [sys.executable, "-c", STRANGER, b.address, str(b.port)]
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True}
    with (a.place.start(stranger, **options) if a.place else subprocess.Popen(stranger, **options)) as process:
        try:
            process.stdout.readline()
            for number in range(50):
                expect(alice, f"send bob@b number-{number} 5000", "ok")
            for number in range(50):
                if bob.ask("recv 5000").split()[-1] != f"number-{number}":
                    raise Drift(f"message {number} did not come")
            late = b.client("late")
            appears(alice, "late@b")
            return f"{process.stdout.readline().strip()}; {late.language} was seen meanwhile"
        finally:
            process.kill()


STRANGER = """
import random, socket, struct, sys
address, chance = (sys.argv[1], int(sys.argv[2])), random.Random(1)
quiet = [socket.create_connection(address, 5) for _ in range(60)]
print("there", flush=True)
refused = 0
for number in range(200):
    data = chance.randbytes(chance.choice((1, 3, 40, 2000)))
    if number % 2:
        data = struct.pack("<H", len(data) if number % 4 == 1 else 65535) + data
    try:
        with socket.create_connection(address, 5) as peer:
            peer.sendall(data)
    except OSError:
        refused += 1
print(f"200 strangers, {refused} refused", flush=True)
for peer in quiet:
    peer.settimeout(20)
    peer.recv(1)
"""


SCENARIOS = [messages_and_errors, calls, topics, presence, nothing_without_a_line, bridge_killed, bridge_frozen,
             server_restarted, node_name_taken, strangers, three_nodes, many_names, link_cut, slow_and_lossy,
             answers_lost, certificates, partition]


class Overdue(Exception):
    pass


def overdue(*_):
    raise Overdue


def play(scenario, programs, places, cable):
    with tempfile.TemporaryDirectory(prefix="rp-net-") as directory:
        stage = Stage(programs, pathlib.Path(directory), places, cable)
        signal.setitimer(signal.ITIMER_REAL, SCENARIO)
        try:
            return True, scenario(stage) or ""
        except (Drift, Overdue, subprocess.SubprocessError, OSError) as wrong:
            what = f"not over within {SCENARIO} s" if isinstance(wrong, Overdue) else wrong
            return False, f"{what}\n{stage.logs()}"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            stage.end()


def main():
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for program in ("bridge", "server", "player"):
        arguments.add_argument(f"--{program}", required=True, type=os.path.abspath)
    arguments.add_argument("--scenario", default="", help="only scenarios whose name has this in it")
    arguments.add_argument("--seed", type=int, default=1, help="of the frames that are lost")
    arguments = arguments.parse_args()
    why = network_cable.isolated()
    signal.signal(signal.SIGALRM, overdue)
    places, cable = [], None
    if why is None:
        places = [network_cable.Place(number) for number in (1, 2, 3)]
        cable = network_cable.Cable(places, arguments.seed)
        print(f"ok: the cable between namespaces, {network_cable.prove(places, cable) * 1e6:.0f} µs for an echo", flush=True)
    else:
        print(f"no network namespaces here ({why}): loopback addresses, and no scenario that touches the network", flush=True)
    began, failed, left = time.monotonic(), 0, []
    for scenario in SCENARIOS:
        name = scenario.__name__
        if arguments.scenario not in name:
            continue
        if time.monotonic() - began > ALL - SCENARIO or (hasattr(scenario, "needs_cable") and not cable):
            left.append(name)
            continue
        start = time.monotonic()
        passed, said = play(scenario, arguments, places, cable)
        failed += not passed
        print(f"{'ok' if passed else 'FAILED'}: {name}, {time.monotonic() - start:.1f} s" + (f": {said}" if said else ""), flush=True)
    if left:
        print(f"left out: {', '.join(left)}")
    return 1 if failed or (left and cable) else 0


if __name__ == "__main__":
    sys.exit(main())
