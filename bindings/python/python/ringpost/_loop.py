"""How the ends of the bus wait in an event loop, for ``ringpost.aio``."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from ringpost import errors

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

#: After so many operations that found at once what they wanted, the other tasks have a turn.
_QUICK = 64
#: So often a call looks for its response, each time behind the other tasks, before it asks to be woken.
_LOOKS = 3


class Watch:
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


class Turns:
    """The operations that wait for one end: one task after the other."""

    def __init__(self, descriptor: int, arm: Callable[[], bool]) -> None:
        self._watch = Watch(descriptor)
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


class Calls:
    """The calls over a client's channel or over a link, in their order."""

    def __init__(
        self, try_response: Callable[[], bytes | None], descriptor: int, arm: Callable[[], bool]
    ) -> None:
        self._try_response = try_response
        self._descriptor = descriptor
        self._arm = arm
        self._loop = asyncio.get_running_loop()
        self._due: deque[asyncio.Future[bytes]] = deque()  # submitted
        # What could not begin yet: functions that say whether they could.
        self._queue: deque[tuple[Callable[[], bool], asyncio.Future[Any]]] = deque()
        self._there = False  # in the loop
        self._soon = False  # a look is due in the loop's next round
        self._looks = 0  # before it asks to be woken
        self._quick = 0

    async def call(self, submit: Callable[[], None]) -> bytes:
        """Submits a request, when there is room, and returns the response to it."""
        if self._quick == _QUICK:
            self._quick = 0
            await asyncio.sleep(0)
        alone = not self._due and not self._queue
        future: asyncio.Future[bytes] = self._loop.create_future()
        if self._queue or not self._submit(submit, future):
            self._queue.append((lambda: self._submit(submit, future), future))
        elif alone and self._collect():
            # A server that looks for requests has answered in the meantime.
            self._quick += 1
            return future.result()
        self._looks = _LOOKS
        self._look_soon()
        return await future

    async def alone(self, operation: Callable[[], T]) -> T:
        """Does something for which no response may be due. Calls that are made meanwhile go behind it."""
        future: asyncio.Future[T] = self._loop.create_future()
        if self._queue or not self._do(operation, future):
            self._queue.append((lambda: self._do(operation, future), future))
            self._look_soon()
        return await future

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
                answer = self._try_response()
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

    def _submit(self, submit: Callable[[], None], future: asyncio.Future[bytes]) -> bool:
        """Submits a request. ``False`` if there is no room."""
        try:
            submit()
        except errors.Full:
            return False
        except Exception as error:
            future.set_exception(error)
        else:
            self._due.append(future)
        return True

    def _do(self, operation: Callable[[], T], future: asyncio.Future[T]) -> bool:
        """Does something. ``False`` if a response is due."""
        if self._due:
            return False
        try:
            found = operation()
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(found)
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
