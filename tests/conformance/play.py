#!/usr/bin/env python3
"""Plays the cases of cases.txt with clients in each language, and compares every answer with the table.

    tests/conformance/play.py --server PROGRAM LANGUAGE=COMMAND... [--case TEXT]

    tests/conformance/play.py --server target/checked/ringpost-server \\
        rust=target/checked/examples/player c=target/conformance/player "python=python3 tests/conformance/player.py"

Every language plays with every other one, and with itself. A player is a program that reads one operation from each line of
its standard input, and writes one line with what came of it: it knows neither the table nor what should come. `independent`
is tests/independent.py, the client that was written from docs/PROTOCOL.md; it plays the cases that are marked with its name.

cases.txt says what its lines mean.
"""

import argparse
import os
import pathlib
import re
import selectors
import shlex
import signal
import subprocess
import sys
import tempfile
import time

from words import escaped, pattern

# Seconds for one answer, and for an answer that is asked for until it comes.
PATIENCE = 60


class Drift(Exception):
    """What came is not what the table says, or did not come."""


def expanded(word):
    """@N is a payload of N bytes, and TEXT*N a text that is repeated."""
    if match := re.fullmatch(r"@(\d+)", word):
        return escaped(pattern(int(match[1])))
    if match := re.fullmatch(r"(.+)\*(\d+)", word):
        return match[1] * int(match[2])
    return word


class Table:
    """The cases: each a title with its marks, and its steps with their lines in the file."""

    def __init__(self, path):
        self.cases = []
        for number, line in enumerate(path.read_text().splitlines(), 1):
            words = line.split()
            if not words or words[0] == "#":
                continue
            if words[0] == "case":
                title, _, marks = line.removeprefix("case ").partition("[")
                self.cases.append((title.strip(), marks.strip(" ]").split(), []))
            else:
                self.cases[-1][2].append((number, words))


class Player:
    """A program that plays one part."""

    def __init__(self, language, command):
        self.language = language
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.read = b""
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)

    def ask(self, step):
        self.process.stdin.write(step.encode() + b"\n")
        self.process.stdin.flush()
        end = time.monotonic() + PATIENCE
        while b"\n" not in self.read:
            if not self.selector.select(end - time.monotonic()):
                raise Drift(f"{self.language} did not answer within {PATIENCE} s")
            piece = os.read(self.process.stdout.fileno(), 1 << 20)
            if not piece:
                raise Drift(f"{self.language} ended with {self.process.wait(PATIENCE)}")
            self.read += piece
        answer, _, self.read = self.read.partition(b"\n")
        return answer.decode()

    def kill(self):
        self.selector.close()
        self.process.kill()
        self.process.wait(PATIENCE)
        self.process.stdin.close()
        self.process.stdout.close()


