"""Links and topics."""

import threading

import pytest
from conftest import eventually
from ringpost import Client, errors

PATIENCE = 30


def test_a_link_outlives_the_server(path, server):
    with Client("bob", path) as bob, Client("alice", path) as alice:
        with pytest.raises(errors.NotServing):
            alice.connect("bob")
        with bob.serve(lambda request, peer: peer.name.encode() + b": " + request) as serving:
            with alice.connect("bob") as link:
                assert link.peer.name == "bob"
                assert link.call(b"one", timeout=PATIENCE) == b"alice: one"
                assert [peer.name for peer in serving.links()] == ["alice"]
                link.post(b"not answered")
                link.try_post(b"nor this")
                server.stop()
                assert link.call(b"two", timeout=PATIENCE) == b"alice: two"
                serving.stop()
                with pytest.raises(errors.Disconnected):
                    link.call(b"three", timeout=PATIENCE)


def test_samples_come_in_order_and_say_what_was_missed(alice, bob):
    subscriber = bob.subscribe("prices/*")
    publisher = alice.publish("prices/AAPL", ring_size=4096)
    assert subscriber.try_recv() is None
    for number in range(200):
        publisher.send(b"%d" % number)
    sample = subscriber.recv(timeout=PATIENCE)
    assert (sample.topic, sample.publisher.name, sample.publisher.key) == ("prices/AAPL", "alice", alice.key)
    taken, missed = 1, sample.missed
    while sample.sequence < 200:
        sample = subscriber.recv(timeout=PATIENCE)
        taken, missed = taken + 1, missed + sample.missed
        assert sample.payload == b"%d" % (sample.sequence - 1)
    assert taken + missed == 200 and missed > 0
    with pytest.raises(errors.TooLarge):
        publisher.send(bytes(publisher.max_sample + 1))


def test_a_view_of_a_sample_stays(alice, bob):
    subscriber = bob.subscribe("frames")
    publisher = alice.publish("frames", ring_size=1 << 16)
    publisher.send(b"x" * 10_000)
    view = memoryview(subscriber.recv(timeout=PATIENCE).payload)
    for _ in range(20):
        publisher.send(b"y" * 10_000)
    publisher.close()
    subscriber.close()
    assert view == b"x" * 10_000


def test_a_waiting_subscriber_gets_large_samples(alice, bob):
    subscriber = bob.subscribe("frames")
    publisher = alice.publish("frames", ring_size=1 << 16)
    got = []
    waiting = threading.Thread(target=lambda: got.append(next(iter(subscriber)).payload))
    waiting.start()
    publisher.send(bytes(range(256)) * 40)
    waiting.join(PATIENCE)
    assert got == [bytes(range(256)) * 40]


def test_a_reliable_subscriber_that_stalls_is_evicted(alice, bob):
    subscriber = bob.subscribe("settings", policy="reliable")
    publisher = alice.publish("settings", ring_size=4096, reliable=0.05)
    eventually(lambda: publisher.subscribers == 1)
    for _ in range(100):
        publisher.send(b"x" * 100, timeout=PATIENCE)
    assert [peer.name for peer in publisher.evictions()] == ["bob"]
    with pytest.raises(errors.Evicted):
        while True:
            subscriber.recv(timeout=PATIENCE)


def test_names_of_topics(alice):
    with pytest.raises(errors.InvalidName):
        alice.publish("a//b")
    with pytest.raises(ValueError):
        alice.subscribe("a", policy="other")
