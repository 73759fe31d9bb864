"""The parts of the scenarios of network.py: nodes, senders and receivers, and the account that is kept of messages."""

import collections
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "tests" / "conformance"))

from play import Drift, Player, Server  # noqa: E402

# Seconds until a name comes or goes. Documented are 5; a test must also hold on a slow computer.
BOUND = 12


class Node:
    """A server, its bridge and its clients. A client's player is asked by one thread at a time."""

    def __init__(self, stage, number, place):
        self.stage, self.number, self.name, self.place = stage, number, "abc"[number], place
        # On loopback a node has only a port of its own.
        self.address, self.port = (place.address, 7447) if place else ("127.0.0.1", 20_000 + os.getpid() % 30_000 + number)
        self.directory = stage.directory / self.name
        self.directory.mkdir()
        self.bus, self.log = str(self.directory / "bus.sock"), self.directory / "bridge.log"
        self.players, self.bridge, self.files = [], None, None
        self.server = Server(stage.programs.server, self.bus, [])

    def start_bridge(self, export="**", patterns="**", name=None):
        """Starts the bridge. It speaks with all nodes of the scenario, and connects to those before it."""
        protocol, security = ("tls", self.files) if self.files else ("tcp", ["--insecure"])
        command = [self.stage.programs.bridge, "--socket", self.bus, "--node", name or self.name, *security,
                   "--listen", f"{protocol}/{self.address}:{self.port}"]
        if export:
            command += ["--export", export]
        if patterns:
            command += ["--import", patterns]
        for other in self.stage.nodes:
            if other.name != (name or self.name):
                command += ["--allow", other.name] if patterns else []
            if other.number < self.number:
                command += ["--connect", f"{protocol}/{other.address}:{other.port}"]
        with open(self.log, "a") as log:
            options = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            self.bridge = self.place.start(command, **options) if self.place else subprocess.Popen(command, **options)
        return self.bridge

    def kill_bridge(self):
        self.bridge.kill()
        self.bridge.wait(20)

    def client(self, name):
        player = Player(f"{name} on {self.name}", [self.stage.programs.player])
        self.players.append(player)
        expect(player, f"register {self.bus} {name}", "ok")
        return player

    def end(self):
        for player in self.players:
            if player.process.poll() is None:
                player.kill()
        if self.bridge:
            self.kill_bridge()
        self.server.end(signal.SIGKILL)


