"""The bus in asyncio: no thread, but ``loop.add_reader`` and the descriptor of each end.

>>> import asyncio, ringpost.aio
>>> async def main():
...     async with ringpost.aio.Client("alice", path) as alice:
...         return await asyncio.gather(alice.call(b"one"), alice.call(b"two"))
>>> with ringpost.Server(path, service=lambda request, peer: request.upper()):
...     asyncio.run(main())
[b'ONE', b'TWO']

What is made here belongs to the event loop that runs, and to its thread. Any number of tasks may use it.
Every ``await`` may be cancelled, so ``asyncio.timeout`` limits it: the response to a call that was given up
is discarded when it comes, and messages and samples are taken only by a task that goes on with them.

What has no ``await`` asks the server and waits for its answer, some microseconds: making a client,
``publish``, ``subscribe``, ``connect``, ``listen``, ``presence`` and ``close``. Beside a server that hangs they block the loop until
their limit.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from typing import TYPE_CHECKING, Literal, Self, TypeVar

import ringpost
from ringpost import errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from typing_extensions import Buffer

    from ringpost._ringpost import _Service, _Wait

__all__ = ["Client", "Link", "Listener", "Presence", "Publisher", "Responder", "Subscriber"]

T = TypeVar("T")

#: After so many operations that found at once what they wanted, the other tasks have a turn.
_QUICK = 64
#: So often a call looks for its response, each time behind the other tasks, before it asks to be woken.
_LOOKS = 3


class _Watch:
    """A descriptor in the event loop, while somebody waits for it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._there = False
        self._waiting: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Waits until it is readable. For one task at a time."""
        if not self._there:
            self._loop.add_reader(self._descriptor, self._ready)
            self._there = True
        self._waiting = self._loop.create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _ready(self) -> None:
        if self._waiting is None:
            # Nobody empties the pipe now, so it would keep the loop turning.
            self.leave()
        else:
            self.wake()

    def wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def leave(self) -> None:
        if self._there:
            self._there = False
            self._loop.remove_reader(self._descriptor)


class _Turns:
    """The operations that wait for one end: one task after the other."""

    def __init__(self, descriptor: int, arm: Callable[[], bool]) -> None:
        self._watch = _Watch(descriptor)
        self._arm = arm
        self._turn = asyncio.Lock()
        self._quick = 0

    async def until(self, attempt: Callable[[], T | None]) -> T:
        """Tries until there is a result. What is tried has no effect if there is none."""
        async with self._turn:
            if self._quick == _QUICK:
                self._quick = 0
                await asyncio.sleep(0)
            while (found := attempt()) is None:
                self._quick = 0
                if self._arm():
                    await self._watch.wait()
                else:
                    await asyncio.sleep(0)
            self._quick += 1
            return found

    def leave(self) -> None:
        """Before the end is closed, as its descriptor may be another's then."""
        self._watch.leave()

    def closed(self) -> None:
        """Has those who wait find out that the end is closed."""
        self._watch.wake()


