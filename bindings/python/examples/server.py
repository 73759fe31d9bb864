"""A server whose service answers in capitals. Ctrl-C and SIGTERM end it.

Usage: python server.py [PATH]
"""

import signal
import sys

import ringpost


def service(request: bytes, peer: ringpost.Peer) -> bytes:
    print(f"{peer.name} asks {request!r}", flush=True)
    return request.upper()


def main() -> None:
    # Blocked before the server starts its threads, so that it is this thread that gets them.
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    with ringpost.Server(sys.argv[1] if len(sys.argv) > 1 else None, service) as server:
        print(f"ready at {server.path}", flush=True)
        signal.sigwait(ends)
    print("ended")


if __name__ == "__main__":
    main()
