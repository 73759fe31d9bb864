"""asyncio, with its own loop and with uvloop: calls at once, messages, samples, cancellation, ends."""

import asyncio
import random
import threading

import pytest
import uvloop
from conftest import PATIENCE
from ringpost import Client, Server, _loop, aio, errors

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS.values(), ids=LOOPS.keys())
def run(request):
    def run(main):
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(asyncio.wait_for(main, PATIENCE))

    return run


async def rounds(number):
    """Lets the loop turn so often."""
    for _ in range(number):
        await asyncio.sleep(0)


async def cancelled(task):
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_many_calls_at_once(run, path, server):
    async def main():
        async with aio.Client("alice", path) as alice:
            requests = [b"%d" % number for number in range(20_000)]
            assert await asyncio.gather(*map(alice.call, requests)) == requests
            with pytest.raises(errors.ServiceFailed, match="as asked"):
                await alice.call(b"fail")
            with pytest.raises(errors.TooLarge):
                await alice.call(bytes(1 << 20))
            with pytest.raises(TypeError):
                await alice.call("text")
            assert await alice.call(b"who") == b"alice"
            assert alice.name == "alice" and alice.key == alice.client.key and alice.closed is None

    run(main())


def test_failures_among_calls_are_told_to_whoever_made_them(run, path, server):
    async def main():
        async with aio.Client("alice", path) as alice:
            requests = [b"fail" if number % 3 == 0 else b"%d" % number for number in range(1000)]
            answers = await asyncio.gather(*map(alice.call, requests), return_exceptions=True)
            for request, answer in zip(requests, answers, strict=True):
                assert isinstance(answer, errors.ServiceFailed) if request == b"fail" else answer == request

    run(main())


def test_calls_are_executed_in_order(run, path):
    asked = []

    def service(request, peer):
        asked.append(request)
        return request

    async def main():
        async with aio.Client("alice", path) as alice:
            requests = [b"%d" % number for number in range(20_000)]
            await asyncio.gather(*map(alice.call, requests))
            assert asked == requests

    with Server(path, service):
        run(main())


def test_calls_that_were_cancelled_before_there_was_room_are_not_made(run, path):
    go_on, asked = threading.Event(), []

    def service(request, peer):
        go_on.wait(PATIENCE)
        asked.append(len(request))
        return request

    async def main():
        async with aio.Client("alice", path) as alice:
            calls = [asyncio.ensure_future(alice.call(bytes(10_000))) for _ in range(500)]
            await rounds(3)
            for call in calls:
                call.cancel()
            go_on.set()
            assert await alice.call(b"last") == b"last"
            # A ring of 256 KiB has room for 26 of them, and the service has one or two.
            assert 1 <= asked.count(10_000) <= 28

    with Server(path, service):
        run(main())


def test_a_message_waits_for_calls_without_holding_up_the_loop(run, path):
    go_on = threading.Event()

    def service(request, peer):
        go_on.wait(PATIENCE)
        return request

    async def main():
        async with aio.Client("alice", path) as alice:
            call = asyncio.ensure_future(alice.call(b"slow"))
            sending = asyncio.ensure_future(alice.send("alice", b"behind it"))
            await rounds(20)
            go_on.set()  # which this task does while the other one sends
            await sending
            assert await call == b"slow"
            assert (await alice.recv()).payload == b"behind it"

    with Server(path, service):
        run(main())


def test_a_message_comes_to_its_turn_among_calls_without_pause(run, path, server):
    async def main():
        async with aio.Client("alice", path) as alice:
            stop = asyncio.Event()

            async def call():
                while not stop.is_set():
                    assert await alice.call(b"x") == b"x"

            calling = [asyncio.ensure_future(call()) for _ in range(20)]
            await rounds(10)
            for number in range(20):
                await alice.send("alice", b"%d" % number)
                assert (await alice.recv()).payload == b"%d" % number
            with pytest.raises(errors.NotFound):
                await alice.send("nobody", b"")
            stop.set()
            await asyncio.gather(*calling)

    run(main())