class _Calls:
    """The calls over a client's channel or over a link, in their order."""

    def __init__(
        self, line: ringpost.Client | ringpost.Link, descriptor: int, arm: Callable[[], bool]
    ) -> None:
        self._line = line
        self._descriptor = descriptor
        self._arm = arm
        self._loop = asyncio.get_running_loop()
        self._due: deque[asyncio.Future[bytes]] = deque()  # submitted
        # What could not begin yet: functions that say whether they could.
        self._queue: deque[tuple[Callable[[], bool], asyncio.Future[bytes]]] = deque()
        self._there = False  # in the loop
        self._soon = False  # a look is due in the loop's next round
        self._looks = 0  # before it asks to be woken
        self._quick = 0

    async def call(self, request: Buffer) -> bytes:
        if self._quick == _QUICK:
            self._quick = 0
            await asyncio.sleep(0)
        alone = not self._due and not self._queue
        future: asyncio.Future[bytes] = self._loop.create_future()
        if self._queue or not self._submit(request, future):
            self._queue.append((lambda: self._submit(request, future), future))
        elif alone and self._collect():
            # A server that looks for requests has answered in the meantime.
            self._quick += 1
            return future.result()
        self._looks = _LOOKS
        self._look_soon()
        return await future

    async def alone(self, operation: Callable[[], None]) -> None:
        """Does something for which no response may be due. Calls that are made meanwhile go behind it."""
        future: asyncio.Future[bytes] = self._loop.create_future()
        if self._queue or not self._do(operation, future):
            self._queue.append((lambda: self._do(operation, future), future))
            self._look_soon()
        await future

    def closed(self) -> None:
        """Tells those who wait that the line is closed."""
        error = errors.Disconnected("disconnected: closed on this side")
        error.reason = "local"
        self._fail(error)

    def _look_soon(self) -> None:
        if not self._soon:
            self._soon = True
            self._loop.call_soon(self._look_now)

    def _look_now(self) -> None:
        self._soon = False
        self._look()

    def _ready(self) -> None:
        if self._due or self._queue:
            self._look()
        else:
            # Nobody empties the pipe now, so it would keep the loop turning.
            self.leave()

    def leave(self) -> None:
        """Before the line is closed, as its descriptor may be another's then."""
        if self._there:
            self._there = False
            self._loop.remove_reader(self._descriptor)

    def _look(self) -> None:
        while self._due or self._queue:
            if self._collect():
                self._looks = max(self._looks, 1)  # the next one may be there soon
            self._begin_queue()
            if not self._due and not self._queue:
                return None
            if self._looks > 0:
                # Neither side makes a system call for a response that comes soon.
                self._looks -= 1
                return self._look_soon()
            try:
                armed = self._arm()
            except Exception as error:
                self._fail(error)
                return None
            if armed:
                if not self._there:
                    self._there = True
                    self._loop.add_reader(self._descriptor, self._ready)
                return None
        return None

    def _collect(self) -> int:
        """Takes the responses that are there. Returns how many."""
        taken = 0
        while self._due:
            try:
                answer = self._line.try_response()
            except Exception as error:
                future = self._due.popleft()
                if not future.done():
                    future.set_exception(error)
            else:
                if answer is None:
                    break
                future = self._due.popleft()
                if not future.done():
                    future.set_result(answer)
            taken += 1
        return taken

    def _begin_queue(self) -> None:
        while self._queue:
            begin, future = self._queue[0]
            if not future.done() and not begin():
                return
            self._queue.popleft()

    def _submit(self, request: Buffer, future: asyncio.Future[bytes]) -> bool:
        """Submits a request. ``False`` if there is no room."""
        try:
            self._line.try_submit(request)
        except errors.Full:
            return False
        except Exception as error:
            future.set_exception(error)
        else:
            self._due.append(future)
        return True

    def _do(self, operation: Callable[[], None], future: asyncio.Future[bytes]) -> bool:
        """Does something. ``False`` if a response is due."""
        if self._due:
            return False
        try:
            operation()
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(b"")
        return True

    def _fail(self, error: Exception) -> None:
        """Fails all calls: each with an exception of its own."""
        while self._due:
            future = self._due.popleft()
            if not future.done():
                own = copy.copy(error)
                if isinstance(own, errors.Error):
                    own.may_have_executed = True
                future.set_exception(own)
        while self._queue:
            _, future = self._queue.popleft()
            if not future.done():
                future.set_exception(copy.copy(error))


class _Closes:
    """What ends with ``async with``."""

    def close(self) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.close()


class Client(_Closes):
    """A ``ringpost.Client`` in the event loop.

    ``client`` is the one within, for what does not wait. Do not call, submit or receive by it.
    """

    def __init__(
        self,
        name: str,
        path: str | PathLike[str] | None = None,
        *,
        timeout: float = 5.0,
        wait: _Wait = "adaptive",
    ) -> None:
        asyncio.get_running_loop()
        self.client = ringpost.Client(name, path, timeout=timeout, wait=wait)
        self._calls = _Calls(self.client, self.client.caller_fileno(), self.client.arm_caller)
        self._inbox = _Turns(self.client.inbox_fileno(), self.client.arm_inbox)
        self._sending = asyncio.Lock()

    @property
    def name(self) -> str:
        """The name that it is registered under."""
        return self.client.name

    @property
    def key(self) -> str:
        """Its key, as text of 26 characters."""
        return self.client.key

    @property
    def closed(self) -> str | None:
        """Why the registration has ended, in a word, or ``None``."""
        return self.client.closed

    async def call(self, request: Buffer) -> bytes:
        """Calls the server's service and returns its response. Keep a buffer unchanged until then."""
        return await self._calls.call(request)

    async def send(self, to: str, message: Buffer) -> None:
        """Sends a message, and waits for room.

        It goes behind the calls that are under way, and waits for their responses. Calls that are made later
        go behind it.
        """
        pause = 0.0005
        async with self._sending:  # in order
            while True:
                try:
                    return await self._calls.alone(lambda: self.client.try_send(to, message))
                except errors.Full:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, 0.01)

    async def recv(self) -> ringpost.Message:
        """The next message."""
        return await self._inbox.until(self.client.try_recv)

    def subscribe(
        self, pattern: str, *, policy: Literal["lossy", "latest", "reliable"] = "lossy", history: int = 0
    ) -> Subscriber:
        """As ``ringpost.Client.subscribe``: iterate over it with ``async for``."""
        return Subscriber(self.client.subscribe(pattern, policy=policy, history=history, arms=True))

    def publish(
        self, topic: str, *, reliable: float | None = None, ring_size: int | None = None
    ) -> Publisher:
        """As ``ringpost.Client.publish``."""
        arms = reliable is not None
        return Publisher(self.client.publish(topic, reliable=reliable, ring_size=ring_size, arms=arms), arms)

    def connect(self, to: str, timeout: float = 5.0, *, ring_size: int | None = None) -> Link:
        """As ``ringpost.Client.connect``. The client that serves must not be one that waits for this loop."""
        return Link(self.client.connect(to, timeout, ring_size=ring_size, arms=True))

    def listen(self) -> Listener:
        """As ``ringpost.Client.listen``: links are accepted, and served, in the loop."""
        return Listener(self.client.listen())

    def presence(self) -> Presence:
        """As ``ringpost.Client.presence``: iterate over it with ``async for``."""
        return Presence(self.client.presence())

    def close(self) -> None:
        """Ends the registration. What still waits for it raises ``Disconnected``."""
        self._calls.leave()
        self._inbox.leave()
        try:
            self.client.close()
        finally:
            self._calls.closed()
            self._inbox.closed()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ringpost.Message:
        return await self.recv()


