#!/usr/bin/env python3
"""What presence costs when many nodes are joined: a simulation, with figures that were measured on one computer.

    bridge/scale/presence.py            # the table of docs/SCALE.md
    bridge/scale/presence.py --check    # that the document has this table, and that the model does what it should

Clients register and leave at random. Each registration is a liveliness token of Zenoh, or, in the last design, a sample of its
node's presence topic. A router, and the routing table in each bridge, is one server with one queue: what it does for a token
takes a time that grows with the tokens that it holds. The random numbers follow from a seed, so each run gives the same table.
docs/SCALE.md says where the measured numbers are from, and what is only assumed.
"""

import argparse
import heapq
import pathlib
import random
import sys

# Measured: seconds of a routing table to take a token and to drop one, and what each token held adds to that; for each
# face that it is told; and bytes.
TAKE, TAKE_EACH, DROP, DROP_EACH, TELL = 10e-6, 0.0135e-6, 10e-6, 0.034e-6, 7e-6
TABLE_BYTES, FACE_BYTES, TOKEN_WIRE, END_WIRE = 1700, 66, 55, 15
# Measured: an imported client, registered at the local server by its bridge, in both processes and the kernel, in bytes.
# The same in the bridge's routing table; and the seconds that a registration takes.
REGISTRATION, IMPORT_BYTES, REGISTER = 70 << 10, 1300, 190e-6
# Assumed: how long clients live; the time from one element to the next; the lease; a sample with a name, on the wire; the time of a
# router for one sample; how many clients one node imports beside those of its region; the largest share of its time that a router may use.
LIFE, HOP, LEASE, SAMPLE_WIRE, SAMPLE, FOREIGN, BUSY = 3600.0, 0.010, 4.0, 100, 20e-6, 200, 0.5
STARTUP, WATCHED = 10.0, 20.0


class Table:
    """A routing table: serves what comes in the order in which it comes, in batches of equal things."""

    def __init__(self, faces):
        self.faces, self.held, self.free, self.work = faces, 0, 0.0, 0.0

    def serve(self, now, count, taken):
        """Takes, or drops, so many tokens. Returns when the last of them is done."""
        first, each = (TAKE, TAKE_EACH) if taken else (DROP, DROP_EACH)
        # The number held goes up or down by one with each.
        held = count * self.held + (count * count / 2 if taken else -count * count / 2)
        time = count * (first + TELL * self.faces) + each * held
        self.held += count if taken else -count
        return self.work_for(now, time)

    def work_for(self, now, time):
        self.work += time
        self.free = max(self.free, now) + time
        return self.free