class Server:
    """A server that listens."""

    def __init__(self, program, path, options):
        ready, tell = os.pipe()
        command = [program, "--socket", path, "--ready-fd", str(tell), *options]
        with open(path + ".log", "w") as log:
            self.process = subprocess.Popen(command, pass_fds=[tell], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        os.close(tell)
        with os.fdopen(ready) as ready:
            if not ready.readline():
                raise Drift("the server did not start: " + pathlib.Path(path + ".log").read_text())

    def end(self, by=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(by)
        self.process.wait(PATIENCE)


class Stage:
    """One language with another one."""

    def __init__(self, program, first, second, commands):
        self.program, self.commands = program, commands
        self.languages = {"a": first, "b": second, "c": first}
        self.players, self.server, self.directory = {}, None, None

    def start_server(self, options):
        """A server of this case. Its socket's path."""
        options = [str(self.write_rules()) if option == "RULES" else option for option in options]
        path = str(self.directory / "bus.sock")
        self.server = Server(self.program, path, options)
        return path

    def write_rules(self):
        """What only some may do, for the cases about it."""
        file = self.directory / "rules.toml"
        rules = [("register", "secret*"), ("serve", "mute*"), ("call", "shy*"), ("send", "deaf*"),
                 ("publish", "closed/**"), ("subscribe", "hidden/**")]
        file.write_text("".join(
            f'[[access.rules]]\nacts = ["{act}"]\nwhat = "{what}"\nnames = "nobody-else"\n' for act, what in rules))
        return file

    def player(self, part):
        language = self.languages[part]
        if part not in self.players:
            self.players[part] = Player(language, self.commands[language])
        return self.players[part]

    def play(self, steps):
        """Plays a case. Raises `Drift` at the first answer that is another one."""
        options, known = ["--ring-size", "64K"], {}
        if steps[0][1][0] == "server":
            options, steps = steps[0][1][1:], steps[1:]
        with tempfile.TemporaryDirectory() as directory:
            self.directory = pathlib.Path(directory)
            path = self.start_server(options)
            try:
                for number, words in steps:
                    try:
                        self.step(words, known, path)
                    except Drift as drift:
                        raise Drift(f"cases.txt:{number}: {drift}") from None
                for part, player in self.players.items():
                    if player.ask("reset") != "ok":
                        raise Drift(f"{part} cannot be reset")
            except Drift:
                self.clear()
                raise
            finally:
                self.server.end()

    def step(self, words, known, path):
        if words[0] == "server":
            return self.server.end(signal.SIGKILL if words[1] == "kill" else signal.SIGTERM)
        if words[0] == "kill":
            return self.players.pop(words[1]).kill()
        until = words[0] == "until"
        part, *words = words[1:] if until else words
        parts = " ".join(words).split(" = ")
        if len(parts) != 2:
            raise Drift("a step has one ' = '")
        step, expected = parts
        expected, _, excepted = expected.partition(" except ")
        player = self.player(part)
        words = [known.get(word, word) if word[0] == "$" else expanded(word) for word in step.split()]
        if "register" in words:
            words.insert(words.index("register") + 1, path)
        end = time.monotonic() + PATIENCE
        while True:
            answer = player.ask(" ".join(words))
            if self.fits(answer.split(), expected.split(), known):
                return None
            if answer == "inexpressible" and player.language in excepted.split():
                return None
            if not until or time.monotonic() > end:
                raise Drift(f"{player.language}: {short(step)}\n    is  {short(answer)}\n    not {short(expected)}")
            time.sleep(0.001)

    def fits(self, answer, expected, known):
        """Whether this is the answer. A $word that is not known yet is whatever came."""
        if len(answer) != len(expected):
            return False
        new = {}
        for came, should in zip(answer, expected):
            if should[0] == "$" and should not in known:
                if should.startswith("$pid-"):
                    should = str(self.players[should.removeprefix("$pid-")].process.pid)
                else:
                    new[should], should = came, came
            if came != (known.get(should, should) if should[0] == "$" else expanded(should)):
                return False
        known.update(new)
        return True

    def clear(self):
        for player in self.players.values():
            player.kill()
        self.players.clear()


def short(text):
    return text if len(text) < 200 else f"{text[:90]}...{text[-90:]} ({len(text)} characters)"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--server", required=True, type=os.path.abspath)
    arguments.add_argument("--case", default="", help="only cases whose title has this in it")
    arguments.add_argument("players", nargs="+", metavar="LANGUAGE=COMMAND")
    arguments = arguments.parse_args()
    here = pathlib.Path(__file__).resolve().parent
    commands = {language: shlex.split(command)
                for language, _, command in (player.partition("=") for player in arguments.players)}
    table = Table(here / "cases.txt")
    pairs = [(first, second) for first in commands for second in commands]
    pairs += [pair for language in commands for pair in (("independent", language), (language, "independent"))]
    commands["independent"] = [sys.executable, str(here / "independent_player.py")]
    passed, failed = 0, 0
    for first, second in pairs:
        played = [case for case in table.cases
                  if arguments.case in case[0] and ("independent" in case[1] or "independent" not in (first, second))]
        began, wrong = time.monotonic(), 0
        stage = Stage(arguments.server, first, second, commands)
        try:
            for title, _, steps in played:
                try:
                    stage.play(steps)
                except Drift as drift:
                    wrong += 1
                    print(f"{first} with {second}: {title}: {drift}", file=sys.stderr)
        finally:
            stage.clear()
        passed, failed = passed + len(played) - wrong, failed + wrong
        print(f"{'ok' if not wrong else 'FAILED'}: {first} with {second}, {len(played)} cases, "
              f"{time.monotonic() - began:.1f} s", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