class Link(_Closes):
    """A ``ringpost.Link`` in the event loop: ``link``."""

    def __init__(self, link: ringpost.Link) -> None:
        self.link = link
        self._calls = _Calls(link, link.fileno(), link.arm)

    @property
    def peer(self) -> ringpost.Peer:
        """The client at the other end."""
        return self.link.peer

    @property
    def closed(self) -> str | None:
        """Why the link has ended, in a word, or ``None``."""
        return self.link.closed

    async def call(self, request: Buffer) -> bytes:
        """Calls the other client's service and returns its response. Keep a buffer unchanged until then."""
        return await self._calls.call(request)

    def close(self) -> None:
        """Ends the link. What still waits for it raises ``Disconnected``."""
        self._calls.leave()
        try:
            self.link.close()
        finally:
            self._calls.closed()


class Publisher(_Closes):
    """A ``ringpost.Publisher`` in the event loop: ``publisher``."""

    def __init__(self, publisher: ringpost.Publisher, arms: bool) -> None:
        self.publisher = publisher
        self._room = _Turns(publisher.fileno(), publisher.arm) if arms else None

    async def send(self, sample: Buffer) -> None:
        """Publishes a sample. It waits only for reliable subscribers that leave no room, if the topic is
        reliable.
        """
        if self._room is None:
            self.publisher.send(sample)
        else:
            await self._room.until(lambda: self._try_send(sample))

    def _try_send(self, sample: Buffer) -> bool | None:
        try:
            self.publisher.try_send(sample)
        except errors.Full:
            return None
        return True

    def close(self) -> None:
        """Ends the topic. What was published can still be read."""
        if self._room is not None:
            self._room.leave()
        self.publisher.close()
        if self._room is not None:
            self._room.closed()


class Subscriber(_Closes):
    """A ``ringpost.Subscriber`` in the event loop: ``subscriber``."""

    def __init__(self, subscriber: ringpost.Subscriber) -> None:
        self.subscriber = subscriber
        self._samples = _Turns(subscriber.fileno(), subscriber.arm)

    async def recv(self) -> ringpost.Sample:
        """The next sample."""
        return await self._samples.until(self.subscriber.try_recv)

    async def view(self) -> ringpost.View:
        """The next sample in place: as ``ringpost.Subscriber.view``."""
        return await self._samples.until(self.subscriber.try_view)

    def close(self) -> None:
        """Ends the subscription. What still waits for it raises ``Disconnected``."""
        self._samples.leave()
        self.subscriber.close()
        self._samples.closed()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ringpost.Sample:
        return await self.recv()


class Presence(_Closes):
    """A ``ringpost.Presence`` in the event loop: ``presence``."""

    def __init__(self, presence: ringpost.Presence) -> None:
        self.presence = presence
        self._changes = _Turns(presence.fileno(), presence.arm)

    async def recv(self) -> ringpost.Change:
        """The next change."""
        return await self._changes.until(self.presence.try_recv)

    def close(self) -> None:
        """Ends it. What still waits for it raises ``Disconnected``."""
        self._changes.leave()
        self.presence.close()
        self._changes.closed()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ringpost.Change:
        return await self.recv()


class Listener(_Closes):
    """A ``ringpost.Listener`` in the event loop: ``listener``. Iterate over it with ``async for``.

    Refuse what comes by ``incoming.refuse()``, or serve it in a task: ``Responder(incoming.accept()).serve(…)``.
    """

    def __init__(self, listener: ringpost.Listener) -> None:
        self.listener = listener
        self._links = _Turns(listener.fileno(), listener.arm)

    async def accept(self) -> ringpost.Incoming:
        """The next link that somebody wants to open."""
        return await self._links.until(self.listener.try_accept)

    def close(self) -> None:
        """Takes no more links. What still waits for one raises ``Disconnected``."""
        self._links.leave()
        self.listener.close()
        self._links.closed()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ringpost.Incoming:
        return await self.accept()


class Responder(_Closes):
    """A ``ringpost.Responder`` in the event loop: ``responder``."""

    def __init__(self, responder: ringpost.Responder) -> None:
        self.responder = responder
        self._requests = _Turns(responder.fileno(), responder.arm)

    async def serve(self, service: _Service) -> str:
        """Calls ``service(request, peer)`` for each call, in the loop, until the link ends. Says why it did."""
        return await self._requests.until(lambda: self.responder.serve_ready(service))

    def close(self) -> None:
        """Ends the link."""
        self._requests.leave()
        self.responder.close()
        self._requests.closed()
