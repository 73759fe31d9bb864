"""The exceptions of ringpost. All are an ``Error``; where Python has a built-in one of the same meaning, they
are that too.

>>> issubclass(TimedOut, TimeoutError) and issubclass(Disconnected, ConnectionError)
True
"""


class Error(Exception):
    """Something on the bus failed. The text says what, and what to do."""

    #: Whether the call may have been executed, or the message delivered, all the same.
    may_have_executed = False


class TimedOut(Error, TimeoutError):
    """It did not happen in the time that was given."""


class Disconnected(Error, ConnectionError):
    """The connection has ended."""

    #: Why, in a word: local, peer, unregistered, shutdown, died, protocol-violation, forked, gave-up or
    #: cut-off.
    reason = "peer"


class Forked(Disconnected):
    """The object was made before this process was forked, and is the parent's. Make one of its own here."""


class NoServer(Error, ConnectionError):
    """No server listens at the path."""


class InUse(Error):
    """Another server listens at the path, the client has a listener already, or a ``View`` or ``Grant`` of
    this object is open.
    """


class NameTaken(Error):
    """Another client has the name."""


class InvalidName(Error, ValueError):
    """This cannot be a name, a topic or a pattern."""


class NotFound(Error, LookupError):
    """No client has this name or key."""


class Gone(NotFound):
    """The receiver has left, or takes no messages any more."""


class NotServing(Error):
    """The client takes no links."""


class NotAllowed(Error, PermissionError):
    """The server, a rule of it, or the other client does not allow it."""


class Refused(Error):
    """The server or the other client does not want to, for the reason that the text gives."""


class VersionMismatch(Error):
    """The server speaks another version of the protocol: update the older of the two."""


class Quota(Error):
    """This user, or everybody together, has as much as may be."""


class Full(Error, BlockingIOError):
    """There is no room now. Raised by operations that do not wait."""


class Unconfirmed(Error):
    """The receiver is on another computer, and nobody knows whether the message was delivered."""


class TooLarge(Error, ValueError):
    """The payload is larger than the rings allow."""


class ResponseTooLarge(Error):
    """The service's answer is larger than the rings allow."""


class ServiceFailed(Error):
    """The service answered with an error. The text is the service's."""


class NothingOutstanding(Error):
    """No call was submitted that a response could come for."""


class ShuttingDown(Error):
    """The server is shutting down."""


class Evicted(Error):
    """This reliable subscription was too slow, and the publisher goes on without it."""


class Overrun(Error):
    """The publisher has overwritten the sample while it was in view: what was read of it may be anything."""


class Violation(Error):
    """The other side broke the protocol."""


class ServiceError(Exception):
    """For a service to raise: its text is told to the caller, who gets it as ``ServiceFailed``.

    Any other exception of a service goes to ``sys.unraisablehook`` with its traceback, and the caller is told
    only that there was one.
    """