class Stage:
    """The nodes of a scenario, a, b and c, and the cable between them."""

    def __init__(self, programs, directory, places, cable):
        self.programs, self.directory, self.cable = programs, directory, cable
        self.places = places or [None] * 3
        self.nodes = []

    def build(self, count=2):
        for number in range(count):
            self.nodes.append(Node(self, number, self.places[number]))
        return self.nodes

    def join(self, count=2, certified=False):
        """Nodes whose bridges know each other, by certificates if that is asked for."""
        self.build(count)
        if certified:
            self.certify()
        for node in self.nodes:
            node.start_bridge()
        return self.nodes

    def certify(self):
        """Gives each node a certificate of an authority of this scenario."""
        def openssl(*words):
            subprocess.run(["openssl", *words], check=True, cwd=self.directory, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)

        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
        openssl("req", "-x509", *key, "-subj", "/CN=authority", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem")
        for node in self.nodes:
            openssl("req", "-x509", *key, "-subj", f"/CN={node.name}", "-days", "2", "-CA", "ca.pem", "-CAkey", "ca.key",
                    "-addext", f"subjectAltName=IP:{node.address}", "-addext", "basicConstraints=critical,CA:FALSE",
                    "-keyout", f"{node.name}.key", "-out", f"{node.name}.pem")
            files = {"--ca": "ca.pem", "--certificate": f"{node.name}.pem", "--key": f"{node.name}.key"}
            node.files = [word for option, file in files.items() for word in (option, str(self.directory / file))]

    def end(self):
        for node in self.nodes:
            node.end()
        if self.cable:
            self.cable.delay = self.cable.loss = 0.0
            self.cable.sought, self.cable.found = None, 0
            self.cable.part()
            for place in self.places:
                place.plug(True)

    def logs(self):
        return "".join(f"--- bridge {node.name}, its last lines\n" + "".join(node.log.read_text().splitlines(True)[-25:])
                       for node in self.nodes if node.log.exists())


def expect(player, step, answer):
    came = player.ask(step)
    if came != answer:
        raise Drift(f"{player.language}: {step}\n    is  {came}\n    not {answer}")


def until(player, step, fits, bound=BOUND):
    """Asks until the answer fits, which says so by what it returns."""
    began = time.monotonic()
    while True:
        came = player.ask(step)
        if found := fits(came):
            return found
        if time.monotonic() - began > bound:
            raise Drift(f"{player.language}: {step}\n    is still {came} after {bound} s")
        time.sleep(0.02)


def appears(player, name, bound=BOUND):
    return until(player, f"look-up {name}", lambda came: came not in ("none", "") and not came.startswith("error") and came, bound)


def vanishes(player, name, bound=BOUND):
    began = time.monotonic()
    until(player, f"look-up {name}", lambda came: came == "none", bound)
    return time.monotonic() - began


class Sending(threading.Thread):
    """Sends numbered messages to one name until it is told to stop, and keeps what came of each."""

    def __init__(self, player, to, patience=2000, size=0):
        super().__init__(daemon=True)
        self.player, self.to, self.patience, self.size = player, to, patience, size
        self.outcomes, self.stopped, self.error = [], False, None
        self.start()

    def run(self):
        try:
            while not self.stopped:
                word = f"{len(self.outcomes)}:" + "x" * self.size
                self.outcomes.append(self.player.ask(f"send {self.to} {word} {self.patience}"))
                if self.outcomes[-1] != "ok":
                    time.sleep(0.01)
        except (Drift, OSError, ValueError) as error:
            self.error = error

    def acknowledged(self):
        return self.outcomes.count("ok")

    def wait_for(self, more, bound=BOUND):
        """Until so many more are acknowledged."""
        aim, end = self.acknowledged() + more, time.monotonic() + bound
        while self.acknowledged() < aim:
            if self.error or time.monotonic() > end:
                raise Drift(f"{self.player.language}: {aim - self.acknowledged()} more messages are not acknowledged: "
                            f"{self.error or self.outcomes[-3:]}")
            time.sleep(0.01)

    def stop(self):
        self.stopped = True
        self.join(BOUND + self.patience / 1000)
        if self.error or self.is_alive():
            raise Drift(f"{self.player.language}: {self.error or 'a send does not return'}")
        return self.outcomes


class Receiving(threading.Thread):
    """Takes messages until none has come for a while after it is told to stop."""

    def __init__(self, player):
        super().__init__(daemon=True)
        self.player, self.got, self.stopped, self.error = player, [], False, None
        self.start()

    def run(self):
        try:
            while True:
                came = self.player.ask("recv 300").split()
                if came[0] == "message":
                    self.got.append((came[1], came[3]))
                elif self.stopped:
                    return
        except (Drift, OSError, IndexError) as error:
            self.error = error

    def stop(self):
        self.stopped = True
        self.join(BOUND)
        if self.error or self.is_alive():
            raise Drift(f"{self.player.language}: {self.error or 'a receive does not return'}")
        return self.got


def account(outcomes, got, sender):
    """That what was received is what the outcomes allow."""
    came = [int(text.partition(":")[0]) for name, text in got if name == sender]
    strangers = {name for name, _ in got} - {sender}
    times, wrong = collections.Counter(came), []
    for number, outcome in enumerate(outcomes):
        least, most = (1, 1) if outcome == "ok" else (0, 1) if outcome.endswith("maybe") else (0, 0)
        if not least <= times[number] <= most:
            wrong.append(f"{number} ({outcome}) came {times[number]} times")
    if strangers:
        wrong.append(f"senders are called {sorted(strangers)}, not {sender}")
    if came != sorted(came):
        at = next(at for at in range(1, len(came)) if came[at] < came[at - 1])
        wrong.append(f"{came[at]} came behind {came[at - 1]}")
    if wrong:
        raise Drift(f"of {len(outcomes)} messages of {sender}: " + "; ".join(wrong[:5]) + (", …" if len(wrong) > 5 else ""))
    other = collections.Counter(outcome for outcome in outcomes if outcome != "ok")
    return f"{outcomes.count('ok')} acknowledged, " + (", ".join(f"{count} {what}" for what, count in other.items()) or "none refused")
