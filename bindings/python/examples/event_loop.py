"""asyncio: calls at once, messages, and samples, each in a task, with time-outs. No thread.

Usage: python event_loop.py PATH
"""

import asyncio
import sys

import ringpost
import ringpost.aio


async def print_messages(client: ringpost.aio.Client) -> None:
    async for message in client:
        print(f"{client.name} got {message.payload.decode()} from {message.sender_name}")
        await client.send(message.sender, b"thanks")


async def print_prices(prices: ringpost.aio.Subscriber, count: int) -> None:
    async for sample in prices:
        print(sample.topic, sample.payload.decode())
        count -= 1
        if count == 0:
            return


async def main(path: str) -> None:
    async with ringpost.aio.Client("alice", path) as alice, ringpost.aio.Client("bob", path) as bob:
        listening = asyncio.create_task(print_messages(bob))
        answers = await asyncio.gather(alice.call(b"one"), alice.call(b"two"), alice.call(b"three"))
        print(*(answer.decode() for answer in answers))

        await alice.send("bob", b"a note")
        async with asyncio.timeout(5):
            print("alice got", (await alice.recv()).payload.decode())

        async with bob.subscribe("prices/*") as prices, alice.publish("prices/ACME") as acme:
            printing = asyncio.create_task(print_prices(prices, 2))
            await acme.send(b"187.50")
            await acme.send(b"187.25")
            await printing

        try:
            async with asyncio.timeout(0.01):
                await alice.recv()
        except TimeoutError:
            print("no more messages")
        listening.cancel()


if __name__ == "__main__":
    with ringpost.Server(sys.argv[1], service=lambda request, peer: request.upper()):
        asyncio.run(main(sys.argv[1]))
