"""Samples in place: views and grants, what they keep alive, and what they refuse."""

import ctypes
import gc
import io
import subprocess
import sys
import threading
import weakref

import pytest
from conftest import eventually
from ringpost import Client, errors

PATIENCE = 30


@pytest.fixture
def frames(alice, bob):
    """A subscriber, and a publisher whose ring holds four of the largest samples."""
    subscriber = bob.subscribe("frames")
    publisher = alice.publish("frames", ring_size=1 << 16)
    return subscriber, publisher


def overwrite(publisher):
    for _ in range(8):
        publisher.send(b"y" * publisher.max_sample)


def test_a_view_is_the_sample_in_place(frames, alice):
    subscriber, publisher = frames
    assert subscriber.try_view() is None
    with pytest.raises(TimeoutError):
        subscriber.view(timeout=0)
    for payload in (b"one", b"", bytes(range(256)) * 40):
        publisher.send(payload)
        with subscriber.view(timeout=PATIENCE) as view:
            assert (view.topic, view.publisher.name, view.publisher.key) == ("frames", "alice", alice.key)
            assert (view.sequence, view.missed, len(view)) == (publisher.sequence, 0, len(payload))
            assert bytes(view) == payload
            with memoryview(view) as exported:
                assert exported == payload
                assert (exported.readonly, exported.format, exported.nbytes) == (True, "B", len(payload))
                with pytest.raises(TypeError):
                    exported[:1] = b"x"
            view.check()
            with pytest.raises(TypeError):
                (ctypes.c_char * 1).from_buffer(view)
        view.release()
    assert subscriber.try_view() is None


def test_a_view_waits_without_the_lock(frames):
    subscriber, publisher = frames
    got = []

    def wait():
        with subscriber.view(timeout=PATIENCE) as view:
            got.append(bytes(view))

    waiting = threading.Thread(target=wait)
    waiting.start()
    publisher.send(b"late")
    waiting.join(PATIENCE)
    assert got == [b"late"]


def test_a_view_stays_open_while_anybody_sees_its_memory(frames):
    subscriber, publisher = frames
    publisher.send(b"x" * 1000)
    publisher.send(b"next")
    view = subscriber.view(timeout=PATIENCE)
    exported = memoryview(view)
    with pytest.raises(BufferError, match="delete it first"):
        view.release()
    part = exported[10:20]
    exported.release()
    with pytest.raises(BufferError):
        view.release()
    part.release()
    view.release()
    for closed in (view.check, lambda: memoryview(view), lambda: bytes(view)):
        with pytest.raises(ValueError):
            closed()
    assert subscriber.recv(timeout=PATIENCE).payload == b"next"


def test_an_open_view_has_its_subscriber_for_itself(frames):
    subscriber, publisher = frames
    publisher.send(b"one")
    publisher.send(b"two")
    view = subscriber.view(timeout=PATIENCE)
    for operation in (subscriber.try_recv, subscriber.try_view, subscriber.recv, subscriber.publishers, subscriber.arm):
        with pytest.raises(errors.InUse):
            operation()
    view.release()
    assert bytes(subscriber.view(timeout=PATIENCE)) == b"two"  # dropped, so released
    assert subscriber.try_recv() is None


def test_exports_outlive_everything(path, server):
    """The memory stays, whatever is closed, dropped or collected."""
    with Client("alice", path) as alice:
        bob = Client("bob", path)
        subscriber = bob.subscribe("frames")
        publisher = alice.publish("frames", ring_size=1 << 16)
        publisher.send(b"x" * 10_000)
        view = subscriber.view(timeout=PATIENCE)
        gone = weakref.ref(view)
        exported = memoryview(view)
        with pytest.raises(BufferError):
            with view:
                pass
        subscriber.close()
        assert subscriber.closed
        with pytest.raises(errors.Disconnected):
            subscriber.try_recv()
        publisher.close()
        bob.close()
        server.stop()
    del view, subscriber, bob, publisher, alice
    gc.collect()
    assert gone() is not None, "the export holds the view"
    assert exported == b"x" * 10_000
    del exported
    gc.collect()
    assert gone() is None


