"""Clients: calls, messages, ends, threads, signals, forks."""

import array
import ctypes
import os
import subprocess
import sys
import threading

import pytest
from ringpost import Client, Server, errors

PATIENCE = 30


def test_calls_take_any_buffer_and_return_bytes(alice):
    for request in (b"hello", bytearray(b"hello"), memoryview(b"hello"), array.array("B", b"hello")):
        assert alice.call(request, timeout=PATIENCE) == b"hello"
    assert alice.call(array.array("d", [1.5, 2.5])) == array.array("d", [1.5, 2.5]).tobytes()
    # Without a shape, without strides, without a dimension.
    number = ctypes.c_uint32(7)
    for request in (number, memoryview(number), (ctypes.c_uint16 * 2)(7, 0)):
        assert alice.call(request) == bytes(number)
    assert alice.call(b"") == alice.call(bytearray()) == b""
    assert alice.call(b"who") == b"alice"
    long = os.urandom(alice.max_call)
    assert alice.call(bytearray(long)) == long
    with pytest.raises(errors.TooLarge):
        alice.call(long + b"1")
    with pytest.raises(BufferError):
        alice.call(memoryview(b"hello")[::2])
    with pytest.raises(TypeError):
        alice.call("hello")


def test_a_failing_service_is_told(alice):
    with pytest.raises(errors.ServiceFailed) as caught:
        alice.call(b"fail")
    assert str(caught.value) == "as asked"
    assert caught.value.may_have_executed
    assert alice.call(b"again") == b"again"


def test_a_service_that_raises_tells_its_caller_nothing(path, monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: seen.append(what.exc_type))

    def service(request, peer):
        raise KeyError("secret")

    with Server(path, service=service), Client("alice", path) as alice:
        with pytest.raises(errors.ServiceFailed) as caught:
            alice.call(b"")
        assert "secret" not in str(caught.value)
    assert seen == [KeyError]


def test_pipelined_calls_come_in_order_around_others(alice, bob):
    for number in range(10):
        alice.submit(b"%d" % number)
    assert alice.outstanding == 10
    assert alice.response() == b"0"
    assert alice.call(b"last") == b"last"
    alice.send("bob", b"hi")
    assert [alice.response() for _ in range(9)] == [b"%d" % number for number in range(1, 10)]
    with pytest.raises(errors.NothingOutstanding):
        alice.response()
    assert bob.recv(timeout=PATIENCE).payload == b"hi"


def test_messages_that_are_submitted_are_answered_in_order_with_calls(alice, bob):
    alice.try_submit_send(bob.key, b"one")
    alice.submit(b"call")
    alice.try_submit_send(bob.key, b"two", patience=1)
    assert alice.outstanding == 3
    assert alice.call(b"behind", timeout=PATIENCE) == b"behind"
    assert [alice.response(timeout=PATIENCE) for _ in range(3)] == [b"", b"call", b""]
    assert [bob.recv(timeout=PATIENCE).payload for _ in range(2)] == [b"one", b"two"]
    # Each failure is the answer of its message, and nothing else's.
    key = bob.key
    bob.close()
    alice.try_submit_send(key, b"three")
    alice.submit(b"next")
    with pytest.raises(errors.NotFound):
        alice.response(timeout=PATIENCE)
    assert alice.response(timeout=PATIENCE) == b"next"
    with pytest.raises(errors.NothingOutstanding):
        alice.try_response()
    with pytest.raises(errors.InvalidName):
        alice.try_submit_send("bob", b"")
    with pytest.raises(errors.TooLarge):
        alice.try_submit_send(key, bytes(alice.max_message + 1))


