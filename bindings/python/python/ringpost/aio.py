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
``publish``, ``subscribe``, ``connect``, ``listen``, ``presence`` and ``close``, and so does the first
``send`` to a name. Beside a server that hangs they block the loop until their limit.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Literal, Self

import ringpost
from ringpost import errors
from ringpost._loop import Calls, Turns

if TYPE_CHECKING:
    from os import PathLike

    from typing_extensions import Buffer

    from ringpost._ringpost import _Service, _Wait

__all__ = ["Client", "Link", "Listener", "Presence", "Publisher", "Responder", "Subscriber"]

#: So many keys of receivers are kept.
_MOST_KEYS = 1024


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
        self._calls = Calls(self.client.try_response, self.client.caller_fileno(), self.client.arm_caller)
        self._inbox = Turns(self.client.inbox_fileno(), self.client.arm_inbox)
        self._sending = asyncio.Lock()
        self._keys: dict[str, str] = {}

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
        return await self._calls.call(partial(self.client.try_submit, request))

    async def send(self, to: str, message: Buffer) -> None:
        """Sends a message, and waits for room. Messages and calls are sent in their order."""
        pause = 0.0005
        looked = False
        async with self._sending:
            while True:
                try:
                    submit = partial(self.client.try_submit_send, self._keys.get(to, to), message)
                    await self._calls.call(submit)
                    return
                except errors.Full:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, 0.01)
                except (errors.InvalidName, errors.NotFound):
                    # It is a name, whose key is not known or is no more.
                    if looked:
                        raise
                    looked = True
                    await self._calls.alone(partial(self._find, to))

    def _find(self, name: str) -> None:
        key = self.client.look_up(name)
        if key is None:
            self._keys.pop(name, None)
            raise errors.NotFound(f"no client is registered as {name!r}")
        if len(self._keys) >= _MOST_KEYS:
            self._keys.clear()
        self._keys[name] = key

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
        self._calls = Calls(link.try_response, link.fileno(), link.arm)

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
        return await self._calls.call(partial(self.link.try_submit, request))

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
        self._room = Turns(publisher.fileno(), publisher.arm) if arms else None

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
        self._samples = Turns(subscriber.fileno(), subscriber.arm)

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
        self._changes = Turns(presence.fileno(), presence.arm)

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

    Refuse what comes by ``incoming.refuse()``, or serve it in a task by ``Responder(incoming.accept())``.
    """

    def __init__(self, listener: ringpost.Listener) -> None:
        self.listener = listener
        self._links = Turns(listener.fileno(), listener.arm)

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
        self._requests = Turns(responder.fileno(), responder.arm)

    async def serve(self, service: _Service) -> str:
        """Calls ``service(request, peer)`` for each call, in the loop, until the link ends.

        Returns why it did, in a word.
        """
        return await self._requests.until(lambda: self.responder.serve_ready(service))

    def close(self) -> None:
        """Ends the link."""
        self._requests.leave()
        self.responder.close()
        self._requests.closed()