def test_an_overrun_is_told(frames):
    subscriber, publisher = frames
    publisher.send(b"x" * 1000)
    with pytest.raises(errors.Overrun):
        with subscriber.view(timeout=PATIENCE) as view:
            view.check()
            overwrite(publisher)
            with pytest.raises(errors.Overrun):
                view.check()
            with pytest.raises(errors.Overrun):
                bytes(view)
    # It may be why the block failed, and goes first. What ends the program goes first before that.
    for raised, told in ((ZeroDivisionError, errors.Overrun), (KeyboardInterrupt, KeyboardInterrupt)):
        view = subscriber.view(timeout=PATIENCE)
        with pytest.raises(told) as caught:
            with view:
                overwrite(publisher)
                raise raised
        if told is errors.Overrun:
            assert isinstance(caught.value.__context__, raised)
    assert subscriber.recv(timeout=PATIENCE).missed > 0


def test_an_exception_goes_on_while_memory_is_seen(frames):
    subscriber, publisher = frames
    publisher.send(b"x")
    with pytest.raises(ZeroDivisionError):
        with subscriber.view(timeout=PATIENCE) as view:
            exported = memoryview(view)
            raise ZeroDivisionError
    exported.release()
    with pytest.raises(ZeroDivisionError):
        with publisher.grant(10) as grant:
            room = memoryview(grant)
            raise ZeroDivisionError
    room.release()
    grant.abandon()


def test_a_reliable_sample_is_not_overwritten(alice, bob):
    subscriber = bob.subscribe("frames", policy="reliable")
    publisher = alice.publish("frames", ring_size=1 << 14, reliable=PATIENCE)
    eventually(lambda: publisher.subscribers == 1)
    publisher.send(b"x" * 1000)
    with subscriber.view(timeout=PATIENCE) as view:
        with pytest.raises(errors.Full):
            while True:
                publisher.try_send(b"y" * 1000)
        with pytest.raises(errors.TimedOut):
            publisher.grant(1000, timeout=0.01)
        assert publisher.try_grant(1000) is None
        assert bytes(view) == b"x" * 1000
    publisher.send(b"z" * 1000)


def test_a_grant_is_written_in_place(frames):
    subscriber, publisher = frames
    with publisher.grant(100) as grant:
        assert len(grant) == 100
        assert io.BytesIO(b"content").readinto(grant) == 7
        with pytest.raises(BufferError):
            with memoryview(grant) as room:
                assert not room.readonly
                grant.commit()
        with pytest.raises(ValueError, match="100 bytes"):
            grant.commit(101)
        assert subscriber.try_recv() is None
        grant.commit(7)
        with pytest.raises(ValueError):
            grant.commit()
        with pytest.raises(ValueError):
            memoryview(grant)
        grant.abandon()
    assert subscriber.recv(timeout=PATIENCE).payload == b"content"
    with pytest.raises(errors.TooLarge):
        publisher.grant(publisher.max_sample + 1)
    publisher.try_grant(10).abandon()
    largest = publisher.grant(publisher.max_sample)
    with memoryview(largest) as room:
        room[:] = b"z" * len(largest)
    largest.commit()
    assert bytes(subscriber.view(timeout=PATIENCE)) == b"z" * publisher.max_sample


def test_what_is_not_committed_is_not_published(frames):
    subscriber, publisher = frames
    with publisher.grant(100) as grant:
        with memoryview(grant) as room:
            room[:] = b"x" * 100
        for operation in (lambda: publisher.send(b""), lambda: publisher.grant(1), lambda: publisher.sequence):
            with pytest.raises(errors.InUse):
                operation()
    publisher.grant(100)  # dropped
    with publisher.grant(100) as grant:
        assert bytes(grant) == bytes(100), "what was taken back is not for others"
    assert publisher.sequence == 0
    publisher.send(b"one")
    assert subscriber.recv(timeout=PATIENCE).payload == b"one"


def test_a_publisher_that_is_closed_leaves_its_grant(frames):
    subscriber, publisher = frames
    grant = publisher.grant(10)
    room = memoryview(grant)
    publisher.close()
    room[:] = b"0123456789"
    del publisher, grant
    gc.collect()
    assert room == b"0123456789"
    room.release()
    assert subscriber.try_recv() is None