def test_a_message_that_is_submitted_to_a_full_inbox_is_told(alice, bob):
    big = bytes(alice.max_message // 2)
    for patience, told in ((0, errors.Full), (0.01, errors.TimedOut)):
        with pytest.raises(told):
            while True:
                alice.try_submit_send(bob.key, big, patience)
                while (answer := alice.try_response()) is None:
                    pass
                assert answer == b""
    assert alice.call(b"goes on", timeout=PATIENCE) == b"goes on"


def test_a_call_that_timed_out_is_forgotten(path):
    go_on = threading.Event()

    def service(request, peer):
        if request == b"slow":
            go_on.wait(PATIENCE)
        return request

    with Server(path, service=service), Client("alice", path) as alice:
        with pytest.raises(errors.TimedOut) as caught:
            alice.call(b"slow", timeout=0.01)
        assert caught.value.may_have_executed
        go_on.set()
        assert alice.call(b"next", timeout=PATIENCE) == b"next"
        assert alice.outstanding == 0


def test_messages_go_by_name_and_by_key(alice, bob):
    alice.send("bob", b"one")
    alice.send(bob.key, b"two")
    first, second = bob.recv(timeout=PATIENCE), bob.recv(timeout=PATIENCE)
    assert (first.payload, first.sender, first.sender_name) == (b"one", alice.key, "alice")
    assert bytes(second) == b"two"
    assert bob.try_recv() is None
    with pytest.raises(TimeoutError):
        bob.recv(timeout=0)
    with pytest.raises(errors.NotFound):
        alice.send("nobody", b"")
    with pytest.raises(errors.InvalidName):
        alice.send(" bob", b"")


def test_a_full_inbox_is_waited_for(alice, bob):
    big = bytes(alice.max_message // 2)
    with pytest.raises(errors.Full):
        while True:
            alice.try_send("bob", big)
    with pytest.raises(errors.TimedOut):
        alice.send("bob", big, timeout=0.01)
    sending = threading.Thread(target=alice.send, args=("bob", b"the last one" + big))
    sending.start()
    while not bob.recv(timeout=PATIENCE).payload.startswith(b"the last one"):
        pass
    sending.join(PATIENCE)
    assert not sending.is_alive()


def test_questions(alice, bob, server):
    assert alice.look_up("bob") == bob.key
    assert alice.look_up("nobody") is None
    assert alice.wait_for("bob", timeout=PATIENCE) == bob.key
    with pytest.raises(errors.TimedOut, match="no client of this name"):
        alice.wait_for("nobody", timeout=0.01)
    assert {client.name for client in alice.list()} == {"alice", "bob"} == {client.name for client in server.clients()}
    assert {client.pid for client in alice.list()} == {os.getpid()}
    alice.ping()


def test_registrations_that_are_refused(path, alice):
    with pytest.raises(errors.NameTaken):
        Client("alice", path)
    with pytest.raises(errors.InvalidName):
        Client("", path)
    with pytest.raises(errors.NoServer):
        Client("alice", path.with_name("no.sock"))
    with pytest.raises(errors.InUse):
        Server(path)
    with pytest.raises(ValueError):
        alice.recv(timeout=-1)


def test_an_end_is_told(path, server):
    alice = Client("alice", path)
    server.stop()
    with pytest.raises(errors.Disconnected) as caught:
        alice.recv(timeout=PATIENCE)
    assert caught.value.reason == alice.closed == "shutdown"
    alice.close()
    alice.close()
    with pytest.raises(errors.Disconnected):
        alice.call(b"")


def test_a_wait_lets_others_run_and_close_ends_it(path, server):
    alice = Client("alice", path)
    ended = []

    def wait():
        with pytest.raises(errors.Disconnected) as caught:
            alice.recv()
        ended.append(caught.value.reason)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert alice.call(b"meanwhile", timeout=PATIENCE) == b"meanwhile"
    alice.close()
    waiting.join(PATIENCE)
    assert len(ended) == 1


def test_a_signal_ends_a_wait(path, server):
    program = """
import signal, sys, ringpost
alice = ringpost.Client("alice", sys.argv[1])
signal.signal(signal.SIGALRM, signal.default_int_handler)
try:
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    alice.recv()
except KeyboardInterrupt:
    print(alice.call(b"still there"))
"""
    child = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True)
    out, _ = child.communicate(timeout=PATIENCE)
    assert out == "b'still there'\n"


def test_a_signal_ends_the_wait_for_a_server_that_does_not_answer(path):
    program = """
import signal, socket, sys, ringpost
listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listening.bind(sys.argv[1])
listening.listen()
signal.signal(signal.SIGALRM, signal.default_int_handler)
try:
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    ringpost.Client("alice", sys.argv[1], timeout=1000)
except KeyboardInterrupt:
    print("ended")
"""
    child = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True)
    out, _ = child.communicate(timeout=PATIENCE)
    assert out == "ended\n" and child.returncode == 0


def test_a_forked_child_is_told(path, server):
    program = """
import os, sys, ringpost
alice = ringpost.Client("alice", sys.argv[1])
child = os.fork()
if child == 0:
    try:
        alice.call(b"")
    except ringpost.errors.Forked as error:
        with ringpost.Client("child", sys.argv[1]) as own:
            os._exit(7 if (error.reason, own.call(b"x")) == ("forked", b"x") else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert alice.call(b"the parent goes on") == b"the parent goes on"
"""
    subprocess.run([sys.executable, "-c", program, path], check=True, timeout=PATIENCE)
