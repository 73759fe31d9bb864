"""Links accepted by hand, and who is there."""

import select
import subprocess
import sys
import threading

import pytest
from conftest import PATIENCE
from ringpost import Client, errors


def serves(work):
    """Runs it on a thread. What it returns, or raises, is in the list once the thread has ended."""
    results = []

    def run():
        try:
            results.append(work())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def test_a_link_is_accepted_and_served_on_a_thread_of_ones_own(alice, bob):
    with bob.listen() as listener:
        assert listener.try_accept() is None
        with pytest.raises(errors.TimedOut):
            listener.accept(timeout=0.01)
        with pytest.raises(errors.InUse):
            bob.listen()
        threads = set()
        over = threading.Event()

        def service(request, peer):
            threads.add(threading.get_ident())
            if request == b"fail":
                raise errors.ServiceError("as asked")
            return peer.name.encode() + b": " + request

        def work():
            incoming = listener.accept(timeout=PATIENCE)
            assert (incoming.peer.name, incoming.peer.key) == ("alice", alice.key)
            with incoming.accept() as responder:
                for again in (incoming.accept, incoming.refuse):
                    with pytest.raises(ValueError):
                        again()
                with pytest.raises(errors.TimedOut):
                    responder.serve(service, timeout=0.02)
                over.set()
                return responder.peer.name, responder.serve(service), threading.get_ident()

        serving, results = serves(work)
        with alice.connect("bob", PATIENCE) as link:
            assert over.wait(PATIENCE)
            for number in range(100):
                assert link.call(b"%d" % number, timeout=PATIENCE) == b"alice: %d" % number
            with pytest.raises(errors.ServiceFailed, match="as asked"):
                link.call(b"fail", timeout=PATIENCE)
            link.post(b"not answered")
        serving.join(PATIENCE)
        assert results == [("alice", "peer", threads.pop())] and not threads


def test_a_link_is_refused(alice, bob):
    with bob.listen() as listener:
        serving, _ = serves(lambda: listener.accept(timeout=PATIENCE).refuse("not today"))
        with pytest.raises(errors.Refused, match="not today"):
            alice.connect("bob", PATIENCE)
        serving.join(PATIENCE)
        serving, _ = serves(lambda: listener.accept(timeout=PATIENCE) and None)
        with pytest.raises(errors.Gone):
            alice.connect("bob", PATIENCE)
        serving.join(PATIENCE)
    with pytest.raises(errors.NotServing):
        alice.connect("bob", PATIENCE)
    with pytest.raises(errors.Disconnected):
        listener.accept()


def test_many_links_are_served_in_one_loop(alice, bob):
    """One thread, by descriptors: it never waits but in poll."""
    calls = 300
    seen = []

    def service(request, peer):
        seen.append(request)
        return request

    def loop():
        poll, ends = select.poll(), {}

        def watch(end):
            poll.register(end.fileno(), select.POLLIN)
            ends[end.fileno()] = end

        with bob.listen() as listener:
            watch(listener)
            ready = [listener]
            while True:
                for end in ready:
                    if end is not listener:
                        if end.serve_ready(service) is not None:
                            return end.closed
                    elif (incoming := listener.try_accept()) is not None:
                        watch(incoming.accept())
                ready = [end for end in ends.values() if not end.arm()]
                if not ready:
                    ready = [ends[descriptor] for descriptor, _ in poll.poll(PATIENCE * 1000)]

    serving, results = serves(loop)
    while not any(client.serves for client in alice.list()):
        assert serving.is_alive()
    links = [alice.connect("bob", PATIENCE) for _ in range(3)]
    for number in range(calls):
        assert links[number % 3].call(b"%d" % number, timeout=PATIENCE) == b"%d" % number
    links[0].close()
    serving.join(PATIENCE)
    assert len(seen) == calls and results == ["peer"]


def test_close_ends_serve_and_accept_on_other_threads(alice, bob):
    listener = bob.listen()
    accepted = []

    def work():
        accepted.append(listener.accept(timeout=PATIENCE).accept())
        return accepted[0].serve(lambda request, peer: request)

    serving, results = serves(work)
    with alice.connect("bob", PATIENCE) as link:
        assert link.call(b"there", timeout=PATIENCE) == b"there"
        accepted[0].close()
        serving.join(PATIENCE)
        assert results == ["local"]
        with pytest.raises(errors.Disconnected):
            link.call(b"", timeout=PATIENCE)
    waiting, results = serves(lambda: listener.accept())
    listener.close()
    listener.close()
    waiting.join(PATIENCE)
    assert isinstance(results[0], errors.Disconnected)


