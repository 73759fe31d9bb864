"""The bus in asyncio: no thread, but ``loop.add_reader`` and the descriptor of each end.

>>> import asyncio, ringpost.aio
>>> async def main():
...     async with ringpost.aio.Client("alice", path) as alice:
...         return await asyncio.gather(alice.call(b"one"), alice.call(b"two"))
>>> with ringpost.Server(path, service=lambda request, peer: request.upper()):
...     asyncio.run(main())
[b'ONE', b'TWO']

Making a client, a publisher or a subscription waits for the server's answer, for some microseconds, and so does ``send``. What
is cancelled leaves nothing half done: the response to a call is discarded when it comes, a message or a sample is
received by the next one who asks.
"""

import asyncio
from collections import deque

import ringpost
from ringpost import errors


class _Feed:
    """What comes by itself (messages, samples), for whoever waits for it."""

    def __init__(self, end, take, fileno, arm):
        self._end, self._take, self._arm = end, take, arm
        self._waiting = deque()
        self._given_back = deque()
        self._descriptor = fileno()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._look)

    async def next(self):
        if self._given_back:
            return self._given_back.popleft()
        future = self._loop.create_future()
        self._waiting.append(future)
        self._look()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._given_back.append(future.result())
            raise

    def _look(self):
        try:
            while True:
                while self._waiting:
                    if self._waiting[0].done():
                        self._waiting.popleft()
                        continue
                    found = self._take()
                    if found is None:
                        break
                    self._waiting.popleft().set_result(found)
                if not self._waiting or self._arm():
                    return
        except errors.Error as error:
            if isinstance(error, (errors.Disconnected, errors.Violation)):
                self.stop()
            while self._waiting:
                future = self._waiting.popleft()
                if not future.done():
                    future.set_exception(error)

    def stop(self):
        self._loop.remove_reader(self._descriptor)


class _Calls:
    """Calls under way, in their order."""

    def __init__(self, end, fileno, arm):
        self._end, self._arm = end, arm
        self._due = deque()  # submitted
        self._queue = deque()  # for which there was no room
        self._idle = asyncio.Event()
        self._descriptor = fileno()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._look)

    async def call(self, request):
        future = self._loop.create_future()
        self._queue.append((request, future))
        self._look()
        return await future

    async def settled(self):
        """Waits until no response is due, also to calls that were cancelled."""
        while self._due or self._queue:
            self._idle.clear()
            self._look()
            if self._due or self._queue:
                await self._idle.wait()

    def _look(self):
        self._go_on()
        if not self._due and not self._queue:
            self._idle.set()

    def _go_on(self):
        try:
            while True:
                self._collect()
                self._submit()
                if not self._due or self._arm():
                    return
        except errors.Error as error:
            self.stop()
            for future in [*self._due, *(future for _, future in self._queue)]:
                if not future.done():
                    future.set_exception(error)
            self._due.clear()
            self._queue.clear()

    def _collect(self):
        while self._due:
            try:
                answer = self._end.try_response()
            except (errors.Disconnected, errors.Violation):
                raise
            except errors.Error as error:
                future = self._due.popleft()
                if not future.done():
                    future.set_exception(error)
                continue
            if answer is None:
                return
            future = self._due.popleft()
            if not future.done():
                future.set_result(answer)

    def _submit(self):
        while self._queue:
            request, future = self._queue[0]
            if not future.done():
                try:
                    self._end.try_submit(request)
                    self._due.append(future)
                except errors.Full:
                    if self._due:
                        return
                    raise
                except (errors.TooLarge, TypeError, BufferError) as error:
                    future.set_exception(error)
            self._queue.popleft()

    def stop(self):
        self._loop.remove_reader(self._descriptor)


class Client:
    """A ``ringpost.Client`` for the running event loop. Any number of tasks may use it at once."""

    def __init__(self, name, path=None, *, timeout=5.0, wait="adaptive"):
        self.client = ringpost.Client(name, path, timeout=timeout, wait=wait)
        self._sending = asyncio.Lock()
        self._calls = _Calls(self.client, self.client.caller_fileno, self.client.arm_caller)
        self._inbox = _Feed(self.client, self.client.try_recv, self.client.inbox_fileno, self.client.arm_inbox)

    @property
    def name(self):
        return self.client.name

    @property
    def key(self):
        return self.client.key

    async def call(self, request):
        """Calls the server's service and returns its response. Keep a buffer unchanged until then."""
        return await self._calls.call(request)

    async def send(self, to, message):
        """Sends a message, and waits for room. It goes behind the calls that are under way, and waits for their responses."""
        pause = 0.0005
        async with self._sending:  # in order
            while True:
                await self._calls.settled()
                try:
                    return self.client.try_send(to, message)
                except errors.Full:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, 0.01)

    async def recv(self):
        """The next message."""
        return await self._inbox.next()

    def subscribe(self, pattern, **options):
        """As ``ringpost.Client.subscribe``: iterate over it with ``async for``."""
        return Subscriber(self.client.subscribe(pattern, arms=True, **options))

    def publish(self, topic, **options):
        """As ``ringpost.Client.publish``. Its ``send`` does not wait, unless it is reliable."""
        return self.client.publish(topic, **options)

    def close(self):
        """Ends the registration. What still waits for it raises ``Disconnected``."""
        self._calls.stop()
        self._inbox.stop()
        self.client.close()
        self._calls._look()
        self._inbox._look()

    def __aiter__(self):
        return self

    async def __anext__(self):
        return await self.recv()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exception):
        self.close()


class Subscriber:
    """A ``ringpost.Subscriber`` for the running event loop."""

    def __init__(self, subscriber):
        self.subscriber = subscriber
        self._feed = _Feed(subscriber, subscriber.try_recv, subscriber.fileno, subscriber.arm)

    async def recv(self):
        """The next sample."""
        return await self._feed.next()

    def close(self):
        """Ends the subscription. What still waits for it raises ``Disconnected``."""
        self._feed.stop()
        self.subscriber.close()
        self._feed._look()

    def __aiter__(self):
        return self

    async def __anext__(self):
        return await self.recv()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exception):
        self.close()
