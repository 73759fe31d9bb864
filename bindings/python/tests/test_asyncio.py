"""asyncio: calls at once, messages, samples, cancellation, ends."""

import asyncio

import pytest
from ringpost import aio, errors

PATIENCE = 30


def run(main):
    return asyncio.run(asyncio.wait_for(main, PATIENCE))


def test_many_calls_at_once(path, server):
    async def main():
        async with aio.Client("alice", path) as alice:
            requests = [b"%d" % number for number in range(20_000)]
            assert await asyncio.gather(*map(alice.call, requests)) == requests
            with pytest.raises(errors.ServiceFailed):
                await alice.call(b"fail")
            with pytest.raises(errors.TooLarge):
                await alice.call(bytes(1 << 20))
            assert await alice.call(b"who") == b"alice"

    run(main())


def test_messages_and_cancellation(path, server):
    async def main():
        async with aio.Client("alice", path) as alice, aio.Client("bob", path) as bob:
            waiting = asyncio.ensure_future(bob.recv())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            call = asyncio.ensure_future(alice.call(b"forgotten"))
            await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(alice.send("bob", b"one"), alice.call(b"between"), alice.send("bob", b"two"))
            assert [(await bob.recv()).payload for _ in range(2)] == [b"one", b"two"]
            assert await alice.call(b"last") == b"last"
            # Who waits already is woken, each time.
            for number in range(20):
                waiting = asyncio.ensure_future(bob.recv())
                await asyncio.sleep(0)
                await alice.send("bob", b"%d" % number)
                assert (await waiting).payload == b"%d" % number

    run(main())


def test_samples(path, server):
    async def main():
        async with aio.Client("alice", path) as alice, aio.Client("bob", path) as bob:
            async with bob.subscribe("prices/*") as prices:
                publisher = alice.publish("prices/AAPL")

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


def test_an_end_ends_what_waits(path, server):
    async def main():
        alice = aio.Client("alice", path)
        waiting = asyncio.ensure_future(alice.recv())
        await asyncio.sleep(0)
        await asyncio.to_thread(server.stop)
        with pytest.raises(errors.Disconnected):
            await waiting
        with pytest.raises(errors.Disconnected):
            await alice.call(b"")
        alice.close()

    run(main())