def test_ctrl_c_ends_serve_in_a_wait_and_in_a_service(path, server):
    program = """
import signal, sys, threading, ringpost
alice, bob = ringpost.Client("alice", sys.argv[1]), ringpost.Client("bob", sys.argv[1])
signal.signal(signal.SIGALRM, signal.default_int_handler)
listener = bob.listen()
links = []
connecting = threading.Thread(target=lambda: links.append(alice.connect("bob")))
connecting.start()
responder = listener.accept(timeout=30).accept()
connecting.join()
try:
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    responder.serve(lambda request, peer: request)
except KeyboardInterrupt:
    print("in a wait")

def service(request, peer):
    signal.raise_signal(signal.SIGALRM)

def call():
    try:
        links[0].call(b"", timeout=30)
    except ringpost.errors.ServiceFailed as error:
        print(error)

calling = threading.Thread(target=call)
calling.start()
try:
    responder.serve(service)
except KeyboardInterrupt:
    calling.join()
    print("in a service")
"""
    child = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True)
    out, _ = child.communicate(timeout=PATIENCE)
    first, second, third = out.splitlines()
    assert (first, third) == ("in a wait", "in a service") and "is ending" in second


def test_presence_tells_who_comes_and_goes(path, alice):
    with alice.presence() as presence:
        change = presence.recv(timeout=PATIENCE)
        assert (change.kind, change.peer.key, change.reason) == ("present", alice.key, None)
        assert presence.try_recv() is None
        with pytest.raises(errors.TimedOut):
            presence.recv(timeout=0.01)
        with Client("bob", path) as bob:
            change = next(iter(presence))
            assert (change.kind, change.peer.key) == ("appeared", bob.key)
        change = presence.recv(timeout=PATIENCE)
        assert (change.kind, change.peer.name, change.reason) == ("vanished", "bob", "unregistered")
        # In an event loop.
        poll = select.poll()
        poll.register(presence.fileno(), select.POLLIN)
        with Client("carol", path):
            while (change := presence.try_recv()) is None:
                if presence.arm():
                    assert poll.poll(PATIENCE * 1000)
            assert (change.kind, change.peer.name) == ("appeared", "carol")


def test_close_ends_a_presence_and_nothing_else(alice):
    presence = alice.presence()
    assert presence.recv(timeout=PATIENCE).kind == "present"
    waiting, results = serves(presence.recv)
    presence.close()
    waiting.join(PATIENCE)
    assert isinstance(results[0], errors.Disconnected)
    presence.close()
    assert alice.call(b"goes on", timeout=PATIENCE) == b"goes on"


def test_each_question_has_a_limit(path, alice):
    for ask in (alice.ping, alice.list, lambda timeout: alice.look_up("alice", timeout)):
        ask(timeout=PATIENCE)
        with pytest.raises(ValueError):
            ask(timeout=-1)
    alice.subscribe("a", timeout=PATIENCE)
    alice.publish("a", timeout=PATIENCE)
    alice.serve(lambda request, peer: b"", timeout=PATIENCE).stop()


def test_posts_that_find_no_room(alice, bob):
    with bob.listen() as listener:
        responders = []
        serving, _ = serves(lambda: responders.append(listener.accept(timeout=PATIENCE).accept()))
        link = alice.connect("bob", PATIENCE)
        serving.join(PATIENCE)
        posted = 0
        with pytest.raises(errors.Full):
            while True:
                link.try_post(b"x" * 1000)
                posted += 1
        with pytest.raises(errors.TimedOut) as caught:
            link.post(b"x" * 1000, timeout=0.01)
        assert not caught.value.may_have_executed
        seen = []
        while len(seen) < posted:
            assert responders[0].serve_ready(lambda request, peer: seen.append(request)) is None
        link.post(b"last", timeout=PATIENCE)
        while len(seen) == posted:
            assert responders[0].serve_ready(lambda request, peer: seen.append(request)) is None
        assert seen[-1] == b"last"
