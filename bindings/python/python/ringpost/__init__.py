"""A local message bus over shared memory.

Register, call a service, and send messages:

>>> import ringpost
>>> with ringpost.Server(path, service=lambda request, peer: request[::-1]):
...     with ringpost.Client("alice", path) as alice, ringpost.Client("bob", path) as bob:
...         print(alice.call(b"drawer"))
...         alice.send("bob", b"hi")
...         message = bob.recv(timeout=10)
...         print(message.sender_name, message.payload)
b'reward'
alice b'hi'

Requests, messages and samples are ``bytes``, or any object with the buffer protocol whose memory is in one
piece (``bytearray``, ``memoryview``, ``array.array``, ctypes structures, numpy arrays). Do not write into it
before the operation has returned. What comes is ``bytes``. Times are seconds; ``None`` is no limit. Waits let
go of the interpreter's lock, and a signal's handler that raises, such as that of Ctrl-C, ends them within
50 ms.
"""

from . import errors
from ._ringpost import (
    Change,
    Client,
    ClientInfo,
    Grant,
    Incoming,
    Link,
    Listener,
    Message,
    Peer,
    Presence,
    Publisher,
    Responder,
    Sample,
    Server,
    Serving,
    Subscriber,
    View,
    default_path,
)

__all__ = [
    "Change",
    "Client",
    "ClientInfo",
    "Grant",
    "Incoming",
    "Link",
    "Listener",
    "Message",
    "Peer",
    "Presence",
    "Publisher",
    "Responder",
    "Sample",
    "Server",
    "Serving",
    "Subscriber",
    "View",
    "default_path",
    "errors",
]