class Design:
    """So many nodes with so many clients each, behind so many routers. `wide`: tokens of clients go to all routers."""

    def __init__(self, title, nodes, clients, regions, wide):
        self.title, self.nodes, self.clients, self.regions, self.wide = title, nodes, clients, regions, wide
        self.region_nodes = nodes // regions
        self.region_clients = self.region_nodes * clients
        # Who is told of a token at each router: the nodes of the region import it. Other routers are a face each.
        self.routers = [Table(self.region_nodes + (regions - 1 if wide else 0)) for _ in range(regions)]
        # How many nodes behind another router import one client, by design.
        others = nodes * clients - self.region_clients
        self.readers = self.region_nodes * FOREIGN / others if others else 0
        self.random, self.crossed = random.Random(7), 0

    def told(self, comings):
        """Tokens, or samples, come to the routers of their regions, and from there to others, each in the order of time.

        `comings` has (time, region, count, taken). Returns for each when the last router that is told of it has it."""
        ends = [0.0] * len(comings)
        events = [(now, number, region, True) for number, (now, region, _, _) in enumerate(comings)]
        heapq.heapify(events)
        while events:
            now, number, at, is_first = heapq.heappop(events)
            _, region, count, taken = comings[number]
            if is_first or self.wide:
                done = self.routers[at].serve(now, count, taken)
            else:
                done = self.routers[at].work_for(now, SAMPLE)
            ends[number] = max(ends[number], done)
            if is_first:
                for other in range(self.regions):
                    if other != region and (self.wide or self.random.random() < self.readers):
                        heapq.heappush(events, (done + HOP, number, other, False))
                        self.crossed += 1
        return ends

    def play(self):
        # All nodes start within ten seconds.
        starts = sorted((self.random.uniform(0, STARTUP), node % self.regions, self.clients, True) for node in range(self.nodes))
        ready = max(self.told(starts))
        held = self.routers[0].held
        # For a while clients come and go.
        begin = now = max(table.free for table in self.routers)
        before, self.crossed, comings = [table.work for table in self.routers], 0, []
        while (now := now + self.random.expovariate(2 * self.nodes * self.clients / LIFE)) < begin + WATCHED:
            comings.append((now, self.random.randrange(self.regions), 1, len(comings) % 2 == 0))
        delays = sorted(end + 2 * HOP - coming[0] for end, coming in zip(self.told(comings), comings))
        busy = max(table.work - old for table, old in zip(self.routers, before)) / WATCHED
        wire = (TOKEN_WIRE + END_WIRE) / 2 if self.wide else SAMPLE_WIRE
        # A region is cut off and comes back, in the mesh a node: the others drop what it has, and take it again.
        count = self.clients if self.regions == 1 else self.region_clients if self.wide else self.region_nodes
        begin = max(table.free for table in self.routers)
        other = self.routers[-1]
        gone = other.serve(begin + LEASE, count, False) - begin
        back = other.serve(begin + 1000, count, True) - begin - 1000 + HOP
        return {
            "tokens": held + (0 if self.wide else self.nodes - self.region_nodes), "ready": ready, "busy": busy,
            "median": delays[len(delays) // 2], "last": delays[int(len(delays) * 0.99)], "gone": gone, "back": back,
            "wire": self.crossed * wire / WATCHED / max(1, self.regions * (self.regions - 1)),
            "memory": held * (TABLE_BYTES + FACE_BYTES * self.routers[0].faces),
        }


DESIGNS = [
    ("two nodes, joined directly", 2, 1000, 1, True),
    ("10 nodes, each joined with each", 10, 1000, 1, True),
    ("25 nodes behind one router", 25, 1000, 1, True),
    ("100 nodes, 4 regions, tokens to all routers", 100, 1000, 4, True),
    ("1,000 nodes, 40 regions, tokens to all routers", 1000, 1000, 40, True),
    ("1,000 nodes, 40 regions, tokens stay in their region", 1000, 1000, 40, False),
]


def span(seconds):
    for least, unit, digits in ((86400 * 2, "d", 86400), (7200, "h", 3600), (120, "min", 60), (1, "s", 1), (1e-3, "ms", 1e-3)):
        if seconds >= least:
            return f"{seconds / digits:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def share(part):
    return f"{part * 100:.2g} %" if part < 1 else f"{part * 100:,.0f} %"


def size(amount):
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            break
        amount /= 1024
    else:
        unit = "GiB"
    return f"{amount:.3g} {unit}"


def table():
    lines = ["| design, 1,000 clients a node | tokens in a router | its memory for them | all names are known after | router busy | "
             "a name is seen after: median, 99 % | names of a lost region or node gone after | back after | between two routers |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for title, *shape in DESIGNS:
        row = Design(title, *shape).play()
        over = row["busy"] > 1
        seen = "never: the queue grows" if over else f"{span(row['median'])}, {span(row['last'])}"
        lines.append(f"| {title} | {row['tokens']:,} | {size(row['memory'])} | {span(row['ready'])} | {share(row['busy'])} | {seen} | "
                     f"{'–' if over else span(row['gone'])} | {'–' if over else span(row['back'])} | {size(row['wire'])}/s |")
    return lines


def limit(fits):
    """The most tokens of one table for which something fits."""
    low, high = 1, 1 << 24
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low // 1000 * 1000


def dropped_within(seconds):
    def fits(count):
        table = Table(1)
        table.held = count
        return table.serve(0, count, False) <= seconds
    return fits


def churn_fits(count):
    table = Table(25)
    table.held = count
    return (table.serve(0, 1, True) + table.serve(0, 1, False)) * count / LIFE <= BUSY


def limits():
    return [f"| a router's death is worked off within 10 s after the lease | {limit(dropped_within(10)):,} |",
            f"| the same within 60 s | {limit(dropped_within(60)):,} |",
            f"| coming and going takes half of a router's time at most, clients live for an hour | {limit(churn_fits):,} |"]


def prove():
    """What the model must do, whatever its numbers are."""
    first, second = (Design(*DESIGNS[1]).play() for _ in range(2))
    assert first == second, "two runs differ"
    whole, parts = Table(3), Table(3)
    whole.serve(0, 1000, True)
    for _ in range(1000):
        parts.serve(0, 1, True)
    assert abs(whole.free - parts.free) < 1e-9 * 1000 and whole.held == parts.held == 1000, "a batch is not the sum of its parts"
    end = whole.serve(whole.free, 1000, False)
    for _ in range(1000):
        parts.serve(0, 1, False)
    assert abs(end - parts.free) < 1e-6 and whole.held == parts.held == 0, "what was taken is not dropped"
    idle = Table(0)
    assert idle.serve(5, 1, True) - 5 < 11e-6 and idle.serve(0, 1, True) > 5, "a queue has no order"


def imports():
    return [f"| {count:,} | {size(count * REGISTRATION)} | {size(count * IMPORT_BYTES)} | {count:,} | {5 * count:,} | {span(count * REGISTER)} |"
            for count in (1000, 5000, 13_000)]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--check", action="store_true", help="compare with docs/SCALE.md")
    lines = [*table(), "", *limits(), "", *imports()]
    if not arguments.parse_args().check:
        print("\n".join(lines))
        return 0
    prove()
    document = pathlib.Path(__file__).resolve().parents[2] / "docs" / "SCALE.md"
    said = document.read_text().splitlines()
    if missing := [line for line in lines if line and line not in said]:
        print(f"{document.name} does not have:", *missing, sep="\n", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
