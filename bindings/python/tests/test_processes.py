"""Python's own ways with processes: fork, spawn, workers, threads, Ctrl-C, and the end of the interpreter."""

import concurrent.futures
import multiprocessing
import signal
import sys
from pathlib import Path

import pytest
from conftest import PATIENCE, eventually
from ringpost import Client


def call_as(name, path):
    with Client(name, path) as client:
        return client.call(b"who", timeout=PATIENCE)


def test_spawned_processes(path, server):
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        answers = pool.map(call_as, ["one", "two"], [path] * 2, timeout=PATIENCE)
        assert list(answers) == [b"one", b"two"]


def test_objects_are_not_sent_to_other_processes(alice):
    with pytest.raises(TypeError, match="pickle"):
        multiprocessing.get_context("spawn").Process(target=print, args=[alice]).start()


def test_workers_that_are_forked(run, path, server):
    # The parent has a client, and a thread that is in the middle of an operation. The workers have their own.
    program = """
import multiprocessing, sys, threading
import ringpost
from ringpost import errors

path = sys.argv[1]

def work(number):
    found = []
    for operation in (lambda: alice.call(b""), alice.recv, lambda: alice.look_up("x"), alice.ping, prices.recv):
        try:
            operation()
        except errors.Forked as error:
            found.append(error.reason)
    alice.close()
    with ringpost.Client(f"worker {number}", path) as own:
        return found, own.call(b"who")

alice = ringpost.Client("alice", path)
prices = alice.subscribe("prices")
threading.Thread(target=alice.recv, daemon=True).start()
with multiprocessing.get_context("fork").Pool(2) as pool:
    for number, result in enumerate(pool.map(work, range(4), chunksize=1)):
        assert result == (["forked"] * 5, b"worker %d" % number), result
assert alice.call(b"who") == b"alice"
assert prices.closed is None
"""
    run(program, path)


def test_a_server_that_forks_its_workers(run, tmp_path):
    # The parent has the server: its threads are not in the children, and the children do not end it.
    program = """
import os, sys
import ringpost

server = ringpost.Server(sys.argv[1], service=lambda request, peer: peer.name.encode())
children = []
for number in range(3):
    child = os.fork()
    if child == 0:
        with ringpost.Client(f"worker {number}", sys.argv[1]) as own:
            answer = own.call(b"")
        server.stop()
        del server
        os._exit(0 if answer == b"worker %d" % number else 1)
    children.append(child)
for child in children:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
with ringpost.Client("parent", sys.argv[1]) as own:
    print(own.call(b""))
"""
    assert run(program, tmp_path / "forking.sock") == "b'parent'\n"


def test_threads_take_turns(alice):
    def work(number):
        return [alice.call(b"%d" % number, timeout=PATIENCE) for _ in range(200)]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for number, answers in enumerate(pool.map(work, range(8))):
            assert answers == [b"%d" % number] * 200


def test_messages_of_many_threads_arrive_once(alice, bob):
    def work(number):
        for count in range(100):
            alice.send("bob", b"%d %d" % (number, count), timeout=PATIENCE)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        sending = [pool.submit(work, number) for number in range(4)]
        got = [bob.recv(timeout=PATIENCE).payload for _ in range(400)]
        for sent in sending:
            sent.result(PATIENCE)
    assert sorted(got) == sorted(b"%d %d" % (number, count) for number in range(4) for count in range(100))
    assert bob.try_recv() is None


WAITS = {
    "recv": "alice.recv()",
    "recv with a limit": "alice.recv(timeout=1000)",
    "call": "alice.call(b'slow')",
    "response": "alice.submit(b'slow'); alice.response()",
    "wait_for": "alice.wait_for('nobody')",
    "send to a full inbox": "while True: alice.send('bob', bytes(10_000))",
    "sample": "alice.subscribe('nothing').recv()",
    "iteration": "for sample in alice.subscribe('nothing'): pass",
    "call over a link": "alice.connect('bob').call(b'slow')",
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
def test_ctrl_c_ends_a_wait(start, path, wait):
    # The server is in the same process, and its service is in Python as well.
    program = f"""
import sys, threading
import ringpost

done = threading.Event()

def service(request, peer):
    if request == b"slow":
        done.wait({PATIENCE})
    return request

with ringpost.Server(sys.argv[1], service) as server, ringpost.Client("bob", sys.argv[1]) as bob:
    with bob.serve(service), ringpost.Client("alice", sys.argv[1], timeout={PATIENCE}) as alice:
        print("ready", flush=True)
        try:
            {wait}
        except KeyboardInterrupt:
            done.set()
            print(alice.call(b"it goes on", timeout={PATIENCE}))
"""
    process = start(sys.executable, "-c", program, path)
    assert process.stdout.readline() == "ready\n"
    # It says so just before it waits; then its main thread sleeps.
    eventually(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, "b'it goes on'\n")


ENDS = {
    "everything open": "",
    "a thread that waits": "threading.Thread(target=alice.recv, daemon=True).start()",
    "a thread that calls": "threading.Thread(target=call, daemon=True).start(); busy.wait()",
    "a service that waits": "alice.submit(b'slow'); busy.wait()",
    "services that wait often": """
threading.Thread(target=call, args=[b"nap"], daemon=True).start()
busy.wait()
""",
    "a service that never ends": """
listener = alice.listen()
threading.Thread(target=respond, daemon=True).start()
back = bob.connect("alice")
back.submit(b"x")
busy.wait()
""",
    "a reference cycle": "cycle = [server, alice, bob, serving, link, prices, topic]; cycle.append(cycle)",
    "sys.exit in the middle": "sys.exit(0)",
    "closed in another order": "server.stop(); serving.stop(); alice.close(); link.close(); bob.close()",
    "dropped in another order": "del bob; del server; del alice; del serving",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_the_interpreter_ends_with_everything_open(start, path, end):
    program = f"""
import sys, threading, time
import ringpost

busy = threading.Event()

def service(request, peer):
    busy.set()
    if request == b"slow":
        time.sleep(0.2)
    if request == b"nap":
        time.sleep(0.0005)
    return request

def call(request=b"x"):
    while True:
        link.call(request)

def endless(request, peer):
    busy.set()
    while True:
        time.sleep(0.0005)

def respond():
    listener.accept().accept().serve(endless)

server = ringpost.Server(sys.argv[1], service)
bob = ringpost.Client("bob", sys.argv[1])
alice = ringpost.Client("alice", sys.argv[1])
serving = bob.serve(service)
link = alice.connect("bob")
prices = bob.subscribe("prices")
topic = alice.publish("prices")
{end}
"""
    process = start(sys.executable, "-c", program, path, stderr=-1)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (0, "", "")
