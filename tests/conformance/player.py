"""Plays the steps of cases.txt with the package in Python: see play.py.

Each line of standard input is an operation with its arguments, and is answered by a line.
"""

import os
import re
import sys
import threading
import time

from ringpost import Client, errors
from words import escaped, pattern, unescaped

LONG = 30.0


class Inexpressible(Exception):
    """The language cannot say this."""


def text(word):
    try:
        return unescaped(word).decode()
    except UnicodeDecodeError:
        raise Inexpressible from None


def seconds(words):
    return int(words[0]) / 1000 if words else LONG


def reply(payload):
    return "reply " + escaped(payload)


def failed(error, asked):
    word = re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__).lower()
    what = f" {escaped(str(error).encode())}" if isinstance(error, errors.ServiceFailed) else ""
    return f"error {word}{what}{' maybe' if asked and error.may_have_executed else ''}"


def peer(who):
    return f"{escaped(who.name.encode())} {who.key} {who.pid}"


def said(sample, payload):
    name = escaped(sample.publisher.name.encode())
    return f"sample {escaped(sample.topic.encode())} {name} {sample.sequence} {sample.missed} {escaped(payload)}"


class Player:
    """What there is, and the operations by their names, with `_` for `-`."""

    def __init__(self):
        self.client = self.link = self.listener = self.serving = self.publisher = self.subscriber = self.thread = None
        self.open, self.posts, self.finished = threading.Event(), 0, ""
        self.accepted, self.viewing = [], False

    def await_its_turn(self):
        """Until the thread has the link. `close` takes that away: who asks only then is not told `maybe`."""
        while self.thread.is_alive():
            try:
                self.link.response(0)
            except errors.TimedOut as busy:
                if not busy.may_have_executed:
                    return
            time.sleep(0.001)

    def answer(self, line):
        operation, *words = line.split(" ")
        if operation == "start":
            self.thread = threading.Thread(target=self.keep_answer, args=[" ".join(words)])
            self.thread.start()
            if words == ["link-response"]:
                self.await_its_turn()
            return "started"
        if operation == "finish":
            self.thread.join()
            self.thread = None
            return self.finished
        if operation == "forked":
            return self.forked(" ".join(words))
        try:
            came = getattr(self, "do_" + operation.replace("-", "_"))(*words)
        except errors.Error as error:
            # A question changes nothing: whether it was answered does not matter.
            return failed(error, operation not in ("ping", "list", "look-up", "wait-for"))
        except Inexpressible:
            return "inexpressible"
        return "ok" if came is None else came

    def keep_answer(self, line):
        self.finished = self.answer(line)

    def forked(self, line):
        ends = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(ends[1], self.answer(line).encode())
            finally:
                os._exit(0)
        os.close(ends[1])
        with os.fdopen(ends[0]) as answer:
            came = answer.read()
        os.waitpid(child, 0)
        return came

    def serve(self, request, peer):
        word, _, rest = request.partition(b" ")
        match word:
            case b"post":
                self.posts += 1
            case b"fail":
                raise errors.ServiceError(rest.decode())
            case b"big":
                return pattern(int(rest))
            case b"who":
                return peer.name.encode()
            case b"posts":
                return str(self.posts).encode()
            case b"wait":
                self.open.wait(LONG)
                return b"waited"
        return request

    # ---- a client

    def do_register(self, path, name):
        self.client = Client(text(name), text(path), timeout=LONG)

    def do_unregister(self):
        self.client.close()
        self.client = None

    def do_close(self):
        self.client.close()

    def do_reset(self):
        self.open.set()
        responders = [responder for responder, _ in self.accepted]
        for thing in self.link, self.listener, self.publisher, self.subscriber, self.serving, *responders, self.client:
            if thing is not None:
                (getattr(thing, "close", None) or thing.stop)()
        for thread in self.thread, *(thread for _, thread in self.accepted):
            if thread is not None:
                thread.join()
        self.__init__()

    def do_key(self):
        return self.client.key

    def do_limits(self):
        return f"{self.client.max_call} {self.client.max_message}"

    def do_ping(self):
        self.client.ping()

    def do_call(self, request, *time):
        return reply(self.client.call(unescaped(request), seconds(time)))

    def do_submit(self, request):
        self.client.try_submit(unescaped(request))

    def do_response(self, *time):
        return reply(self.client.response(seconds(time)))

    def do_outstanding(self):
        return str(self.client.outstanding)

    def do_send(self, to, message, *time):
        if time == ("0",):
            self.client.try_send(text(to), unescaped(message))
        else:
            self.client.send(text(to), unescaped(message), seconds(time))

    def do_recv(self, *time):
        message = self.client.recv(seconds(time))
        return f"message {escaped(message.sender_name.encode())} {message.sender} {escaped(message.payload)}"

    def do_look_up(self, name):
        return self.client.look_up(text(name)) or "none"

    def do_wait_for(self, name, *time):
        return self.client.wait_for(text(name), seconds(time))

    def do_list(self):
        return " ".join(sorted(escaped(info.name.encode()) for info in self.client.list()))

    # ---- links

    def do_serve(self):
        self.serving = self.client.serve(self.serve)

    def do_stop_serving(self):
        self.serving.stop()
        self.serving = None

    def do_open(self):
        self.open.set()

    def do_listen(self):
        self.listener = self.client.listen()

    def do_stop_listening(self):
        self.listener.close()
        self.listener = None

    def do_refuse(self, why):
        incoming = self.listener.accept(LONG)
        incoming.refuse(text(why))
        return f"incoming {peer(incoming.peer)}"

    def do_accept(self):
        incoming = self.listener.accept(LONG)
        who = peer(incoming.peer)
        responder = incoming.accept()
        thread = threading.Thread(target=responder.serve, args=[self.serve])
        self.accepted.append((responder, thread))
        thread.start()
        return f"incoming {who}"

    def do_link(self, to, *time):
        self.link = self.client.connect(text(to), seconds(time))

    def do_link_peer(self):
        return peer(self.link.peer)

    def do_link_call(self, request, *time):
        return reply(self.link.call(unescaped(request), seconds(time)))

    def do_link_submit(self, request):
        self.link.try_submit(unescaped(request))

    def do_link_response(self, *time):
        return reply(self.link.response(seconds(time)))

    def do_link_post(self, message):
        self.link.try_post(unescaped(message))

    def do_link_close(self):
        self.link.close()

    def do_link_drop(self):
        self.link.close()
        self.link = None

    # ---- topics

    def do_publish(self, topic, ring_size, reliable):
        self.publisher = self.client.publish(
            text(topic), ring_size=int(ring_size) or None, reliable=int(reliable) / 1000 or None)

    def do_publish_sample(self, sample, *time):
        if time == ("0",):
            self.publisher.try_send(unescaped(sample))
        else:
            self.publisher.send(unescaped(sample), seconds(time))

    def do_max_sample(self):
        return str(self.publisher.max_sample)

    def do_subscribers(self):
        return str(self.publisher.subscribers)

    def do_stop_publishing(self):
        self.publisher.close()
        self.publisher = None

    def do_subscribe(self, wanted, policy, history):
        self.subscriber = self.client.subscribe(text(wanted), policy=policy, history=int(history))

    def do_sample(self, *time):
        sample = self.subscriber.recv(seconds(time))
        return said(sample, sample.payload)

    def do_view_sample(self):
        with self.subscriber.view(LONG) as view:
            payload = bytes(view)
            view.check()
            return said(view, payload)

    def do_late_sample(self):
        with self.subscriber.view(LONG) as view:
            self.viewing = True
            self.open.wait(LONG)
            view.check()
            return said(view, bytes(view))

    def do_viewing_sample(self):
        return str(self.viewing).lower()

    def do_grant_sample(self, room, sample):
        with self.publisher.grant(int(room), LONG) as grant:
            self.write(grant, unescaped(sample))
            grant.commit(len(unescaped(sample)))

    def do_abandon_sample(self, room, sample):
        with self.publisher.grant(int(room), LONG) as grant:
            self.write(grant, unescaped(sample))

    def write(self, grant, sample):
        with memoryview(grant) as place:
            place[: len(sample)] = sample

    def do_stop_subscribing(self):
        self.subscriber.close()
        self.subscriber = None


def main():
    player = Player()
    for line in sys.stdin:
        print(player.answer(line.rstrip("\n")), flush=True)
    player.do_reset()


if __name__ == "__main__":
    main()
