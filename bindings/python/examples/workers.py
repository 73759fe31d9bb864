"""A program that forks its workers, as prefork servers do: each worker registers for itself.

Usage: python workers.py PATH

What was made before a fork belongs to the parent. In the child it raises `Forked`, and does nothing to the
parent's.
"""

import multiprocessing
import os
import sys

import ringpost
from ringpost import errors


def work(path: str, number: int, parents: ringpost.Client) -> None:
    try:
        parents.call(b"")
    except errors.Forked:
        pass
    with ringpost.Client(f"worker {number}", path) as own:
        own.send("parent", b"%d" % os.getpid(), timeout=5)


def main() -> None:
    path = sys.argv[1]
    # With the method "spawn" the arguments are sent to the child by pickle: leave the parent's client out
    # then.
    fork = multiprocessing.get_context("fork")
    with ringpost.Server(path), ringpost.Client("parent", path) as client:
        workers = [fork.Process(target=work, args=[path, number, client]) for number in range(3)]
        for worker in workers:
            worker.start()
        told = {int(client.recv(timeout=30).payload) for _ in workers}
        for worker in workers:
            worker.join()
        print(told == {worker.pid for worker in workers}, [worker.exitcode for worker in workers])


if __name__ == "__main__":
    main()