def test_numpy_reads_and_writes_in_place(frames):
    numpy = pytest.importorskip("numpy")
    subscriber, publisher = frames
    with publisher.grant(8 * 1000) as grant:
        array = numpy.frombuffer(grant, dtype=numpy.float64)
        numpy.multiply(numpy.arange(1000), 0.5, out=array)
        del array
        grant.commit()
    with subscriber.view(timeout=PATIENCE) as view:
        array = numpy.frombuffer(view, dtype=numpy.float64)
        assert not array.flags.owndata and not array.flags.writeable
        other = numpy.frombuffer(view, dtype=numpy.uint8)
        assert numpy.shares_memory(array, other)
        assert array.sum() == 999 * 1000 / 4
        grid = array.reshape(10, 100)
        del array, other
        with pytest.raises(BufferError):
            view.release()
        del grid
    # Arrays may stay when everything else is gone.
    publisher.send(numpy.arange(1000))
    array = numpy.frombuffer(subscriber.view(timeout=PATIENCE), dtype=numpy.int64)
    subscriber.close()
    publisher.close()
    assert (array == numpy.arange(1000)).all()


def test_threads_that_fight_for_views(frames):
    """Any order of views, exports, releases and closes ends, and nobody sees memory that is not there."""
    subscriber, publisher = frames
    seen, ended = [], []

    def read():
        while True:
            try:
                view = subscriber.view(timeout=PATIENCE)
                content = bytes(memoryview(view))
                view.release()
                seen.append(content)
            except (errors.InUse, errors.Overrun):
                pass
            except errors.Disconnected:
                return ended.append(True)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    number = 0
    while len(seen) < 300:
        publisher.send(bytes([number % 256]) * 1000)
        number += 1
    subscriber.close()
    for reader in readers:
        reader.join(PATIENCE)
    assert len(ended) == 3
    assert all(content == content[:1] * 1000 for content in seen)


def test_a_forked_child_leaves_views_and_grants_alone(path, server):
    program = """
import os, sys, ringpost
with ringpost.Client("alice", sys.argv[1]) as alice:
    subscriber = alice.subscribe("frames", policy="reliable")
    publisher = alice.publish("frames", reliable=30)
    publisher.send(b"sample")
    view, grant = subscriber.view(timeout=30), publisher.grant(6)
    exported, room = memoryview(view), memoryview(grant)
    room[:] = b"second"
    child = os.fork()
    if child == 0:
        refused = 0
        for operation in (view.check, lambda: bytes(view), lambda: memoryview(view), grant.commit, lambda: memoryview(grant)):
            try:
                operation()
            except ringpost.errors.Forked:
                refused += 1
        whole = exported == b"sample" and room == b"second"
        exported.release(), room.release(), view.release(), grant.abandon()
        del view, grant, exported, room
        os._exit(7 if whole and refused == 5 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert exported == b"sample" and room == b"second"
    exported.release(), room.release()
    view.release()
    grant.commit()
    assert subscriber.recv(timeout=30).payload == b"second"
"""
    subprocess.run([sys.executable, "-c", program, path], check=True, timeout=PATIENCE)


def test_a_signal_ends_the_wait_for_a_view(path, server):
    program = """
import signal, sys, ringpost
with ringpost.Client("alice", sys.argv[1]) as alice:
    subscriber = alice.subscribe("frames")
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        subscriber.view()
    except KeyboardInterrupt:
        alice.publish("frames").send(b"still there")
        print(bytes(subscriber.view(timeout=30)))
"""
    child = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True)
    out, _ = child.communicate(timeout=PATIENCE)
    assert out == "b'still there'\n"


def test_a_view_at_exit_does_no_harm(path, server):
    program = """
import sys, ringpost
alice = ringpost.Client("alice", sys.argv[1])
subscriber, publisher = alice.subscribe("frames"), alice.publish("frames")
publisher.send(b"sample")
view, grant = subscriber.view(timeout=30), publisher.grant(100)
exported, room = memoryview(view), memoryview(grant)
"""
    ended = subprocess.run([sys.executable, "-c", program, path], timeout=PATIENCE, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