def test_a_name_that_is_registered_anew_gets_the_next_message(run, path, server):
    async def main():
        async with aio.Client("alice", path) as alice:
            for number in range(3):
                async with aio.Client("bob", path) as bob:
                    await alice.send("bob", b"%d" % number)
                    assert (await bob.recv()).payload == b"%d" % number
                    await alice.send(bob.key, b"by key")
                    assert (await bob.recv()).payload == b"by key"
                for gone in ("bob", bob.key):
                    with pytest.raises(errors.NotFound):
                        await alice.send(gone, b"")
            with pytest.raises(errors.InvalidName):
                await alice.send("no name ", b"")
            with pytest.raises(errors.TooLarge):
                await alice.send("alice", bytes(1 << 20))

    run(main())


def test_a_full_inbox_is_waited_for(run, path, server):
    async def main():
        async with aio.Client("alice", path) as alice, aio.Client("bob", path) as bob:
            big = bytes(alice.client.max_message // 2)
            sending = asyncio.ensure_future(asyncio.gather(*(alice.send("bob", big) for _ in range(20))))
            await rounds(100)
            assert not sending.done()
            assert await alice.call(b"meanwhile") == b"meanwhile"
            for _ in range(20):
                assert (await bob.recv()).payload == big
            await sending

    run(main())


def test_messages_and_cancellation(run, path, server):
    async def main():
        async with aio.Client("alice", path) as alice, aio.Client("bob", path) as bob:
            waiting = asyncio.ensure_future(bob.recv())
            await rounds(1)
            await cancelled(waiting)
            call = asyncio.ensure_future(alice.call(b"forgotten"))
            await rounds(1)
            await cancelled(call)
            await asyncio.gather(alice.send("bob", b"one"), alice.call(b"between"), alice.send("bob", b"two"))
            assert [(await bob.recv()).payload for _ in range(2)] == [b"one", b"two"]
            assert await alice.call(b"last") == b"last"
            # Who waits already is woken, each time.
            for number in range(20):
                waiting = asyncio.ensure_future(anext(bob))
                await rounds(1)
                await alice.send("bob", b"%d" % number)
                assert (await waiting).payload == b"%d" % number

    run(main())


def test_a_cancelled_receiver_takes_nothing_with_it(run, path, server):
    async def main():
        async with aio.Client("alice", path) as alice, aio.Client("bob", path) as bob:
            # Cancelled when the message is not noticed yet, when it is, and when it was handed over.
            for number in range(8):
                first, second = asyncio.ensure_future(bob.recv()), asyncio.ensure_future(bob.recv())
                await rounds(2)
                await alice.send("bob", b"%d" % number)
                await rounds(number)
                if not first.done():
                    await cancelled(first)
                    assert (await second).payload == b"%d" % number
                else:
                    assert (await first).payload == b"%d" % number
                    await cancelled(second)

    run(main())


def test_cancellation_at_random(run, path, server):
    async def main():
        chance = random.Random(22)
        sent, got = [], []

        async def call(client, number):
            assert await client.call(b"%d" % number) == b"%d" % number

        async def send(client, number):
            await client.send("bob", b"%d" % number)
            sent.append(number)

        async def recv(client):
            got.append(int((await client.recv()).payload))

        async with aio.Client("alice", path) as alice, aio.Client("bob", path) as bob:
            sending, receiving = [], []
            for number in range(2000):
                if (kind := chance.choice([call, send, recv])) is recv:
                    receiving.append(asyncio.ensure_future(recv(bob)))
                else:
                    sending.append(asyncio.ensure_future(kind(alice, number)))
                if chance.random() < 0.3:
                    chance.choice(sending + receiving).cancel()
                if chance.random() < 0.2:
                    await rounds(1)
            results = await asyncio.gather(*sending, return_exceptions=True)
            assert [result for result in results if isinstance(result, Exception)] == []
            receiving += [asyncio.ensure_future(recv(bob)) for _ in sending]
            await alice.send("bob", b"-1")
            while -1 not in got:
                await rounds(1)
            for task in receiving:
                await cancelled(task)
            assert bob.client.try_recv() is None
        # Whatever was acknowledged came once, in order. What was cancelled may have come.
        got.remove(-1)
        assert got == sorted(set(got)) and set(sent) <= set(got)

    run(main())


class Quick:
    """A line whose responses are there at once."""

    def try_submit(self, request):
        self.response = request

    def try_response(self):
        return self.response


def test_tasks_that_never_wait_let_others_run(run, path, server):
    async def main():
        line = Quick()
        calls = _loop.Calls(line.try_response, -1, lambda: True)
        answered = 0

        async def call():
            nonlocal answered
            for _ in range(1000):
                assert await calls.call(lambda: line.try_submit(b"x")) == b"x"
                answered += 1

        calling = asyncio.ensure_future(call())
        await rounds(3)
        assert 0 < answered < 1000
        await calling

        async with aio.Client("alice", path) as alice:
            for _ in range(1000):
                await alice.send("alice", b"")
            received = 0

            async def recv():
                nonlocal received
                async for _ in alice:
                    received += 1

            receiving = asyncio.ensure_future(recv())
            await rounds(3)
            assert received < 1000
            await cancelled(receiving)

    run(main())


def test_samples(run, path, server):
    async def main():
        async with aio.Client("alice", path) as alice, aio.Client("bob", path) as bob:
            async with bob.subscribe("prices/*") as prices, alice.publish("prices/AAPL") as publisher:

                async def publish():
                    for number in range(100):
                        await publisher.send(b"%d" % number)
                        await asyncio.sleep(0)

                publishing = asyncio.ensure_future(publish())
                number = 0
                async for sample in prices:
                    assert sample.payload == b"%d" % number
                    number += 1
                    if number == 100:
                        break
                await publishing

    run(main())


def test_samples_in_place(run, path, server):
    async def main():
        async with aio.Client("alice", path) as alice, aio.Client("bob", path) as bob:
            async with bob.subscribe("frames") as frames, alice.publish("frames") as publisher:
                waiting = asyncio.ensure_future(frames.view())
                await rounds(2)
                await cancelled(waiting)
                with publisher.publisher.grant(5) as grant:
                    memoryview(grant)[:] = b"frame"
                    grant.commit()
                async with asyncio.timeout(PATIENCE):
                    with await frames.view() as view:
                        assert bytes(view) == b"frame"
                        with pytest.raises(errors.InUse):
                            await frames.recv()
                await publisher.send(b"next")
                assert (await frames.recv()).payload == b"next"

    run(main())


def test_a_reliable_publisher_waits_for_room(run, path, server):
    async def main():
        async with aio.Client("alice", path) as alice, aio.Client("bob", path) as bob:
            jobs = bob.subscribe("jobs", policy="reliable")
            async with alice.publish("jobs", reliable=PATIENCE, ring_size=4096) as publisher:
                while publisher.publisher.subscribers == 0:
                    await asyncio.sleep(0.001)

                async def publish():
                    for number in range(1000):
                        await publisher.send(b"%100d" % number)

                publishing = asyncio.ensure_future(publish())
                await rounds(50)
                assert not publishing.done()
                assert [int((await jobs.recv()).payload) for _ in range(1000)] == list(range(1000))
                await publishing
            jobs.close()

    run(main())


def test_links(run, path, server):
    async def main():
        async with aio.Client("alice", path) as alice, aio.Client("bob", path) as bob:
            with bob.client.serve(lambda request, peer: peer.name.encode() + b": " + request):
                async with alice.connect("bob") as link:
                    assert link.peer.name == "bob"
                    assert await link.call(b"one") == b"alice: one"
                    await asyncio.to_thread(server.stop)
                    answers = await asyncio.gather(*(link.call(b"%d" % number) for number in range(3000)))
                    assert answers == [b"alice: %d" % number for number in range(3000)]
                    assert link.closed is None
                with pytest.raises(errors.Disconnected):
                    await link.call(b"")

    run(main())


def test_links_that_are_served_in_the_loop(run, path, server):
    def call(name):
        with Client(name, path) as client, client.connect("bob", timeout=PATIENCE) as link:
            for number in range(200):
                link.submit(b"%d" % number)
            return [link.response(timeout=PATIENCE) for _ in range(200)]

    async def serve(listener):
        async for incoming in listener:
            if incoming.peer.name == "mallory":
                incoming.refuse("not you")
            else:
                tasks.append(asyncio.ensure_future(serve_one(incoming)))

    async def serve_one(incoming):
        async with aio.Responder(incoming.accept()) as responder:
            return await responder.serve(lambda request, peer: peer.name.encode() + request)

    tasks = []

    async def main():
        async with aio.Client("bob", path) as bob, bob.listen() as listener:
            serving = asyncio.ensure_future(serve(listener))
            calls = [asyncio.to_thread(call, name) for name in ("alice", "carol", "mallory")]
            alice, carol, mallory = await asyncio.gather(*calls, return_exceptions=True)
            assert alice == [b"alice%d" % number for number in range(200)]
            assert carol == [b"carol%d" % number for number in range(200)]
            assert isinstance(mallory, errors.Refused | errors.NotAllowed)
            assert [await task for task in tasks] == ["peer", "peer"]
            await cancelled(serving)

    run(main())


def test_who_is_there(run, path, server):
    async def main():
        async with aio.Client("alice", path) as alice, alice.presence() as presence:
            assert (await presence.recv()).peer.name == "alice"
            waiting = asyncio.ensure_future(presence.recv())
            await rounds(2)
            await cancelled(waiting)
            async with aio.Client("bob", path):
                change = await anext(presence)
                assert (change.kind, change.peer.name) == ("appeared", "bob")
            async for change in presence:
                assert (change.kind, change.peer.name) == ("vanished", "bob")
                break
            waiting = asyncio.ensure_future(presence.recv())
            await rounds(2)
            presence.close()
            with pytest.raises(errors.Disconnected):
                await waiting

    run(main())


def test_an_end_ends_what_waits(run, path, server):
    async def main():
        alice = aio.Client("alice", path)
        waiting = [asyncio.ensure_future(alice.recv()) for _ in range(3)]
        await rounds(2)
        await asyncio.to_thread(server.stop)
        for task in waiting:
            with pytest.raises(errors.Disconnected) as caught:
                await task
            assert caught.value.reason == "shutdown"
        with pytest.raises(errors.Disconnected):
            await alice.call(b"")
        with pytest.raises(errors.Disconnected):
            await alice.send("bob", b"")
        assert alice.closed == "shutdown"
        alice.close()

    run(main())


def test_closing_ends_what_waits(run, path):
    go_on = threading.Event()

    def service(request, peer):
        go_on.wait(PATIENCE)
        return request

    async def main():
        alice = aio.Client("alice", path)
        prices = alice.subscribe("prices")
        waiting = [asyncio.ensure_future(task) for task in (alice.recv(), alice.recv(), prices.recv())]
        calls = [asyncio.ensure_future(alice.call(b"x" * 1000)) for _ in range(1000)]
        await rounds(10)
        prices.close()
        go_on.set()
        alice.close()
        alice.close()
        results = await asyncio.gather(*calls, return_exceptions=True)
        ended = [result for result in results if isinstance(result, errors.Disconnected)]
        # There was no room for all of them: some cannot have been executed.
        assert {result.may_have_executed for result in ended} == {True, False}
        assert len({id(result) for result in ended}) == len(ended)
        for task in waiting:
            with pytest.raises(errors.Disconnected):
                await task

    with Server(path, service):
        run(main())


def test_an_end_that_nobody_waits_for_leaves_the_loop_alone(run, path, server):
    async def main():
        loop = asyncio.get_running_loop()
        woken = 0
        add_reader = loop.add_reader

        def counted(descriptor, look, *arguments):
            def look_and_count():
                nonlocal woken
                woken += 1
                look(*arguments)

            add_reader(descriptor, look_and_count)

        class Counting:
            """The loop, with what its descriptors wake counted."""

            def __getattr__(self, name):
                return counted if name == "add_reader" else getattr(loop, name)

        async with aio.Client("alice", path) as alice, aio.Client("bob", path) as bob:
            prices = bob.subscribe("prices")
            alice._calls._loop = bob._inbox._watch._loop = prices._samples._watch._loop = Counting()
            for waits in (bob.recv, prices.recv):
                task = asyncio.ensure_future(waits())
                await rounds(2)
                await cancelled(task)
            # One wakes a task that waits; then another task waits, and is not woken for nothing.
            task = asyncio.ensure_future(bob.recv())
            await rounds(2)
            await alice.send("bob", b"one")
            await task
            task = asyncio.ensure_future(bob.recv())
            await rounds(200)
            await cancelled(task)
            assert woken <= 20
            await alice.call(b"slowly")
            await alice.send("bob", b"which nobody takes")
            await asyncio.to_thread(server.stop)
            await rounds(200)
            assert woken <= 20

    run(main())


def test_it_needs_a_loop(path, server):
    for make in (lambda: aio.Client("alice", path),):
        with pytest.raises(RuntimeError):
            make()
    assert server.clients() == []
