"""What the tests share: a socket's path, a server, clients, and processes that are ended."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ringpost

#: For what is to happen: seconds. Only a fault makes a test wait so long.
PATIENCE = 30


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bus.sock"


@pytest.fixture
def server(path):
    def service(request, peer):
        if request == b"fail":
            raise ringpost.errors.ServiceError("as asked")
        if request == b"who":
            return peer.name.encode()
        return request

    with ringpost.Server(path, service=service) as server:
        yield server


@pytest.fixture
def alice(path, server):
    with ringpost.Client("alice", path, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def bob(path, server):
    with ringpost.Client("bob", path, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def start():
    """Starts processes, and ends those that are still there behind the test."""
    with contextlib.ExitStack() as stack:

        def start(*command, **options):
            options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True, **options}
            process = stack.enter_context(subprocess.Popen([str(word) for word in command], **options))
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def run(start):
    """Runs a program in Python to its end. Returns what it printed."""

    def run(program, *arguments):
        process = start(sys.executable, "-c", program, *arguments)
        out, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, f"ended with {process.returncode} and printed {out!r}"
        return out

    return run


@pytest.fixture(scope="session")
def programs():
    """The directory with the programs in Rust, by which the script `test` says where they are."""
    if "RINGPOST_PROGRAMS" not in os.environ:
        pytest.skip("RINGPOST_PROGRAMS does not say where ringpost and ringpost-server are")
    return Path(os.environ["RINGPOST_PROGRAMS"])


def eventually(found):
    """Waits until a function returns something that is true, and returns that."""
    end = time.monotonic() + PATIENCE
    while not (result := found()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)
    return result
