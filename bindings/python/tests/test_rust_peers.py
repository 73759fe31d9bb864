"""Peers in Rust: the programs `ringpost-server` and `ringpost`, each in a process of its own, both ways."""

import json
import os
import signal
import subprocess

import pytest
from conftest import PATIENCE, eventually
from ringpost import Client, Server, errors


@pytest.fixture
def rust_server(path, programs, start):
    ready, told = os.pipe()
    command = [programs / "ringpost-server", "--socket", path, "--ready-fd", told]
    process = start(*command, pass_fds=[told], stderr=subprocess.DEVNULL)
    os.close(told)
    with open(ready, "rb") as ready:
        assert ready.readline()
    return process


@pytest.fixture
def ringpost(path, programs, start):
    """Starts the program `ringpost` with a command."""

    def ringpost(command, *arguments, **options):
        return start(programs / "ringpost", command, "--socket", path, *arguments, **options)

    return ringpost


def printed(process, given=None):
    out, _ = process.communicate(given, timeout=PATIENCE)
    assert process.returncode == 0
    return out


def test_calls_to_a_server_in_rust(path, rust_server):
    with Client("alice", path) as alice:
        for size in (0, 1, 48, alice.max_call):
            request = os.urandom(size)
            assert alice.call(request, timeout=PATIENCE) == request
        assert [client.name for client in alice.list()] == ["alice"]


def test_messages_both_ways(path, rust_server, ringpost):
    with Client("alice", path) as alice:
        listening = ringpost("listen", "--as", "bob", "--count", 1, "--json")
        alice.wait_for("bob", timeout=PATIENCE)
        alice.send("bob", "hällo".encode())
        lines = [json.loads(line) for line in printed(listening).splitlines()]
        assert any("hällo" in line.values() for line in lines), lines
        printed(ringpost("send", "--as", "carol", "--to", alice.key, "a note"))
        message = alice.recv(timeout=PATIENCE)
        assert (message.sender_name, message.payload) == ("carol", b"a note")


def test_a_link_to_a_service_in_rust(path, rust_server, ringpost):
    ringpost("serve", "--as", "bob", "--echo", stderr=subprocess.DEVNULL)
    with Client("alice", path) as alice:
        alice.wait_for("bob", timeout=PATIENCE)
        with eventually(lambda: connected(alice, "bob")) as link:
            assert link.peer.name == "bob"
            assert link.call(b"over the link", timeout=PATIENCE) == b"over the link"


def connected(client, name):
    """A link, as soon as the client serves that is registered."""
    try:
        return client.connect(name)
    except errors.NotServing:
        return None


def test_a_link_to_a_service_in_python(path, rust_server, ringpost):
    def service(request, peer):
        return f"{peer.name}: {request.decode()[::-1]}".encode()

    with Client("bob", path) as bob, bob.serve(service):
        assert printed(ringpost("call", "--as", "alice", "--to", "bob", "drawer")) == "alice: reward"


def test_topics_both_ways(path, rust_server, ringpost):
    with Client("alice", path) as alice:
        prices = alice.subscribe("prices/*")
        publishing = ringpost(
            "publish", "--as", "bob", "--topic", "prices/AAPL", "--subscribers", 1, stdin=subprocess.PIPE
        )
        printed(publishing, "181.20\n181.25\n")
        samples = [prices.recv(timeout=PATIENCE) for _ in range(2)]
        assert [sample.payload for sample in samples] == [b"181.20", b"181.25"]
        assert samples[0].publisher.name == "bob" and samples[0].topic == "prices/AAPL"

        subscribed = ringpost("subscribe", "--as", "carol", "--count", 1, "--json", "news/*")
        assert "registered" in subscribed.stdout.readline()  # the subscription is in force
        with alice.publish("news/today") as news:
            eventually(lambda: news.subscribers == 1)
            news.send(b"it rains")
            assert "it rains" in printed(subscribed)


def test_clients_in_rust_of_a_server_in_python(path, ringpost):
    with Server(path, service=lambda request, peer: request.upper()) as server:
        assert printed(ringpost("call", "--as", "alice", "ping")) == "PING"
        with Client("bob", path) as bob:
            printed(ringpost("send", "--as", "alice", "--to", "bob", "hello bob"))
            assert bob.recv(timeout=PATIENCE).payload == b"hello bob"
            listed = json.loads(printed(ringpost("ls", "--json")))
            assert [client["name"] for client in listed["clients"]] == ["bob"]
        assert server.clients() == []


@pytest.mark.parametrize("how, reason", [(signal.SIGTERM, "shutdown"), (signal.SIGKILL, "died")])
def test_the_end_of_a_server_in_rust(path, rust_server, how, reason):
    with Client("alice", path) as alice:
        rust_server.send_signal(how)
        with pytest.raises(errors.Disconnected) as caught:
            alice.recv(timeout=PATIENCE)
        assert caught.value.reason == alice.closed == reason
