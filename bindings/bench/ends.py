"""The Python ends that ``bindings/figures`` starts.

    ends.py ROLE PATH...

A server's role ends with its standard input. The others read lines ``FIGURE COUNT PATH``, and
print for each the nanoseconds of one operation. Each block makes what it needs anew, so that nothing of
another one is there to spin beside it.
"""

import asyncio
import socket
import statistics
import sys
import threading
from itertools import repeat
from time import perf_counter_ns

import ringpost
import ringpost.aio

REQUEST = bytes(range(48))
SMALL, LARGE = 48, 4 << 20
# The ring that a frame of 4 MiB needs. So many frames go once round.
RING, ROUND = 32 << 20, 8
PATIENCE = 10


def timed(operation, count):
    """The nanoseconds of one operation, without a look at the clock in between."""
    start = perf_counter_ns()
    for _ in repeat(None, count):
        operation()
    return (perf_counter_ns() - start) / count


def checked(operation, count):
    """Warms up, and looks at what comes back."""
    for _ in repeat(None, count):
        if operation() != REQUEST:
            raise SystemExit("the response is not the request")


# Calls, and what stands beside them.


def call(count, path):
    with ringpost.Client("python", path, wait="spin") as client:
        method = client.call
        checked(lambda: method(REQUEST), 2000)
        start = perf_counter_ns()
        for _ in repeat(None, count):
            method(REQUEST)
        return (perf_counter_ns() - start) / count


def empty(count, path):
    """A method of the binding that does nothing but return its own object."""
    with ringpost.Client("python", path, wait="park") as client:
        method = client.__enter__
        timed(method, 2000)
        return timed(method, count)


def over_a_socket(count, path):
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(path)
        send, receive = end.send, end.recv

        def once():
            send(REQUEST)
            return receive(64)

        checked(once, 100)
        return timed(once, count)


def over_a_polled_socket(count, path):
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(path)
        end.setblocking(False)
        send, receive = end.send, end.recv

        def once():
            send(REQUEST)
            while True:
                try:
                    return receive(64)
                except BlockingIOError:
                    pass

        checked(once, 100)
        return timed(once, count)


def echo(path):
    """A server for one connection after the other; both ends sleep."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while True:
            with listener.accept()[0] as end:
                while data := end.recv(64):
                    end.send(data)


def polled_echo(path):
    """As ``echo``, but it never sleeps while it has a connection."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while True:
            with listener.accept()[0] as end:
                end.setblocking(False)
                while True:
                    try:
                        data = end.recv(64)
                    except BlockingIOError:
                        continue
                    if not data:
                        break
                    end.send(data)


# asyncio.


async def async_blocks(once, count):
    for _ in repeat(None, 200):
        if await once() != REQUEST:
            raise SystemExit("the response is not the request")
    start = perf_counter_ns()
    for _ in repeat(None, count):
        await once()
    return (perf_counter_ns() - start) / count


def async_call(count, path):
    async def run():
        async with ringpost.aio.Client("python", path) as client:
            return await async_blocks(lambda: client.call(REQUEST), count)

    return asyncio.run(run())


def async_streams(count, path):
    async def run():
        reader, writer = await asyncio.open_unix_connection(path)

        async def once():
            writer.write(REQUEST)
            return await reader.readexactly(len(REQUEST))

        took = await async_blocks(once, count)
        writer.close()
        await writer.wait_closed()
        return took

    return asyncio.run(run())


class Answers(asyncio.Protocol):
    """The least that an end of asyncio can be."""

    def __init__(self):
        self.future = None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.future.set_result(data)

    async def once(self):
        self.future = asyncio.get_running_loop().create_future()
        self.transport.write(REQUEST)
        return await self.future


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


def async_protocol(count, path):
    async def run():
        transport, end = await asyncio.get_running_loop().create_unix_connection(Answers, path)
        took = await async_blocks(end.once, count)
        transport.close()
        return took

    return asyncio.run(run())


def async_echo(path, protocol):
    async def over_streams(reader, writer):
        while data := await reader.read(64):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def run():
        if protocol:
            server = await asyncio.get_running_loop().create_unix_server(Echo, path)
        else:
            server = await asyncio.start_unix_server(over_streams, path)
        async with server:
            print("ready", flush=True)
            await server.serve_forever()

    asyncio.run(run())


# Frames: numpy arrays in place, over a topic; the reader says over another one when it had the array.


def publish(count, path):
    """The median times from the commit until the reader has the array: of a large sample, of a small
    one, and of a small one before which the publisher works as long on something else as on the large one."""
    import numpy

    frame = numpy.full(LARGE, 7, numpy.uint8)
    elsewhere = numpy.empty_like(frame)
    with ringpost.Client("publisher", path, wait="spin") as client:
        publisher = client.publish("frames/there", ring_size=RING)
        seen = client.subscribe("frames/seen")
        # Until the reader has come, and its answers come too.
        while publisher.subscribers == 0 or not seen.publishers():
            pass

        def once(size, work=False):
            if work:
                elsewhere[:] = frame
            with publisher.grant(size) as grant:
                array = numpy.frombuffer(grant, numpy.uint8)
                array[:] = frame[:size]
                del array
                committed = perf_counter_ns()
                grant.commit()
            return int.from_bytes(seen.recv(PATIENCE).payload, "little") - committed

        for _ in range(2 * ROUND):
            once(LARGE)
        kinds = ((LARGE,), (SMALL,), (SMALL, True))
        medians = [statistics.median(once(*kind) for _ in range(count)) for kind in kinds]
        once(1)  # the end
        return " ".join(map(str, medians))


def subscribe(count, path):
    import numpy

    with ringpost.Client("subscriber", path, wait="spin") as client:
        seen = client.publish("frames/seen")
        subscriber = client.subscribe("frames/there")
        size = 0
        while size != 1:
            with subscriber.view(PATIENCE) as view:
                array = numpy.frombuffer(view, numpy.uint8)
                now = perf_counter_ns()
                size = len(array)
                if array[0] != 7 or array[-1] != 7:
                    raise SystemExit("the frame is not the one that was sent")
                del array
            seen.send(now.to_bytes(8, "little"))
    return 0


SERVERS = {
    "echo": echo,
    "polled-echo": polled_echo,
    "async-echo": lambda path: async_echo(path, protocol=False),
    "async-protocol-echo": lambda path: async_echo(path, protocol=True),
}
FIGURES = {
    "call": call,
    "empty": empty,
    "socket": over_a_socket,
    "polled-socket": over_a_polled_socket,
    "async-call": async_call,
    "async-streams": async_streams,
    "async-protocol": async_protocol,
    "publish": publish,
    "subscribe": subscribe,
}


def main():
    role, *paths = sys.argv[1:]
    if role in SERVERS:
        threading.Thread(target=SERVERS[role], args=paths, daemon=True).start()
        sys.stdin.read()
        return
    for line in sys.stdin:
        figure, count, path = line.split()
        print(FIGURES[figure](int(count), path), flush=True)


if __name__ == "__main__":
    main()
