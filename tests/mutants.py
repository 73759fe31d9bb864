#!/usr/bin/env python3
"""Switches off, one by one, what the ring's argument rests on, and shows that some check fails for each.

    tests/mutants.py                 all mutants; prints a table and fails if one survives
    tests/mutants.py NAME...         those whose name contains one of these
    tests/mutants.py --list          the names
    tests/mutants.py --check         only whether each text to replace is found
    tests/mutants.py --table         the table of tests/README.md

A mutant replaces one piece of text in a copy of the tree; the tree itself is not touched. The text must occur exactly
once in the file or folder that is named, however it is broken into lines. Then the check that is named with it is run on the copy: loom models, unit and property tests, tests over
processes, a fuzz target, the instruction counts, the benchmarks, the tests in C or Python, or the cases that clients in all languages play. The mutant is caught if that check builds, runs and fails; a check that does not end is a
failure of its own kind and is shown as such.
"""

import functools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib

TREE = pathlib.Path(os.environ.get("MUTANTS_TREE", pathlib.Path(__file__).resolve().parent.parent))
BUILD = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", TREE / "target")).absolute() / "mutants"
COPY = BUILD / "tree"
# Seconds for one check, without its building. On a busy machine, more.
LONGEST = int(os.environ.get("MUTANTS_LONGEST", "300"))

PRODUCER = "src/ring/producer"
CONSUMER = "src/ring/consumer"
CLOSE = "src/ring/close.rs"
END = "src/ring/end.rs"
PARK = "src/ring/park.rs"
KICK = "src/ring/kick.rs"
PIPE = "src/os/pipe.rs"
ARMING = "src/client/arming.rs"
GREETING = "src/client/links/handshake/greeting.rs"
SERVER_KICKS = "src/server/kicks.rs"
ANSWERS = "src/server/answers.rs"
LAYOUT = "src/ring/layout.rs"
RING = "src/ring/mod.rs"
SHARED_PRODUCER = "src/ring/shared_producer"
TOPIC_WRITER = "src/topic/writer.rs"
TOPIC_READER = "src/topic/reader"
AUDIENCE = "src/topic/audience.rs"
PATIENCE = "src/topic/patience.rs"
TOPIC_GRANT = "src/topic/grant.rs"
SAMPLE = "src/client/topics/sample.rs"
EVENTS = "src/server/events/queue.rs"
SENDER_QUEUE = "src/ring/shared_producer/queue.rs"
SIGNAL = "src/ring/signal.rs"
EXCHANGE = "src/link/exchange.rs"
COPIES = "src/shm/copy/assembly.rs"
ATOMIC_COPIES = "src/shm/copy/atomic.rs"
VIEW = "src/shm/view.rs"
SEGMENT = "src/shm/segment.rs"
FUTEX = "src/os/futex.rs"
MEMFD = "src/os/memfd.rs"
CHANNEL = "src/channel/mod.rs"
CHANNEL_LAYOUT = "src/channel/layout.rs"
FIGURES_PAGE = "src/channel/figures.rs"
STAMPS = "src/ring/stamps.rs"
TALLY = "src/topic/tally.rs"
RESPONDER = "src/link/responder/mod.rs"
SERVICE = "src/link/service.rs"
ACCEPTOR = "src/server/acceptor.rs"
ACCESS = "src/server/access"
ADMISSION = "src/server/admission.rs"
ENROLMENT = "src/server/enrolment.rs"
HANDLE = "src/server/handle.rs"
PROCESSES = "src/server/processes.rs"
QUOTAS = "src/server/quotas.rs"
UNREAD = "src/server/unread_answers.rs"
INTRODUCTIONS = "src/server/broker/introductions.rs"
LINK_TABLE = "src/server/broker/table.rs"
LINK_MARKS = "src/server/broker/marks.rs"
WAITING = "src/server/broker/waiting.rs"
WORKER = "src/server/worker.rs"
RELAYS = "src/server/relays.rs"
TOPICS = "src/server/topics"
CONNECTIONS = "src/server/connections.rs"
PROOF = "src/connect/introduction.rs"
LISTENER = "src/connect/listener.rs"
SOCKET_FILE = "src/connect/socket_file.rs"
CALLS = "src/client/ask.rs"
REQUESTER = "src/link/requester.rs"
CLIENT_INBOX = "src/client/inbox.rs"
RECONNECT = "src/client/reconnect.rs"
WATCHER = "src/client/watcher.rs"
LINK_END = "src/client/links/end.rs"
LINK_PIPES = "src/client/links/pipes.rs"
LINKS = "src/client/links/set.rs"
TAP_RECORD = "src/connect/tap.rs"
FIGURES_ASKED = "src/server/figures.rs"
PAGE_OF_FIGURES = "src/connect/figures/page.rs"
OBSERVED = "src/link/observed.rs"
INTAKE = "src/client/links/intake.rs"
INCOMING = "src/client/links/incoming.rs"
LINK_RESPONDER = "src/client/links/responder.rs"
TAKES = "src/client/links/takes.rs"
BROKER = "src/server/broker"
OWN = "src/os/fork_safe.rs"
SCHEDULER = "src/link/scheduler/mod.rs"
SLOT = "src/link/scheduler/slot.rs"
TOP = "src/bin/ringpost/top"
C_HANDLE = "bindings/c/src/handle.rs"
C_ERROR = "bindings/c/src/error.rs"
C_SERVICE = "bindings/c/src/service.rs"
CPP = "bindings/c/include/ringpost"
PYTHON = "bindings/python/src"
PACKAGE = "bindings/python/python/ringpost"
PLAYERS = "tests/conformance"


def loom(*models):
    return ("loom", models)


def tests(*names):
    return ("tests", names)


def process(program, name):
    return ("process", (program, name))


def program(name):
    """A unit test of the program `ringpost`."""
    return ("program", (name,))


def fuzz(target):
    return ("fuzz", (target,))


def in_c():
    """The tests of the C interface."""
    return ("c", ())


def in_python(file, name):
    """A test of the Python package."""
    return ("python", (file, name))


def conformance(case):
    """A case that clients in all languages play."""
    return ("conformance", (case,))


FAILPOINT = re.compile(r'^ *failpoint!\("[^"]*", [^)]*\);\n', re.MULTILINE)

# Each without threads, which a mutant could leave waiting for ever.
PROPERTY = tests("every_answer", "a_forged_header", "a_forged_head_is", "an_empty_ring", "headers_read_back")

VIEWS = tests("a_ring_has_its_words")
SEGMENTS = tests("shm::segment")
CHANNELS = tests("foreign_segments")

# The two steps of a commit.
ZERO = """        if self.cleared != next {
            self.end.ring.header(next).store(EMPTY, Ordering::Relaxed);
        }
"""
HEADER_OF_A_BLOCK = "        self.end.ring.header(self.end.position).store(data_header(self.end.position, len), Ordering::Release);\n"

# name, file, what is there, what takes its place, the check that must fail
MUTANTS = [
    # Publishing
    ("header stored before the payload", PRODUCER,
     "        self.write_parts(start, header, parts);\n        self.commit_one(start, len);\n        Ok(())\n    }\n",
     "        self.commit_one(start, len);\n        self.write_parts(start, header, parts);\n        Ok(())\n    }\n",
     loom("every_line_is_reused")),
    ("header of a block: Release", PRODUCER,
     "store(data_header(self.end.position, len), Ordering::Release)",
     "store(data_header(self.end.position, len), Ordering::Relaxed)",
     loom("every_line_is_reused")),
    ("header of padding: Release", PRODUCER,
     "store(padding, Ordering::Release)", "store(padding, Ordering::Relaxed)",
     loom("padding_leads")),
    ("first header of a batch: Release", PRODUCER,
     "producer.end.ring.header(producer.end.position).store(self.first, Ordering::Release)",
     "producer.end.ring.header(producer.end.position).store(self.first, Ordering::Relaxed)",
     loom("a_batch_is_all_or_nothing")),
    ("first header of a batch last", PRODUCER,
     "            self.first = header;\n",
     "            self.first = header;\n"
     "            self.producer.end.ring.header(position).store(header, Ordering::Release);\n",
     loom("an_abandoned_batch", "a_batch_begun")),
    ("header of a line written before its payload", PRODUCER,
     "        for &part in parts {\n            self.end.ring.copy_into_line",
     "        self.end.ring.header(self.end.position).store(data_header(self.end.position, len), Ordering::Release);\n"
     "        for &part in parts {\n            self.end.ring.copy_into_line",
     loom("every_line_is_reused")),
    ("zero behind a block", PRODUCER, ZERO, "", loom("stale_payload_is_not_a_header_behind_two")),
    ("zero behind a block, by the property test", PRODUCER, ZERO, "", PROPERTY),
    ("zero before the header", PRODUCER, ZERO + HEADER_OF_A_BLOCK, HEADER_OF_A_BLOCK + ZERO,
     loom("stale_payload_is_not_a_header_behind_two")),
    ("zero behind a padded block", PRODUCER,
     "        self.end.ring.header(next).store(EMPTY, Ordering::Relaxed);\n        self.end.ring.header(start)",
     "        self.end.ring.header(start)", loom("stale_payload_is_not_a_header_behind_padding")),
    ("padding's header last", PRODUCER,
     "        self.end.ring.header(start).store(data_header(start, len), Ordering::Relaxed);\n"
     "        let padding = padding_header(self.end.position, start - self.end.position);\n"
     "        self.end.ring.header(self.end.position).store(padding, Ordering::Release);\n",
     "        let padding = padding_header(self.end.position, start - self.end.position);\n"
     "        self.end.ring.header(self.end.position).store(padding, Ordering::Release);\n"
     "        self.end.ring.header(start).store(data_header(start, len), Ordering::Relaxed);\n",
     loom("stale_payload_is_not_a_header_behind_padding")),
    ("zero behind a batch", PRODUCER,
     "            producer.end.ring.header(at).store(EMPTY, Ordering::Relaxed);\n", "",
     loom("stale_payload_is_not_a_header_behind_a_batch")),
    # Cleared ahead
    ("cleared: a grant forgets it", PRODUCER,
     "        self.cleared = NOWHERE;\n        Grant {", "        Grant {", PROPERTY),
    ("cleared: a batch forgets it", PRODUCER,
     "        self.cleared = NOWHERE;\n        Batch {", "        Batch {", PROPERTY),
    ("cleared: a draft of more than a line forgets it", PRODUCER,
     "        let start = self.try_place(least)?;\n        self.cleared = NOWHERE;\n",
     "        let start = self.try_place(least)?;\n", PROPERTY),
    ("cleared: a draft that grows forgets it", PRODUCER,
     "draft.cleared = std::mem::replace(&mut self.cleared, NOWHERE);", "draft.cleared = self.cleared;", PROPERTY),
    ("taken back: a draft begun anew is overwritten", PRODUCER,
     "        self.overwrite(draft.start, HEADER, len);\n", "", tests("a_draft_begun_anew", "every_answer")),
    ("taken back: a dropped grant is overwritten", PRODUCER,
     "        self.producer.overwrite(self.start, HEADER, self.written);\n", "", PROPERTY),
    ("taken back: a dropped batch is overwritten", PRODUCER,
     "            self.overwrite(start, HEADER, until_end as usize - HEADER);\n", "", PROPERTY),
    ("taken back: so is what of it lies at the start of the ring", PRODUCER,
     "            self.overwrite(start + until_end, 0, (len - until_end) as usize);\n", "", PROPERTY),
    ("taken back: a response that moves to memory is overwritten", SERVICE,
     "            self.ring.take_back(draft, BLOCK_HEADER + self.written);\n            self.draft = None;",
     "            self.draft = None;", process("boundaries", "taken_back")),
    ("taken back: so is one that is cleared", SERVICE,
     "        self.overwrite_draft();\n        self.spare.clear();", "        self.spare.clear();",
     process("boundaries", "taken_back")),
    ("taken back: so is one whose service failed or panicked", SERVICE,
     "    fn drop(&mut self) {\n        self.overwrite_draft();", "    fn drop(&mut self) {",
     process("boundaries", "taken_back")),
    ("cleared: only where there is room", PRODUCER,
     "} else if ahead + LINE as u64 - self.head <= self.capacity() {", "} else {", PROPERTY),
    ("cleared: not the line at head", PRODUCER,
     "ahead + LINE as u64 - self.head <= self.capacity() {", "ahead - self.head <= self.capacity() {", PROPERTY),
    ("cleared: what is remembered is cleared", PRODUCER,
     "            self.end.ring.header(ahead).store(EMPTY, Ordering::Relaxed);\n", "", PROPERTY),
    ("cleared: what is remembered is cleared, by the models", PRODUCER,
     "            self.end.ring.header(ahead).store(EMPTY, Ordering::Relaxed);\n", "", loom("stale_payload_is_not_a_header")),
    ("cleared far ahead: only where there is room", PRODUCER,
     "room.min(position", "(room + self.capacity()).min(position", PROPERTY),
    ("cleared far ahead: not the line at head", PRODUCER,
     "self.head + self.capacity() - size - LINE as u64;", "self.head + self.capacity() - size;", PROPERTY),
    ("cleared far ahead: what is remembered is cleared", PRODUCER,
     "            self.end.ring.header(to).store(EMPTY, Ordering::Relaxed);\n", "", PROPERTY),
    ("cleared far ahead: what is remembered is cleared, by the models", PRODUCER,
     "            self.end.ring.header(to).store(EMPTY, Ordering::Relaxed);\n", "", loom("where_far_ahead_was_cleared")),
    ("cleared far ahead: for one size", PRODUCER,
     " && self.cleared_step == size;", ";", tests("cleared_far_ahead")),
    ("cleared far ahead: nothing after one line", PRODUCER,
     "(self.cleared, self.cleared_to) = (ahead, ahead);", "self.cleared = ahead;", PROPERTY),
    # Room
    ("one line: no longer block", PRODUCER, "        len <= self.end.one_line && end", "        end", PROPERTY),
    ("one line: the zeroed line is part of the room", PRODUCER,
     "let end = self.end.position + 2 * LINE as u64;", "let end = self.end.position + LINE as u64;", PROPERTY),
    ("one line: only where there is room", PRODUCER,
     " && end - self.head <= self.capacity() && ", " && end > 0 && ", PROPERTY),
    ("one line: nothing after the close", PRODUCER,
     "end - self.head <= self.capacity() && !self.end.closer.is_closed()", "end - self.head <= self.capacity()", PROPERTY),
    ("a draft's room is one line at first", PRODUCER, "room: self.end.one_line, cleared", "room: self.end.max_block, cleared",
     PROPERTY),
    ("a draft grows by what is free", PRODUCER,
     "(until_end.min(free) as usize)", "(until_end as usize)", PROPERTY),
    ("a draft grows up to the end of the ring", PRODUCER,
     "(until_end.min(free) as usize)", "(free as usize)", PROPERTY),
    ("a draft grows up to the maximum", PRODUCER, ".saturating_sub(HEADER).min(self.end.max_block)", ".saturating_sub(HEADER)",
     PROPERTY),
    ("the zeroed line is part of the room", PRODUCER,
     "let end = at + padding + size + LINE as u64;", "let end = at + padding + size;", PROPERTY),
    ("padding is part of the room", PRODUCER,
     "let end = at + padding + size + LINE as u64;", "let end = at + size + LINE as u64;", PROPERTY),
    ("a full ring is used to its last line", PRODUCER,
     "self.was_full = end - self.head > self.capacity();",
     "self.was_full = end - self.head >= self.capacity();", PROPERTY),
    ("head: Acquire", PRODUCER,
     "self.end.ring.word64::<HEAD>().load(Ordering::Acquire);", "self.end.ring.word64::<HEAD>().load(Ordering::Relaxed);",
     loom("blocks_of_several")),
    ("head: whole lines", PRODUCER, "!whole_lines || head < self.head", "head < self.head", PROPERTY),
    ("head: not backwards", PRODUCER,
     "!whole_lines || head < self.head || head > self.end.position", "!whole_lines || head > self.end.position", PROPERTY),
    ("head: not past the tail", PRODUCER, " || head > self.end.position {", " {", PROPERTY),
    ("head: not past the tail, by fuzzing", PRODUCER, " || head > self.end.position {", " {", fuzz("producer")),
    ("nothing is sent after the close", PRODUCER,
     "        if self.end.closer.is_closed() {\n            return Err(self.closed());\n        }\n"
     "        match self.place(", "        match self.place(", PROPERTY),
    # Data wake
    ("data wake: the producer's fence", PRODUCER,
     "            fence(Ordering::SeqCst);\n            self.wake_after_fence();", "            self.wake_after_fence();",
     loom("a_batch_wakes", "a_grant_wakes")),
    ("data wake: SeqCst, not AcqRel, in the producer", PRODUCER,
     "            fence(Ordering::SeqCst);\n            self.wake_after_fence();",
     "            fence(Ordering::AcqRel);\n            self.wake_after_fence();",
     loom("a_batch_wakes", "a_grant_wakes")),
    ("data wake: the word changes", PARK,
     "word.swap(AWAKE, Ordering::Relaxed);", "word.load(Ordering::Relaxed);",
     loom("a_grant_wakes", "a_batch_wakes")),
    ("data wake: the word changes before the wake", PARK,
     "PARKED => futex::wake(word, self.scope, 1),",
     "PARKED => {\n                futex::set(word, PARKED);\n                futex::wake(word, self.scope, 1);\n"
     "                futex::set(word, AWAKE);\n            }",
     loom("a_grant_wakes", "a_batch_wakes")),
    ("data wake: the wake", PARK,
     "PARKED => futex::wake(word, self.scope, 1),", "PARKED => {}", loom("a_grant_wakes")),
    ("data wake: a batch is told of", PRODUCER,
     "            producer.end.position = at;\n            producer.notify();", "            producer.end.position = at;",
     loom("a_batch_wakes")),
    ("data wake: a grant is told of", PRODUCER,
     "        self.producer.commit_one(self.start, self.written);\n        self.producer.notify();",
     "        self.producer.commit_one(self.start, self.written);", loom("a_grant_wakes")),
    ("data wake: only what is owed", PRODUCER,
     "        if self.owes_wake() {\n            self.end.notified", "        {\n            self.end.notified", tests("a_wake_is_sent")),
    ("data wake: the consumer's fence", PARK,
     "        futex::set(self.parked::<WORD>(), PARKED);\n        fence(Ordering::SeqCst);",
     "        futex::set(self.parked::<WORD>(), PARKED);", loom("a_batch_wakes", "a_grant_wakes")),
    ("data wake: the second look", CONSUMER,
     "            if self.is_pending() {\n                self.end.unpark::<CONSUMER_PARKED>();\n"
     "                return Ok(());\n            }\n", "",
     loom("a_grant_wakes")),
    ("fruitless wakes: the consumer counts", CONSUMER,
     "Woken::Hint => self.end.count_fruitless_wake().map_err(Stop::Fault)?,", "Woken::Hint => {}", tests("fruitless_wakes")),
    ("fruitless wakes: the producer counts", PRODUCER,
     "            self.end.count_fruitless_wake().map_err(Ended::Fault)?;\n", "", tests("fruitless_wakes")),
    # Space wake
    ("space wake: the producer's fence", PARK,
     "        futex::set(self.parked::<WORD>(), PARKED);\n        fence(Ordering::SeqCst);",
     "        futex::set(self.parked::<WORD>(), PARKED);",
     loom("a_quarter_given_back", "a_look_that_finds_nothing")),
    ("space wake: the second look", PRODUCER,
     "        let placed = self.look_again(len);\n        if placed.is_some() {\n            self.end.unpark",
     "        let _ = len;\n        let placed = None;\n        if placed.is_some() {\n            self.end.unpark",
     loom("a_quarter_given_back", "a_look_that_finds_nothing")),
    ("space wake: the consumer's fence", CONSUMER,
     "        fence(Ordering::SeqCst);\n        self.wake_after_fence();", "        self.wake_after_fence();",
     loom("a_quarter_given_back", "a_look_that_finds_nothing")),
    ("space wake: the word changes", PARK,
     "word.swap(AWAKE, Ordering::Relaxed);", "word.load(Ordering::Relaxed);",
     loom("a_quarter_given_back", "both_sides_sleep")),
    ("space wake: at each quarter", CONSUMER,
     "if self.end.position >= self.next_quarter || self", "if self", loom("a_quarter_given_back")),
    ("space wake: at a quarter, not later", CONSUMER,
     "setup.capacity as u64 / 4", "setup.capacity as u64 / 2",
     loom("a_quarter_given_back")),
    ("space wake: when a look finds nothing", CONSUMER,
     "        if found.is_none() {\n            self.pay_wake_if_owed();\n        }\n", "", loom("a_look_that_finds_nothing")),
    ("space wake: before a wait", CONSUMER,
     "        self.pay_wake_if_owed();\n        let mut waiting", "        let mut waiting",
     loom("a_wait_wakes_the_producer")),
    ("space wake: when the producer is seen to be parked", CONSUMER,
     "if self.end.position >= self.next_quarter || self.end.looks_parked::<PRODUCER_PARKED>() {",
     "if self.end.position >= self.next_quarter {", tests("a_wake_is_sent")),
    ("space wake: only what is owed", CONSUMER,
     "        if !self.owes_wake() {\n            return;\n        }\n",
     "", tests("a_wake_is_sent")),
    ("one fence for both rings", RING,
     "        crate::shm::backend::fence(crate::shm::backend::Ordering::SeqCst);\n", "",
     loom("notify_both_wakes", "a_publish_elsewhere")),
    ("both rings: the data wake", RING,
     "        published.wake_after_fence();\n", "", loom("notify_both_wakes")),
    ("both rings: the space wake", RING,
     "        consumed.wake_after_fence();\n", "", loom("a_publish_elsewhere")),
    # Consuming
    ("header: Acquire", CONSUMER,
     "self.end.ring.header(self.end.position).load(Ordering::Acquire)", "self.end.ring.header(self.end.position).load(Ordering::Relaxed)",
     loom("every_line_is_reused")),
    ("padding: skipped by the first look", CONSUMER,
     "                if self.passes_padding() {\n                    continue;\n                }\n", "",
     tests("a_block_behind_padding")),
    ("head: Release", CONSUMER,
     "self.end.ring.word64::<HEAD>().store(self.end.position, Ordering::Release);",
     "self.end.ring.word64::<HEAD>().store(self.end.position, Ordering::Relaxed);", loom("blocks_of_several", "every_line")),
    ("head after each record, before any commit elsewhere", CONSUMER,
     "        self.consumer.pass(self.found);\n        self.consumer.give_back();\n",
     "        self.consumer.pass(self.found);\n        if self.found.start / 256 != self.consumer.end.position / 256 {\n"
     "            self.consumer.give_back();\n        }\n",
     loom("a_response_gives")),
    ("drain: head when a wake is paid", CONSUMER,
     "        self.give_back();\n        self.next_quarter", "        self.next_quarter", loom("a_quarter_taken", "a_look_of_a_drain")),
    ("drain: head after the copy", CONSUMER,
     "        let found = copy_whole(&block, into);\n        self",
     "        let early = block.found.start + block.found.size();\n"
     "        block.consumer.ring.word64::<0>().store(early, crate::sync::Ordering::Release);\n"
     "        let found = copy_whole(&block, into);\n        self", loom("what_a_drain_takes")),
    ("drain: head at its end", CONSUMER,
     "            self.consumer.give_back();\n            self.consumer.settle();\n", "            self.consumer.settle();\n", PROPERTY),
    ("drain: a wake that its end owes", CONSUMER,
     "            self.consumer.give_back();\n            self.consumer.settle();\n", "            self.consumer.give_back();\n",
     tests("a_drain_wakes_a_producer")),
    ("drain: a quarter at most", CONSUMER,
     "        self.consumer.pass(found);\n        self.consumer.settle();\n",
     "        self.consumer.pass(found);\n", PROPERTY),
    ("fruitless wakes: what is taken makes up for one", CONSUMER,
     "        self.end.progress += 1;\n        self.end.position", "        self.end.position", tests("who_is_woken")),
    ("head after padding", CONSUMER,
     "(self.end.capacity() - 1));\n        self.give_back();\n", "(self.end.capacity() - 1));\n", PROPERTY),
    # Rules of a header
    ("header: its own line", LAYOUT,
     "    if word >> LINE_SHIFT != line_bits(position) >> LINE_SHIFT {\n"
     "        return Err(Violation::HeaderPosition);\n    }\n", "", PROPERTY),
    ("header: the maximum", LAYOUT,
     "            if len > max_block {\n                return Err(Violation::BlockLength);\n            }\n", "", PROPERTY),
    ("header: within the ring", LAYOUT,
     "            if offset as u64 + record_size(len) > capacity as u64 {\n"
     "                return Err(Violation::BlockBounds);\n            }\n", "", PROPERTY),
    ("header: within the ring, by fuzzing", LAYOUT,
     "            if offset as u64 + record_size(len) > capacity as u64 {\n"
     "                return Err(Violation::BlockBounds);\n            }\n", "", fuzz("consumer")),
    ("quick look: its own line", CONSUMER,
     "word >> 32 != layout::data_mark(self.end.position)", "word >> 32 & 3 != layout::data_mark(self.end.position) & 3", PROPERTY),
    ("quick look: a block", CONSUMER,
     "word >> 32 != layout::data_mark(self.end.position)", "word >> 34 != layout::data_mark(self.end.position) >> 2", PROPERTY),
    ("one line: no longer than the maximum", END,
     "one_line: setup.max_block.min(ONE_LINE),", "one_line: ONE_LINE,", PROPERTY),
    ("quick look: the maximum", CONSUMER, "        len <= self.end.max_block && offset", "        offset", PROPERTY),
    ("quick look: within the ring", CONSUMER,
     "len <= self.end.max_block && offset + record_size(len) <= self.end.capacity()", "offset < self.end.capacity() && len <= self.end.max_block",
     PROPERTY),
    ("quick look: only a line needs no more", CONSUMER, "len <= self.end.one_line || self.is_sound(len)", "len <= self.end.max_block", PROPERTY),
    ("quick look: not when broken", CONSUMER, " || self.end.closer.is_closed_here() {", " {", PROPERTY),
    ("a part of a longer block is not read as one line", CONSUMER,
     "if self.found.len <= ONE_LINE && len > 0", "if len <= ONE_LINE && len > 0", PROPERTY),
    ("the first word of a block that has none", CONSUMER,
     "(self.found.len >= 8).then(|| self.consumer.end.ring.second_word(self.found.start))",
     "Some(self.consumer.end.ring.second_word(self.found.start))", PROPERTY),
    ("reads end with the block", CONSUMER,
     "is_some_and(|end| end <= self.found.len)", "is_some()", tests("a_read_ends_with_the_block")),
    ("header: no padding at the start", LAYOUT, "if offset == 0 || offset", "if offset", PROPERTY),
    ("header: padding reaches exactly to the end", LAYOUT,
     "if offset == 0 || offset as u64 + HEADER as u64 + len as u64 != capacity as u64 {", "if offset == 0 {", PROPERTY),
    ("header: a known kind", LAYOUT,
     "        _ => Err(Violation::HeaderKind),", "        _ => Ok(Header::Padding),", PROPERTY),
    ("a broken end closes", END,
     "        self.broken = Some(violation);\n        self.closer.close_as(CloseReason::FAULT);\n",
     "        self.broken = Some(violation);\n", PROPERTY),
    ("a broken consumer stays broken", CONSUMER,
     "        if let Some(violation) = self.end.broken {\n            return Err(Ended::Fault(violation));\n        }\n"
     "        match layout::check(", "        match layout::check(", PROPERTY),
    # Closing
    ("closed before the look", CONSUMER,
     "        match self.load_header() {\n            EMPTY =>", "        match EMPTY {\n            EMPTY =>",
     loom("what_was_committed")),
    ("closed is part of the second look", CONSUMER,
     "self.load_header() != EMPTY || self.end.closer.is_closed()", "self.load_header() != EMPTY",
     loom("a_close_wakes_the_consumer")),
    ("closed, private: Acquire", CLOSE,
     "self.private.load(Ordering::Acquire) != OPEN", "self.private.load(Ordering::Relaxed) != OPEN",
     loom("what_was_committed_before_the_close")),
    ("closed, shared: Acquire", CLOSE,
     "shared.load(Ordering::Acquire)", "shared.load(Ordering::Relaxed)",
     loom("what_was_committed_before_the_other")),
    ("closed, private: Release", CLOSE,
     "private.compare_exchange(OPEN, reason.0, Ordering::Release,",
     "private.compare_exchange(OPEN, reason.0, Ordering::Relaxed,", loom("what_was_committed_before_the_close")),
    ("closed, shared: Release", CLOSE,
     "word.compare_exchange(0, told.0, Ordering::Release,",
     "word.compare_exchange(0, told.0, Ordering::Relaxed,", loom("what_was_committed_before_the_other")),
    ("our own reason, not what the peer is told", CLOSE,
     "if self.is_closed() { self.closed_as() } else { None }", "self.closed_as()",
     loom("a_close_is_ones_own")),
    ("close wake: the fence", CLOSE, "        fence(Ordering::SeqCst);\n", "",
     loom("a_close_wakes_the_consumer", "a_close_wakes_the_producer")),
    ("close wake: the word changes", CLOSE,
     "word.swap(AWAKE, Ordering::Relaxed);", "word.load(Ordering::Relaxed);",
     loom("a_close_wakes_the_consumer", "a_close_wakes_the_producer")),
    ("close wake: the private word", CLOSE,
     "            futex::wake(&self.private, Scope::Private, u32::MAX >> 1);\n", "",
     loom("a_close_wakes_a_sleeper")),
    ("close wake: the consumer sleeps on the private word", PARK,
     "futex::wait(&[parked, self.closer.as_wait()], deadline)", "futex::wait(&[parked], deadline)",
     loom("a_close_wakes_a_sleeper")),
    ("close wake: the producer sleeps on the private word", PARK,
     "futex::wait(&[parked, self.closer.as_wait()], deadline)", "futex::wait(&[parked], deadline)",
     loom("a_close_wakes_a_sleeper")),
    ("close wake: there is a private word between processes", CLOSE,
     "let sleep_on_private = peer != Peer::Relied;", "let sleep_on_private = false;", loom("a_close_wakes_a_sleeper")),
    ("close wake: a client sleeps on the ring's word alone", CHANNEL,
     "    peer: Peer::Relied,\n", "    peer: Peer::Heard,\n", tests("only_a_client_relies")),
    ("close wake: a server does not", CHANNEL,
     "    peer: Peer::Unheard,\n", "    peer: Peer::Relied,\n", tests("only_a_client_relies")),
    ("close wake: whatever the word, where the peer is relied on", CLOSE,
     "== PARKED || unsure {", "== PARKED {", loom("a_close_wakes_a_sleeper_whose_waker_died")),
    ("closed, shared: a server does not heed it", CLOSE,
     "shared.clone().filter(|_| peer != Peer::Unheard)", "shared.clone()", tests("a_server_does_not_believe")),
    # Waiting in an event loop
    ("armed: the second look for data", CONSUMER,
     "        if self.is_pending() {\n            self.end.disarm::<CONSUMER_PARKED>(pipe);\n            return false;\n        }\n", "",
     loom("arm::each_of_two_sends")),
    ("armed: the second look for room", PRODUCER,
     "        if self.look_again(len).is_some() {\n            self.end.disarm::<PRODUCER_PARKED>(pipe);\n            return false;\n        }\n", "",
     loom("arm::a_release_kicks")),
    ("armed: the fence", PARK,
     "            pipe.permit();\n        }\n        fence(Ordering::SeqCst);\n", "            pipe.permit();\n        }\n",
     loom("arm::each_of_two_sends")),
    ("armed: the kick", PARK, "ARMED => self.kick.kick(),", "ARMED => {}", loom("arm::a_batch_kicks")),
    ("armed: the word changes before the kick", PARK,
     "ARMED => self.kick.kick(),",
     "ARMED => {\n                futex::set(word, ARMED);\n                self.kick.kick();\n"
     "                futex::set(word, AWAKE);\n            }",
     loom("arm::each_of_two_sends")),
    ("armed: a wake is for both kinds of waiting", PARK,
     "load(Ordering::Relaxed) != AWAKE", "load(Ordering::Relaxed) == PARKED", loom("arm::a_batch_kicks")),
    ("armed: the other side's close kicks", CLOSE,
     "            if waits == ARMED {\n                kick.kick();\n            }\n", "            let _ = kick;\n", loom("arm::a_close_by_the_other_side")),
    ("armed: ones own close kicks whatever the word says", CLOSE,
     "        own.iter().for_each(Kick::kick);\n", "        let _ = own;\n", loom("arm::a_close_by_ones_own_side")),
    ("armed: each release is told of", CONSUMER,
     "(self.quarter, self.next_quarter) = (0, self.end.position);", "", loom("arm::a_release_kicks")),
    ("armed: the fence behind each response", EXCHANGE,
     "if after_each || responses.consumer_looks_parked() {", "if responses.consumer_looks_parked() {",
     loom("arm::a_response_kicks", "arm::a_requester_that_says_so")),
    ("armed: kicks are counted", KICK,
     "if self.taken <= most + SPARE_HINTS { Kicks::Permitted } else { Kicks::TooMany }", "Kicks::Permitted",
     tests("more_kicks_than")),
    ("armed: drained after each wait", KICK, "        self.waited = true;\n", "", tests("after_each_wait")),
    ("armed: drained while a kick may be under way", KICK, "self.waited || self.taken < most", "self.waited",
     tests("ones_own_kicks")),
    ("armed: a word taken back permits nothing", KICK, "        self.permitted = self.permitted.saturating_sub(1);\n", "", tests("found_at_once")),
    ("armed: ones own kicks are counted before they are sent", KICK,
     "            self.0.sent.fetch_add(1, Ordering::SeqCst);\n", "", tests("ones_own_kicks")),
    ("armed: what the other side writes into a word permits nothing less", KICK,
     "self.permitted.saturating_sub(1)", "self.permitted.wrapping_sub(1)", tests("taken_back_twice")),
    # The same between processes
    ("armed: a caller says so with its hello", GREETING,
     "let flags = if self.own.is_some() { MAY_ARM } else { 0 };", "let flags = 0;",
     process("kicks", "a_caller_says_so")),
    ("armed: a callee says so with its acceptance", INCOMING,
     "let flags = if status == Status::Ok && self.arms { MAY_ARM } else { 0 };", "let flags = 0;",
     process("kicks", "a_callee_says_so")),
    ("armed: a caller's hello is heeded", INCOMING,
     "self.caller_arms = flags == MAY_ARM;", "let _ = flags;", tests("either_side_says_that_it_may_wait")),
    ("armed: other flags of a hello break a rule", INCOMING,
     "BlockHeader::new(Operation::Hello as u16, flags & MAY_ARM, 0)", "BlockHeader::new(Operation::Hello as u16, flags, 0)",
     tests("any_other_first_block")),
    ("armed: a write end that nobody needs is not kept", INCOMING,
     "self.pipe.take().filter(|_| self.arms).map(LinkPipe::arms)", "self.pipe.take().map(LinkPipe::arms)",
     tests("either_side_says_that_it_may_wait")),
    ("armed: the closers of a link's own side kick it", LINK_PIPES, "        self.slot.set(self.kick);\n", "",
     process("ready", "both_ends_of_a_link_hear_of_a_close")),
    ("armed: a listener is kicked with each change", INTAKE, "            kick.kick();\n", "            let _ = kick;\n",
     process("kicks", "a_client_that_may_neither")),
    ("armed: the server keeps a write end", SERVER_KICKS, "    kick.set(PipeWriter::new(other));\n", "    drop(other);\n",
     process("introductions", "what_a_half_waits_for")),
    ("armed: a client may have armed before the server has its pipe", SERVER_KICKS, "    kick.kick();\n", "",
     process("introductions", "each_half_gets_one_pipe")),
    ("armed: a half has one pipe", SERVER_KICKS, "    if kick.is_set() {", "    if false {",
     process("introductions", "each_half_gets_one_pipe")),
    ("armed: late responses keep no loop busy", ARMING,
     "        if self.requester.outstanding() == 0 && self.requester.try_receive().is_err() {\n            return Ok(false);\n        }\n", "",
     process("kicks", "a_late_response_keeps_no_client_busy")),
    ("armed: no kick into another file", PIPE, "        if self.pipe.is_ours() {\n            kick(", "        {\n            kick(",
     process("kicks", "no_kick_goes_into_a_file")),
    ("armed: SIGPIPE before Linux 6.18", PIPE,
     "without_sigpipe(|| by(ReadWriteFlags::NOWAIT)),\n            _ if !does_not_wait(pipe) => return,\n            QUIETLY_BY_MODE => by(NOSIGNAL),\n            _ => without_sigpipe(|| write(pipe, &[1])),", "without_sigpipe(|| by(ReadWriteFlags::NOWAIT)),\n            _ if !does_not_wait(pipe) => return,\n            QUIETLY_BY_MODE => by(NOSIGNAL),\n            _ => write(pipe, &[1]),",
     process("kicks", "a_caller_whose_callee_ends")),
    ("armed: SIGPIPE from Linux 6.18 on", PIPE, "QUIETLY_BY_MODE => by(NOSIGNAL),", "QUIETLY_BY_MODE => by(ReadWriteFlags::empty()),",
     process("kicks", "a_caller_whose_callee_ends")),
    ("armed: a signal that was pending before is not taken", "src/os/signals.rs", "    if done.is_err() && !was_pending {\n", "    if done.is_err() {\n        let _ = was_pending;\n",
     process("kicks", "a_signal_that_was_pending")),
    ("armed: a kick without pwritev2", PIPE, "            Err(_) => way.store(now + 1, Ordering::Relaxed),\n", "            Err(_) => return,\n",
     process("kicks", "a_server_that_may_not_write_so")),
    # Fork
    ("fork: a child does not close", CLOSE,
     "        if before == Err(FOREIGN) {\n            return;\n        }\n", "", process("fork", "a_child_cannot_use")),
    ("fork: a child does not take", CONSUMER,
     "        if self.end.closer.is_forked() {\n            // What is in the ring belongs to its parent, which goes on reading.\n"
     "            return Err(Ended::Closed(CloseReason::FORKED));\n        }\n", "",
     process("fork", "a_child_cannot_use")),
    ("fork: a child does not wake from its parent's sleep", CONSUMER,
     "            if self.end.closer.is_forked() {\n                // Forked by", "            if false {\n                // Forked by",
     tests("a_child_forked_within_a_sleep")),
    ("fork: a child does not write within an operation", CALLS,
     "        if !self.closer.is_forked() {\n            self.requester.notify", "        if true {\n            self.requester.notify",
     process("fork", "in_the_middle")),
    ("fork: a child does not get what has arrived", CALLS,
     "if self.requester.has_kept() && self.closer.is_forked() {", "if false {", process("fork", "responses")),
    ("fork: a child leaves the connection alone", WATCHER,
     "if !self.is_ours() {\n            return self.watcher.forget_inherited", "if false {\n            return self.watcher.forget_inherited", process("fork", "a_child_cannot_use")),
    ("fork: a child has a watcher of its own", OWN,
     "    (!owner.is_foreign()).then_some(value)", "    let _ = owner;\n    Some(value)", process("fork", "whole_one")),
    ("fork: words without the kernel's help", OWN,
     "            self.handle_forks()?;\n", "", tests("a_child_finds_its_parent_s_words_wiped")),
    ("fork: words that are taken stay so", OWN,
     "self.taken.fetch_or(bit, Ordering::Acquire)", "self.taken.fetch_or(0, Ordering::Acquire)",
     tests("a_word_given_back_is_taken_again")),
    # Registering again
    ("reconnect: the end is told", RECONNECT,
     "                if !quietly {\n                    return Err(Stop::Tell(reason));\n                }\n", "",
     process("reconnect", "told_by_its_next")),
    ("reconnect: each half tells", RECONNECT,
     "|told| if told { None } else { Some(reason) }", "|_| None",
     process("reconnect", "both_halves")),
    ("reconnect: the inboxes in between", RECONNECT,
     "retain_mut(|(ring, _)| matches!(ring.next_block(), Ok(Some(_))))", "clear()", process("reconnect", "several_connections")),
    ("reconnect: a deadline comes first", RECONNECT,
     "            if too_late {\n                return Err(Stop::TimedOut);\n            }\n", "",
     process("client", "without_any_delay")),
    ("reconnect: whoever lets go heeds the close handles", RECONNECT,
     "        fence(Ordering::SeqCst);\n        self.0.heed_close();\n", "", tests("a_close_within_the_lock")),
    ("reconnect: a sleep ends with a change", RECONNECT,
     "        self.changed.fetch_add(1, Ordering::Release);\n", "", process("reconnect", "a_close_ends_the_attempts")),
    ("reconnect: a call that ended is not collected", REQUESTER,
     "                self.abandoned.insert(sequence);\n                Err(error)\n", "                Err(error)\n", process("reconnect", "not_made_again")),
    # Threads that share a producer
    ("shared producer: only the front writes", SHARED_PRODUCER,
     "        let first = before == 0;\n", "        let (first, before) = (true, 0 * before);\n", tests("who_may_write")),
    ("shared producer: those who wait come before one who does not", SHARED_PRODUCER,
     "state.nobody_waits().then(", "(state.nobody_waits() || !state.has_ended()).then(", tests("who_waits_comes")),
    ("shared producer: the room of those before is not taken", SHARED_PRODUCER,
     " && !self.queue.iter().take(before).any(|waiter| fits(waiter.len))", "", loom("nobody_overtakes")),
    ("shared producer: the front is not starved", SHARED_PRODUCER,
     "before == 0 || self.passed < self.producer.capacity();", "true;", tests("do_not_starve")),
    ("shared producer: what passes is counted", SHARED_PRODUCER,
     "            self.passed += self.producer.position() - position;\n", "            let _ = position;\n", tests("do_not_starve")),
    ("shared producer: each front is passed anew", SENDER_QUEUE, "            self.passed = 0;\n", "", tests("who_may_write")),
    ("shared producer: the front tells one behind it", SHARED_PRODUCER,
     "        if !(first && look == Look::Written) {\n            state.signal_next();\n        }\n", "", loom("one_behind_is_told")),
    ("shared producer: whoever leaves tells one behind it", SHARED_PRODUCER,
     "            // The leaving thread may have been signalled, and has not looked since.\n            self.signal_next();\n", "", tests("who_may_write")),
    ("shared producer: who passes looks at the head", SHARED_PRODUCER, "if !self.producer.has_room(len)? || ", "if ", tests("who_may_write")),
    ("shared producer: who looks resets its signal", SHARED_PRODUCER, "        self.signal.reset();\n", "", loom("one_behind_is_told")),
    ("shared producer: who comes last stands last", SENDER_QUEUE, "queue.push_back(", "queue.push_front(", loom("two_who_wait")),
    ("shared producer: a front that leaves signals the next", SHARED_PRODUCER,
     "                next.signal.set();\n            }\n        } else {", "                let _ = next;\n            }\n        } else {",
     loom("two_who_wait")),
    ("shared producer: who is gone leaves the queue", SHARED_PRODUCER,
     "        self.shared.lock().leave(&self.signal);\n", "", loom("two_who_wait")),
    ("shared producer: a signal changes its word", SIGNAL,
     "        self.0.store(1, Ordering::Release);\n", "", loom("two_who_wait")),
    ("shared producer: a signal changes its word before the wake", SIGNAL,
     "        self.0.store(1, Ordering::Release);\n        futex::wake(&self.0, Scope::Private, 1);\n",
     "        futex::wake(&self.0, Scope::Private, 1);\n        self.0.store(1, Ordering::Release);\n", loom("two_who_wait")),
    ("shared producer: a signal wakes", SIGNAL,
     "        futex::wake(&self.0, Scope::Private, 1);\n", "", loom("two_who_wait")),
    ("shared producer: the front parks before it sleeps", SHARED_PRODUCER,
     "let room = too_large || self.producer.arm_for_place(len).is_some();", "let room = too_large;", loom("two_who_wait")),
    ("shared producer: what is written is told of", SHARED_PRODUCER,
     "                self.producer.notify();\n", "", loom("two_who_wait")),
    ("shared producer: the front sleeps on the ring's close", SHARED_PRODUCER,
     "&[consumer.as_wait(), signal, closer.as_wait(), own.as_wait()]", "&[consumer.as_wait(), signal, own.as_wait()]", loom("the_receivers_close")),
    ("shared producer: the front sleeps on its own close", SHARED_PRODUCER,
     "&[consumer.as_wait(), signal, closer.as_wait(), own.as_wait()]", "&[consumer.as_wait(), signal, closer.as_wait()]", loom("each_one_leaves")),
    ("shared producer: those behind sleep on their own close", SIGNAL,
     "&[self.as_wait(), own.as_wait()]", "&[self.as_wait()]", loom("each_one_leaves")),
    ("shared producer: a look at its own close before each sleep", SHARED_PRODUCER,
     "            if own.is_closed() {\n                return Err(NotWritten::Leaving);\n            }\n", "", loom("a_front_that_leaves")),
    ("shared producer: the end is looked at", SHARED_PRODUCER,
     "        if state.has_ended() {\n            return Err(NotWritten::Ended);\n        }\n        self.signal", "        self.signal",
     tests("the_end_is_told")),
    ("shared producer: nothing is written after the end", SHARED_PRODUCER,
     "        if self.ended || self.producer.is_given_up() {\n            return Err(self.end());\n        }\n        match put", "        match put", tests("a_closed_inbox")),
    ("shared producer: a ring that was given up is not written to", SHARED_PRODUCER,
     "self.ended || self.producer.is_given_up() {\n            return Err(self.end());\n        }\n        match put",
     "self.ended {\n            return Err(self.end());\n        }\n        match put", tests("a_ring_that_was_given_up")),
    ("shared producer: a ring is given up for good", SHARED_PRODUCER, "        self.ended = true;\n", "", tests("a_ring_that_was_given_up")),
    ("shared producer: who waits looks whether the ring was given up", SHARED_PRODUCER,
     "        if self.producer.is_given_up() {\n", "        if false {\n", loom("an_inbox_given_up")),
    ("shared producer: giving up comes with a fence", CONSUMER,
     "store(1, Ordering::Relaxed);\n        // As after releasing room: a producer that parks later makes its own fence and then sees the word.\n"
     "        fence(Ordering::SeqCst);\n", "store(1, Ordering::Relaxed);\n", loom("an_inbox_given_up")),
    ("shared producer: giving up wakes who waits", CONSUMER,
     "        fence(Ordering::SeqCst);\n        self.wake_producer();\n", "        fence(Ordering::SeqCst);\n", loom("an_inbox_given_up")),
    ("inbox: a forked child does not give it up", CONSUMER,
     "        if self.end.closer.is_closed() {\n            return;\n        }\n        self.end.ring", "        self.end.ring",
     process("fork", "a_child_cannot_use")),
    ("inbox: what is laid ready is given up", RECONNECT,
     "            ring.give_up();\n", "            drop(ring);\n", process("reconnect", "a_dropped_inbox")),
    ("inbox: it is given up again with each registration", RECONNECT,
     "                    guest.inbox.give_up();\n", "", process("reconnect", "a_dropped_inbox")),
    # The user's code in the middle of an operation
    ("submit_all: the worker is told before the iterator runs on", CALLS,
     "            submitting.0.wake_peer();\n", "", process("client", "may_wait_for_what")),
    ("submit_all: the worker is told however it ends", CALLS,
     "    fn drop(&mut self) {\n        self.0.wake_peer();\n", "    fn drop(&mut self) {\n", process("client", "before_a_call_that_cannot_go")),
    # A server that sends what takes long to close
    ("connection: a look leaves it where it is", "src/connect/connection.rs",
     "let seen = receive(self.as_fd(), into, &mut control, RecvFlags::PEEK)?;",
     "let seen = receive(self.as_fd(), into, &mut control, RecvFlags::empty())?;", tests("an_expected_descriptor_is_received")),
    ("connection: what it is closed with", "src/connect/connection.rs",
     "        if is_empty(socket.as_fd()) {\n", "        if true {\n", tests("descriptors_of_a_server_are_closed_on_another_thread")),
    ("observer: a connection that failed is given up", "src/client/observer.rs",
     "if kept.used { kept.line.is_usable() }", "if kept.used { true }", process("client", "an_observer_dials_anew")),
    # Calls, with the fence put off
    ("exchange: the requester's fence before it waits", REQUESTER,
     "            self.notify();\n            let found = match", "            let found = match", loom("a_call_is_answered")),
    ("exchange: also behind a response to an earlier request", REQUESTER,
     "            return Ok(status);\n        }\n        self.await_longer(sequence, deadline, fail)\n",
     "            return Ok(status);\n        }\n"
     "        let found = self.find(deadline).map_err(&fail)?;\n"
     "        if let Some(status) = self.accept_if(sequence, found, &fail)? {\n            return Ok(status);\n        }\n"
     "        self.await_longer(sequence, deadline, fail)\n",
     loom("a_call_behind_another_request_is_answered")),
    ("exchange: a responder waits only where it served nothing", EXCHANGE,
     "            None => return Ok(()),\n", "            None => found = worker.wait()?,\n", loom("a_call_is_answered")),
    ("exchange: a requester that sleeps is woken in between", EXCHANGE,
     "if after_each || responses.consumer_looks_parked() {", "if after_each {",
     tests("a_requester_that_sleeps_is_woken")),
    # Links, whose sides both sleep on two words
    ("links: the other side's close is heeded", CLOSE, "filter(|_| peer != Peer::Unheard)", "filter(|_| peer == Peer::Relied)",
     loom("a_close_against_a_wait_for_room")),
    ("links: each side sleeps on its private word", CLOSE, "let sleep_on_private = peer != Peer::Relied;",
     "let sleep_on_private = peer == Peer::Unheard;", loom("a_close_wakes_a_side_whose")),
    ("links: a close wakes who sleeps on the private word", CLOSE,
     "            futex::wake(&self.private, Scope::Private, u32::MAX >> 1);\n", "", loom("a_close_wakes_a_side_whose")),
    ("links: a close wakes the other side", CLOSE, "                futex::wake(word, *scope, u32::MAX >> 1);\n", "",
     loom("a_close_against_a_wait_for_room")),
    ("links: a close changes the other side's word before the wake", CLOSE,
     "word.swap(AWAKE, Ordering::Relaxed);", "word.load(Ordering::Relaxed);", loom("a_close_against_a_wait_for_a_response")),
    ("links: a close comes with a fence", CLOSE, "        fence(Ordering::SeqCst);\n", "", loom("a_close_against_a_wait_for_a_response")),
    ("links: what was answered is stored before the end", CLOSE,
     "word.compare_exchange(0, told.0, Ordering::Release,", "word.compare_exchange(0, told.0, Ordering::Relaxed,",
     loom("a_response_before_a_close")),
    ("links: what was answered comes before the end", CLOSE, "shared.load(Ordering::Acquire)", "shared.load(Ordering::Relaxed)",
     loom("a_response_before_a_close")),
    ("links: a side sees its own reason", CLOSE, "if self.is_closed() { self.closed_as() } else { None }", "self.closed_as()",
     loom("a_close_of_ones_own_is_not")),
    ("links: no post goes out behind a close", PRODUCER,
     "end - self.head <= self.capacity() && !self.end.closer.is_closed()", "end - self.head <= self.capacity()",
     loom("a_close_against_posts")),
    ("links: what was posted comes before the end", CONSUMER,
     "EMPTY if self.end.closer.is_closed() => self.look_after_close(),",
     "EMPTY if self.end.closer.is_closed() => Err(Ended::Closed(self.end.closer.reason().unwrap())),",
     loom("posts_before_a_close")),
    ("links: each call has one result", CALLS, "if collecting || registers_again.is_some() {", "if registers_again.is_some() {",
     process("links", "each_call_has_one_result")),
    ("links: an answer behind the end breaks no rule", REQUESTER, "Some(reason) => Stop::Closed(reason),",
     "Some(_) => self.violation(Violation::ResponseOrder),", tests("an_answer_behind_the_end_is_for_nobody")),
    ("links: a post wakes who sleeps", REQUESTER, "        self.posted_to = self.requests.position();\n        self.notify();\n",
     "        self.posted_to = self.requests.position();\n", loom("a_post_wakes")),
    ("links: with posts alone nobody waits for a response", REQUESTER,
     "        if self.expected == self.next {\n            let deadline = Deadline::until(deadline.start());",
     "        if false {\n            let deadline = Deadline::until(deadline.start());", loom("posts_into_a_full_ring")),
    ("links: room is announced while a drain goes on", EXCHANGE, "        requests.settle();\n", "", loom("room_is_announced")),
    ("links: who announces room makes a fence", CONSUMER, "        fence(Ordering::SeqCst);\n        self.wake_after_fence();\n",
     "        self.wake_after_fence();\n", loom("room_is_announced")),
    ("links: a call's fence", REQUESTER,
     "            self.notify();\n            let found = match", "            let found = match", loom("calls_over_a_link")),
    ("links: posts before the end are served", "src/client/links/responder.rs",
     "                    self.responder.serve_posts_left(&mut answers, self.most_left);\n", "", tests("links::property")),
    ("links: no call is served after the end", "src/client/links/responder.rs",
     "        if self.closer.is_closed() {\n            return Err(too_late());\n        }\n", "", tests("links::property")),
    ("links: nobody stores that this side closed", CLOSE, " || word == CloseReason::LOCAL.0 =>", " =>",
     tests("reasons_that_no_side_stores")),
    # How the ends of links, and links that came too late, are told
    ("links: a place is kept until its client gives it back", BROKER + "/table.rs",
     "let (caller, callee) = (has_ended(line.caller.state), has_ended(line.callee.state));",
     "let callee = has_ended(line.callee.state);\n        let caller = has_ended(line.caller.state) || line.callee.state == State::Ended;",
     tests("a_place_is_kept")),
    ("links: a report that cannot be answered is undone", BROKER + "/introductions.rs",
     "                noted.iter().for_each(|(link, role, _)| self.table.end(*link, *role));\n", "",
     process("introductions", "a_report_that_cannot_be_answered")),
    ("links: a ring behind the question is not lost", TAKES, "Ok(None) if take.since > 0 =>",
     "Ok(None) if take.since == usize::MAX =>", tests("a_ring_behind_the_question")),
    ("links: what is taken too late is told", TAKES, "Taker::Listener(_) => note_unused(session, &answer),",
     "Taker::Listener(_) => {}", tests("what_comes_too_late")),
    ("links: a take that is given up leaves no way open", TAKES, "if let Some(answer) = line.give_up() {",
     "if let Some(answer) = None {", tests("what_comes_too_late")),
    ("links: what cannot be opened is told", INTAKE, "            session.words.flip(introduction.index);\n", "",
     tests("what_cannot_be_opened")),
    ("links: a place that was given twice is given back", LINK_END,
     "Noted::At(words, index) => Some((words, index)),\n                    Noted::Nowhere", "Noted::At(..) => None,\n                    Noted::Nowhere",
     tests("the_end_is_told_to_the_newest_server")),
    ("links: a report that is answered too late is heeded", LINKS, ".or_else(|error| line.give_up().ok_or(error))", "",
     tests("a_report_that_is_answered_too_late")),
    ("connect: an answer behind a reset is received", "src/connect/dial.rs", "let (mut first, mut reset) = (None, false);",
     "let (mut first, mut reset) = (None, true);", tests("of_a_server_that_did_not_read_all")),
    ("scheduler: only so many at once", SCHEDULER, "if ahead == 0 && state.holders.len() < self.slots() {", "if ahead == 0 {",
     tests("link::scheduler::")),
    ("scheduler: the word is reset before a wait", SCHEDULER, "            signal.reset();\n", "", tests("link::scheduler::")),
    ("scheduler: whoever gives up leaves the queue", SCHEDULER, "        state.queue.remove(place);\n", "", tests("link::scheduler::")),
    ("scheduler: the first replaces one that does not end", SCHEDULER, "let replaces = place == 0 && !gate.is_closed();",
     "let replaces = false;", tests("link::scheduler::")),
    ("scheduler: nobody but the first does", SCHEDULER, "let replaces = place == 0 && !gate.is_closed();",
     "let replaces = !gate.is_closed();", tests("link::scheduler::")),
    ("scheduler: the next one is told", SCHEDULER, "            next.set();\n", "", tests("link::scheduler::")),
    ("scheduler: a slot ends before a sleep", SLOT, "            Stage::Holding => self.end(yields),", "            Stage::Holding => {}",
     tests("link::scheduler::")),
    ("scheduler: the first request after a sleep needs none", SLOT, "Stage::Rested => self.stage = Stage::Due,", "Stage::Rested => return true,",
     tests("link::scheduler::")),
    ("scheduler: a slot ends when others wait and its time is over", SLOT,
     "if self.scheduler.has_queue() && self.held.began.elapsed() >= self.scheduler.time_slice() {", "if false {", tests("link::scheduler::")),
    ("scheduler: a service that waits goes without", SLOT, "computed || used.sleeps != self.used.sleeps", "computed",
     tests("link::scheduler::")),
    ("exchange: a drain has a limit", EXCHANGE, "if *worker.served() >= most {", "if *worker.served() > most {",
     tests("a_drain_ends")),
    ("exchange: the fence is deferred", REQUESTER,
     "        let asleep = self.requests.consumer_looks_parked();\n",
     "        self.notify();\n        let asleep = self.requests.consumer_looks_parked();\n",
     tests("an_answer_that_is_there")),
    # Between processes
    ("scope: the rings' words are shared", CHANNEL,
     "            scope: Scope::Shared,\n", "            scope: Scope::Private,\n", tests("wakes_go_from_one_mapping")),
    ("scope: the close wakes shared words", CHANNEL,
     "Closer::with_pipes(view.clone(), Scope::Shared,", "Closer::with_pipes(view.clone(), Scope::Private,",
     tests("wakes_go_from_one_mapping")),
    ("scope: shared is not private to the kernel", FUTEX,
     "Scope::Shared => Flags::empty(),", "Scope::Shared => Flags::PRIVATE,", tests("wakes_go_from_one_mapping")),
    ("scope: nor where several words are waited for", FUTEX,
     "Scope::Shared => WaitFlags::SIZE_U32,", "Scope::Shared => WaitFlags::SIZE_U32 | WaitFlags::PRIVATE,",
     tests("wakes_go_from_one_mapping")),
    ("responder: head before the response", RESPONDER,
     "        incoming.release_quietly();\n        then(self, header, len)\n",
     "        let _ = incoming;\n        let done = then(self, header, len);\n"
     "        self.requests.take(found).release_quietly();\n        done\n",
     tests("the_room_of_a_request")),
    # Serving over links
    ("serving: a post is served with its own fence if a response is owed", RESPONDER,
     "        match self.responses.owes_wake() {", "        match false {", tests("a_requester_that_sleeps_is_woken_before_a_post")),
    ("serving: a requester that waits for room is woken before a post is served", RESPONDER,
     "            false => self.requests.settle(),", "            false => {}", tests("a_requester_that_sleeps_is_woken_before_a_post")),
    ("serving: what a post's service wrote is taken back", RESPONDER,
     "        drop(response);\n        if let Err(panic) = posted {", "        std::mem::forget(response);\n        if let Err(panic) = posted {",
     tests("a_post_is_not_answered")),
    ("serving: a post that panics is nobody's business", RESPONDER,
     "            dispose(panic);\n        }\n    }\n\n    /// Serves the posts", "            resume_unwind(panic);\n        }\n    }\n\n    /// Serves the posts",
     tests("nobody_hears_of_a_post")),
    ("serving: after the end so many posts at most", RESPONDER,
     "        for _ in 0..most {\n", "        for _ in 0..most.saturating_mul(2) {\n", tests("after_the_end_at_most_so_many")),
    ("serving: after the end no call", LINK_RESPONDER,
     "if self.closer.is_closed() {", "if false {", process("links", "posts_are_served_after_the_end")),
    ("serving: after the end the posts", LINK_RESPONDER,
     "if !self.end.open.was_closed_here() {", "if false {", process("links", "posts_are_served_after_the_end")),
    ("serving: the first block is a hello", INCOMING,
     "if header != Some(BlockHeader::new(Operation::Hello as u16, flags & MAY_ARM, 0)) {", "if header.is_none() {",
     tests("any_other_first_block")),
    ("serving: a hello has no body", INCOMING,
     "BlockHeader::of(&block).filter(|_| block.len() == BLOCK_HEADER);", "BlockHeader::of(&block);",
     tests("any_other_first_block")),
    ("serving: a hello is not waited for for ever", TAKES,
     "                intake.give_up(late.number);\n", "                let _ = intake;\n", process("kicks", "a_caller_that_says_nothing")),
    ("serving: a refusal is cut between characters", "src/wire/mod.rs",
     ".find(|&at| text.is_char_boundary(at))", ".find(|_| true)", tests("a_refusal_is_cut")),
    ("serving: who gave up is passed over", INTAKE,
     "            if incoming.is_there() {", "            if true {", process("links", "is_passed_over")),
    ("serving: so many wait and no more", INTAKE,
     "if self.reason().is_some() || state.over || state.callers() >= BACKLOG {", "if self.reason().is_some() || state.over {",
     process("links", "callers_beyond_the_backlog")),
    ("serving: a listener hears of the end of its registration", LINKS,
     "            intake.tell_change();\n        }\n        self.topics", "            let _ = intake;\n        }\n        self.topics",
     process("links", "registers_again_goes_on")),
    ("serving: a listener ends with its client", LINKS,
     "            intake.close(reason);\n            intake.end();\n        }\n        for link", "        }\n        for link",
     process("links", "a_listener_ends_with_its_client")),
    ("serving: a client that registers again listens again", LINKS,
     "            let _ = intake.listen(session, deadline);\n", "            let _ = (intake, deadline);\n",
     process("links", "registers_again_goes_on")),
    ("serving: each listener is told of an end", RECONNECT,
     "matches!(half, Half::Caller | Half::Inbox) && ", "", process("links", "registers_again_goes_on")),
    ("ends: the peer's process is watched", LINK_PIPES,
     "(self.process.as_fd(), EventFlags::IN)", "(self.process.as_fd(), EventFlags::empty())", process("links", "although_a_child_holds")),
    ("ends: the peer's pipe is watched", LINK_PIPES,
     "self.peers.pipe().map(|pipe| (pipe.as_fd(), EventFlags::empty()));",
     "self.peers.pipe().map(|_| (self.own.as_fd(), EventFlags::empty()));", tests("a_peer_that_drops_its_pipe")),
    ("ends: a child's copies are taken out of the watch", WATCHER,
     "            for (descriptor, _) in watched.descriptors() {\n                let _ = epoll::delete(&self.waits, descriptor);\n            }\n",
     "            let _ = watched;\n", process("links", "a_forked_child_leaves_its_parent")),
    ("ends: the peer's own reason is told", LINK_END,
     "self.closer.close_as(self.closer.reason().unwrap_or(CloseReason::Died.into()));", "self.closer.close_as(CloseReason::Died);",
     tests("the_reason_that_a_peer_gave")),
    ("ends: the server is told", LINK_END,
     "            if !fault!(\"bit\") {\n                words.flip(index);\n            }\n", "            let _ = (words, index);\n",
     tests("a_close_tells_the_peer_and_the_server")),
    ("ends: once", LINK_END,
     "std::mem::replace(&mut *noted, Noted::Over)", "match &*noted {\n                Noted::At(words, index) => Noted::At(words.clone(), *index),\n                _ => Noted::Nowhere,\n            }",
     tests("a_close_tells_the_peer_and_the_server")),
    ("ends: a link of a client that has ended ends", LINKS,
     "        if let Some(reason) = state.ended.or(soon) {\n            return Err(reason);\n        }\n", "        let _ = soon;\n",
     tests("links_end_with_their_client")),
    ("ends: the watcher does what a signal handler cannot", WATCHER,
     "            if self.sweep.swap(false, Ordering::SeqCst) {", "            if false {", tests("the_watcher_ends_what")),
    ("ends: a pipe's end is the right one", LINK_PIPES,
     "fcntl_getpipe_size(descriptor).is_ok() && access == Ok(mode)", "fcntl_getpipe_size(descriptor).is_ok()",
     tests("other_descriptors_are_refused")),
    ("ends: a process is one", LINK_PIPES, "            && (is_process(process.as_fd()) || is_pipe_end(process.as_fd(), OFlags::WRONLY));", ";", tests("other_descriptors_are_refused")),
    # Bounds
    ("bounds: copies end within the ring", VIEW, "if at > room || len > room - at {", "if at > room {", VIEWS),
    ("bounds: copies begin within the ring", VIEW,
     "if at > room || len > room - at {", "if len > room.wrapping_sub(at) {", VIEWS),
    ("bounds: copies into a line end within it", VIEW,
     "if at > LINE || from.len() > LINE - at {", "if at > LINE {", VIEWS),
    ("bounds: copies into a line begin within it", VIEW,
     "if at > LINE || from.len() > LINE - at {", "if from.len() > LINE.wrapping_sub(at) {", VIEWS),
    ("bounds: copies out of a line end within it", VIEW, "if at > LINE || len > LINE - at {", "if at > LINE {", VIEWS),
    ("bounds: a position is a line", VIEW, "mask: capacity - LINE,", "mask: capacity - 1,", VIEWS),
    ("bounds: a ring lies in its segment", VIEW, "self.0.start_of(data, capacity)", "self.0.start_of(data, LINE)", VIEWS),
    ("bounds: a ring's words lie in its segment", VIEW, "self.0.start_of(control, CONTROL)", "self.0.start_of(control, 0)", VIEWS),
    ("bounds: a ring has a power of two of lines", VIEW, "assert!(capacity.is_power_of_two() && capacity >= LINE,", "assert!(capacity >= LINE,",
     VIEWS),
    ("bounds: a ring lies on lines", VIEW,
     "assert!(control.is_multiple_of(LINE) && data.is_multiple_of(LINE),", "assert!(true,", VIEWS),
    ("bounds: words and copies lie in a segment", SEGMENT, "is_some_and(|end| end <= self.map.len())", "is_some()",
     tests("a_word_outside")),
    ("bounds: words are aligned", SEGMENT, "if !inside || !offset.is_multiple_of(align) {", "if !inside {",
     tests("a_word_that_is_not_aligned")),
    ("segments: the seals are there", MEMFD, "if !seals.contains(needed) {", "if seals.is_empty() {", SEGMENTS),
    ("segments: sealed against more seals", MEMFD,
     "SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL)", "SealFlags::SHRINK.union(SealFlags::GROW)", SEGMENTS),
    ("segments: no huge pages", MEMFD, "if kind as i64 == HUGETLBFS_MAGIC {", "if kind as i64 == 1 {", SEGMENTS),
    ("segments: not inherited by exec", MEMFD, "MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;",
     "MemfdFlags::ALLOW_SEALING;", SEGMENTS),
    ("channels: the magic", CHANNEL_LAYOUT, "if self.magic != MAGIC {", "if false {", CHANNELS),
    ("channels: the version", CHANNEL_LAYOUT, "if self.version != LAYOUT_VERSION {", "if false {", CHANNELS),
    ("channels: the length", CHANNEL_LAYOUT, "if found != needed {", "if found < needed {", CHANNELS),
    ("channels: the first page is there", CHANNEL_LAYOUT, "if segment.len() < FIGURES {", "if false {", CHANNELS),
    # Figures
    ("figures: a time outside the sleep is a lie", STAMPS, "(began..=now).contains(&at)", "at <= now", tests("only_a_time_within")),
    ("figures: a time to come is a lie", STAMPS, "(began..=now).contains(&at)", "at >= began", tests("only_a_time_within")),
    ("figures: no clock is read while nobody looks", STAMPS, "        if self.are_wanted() {\n            self.view", "        if true {\n            self.view",
     tests("a_clock_is_read_only")),
    ("figures: a forked child counts nothing", FIGURES_PAGE, "        if !self.closer.is_forked() {\n            self.view.word64(at).fetch_add",
     "        if true {\n            self.view.word64(at).fetch_add", tests("figures::tests::a_forked_child")),
    ("figures: a server that was killed looks no more", FIGURES_PAGE, "if self.closer.is_closed() { 0 } else {", "if false { 0 } else {",
     tests("a_server_reads_what_its_client_says")),
    ("figures: a new link begins with nothing", LINK_END,
     "        session.words.figures.set_link(introduction.index, LinkCounts::default());\n", "", tests("the_server_reads_what_an_end")),
    ("figures: what a reader passes over it does not take", TALLY, "        (self.sequence, self.position) = (sequence, position);\n", "",
     tests("what_is_published_and_taken")),
    ("figures: what was read elsewhere was not missed", TOPIC_READER, "tally.found(self.missed.saturating_sub(missed));", "",
     tests("a_reader_that_goes_on_elsewhere")),
    # Above the rings
    ("client: the number of a response", REQUESTER, "if sequence != self.expected || self.expected == self.next {",
     "if self.expected == self.next {", process("violations", "responses_that_break")),
    ("client: a status that it knows", REQUESTER,
     "return Err(fail(self.violation(Violation::MalformedBlock)));\n        };\n        self.expected",
     "return Ok(None);\n        };\n        self.expected", process("violations", "responses_that_break")),
    ("client: a message's name fits", CLIENT_INBOX, "name_len > Name::MAX_LEN || ", "", process("violations", "messages_that_break")),
    ("client: a message's name ends with the block", CLIENT_INBOX, " || incoming.len() < prefix + name_len {", " {",
     process("violations", "messages_that_break")),
    ("admission: who may connect", ADMISSION, "same_user(who.uid, own) || is_root(who.uid) || ", "who.uid != 77_777 || ",
     process("processes", "another_user")),
    ("events: without a subscriber none is emitted", EVENTS, "!now.is::<NoSubscriber>())\n}", "true || now.is::<NoSubscriber>())\n}",
     process("access", "a_server_without_a_subscriber")),
    # The rules of access
    ("access: who registers", ENROLMENT, "self.shared.check_name(Act::Register, name, &client)",
     "self.shared.check_name(Act::Serve, name, &client)", process("access", "a_closed_name_is_registered")),
    ("access: who serves", INTRODUCTIONS, "self.shared.check_name(Act::Serve, &member.peer.name, &member.who())?;", "",
     process("access", "serving_is_closed")),
    ("access: who calls", INTRODUCTIONS, "self.shared.check_name(Act::Call, &callee.peer.name, &caller.who())?;", "",
     process("access", "calling_is_closed")),
    ("access: who sends", WORKER, "if self.shared.access.is_about(Act::Send)", "if false",
     process("access", "a_message_that_a_rule_closes")),
    ("relays: a ticket is confirmed once", RELAYS, "table.waiting.remove(&number) else", "table.waiting.get(&number).cloned() else",
     tests("a_ticket_has_one_outcome")),
    ("relays: who waits no longer takes the ticket out first", RELAYS,
     "        // From here on nobody stores an outcome.\n        drop(self);\n", "", tests("hears_it_exactly_if_it_does")),
    ("relays: the end of a relay ends the waits", "src/server/departure.rs", "            relay.end();\n", "",
     process("relays", "a_relay_that_leaves")),
    ("relays: a sender that ends waits no longer", RELAYS, " && !own.is_closed() && ", " && ",
     process("relays", "a_sender_that_leaves")),
    ("relays: no relay waits for another", RELAYS, "if self.member.relay.is_some() {", "if false {",
     process("relays", "what_a_relay_sends")),
    ("relays: not everybody may be one", ACCESS, "None if is_own(who.uid) => Ok(()),", "None => Ok(()),",
     process("relays", "rules_say_who")),
    ("relays: their names are theirs alone", ACCESS, "return match name.contains('@') {", "return match false {",
     process("relays", "only_relays_have")),
    ("relays: the sender's limit is the end", RELAYS, "flags & (WAITS | ENDS) == WAITS | ENDS", "flags == u16::MAX",
     process("relays", "the_senders_patience")),
    ("gaps: a skipped number is missed", TOPIC_READER + "/mod.rs", "self.pass_over(self.position + LINE as u64, next);",
     "self.leap(self.position + LINE as u64, next);", tests("topic::property")),
    ("gaps: one that leads back breaks a rule", TOPIC_READER + "/mod.rs", "next <= self.sequence || ", "", tests("a_gap_leads_ahead")),
    ("gaps: they are carried along", "src/topic/carry.rs",
     "            carried.put_gap(to, shape, next);\n        }\n    }\n", "            let _ = next;\n        }\n    }\n", tests("topic::property")),
    ("gaps: who begins behind them misses nothing", TOPIC_READER + "/lapped.rs", "begin.and_then(|begin| self.behind_gaps(begin))", "begin",
     tests("topic::property")),
    ("pipelined: an answer waits for those before it", "src/ready/pipelined.rs",
     "self.all.front().is_some_and(|flight| !matches!(flight.state, State::Running(_)))", "true",
     process("futures", "answers_keep_the_order")),
    ("access: who publishes", TOPICS, "        allowed?;\n", "", process("access", "a_topic_that_a_rule_closes")),
    ("access: who subscribes", ACCESS, "if !access.may_allow_some(Act::Subscribe, pattern, who) => {", "if false => {",
     process("access", "a_subscription_is_refused")),
    ("access: what a subscription takes", ACCESS, "access.allows_topic(Act::Subscribe, topic, &member.who())", "true",
     process("access", "a_subscription_takes")),
    ("access: a topic that is passed over is let go", TOPICS, "self.closed.push(*publication);", "",
     tests("a_topic_that_is_closed_is_passed_over")),
    ("access: a rule that names nobody", ACCESS, "if any_id && names.is_empty() {\n            return false;",
     "if false {\n            return false;", tests("decisions_are_those_of_a_plain_reading")),
    ("access: a pattern whose topics may be open", ACCESS, "pattern.intersects(wanted)", "pattern.includes(wanted)",
     tests("decisions_are_those", "a_pattern_is_refused_only")),
    ("access: the other groups of a user", ACCESS, "|| who.groups.iter().any(|gid| in_group(*gid));\n        has_id", ";\n        has_id",
     process("access", "a_rule_names_users")),
    ("access: users that are let in later", ADMISSION, "access.users.iter()", "self.shared.settings.access.users.iter()",
     process("access", "a_user_is_let_in")),
    ("access: quotas that are replaced", ACCESS, "self.ledger.set_quotas(access.quotas);", "",
     process("access", "smaller_quotas")),
    ("access: the socket's file is this one", SOCKET_FILE, "if (found.st_dev, found.st_ino) != self.inode {", "if false {",
     process("access", "the_socket_is_as_open")),
    ("access: a forked child replaces nothing", ACCESS, "if !self.process.is_foreign() =>", "if true =>",
     process("access", "a_forked_child")),
    # The server's limits, and the deaths that it must notice
    ("socket: its mode comes before it listens", LISTENER,
     """    let listening = open_to(path, mode, group).and_then(|()| {
        listen(&socket, BACKLOG).map_err(system("listen at", path))
    });""",
     """    let listening = listen(&socket, BACKLOG).map_err(system("listen at", path))
        .and_then(|()| open_to(path, mode, group));""",
     process("boundaries", "has_its_mode")),
    ("unread answers: they are counted", UNREAD,
     "+ descriptors <= OF_ONE_USER\n            && unread(&|_| true) + descriptors <= most_in_all(uid)",
     "+ descriptors <= 100 * OF_ONE_USER\n            && unread(&|_| true) + descriptors <= 100 * most_in_all(uid)",
     process("attacks", "unread_answers_are_few")),
    ("unread answers: also when their clients are gone", UNREAD,
     "if connection.is_all_taken() {\n            self.answers.swap_remove(place);",
     "if true {\n            self.answers.swap_remove(place);", process("attacks", "unread_answers_are_few")),
    ("unread answers: what was put off is tried again", ACCEPTOR,
     "if let Some(ask) = put_off {", "if let Some(ask) = put_off.filter(|_| false) {",
     process("attacks", "unread_answers_are_few")),
    ("introductions: only with the secret", ANSWERS, "member.has(&proof.secret) && ", "",
     process("introductions", "only_the_process_and_user")),
    ("introductions: only by the process", ANSWERS, "who.pid == pid && ", "",
     process("introductions", "only_the_process_and_user")),
    ("introductions: only by the user", ANSWERS, " && who.uid == uid", "",
     process("introductions", "only_the_process_and_user")),
    ("introductions: all of the secret counts", PROOF, "self.0.iter().zip(other.0)", "self.0.iter().zip(other.0).take(15)",
     tests("each_bit_of_a_secret")),
    ("introductions: who asks for a relay waits for its first listener", INTRODUCTIONS,
     "callee.relay.is_some() && (hears || !self.waiting.has_listened(key))", "callee.relay.is_some() && hears",
     process("relays", "whoever_connects_before")),
    ("registry: a name is found when its client can be reached", WORKER, "Ok(Some(key)) if self.shared.members.get(key).is_some() => {",
     "Ok(Some(key)) => {", process("presence", "whoever_is_looked_up")),
    ("topics: an event loop looks where no publisher wakes it", "src/client/topics/subscriber.rs", "            nest.set_timer(look);\n",
     "            let _ = nest;\n", tests("an_event_loop_is_woken")),
    ("introductions: only to those who serve", INTRODUCTIONS, "if serves && hears {", "if hears {",
     process("introductions", "whoever_is_not_there")),
    ("introductions: only to those who hear", INTRODUCTIONS, "if serves && hears {", "if serves {",
     process("introductions", "whoever_is_not_there")),
    ("introductions: one that was not handed over was never made", INTRODUCTIONS,
     "            self.table.end(link, Role::Callee);\n            self.table.end(link, Role::Caller);\n", "",
     process("introductions", "callers_that_hang_up")),
    ("introductions: what is not taken ends for the callee", INTRODUCTIONS,
     "            self.table.end(id, Role::Callee);\n", "            let _ = id;\n",
     process("introductions", "what_nobody_takes")),
    ("introductions: what is not taken is dropped", INTRODUCTIONS, "for id in self.waiting.expire(now) {", "for id in Vec::new() {",
     process("introductions", "what_nobody_takes")),
    ("introductions: nothing is kept for those who are gone", INTRODUCTIONS, "        self.waiting.left(key);\n", "",
     process("introductions", "a_callee_that_died")),
    ("introductions: unread answers count with all their descriptors", CONNECTIONS, "self.unread.sent(&socket, descriptors.len());",
     "self.unread.sent(&socket, 1);", process("introductions", "whoever_does_not_read")),
    ("introductions: a user's share of a backlog", WAITING, "} else if of_user >= OF_ONE_USER {", "} else if false {",
     tests("how_many_wait_is_limited")),
    ("introductions: a client's backlog", WAITING, "if at_client >= AT_ONE_CLIENT {", "if false {", tests("how_many_wait_is_limited")),
    ("introductions: how many wait in all", WAITING, "self.ids.len() >= in_all || ", "", tests("how_many_wait_is_limited")),
    ("introductions: users take turns", WAITING, "            self.users.push_back((uid, parts));\n        }\n        part\n",
     "            self.users.push_front((uid, parts));\n        }\n        part\n", tests("users_take_turns")),
    ("introductions: a new bell rings for what waits", WAITING, "        if !client.users.is_empty() {\n", "        if false {\n",
     tests("a_bell_rings_for_what_waits")),
    ("introductions: a closed bell is noticed", WAITING, "!looked[0].revents().contains(PollFlags::ERR)", "true",
     tests("a_bell_rings_for_what_waits")),
    ("introductions: an ended link is no longer in the quota", LINK_TABLE,
     "if line.share.as_ref().is_some_and(|(payer, _)| *payer == role) {", "if false {", tests("each_side_counts_for_itself")),
    ("introductions: an ended link is no longer at its callee", LINK_TABLE, "            *count = count.saturating_sub(1);\n", "",
     tests("each_side_counts_for_itself")),
    ("introductions: a caller's word frees no place at its callee", LINK_TABLE,
     "        if role == Role::Callee && let (Some(uid), Some(client))", "        if let (Some(uid), Some(client))",
     tests("each_side_counts_for_itself")),
    ("introductions: a bit is compared with what it was", LINK_MARKS, "        if self.bit(index) {\n", "        if false {\n",
     tests("a_link_has_ended_when_its_bit")),
    ("quotas: links", QUOTAS, "if user.links >= links {", "if user.links > links {", tests("links_count_for_their_user")),
    ("quotas: clients", QUOTAS, "if user.clients >= clients {", "if user.clients > clients {",
     tests("server::quotas::tests::quotas_hold")),
    ("quotas: connections that ask", QUOTAS, "if asking >= quota as usize {", "if asking > quota as usize {",
     tests("server::quotas::tests::places_are_kept")),
    ("deaths: the end of a process is heeded", ACCEPTOR,
     "Source::Process(id) => self.end(id, client_died),", "Source::Process(_) => {}",
     process("overload", "forked_child_hides_is_seen")),
    ("deaths: processes without a pidfd are looked at", PROCESSES,
     "self.unwatched.iter().copied().filter(is_dead).collect()",
     "self.unwatched.iter().copied().filter(is_dead).take(0).collect()",
     process("overload", "is_seen_without_descriptors_too")),
    ("fork: a child does not wait for its parent's server", HANDLE,
     "        if self.process.is_foreign() {\n            // The thread", "        if false {\n            // The thread",
     process("fork", "a_server_is_not_ended")),
    ("hot path: no allocation", RESPONDER,
     "let payload = &self.body[..len];", "let copy = self.body.clone();\n        let payload = &copy[..len];",
     process("hot_path", "allocates_nothing")),
    ("hot path: no system call in the worker", RING,
     "        published.wake_after_fence();\n", "        published.wake_after_fence();\n        std::thread::yield_now();\n",
     process("hot_path", "no_system_call")),
    ("hot path: no system call in the client", REQUESTER, "        self.requests.clear_ahead();\n",
     "        self.requests.clear_ahead();\n        std::thread::yield_now();\n", process("hot_path", "no_system_call")),
    # The copy
    ("copy: the last byte", COPIES, "        if left & 1 != 0 {", "        if left & 1 != 0 && left > 1 {",
     tests("shm::copy")),
    ("copy: half of a vector pair", COPIES,
     '            "movdqu xmmword ptr [{to} + {at} + 16], {b}",\n', "", tests("shm::copy")),
    ("copy without vectors: the last bytes", ATOMIC_COPIES,
     "        for at in (0..head).chain(words_end..len) {\n            AtomicU8",
     "        for at in 0..head {\n            AtomicU8", ("tests --cfg ringpost_atomic_copy", ("shm::copy",))),
    # The guards of the cost
    ("instructions: one copy for each block", PRODUCER,
     "        self.write_parts(start, header, parts);\n        self.commit_one(start, len);\n        Ok(())\n    }\n",
     "        self.write_parts(start, header, parts);\n        self.write_parts(start, header, parts);\n        self.commit_one(start, len);\n        Ok(())\n    }\n",
     ("bench", ("instructions",))),
    ("benchmarks: they run", PRODUCER, "        let start = if self.fits_here(len)",
     "        if len >= 256 {\n            return Err(NotSent::TooLarge { len, max: 255 });\n        }\n"
     "        let start = if self.fits_here(len)",
     ("bench", ("ring", "--", "--test"))),
    # Topics
    ("topic: the intent", TOPIC_WRITER,
     "        self.ring.word64::<INTENT>().store(intent, Ordering::Relaxed);\n", "",
     loom("a_lapped_reader")),
    ("topic: the fence behind the intent", TOPIC_WRITER,
     "        fence(Ordering::Release);\n", "", loom("a_lapped_reader")),
    ("topic: the intent covers the header behind the record", TOPIC_WRITER,
     "let end = start + size + LINE as u64;", "let end = start + size;",
     loom("a_reader_one_pass_behind")),
    ("topic: the zero behind a record", TOPIC_WRITER,
     "        let end = start + size;\n        self.ring.header(end).store(EMPTY, Ordering::Relaxed);\n", "        let end = start + size;\n",
     tests("topic::property")),
    ("topic: the header after the payload", TOPIC_WRITER,
     "store(data_header(start, len), Ordering::Release);", "store(data_header(start, len), Ordering::Relaxed);",
     loom("a_lapped_reader")),
    ("topic: the fence of a look", TOPIC_READER,
     "        let word = self.ring.header(self.position).load(Ordering::Relaxed);\n        fence(Ordering::Acquire);\n",
     "        let word = self.ring.header(self.position).load(Ordering::Relaxed);\n", loom("a_lapped_reader")),
    ("topic: the fence before the intent", TOPIC_READER,
     "        fence(Ordering::Acquire);\n        self.ring.word64::<INTENT>()", "        self.ring.word64::<INTENT>()",
     loom("a_lapped_reader", "a_late_reader")),
    ("topic: the second look, behind the copy", TOPIC_READER,
     "            if !self.is_lapped() {\n                return Ok(Some(self.taken(LINE as u64)));\n            }\n",
     "            return Ok(Some(self.taken(LINE as u64)));\n", loom("a_lapped_reader")),
    ("topic: an empty look is checked", TOPIC_READER,
     "word == EMPTY && !self.careful && !self.is_lapped()", "word == EMPTY && !self.careful",
     loom("a_reader_one_pass_behind")),
    ("topic: whoever is about to sleep checks an empty look", TOPIC_READER,
     "        self.load_header() != EMPTY\n            || self.is_lapped()\n            || self.ring.word32::<ENDED>()", "        self.load_header() != EMPTY\n            || self.ring.word32::<ENDED>()",
     loom("a_reader_does_not_sleep_over")),
    ("topic: sequence before position in the table", TOPIC_WRITER,
     "        self.view.word64(sequence).store(self.sequence, Ordering::Relaxed);\n        self.view.word64(position).store(start | 1, Ordering::Release);\n",
     "        self.view.word64(position).store(start | 1, Ordering::Release);\n        self.view.word64(sequence).store(self.sequence, Ordering::Relaxed);\n",
     loom("a_lapped_reader", "a_late_reader")),
    ("topic: an entry is checked against the intent", TOPIC_READER,
     "(!self.is_overwritten(position) && self.is_plausible(position, sequence))", "self.is_plausible(position, sequence)",
     loom("a_lapped_reader", "a_late_reader")),
    ("topic: the entry before the last record", TOPIC_WRITER,
     "        if start >= self.noted {\n            self.enter(start);\n        }\n        // Behind the entry of its part, from which its sequence is counted.\n        self.ring.word64::<LAST>().store(start | 1, Ordering::Release);\n",
     "        self.ring.word64::<LAST>().store(start | 1, Ordering::Release);\n        if start >= self.noted {\n            self.enter(start);\n        }\n",
     loom("a_reader_of_the_latest", "a_late_reader")),
    ("topic: missed samples are counted", TOPIC_READER,
     "        self.missed = self.missed.saturating_add(sequence - self.sequence);\n", "",
     tests("topic::property")),
    ("topic: the fence behind a sample", TOPIC_WRITER,
     "        if self.always_fences {\n            fence(Ordering::SeqCst);\n        }\n        // Behind", "        // Behind",
     loom("each_sample_wakes", "each_sample_kicks")),
    ("topic: the fence of a reader that parks", TOPIC_READER,
     "        futex::set(&self.page.parked, PARKED);\n        fence(Ordering::SeqCst);\n",
     "        futex::set(&self.page.parked, PARKED);\n", loom("each_sample_wakes")),
    ("topic: the fence of a reader that arms", TOPIC_READER,
     "            pipe.permit();\n        }\n        fence(Ordering::SeqCst);\n", "            pipe.permit();\n        }\n",
     loom("each_sample_kicks")),
    ("topic: whoever is attached is woken", AUDIENCE,
     "        attached.wake_in_any_case();\n    }\n\n    /// Behind it the writer", "    }\n\n    /// Behind it the writer", loom("a_reader_that_is_attached")),
    ("topic: the end wakes", AUDIENCE,
     "    for attached in readers {\n        attached.wake_in_any_case();\n    }\n", "", loom("the_end_wakes")),
    ("topic: a reader is told before the intent passes it", AUDIENCE,
     "        attached.page.set_state(why);\n", "", loom("an_evicted_reader")),
    ("topic: a cursor wakes the writer", TOPIC_READER,
     "        if self.page.publisher_parked.load(Ordering::Relaxed) != AWAKE {\n            self.wake_publisher();\n        }\n", "",
     loom("a_writer_sleeps")),
    ("topic: the fence behind a cursor", TOPIC_READER,
     "        self.tell_at = self.position + self.shape.part();\n        fence(Ordering::SeqCst);\n",
     "        self.tell_at = self.position + self.shape.part();\n", loom("a_writer_sleeps")),
    ("topic: the fence of a writer that parks", PATIENCE,
     "                    futex::set(word, PARKED);\n                    fence(Ordering::SeqCst);\n",
     "                    futex::set(word, PARKED);\n", loom("a_writer_sleeps", "a_reader_that_leaves")),
    ("topic: whoever leaves wakes the writer", TOPIC_READER,
     "        self.page.leave();\n        fence(Ordering::SeqCst);\n        self.wake_publisher();\n", "        self.page.leave();\n",
     loom("a_reader_that_leaves")),
    ("topic: reliable readers are waited for", TOPIC_WRITER,
     "        self.wait_for_readers(intent, deadline)?;\n", "        let _ = deadline;\n", tests("a_publisher_waits_for_reliable")),
    ("topic: a writer that goes on elsewhere overwrites nothing", TOPIC_WRITER,
     "        if self.heeded.has_successor {\n            // The readers of this segment are not waited for any more, so nothing is overwritten here.\n            return Ok(false);\n        }\n", "",
     tests("a_writer_that_waits_goes_on")),
    ("topic: the floor of a reader that is attached", AUDIENCE,
     "                attached.floor(self.0.tail.load(Ordering::Acquire));\n", "                attached.floor(u64::MAX - 1);\n",
     loom("a_reliable_reader_misses")),
    ("topic: a cursor beyond the tail", PATIENCE,
     " || cursor > self.position)", ")", tests("a_reader_whose_cursor")),
    ("topic: a dropped grant leaves nothing", TOPIC_GRANT,
     "        while at < to {", "        while at < to && at > 0 {", tests("topic::tests")),
    ("topic: a dropped grant whose address is known leaves nothing", TOPIC_GRANT,
     "if self.is_exposed { self.len } else { self.written }", "self.written", tests("what_is_written_at_an_address")),
    ("topic: what a shorter sample leaves of such a grant", TOPIC_GRANT,
     "if self.is_exposed { self.wipe(", "if false { self.wipe(", tests("what_is_written_at_an_address")),
    ("topic: only such a grant pays for that", TOPIC_GRANT,
     "if self.is_exposed { self.wipe(", "if true { self.wipe(", tests("an_address_is_paid_for")),
    ("topic: a forked child gives back its parent's grant", TOPIC_GRANT,
     "        if !self.is_forked() {\n            self.wipe", "        if true {\n            self.wipe",
     process("topics", "a_forked_child_cannot")),
    ("topic: a forked child commits its parent's grant", TOPIC_GRANT,
     "        if self.is_forked() {\n            return;", "        if false {\n            return;",
     process("topics", "a_forked_child_cannot")),
    ("topic: a forked child takes what its parent looks at", SAMPLE,
     "if self.notice.is_forked() {", "if false {", process("topics", "a_forked_child_cannot")),
    ("topic: what a view says of what was read in place", SAMPLE,
     "self.sample.check().map_err(|Overwritten| Overrun)", "Ok(())", process("topics", "a_view_that_was_overrun")),
    ("topic: readers that came before they were expected", AUDIENCE,
     "            state.expect_no_more();\n            drop(state);", "            drop(state);", tests("a_writer_expects")),
    ("topic: readers that are not those that are expected", AUDIENCE,
     "            if reliable && from_beginning {", "            if reliable {", tests("a_writer_expects")),
    # What other languages need
    ("caller: another limit for questions", "src/client/caller.rs", "        self.timeout = timeout;", "        let _ = timeout;",
     process("client", "a_caller_may_give")),
    ("message: one that is submitted with patience waits", "src/client/messages.rs",
     "            if patience.is_zero() {", "            if true {", process("client", "messages_that_are_submitted")),
    ("message: what became of one that was submitted", "src/client/messages.rs",
     "Some(status) => self.sent(status).map(Some),", "Some(_) => Ok(Some(())),", process("client", "messages_that_are_submitted")),
    # Taps
    ("tap: only the server's user and root", TOPICS,
     "            if !self.shared.ledger.is_exempt(uid) {\n                let refused = Refused::new(\"tap\"",
     "            if uid == u32::MAX {\n                let refused = Refused::new(\"tap\"", process("tap", "another_user_may_not_tap")),
    ("tap: the last that leaves ends the copying", TOPICS,
     "                self.taps = None;\n            }\n        }\n    }\n\n    /// When",
     "            }\n        }\n    }\n\n    /// When", process("tap", "several_tap_at_once")),
    ("tap: a refused message is copied", WORKER,
     "&responder.body()[payload_at..], Status::NotAllowed, None);", "&[], Status::NotAllowed, None);",
     process("tap", "a_message_that_is_refused")),
    ("figures: a stranger's look turns nothing on", FIGURES_ASKED, "if is_operator {", "if true {",
     process("figures", "a_strangers_look")),
    ("figures: a stranger is told of itself only", FIGURES_ASKED, "(is_operator || user.uid == uid)", "true",
     process("figures", "a_strangers_look")),
    ("figures: nothing is measured any more some time after a look", FIGURES_ASKED,
     "if self.until.is_some_and(|until| until <= now) {", "if false {", process("figures", "durations_are_measured")),
    ("figures: nothing is measured any more at the end", "src/server/lifecycle.rs",
     "        self.stamping.end(&self.shared);\n", "", process("figures", "durations_are_measured")),
    ("figures: who comes later measures, too", ENROLMENT, "if self.shared.is_stamped() {", "if false {",
     process("figures", "durations_are_measured")),
    ("figures: a worker's wake is counted", WORKER, "measures.measured.count(Timed::Wake, took)", "drop((&measures, took))",
     process("figures", "a_wake_is_measured")),
    ("figures: what a worker did is in one sum or the other", "src/server/workers.rs",
     "            sums.add(&entry.member.measured.totals());\n", "", process("figures", "totals_only_grow")),
    ("figures: nobody waits for a server that has ended", "src/server/lifecycle.rs",
     "        self.shared.questions.close();\n        self.stamping.end(&self.shared);\n", "        self.stamping.end(&self.shared);\n",
     process("figures", "a_server_that_ends")),
    ("figures: a ring holds no more than its size", "src/ring/glance.rs", "tail.saturating_sub(head).min(self.size())",
     "tail.saturating_sub(head)", tests("what_a_peer_may_have_written_is_only_a_number")),
    ("figures: a walk over a ring ends with the ring", "src/ring/glance.rs",
     "Some(end) if end - start <= self.size() => at = end,", "Some(end) => at = end,",
     tests("what_a_peer_may_have_written_is_only_a_number")),
    ("figures: places rise", PAGE_OF_FIGURES, "if entry.place() < least {", "if false {", tests("no_server_can_send_an_endless_page")),
    ("figures: a page leads on", PAGE_OF_FIGURES, "next if next > from && next >= least => Some(Decoded", "next => Some(Decoded",
     tests("no_server_can_send_an_endless_page")),
    ("figures: two servers are not mixed", PAGE_OF_FIGURES, "if page.server != server {", "if false {",
     tests("figures_of_two_servers_are_not_mixed")),
    ("figures: a histogram's steps rise", PAGE_OF_FIGURES, "(bucket >= least).then_some(counts.get_mut(bucket)?)?",
     "counts.get_mut(bucket)?", tests("any_page_of_figures")),
    ("figures: a rank is not rounded up twice", "src/wire/histogram.rs", "percent.next_down()", "percent",
     tests("a_rank_is_not_rounded_up_twice")),
    ("figures: no more samples than lines", "src/topic/glance.rs", "(samples <= behind / LINE as u64).then_some(",
     "true.then_some(", tests("whatever_a_publisher_writes_is_only_a_number")),
    ("figures: samples since the newest entry are counted", "src/topic/glance.rs", "sequence.wrapping_add(counted)", "sequence.wrapping_add(1)",
     tests("every_sample_is_counted")),
    ("tap: no more bytes than are wanted", TAP_RECORD,
     "        let payload = &self.payload[..self.payload.len().min(most)];\n", "        let payload = self.payload;\n",
     tests("any_record_decodes")),
    ("tap: no more bytes than there were", TAP_RECORD,
     " && head.len() as u64 <= len;", ";", tests("what_contradicts_itself")),
    ("tap: a link's copies are its owner's", "src/bin/ringpost/tap.rs",
     "subscriber.publishers().iter().all(|publisher| publisher.name != *name)", "subscriber.publishers().is_empty()",
     process("programs", "links_are_shown_if")),
    ("tap: who comes to a link's tap is noticed", "src/client/links/tap.rs",
     "        if seen >> 1 == generation {\n", "        if seen != u64::MAX {\n", process("tap", "a_link_is_tapped")),
    ("span: a subscriber's panic is contained", OBSERVED,
     "        contain(|| span.with_subscriber(|(id, subscriber)| subscriber.exit(id)));\n",
     "        span.with_subscriber(|(id, subscriber)| subscriber.exit(id));\n", process("subscriber", "one_that_panics_around")),
    ("span: it is left although the service panics", OBSERVED,
     "    returned.unwrap_or_else(|panic| resume_unwind(panic))\n}\n\nfn contain",
     "    drop(returned);\n    resume_unwind(Box::new(()))\n}\n\nfn contain", process("subscriber", "one_that_wants_spans")),

    # ringpost top
    ("top: another server is compared with nothing", TOP,
     "if !self.last.as_ref().is_some_and(same) { *self = Looks::default(); }", "let _ = same;",
     program("another_server_is_compared_with_nothing")),
    ("top: a client is its key, not its name", TOP,
     "Client::new(client, before.get(key).copied(),",
     "Client::new(client, then.and_then(|then| then.clients.iter().find(|old| old.info.name == client.info.name)),",
     program("a_client_that_came_anew_is_not_the_old_one")),
    ("top: names are escaped", TOP,
     "out::readable(name.as_bytes())", "name.to_owned()",
     program("nobody_s_name_controls_the_terminal")),
    ("topics: a publisher that the server has ended is read on", "src/client/topics/feed.rs",
     "Fate::Over => part.lingers(self.lingers, lingering < MOST_LINGERING),", "Fate::Over => false,",
     tests("a_publisher_that_the_server_has_ended_is_read")),
    ("topics: how far a publisher was read is kept when it has ended", "src/client/topics/feed.rs",
     "self.leave_off(part, goes_on);",
     "if goes_on { self.leave_off(part, goes_on) } else { self.shared.forget(&part.identity) }",
     tests("a_publisher_that_has_ended_is_not_read_again")),
    ("topics: not many of them are", "src/client/topics/feed.rs",
     "part.lingers(self.lingers, lingering < MOST_LINGERING)", "part.lingers(self.lingers, true)",
     tests("few_publishers_are_read")),
    ("top: a panic gives the terminal back", TOP,
     "leave(&settings); before(info);", "let _ = &settings; before(info);",
     program("a_panic_gives_the_terminal_back")),
    ("top: the end gives the terminal back", TOP,
     "self.closed = true; self.give_back();", "self.closed = true;",
     process("programs", "the_terminal_is_given_back_at_every_end")),
    ("top: without a shell nothing stops it", "src/bin/ringpost/client/terminal.rs",
     "if has_shell() { let _ = kill", "if true { let _ = kill",
     process("programs", "without_a_shell_ctrl_z_does_not_stop_it")),
    ("metrics: who keeps a place for nothing loses it", "src/bin/ringpost-server/metrics/serve.rs",
     "connections.swap_remove(place);", "let _ = place;", process("programs", "who_asks_slowly")),
    ("metrics: a request may not come for ever", "src/bin/ringpost-server/metrics/connection.rs",
     "if now >= self.until { return Step::Over; }", "", process("programs", "who_says_nothing")),
    ("metrics: a web page cannot ask", "src/bin/ringpost-server/metrics/request.rs",
     "if local && host.is_some_and(", "if !local && host.is_some_and(", process("programs", "who_asks_slowly")),
    ("metrics: clients that left are not told", "src/bin/ringpost-server/metrics/serve.rs",
     "let recorder = PrometheusBuilder::new().build_recorder();",
     "static ONE: std::sync::OnceLock<metrics_exporter_prometheus::PrometheusRecorder> = std::sync::OnceLock::new(); "
     "let recorder = ONE.get_or_init(|| PrometheusBuilder::new().build_recorder());",
     process("programs", "what_is_scraped")),
    ("metrics: a Unix socket is not for all", "src/bin/ringpost-server/metrics/address.rs",
     "const MODE: u32 = 0o660;", "const MODE: u32 = 0o666;", process("programs", "a_unix_socket_is_for")),
    ("doctor: its status is that of the worst finding", "src/bin/ringpost/doctor/finding.rs",
     "findings.iter().map(|finding| finding.verdict).max()", "findings.iter().map(|finding| finding.verdict).min()",
     process("programs", "the_doctor_names")),
    ("doctor: a server is known by its acceptor", "src/bin/ringpost/doctor/subject.rs",
     'Some("rp-acceptor")', 'Some("acceptor")', process("programs", "the_doctor_finds")),
    # C
    ("C: a handle that was freed is told", C_HANDLE, "    block.tag.store(FREED, Ordering::Release);\n", "", in_c()),
    ("C: so is a handle of another kind", C_HANDLE, "tag if tag == H::TAG => Ok(block),", "tag if tag != FREED => Ok(block),", in_c()),
    ("C: a handle is for one thread at a time", C_HANDLE,
     "let entered = users.compare_exchange(0, ALONE, Ordering::Acquire, Ordering::Relaxed);",
     "let entered = Ok::<u32, u32>(users.swap(ALONE, Ordering::Acquire));", in_c()),
    ("C: what is lent is in use", C_HANDLE, "self.users.store(LENT, Ordering::Relaxed);", "self.users.store(0, Ordering::Relaxed);", in_c()),
    ("C: a service that fails is told", C_SERVICE,
     '(None, code) => Err(ServiceError::new(format_args!("the service returned {code}"))),', "(None, _) => Ok(()),", in_c()),
    ("C: a service's context is released", C_SERVICE, "unsafe { release(self.context) }", "{ let _ = release; }", in_c()),
    ("C: who does not listen is told from who is not there", C_ERROR,
     "NotServing => RINGPOST_NOT_SERVING,", "NotServing => RINGPOST_NOT_FOUND,", conformance("links that cannot be")),
    ("C: whether a call may have been executed", C_ERROR,
     "Failure { status, text, may_have_executed: error.may_have_executed() } } } impl From<SendError>",
     "Failure { status, text, may_have_executed: false } } } impl From<SendError>", conformance("a service that is slow")),
    ("C: a failed service's text is its own", C_ERROR, "CallError::ServiceFailed(why) => why.clone(),", "", conformance("what a link can carry")),
    # C++
    ("C++: a grant that goes is abandoned", CPP + "/topics.hpp", "if (publisher_) ringpost_publisher_abandon(publisher_.get());", "", in_c()),
    ("C++: a view that goes is released", CPP + "/topics.hpp", "if (subscriber_) ringpost_subscriber_release(subscriber_.get());", "", in_c()),
    ("C++: an overrun is told", CPP + "/topics.hpp", "if (status == RINGPOST_OVERRUN) return false;", "if (status == RINGPOST_OVERRUN) return true;", in_c()),
    ("C++: the caller gets an exception's text", CPP + "/links.hpp",
     "answer.fail(failure.what());\n    } catch (...)", "static_cast<void>(failure);\n    } catch (...)", in_c()),
    ("C++: a service is deleted", CPP + "/links.hpp", "delete static_cast<Service *>(context)", "static_cast<void>(context)", in_c()),
    ("C++: what was ended is empty", CPP + "/base.hpp", "static_cast<void>(handle_.release());", "static_cast<void>(0);", in_c()),
    ("C++: a negative duration is no wait", CPP + "/base.hpp", "else if (ns > 0)", "else", in_c()),
    ("C++: the rest of an array of numbers is sent, too", CPP + "/base.hpp",
     "std::ranges::size(range) * sizeof(std::ranges::range_value_t<Range>)", "std::ranges::size(range)", in_c()),
    # Python
    ("Python: a call that was given up is forgotten", PYTHON + "/calls.rs",
     "own.wanted = false;", "let _ = own;", in_python("test_client.py", "a_call_that_timed_out_is_forgotten")),
    ("Python: a signal ends a wait", PYTHON + "/waits.rs",
     "Err(error) if error.is_over_time() && !last => py.check_signals()?,", "Err(error) if error.is_over_time() && !last => {}",
     in_python("test_client.py", "a_signal_ends_a_wait")),
    ("Python: a traceback is not for the caller", PYTHON + "/service.rs",
     "if told.is_ok_and(|told| error.matches(py, told).unwrap_or(false)) {", "if told.is_ok() {",
     in_python("test_client.py", "a_service_that_raises_tells_its_caller_nothing")),
    ("Python: a view is not released while it is seen", PYTHON + "/views.rs",
     "    if place.exports == 0 {", "    if place.exports < 1_000_000 {", in_python("test_views.py", "")),
    ("Python: a sample in place cannot be written to", PYTHON + "/views.rs",
     "(own.len, true), address)", "(own.len, false), address)", in_python("test_views.py", "")),
    ("Python: the end of a view tells of an overrun", PYTHON + "/views.rs",
     "let whole = shown.borrow_dependent().check().is_ok();\n        self.subscriber",
     "let whole = true;\n        self.subscriber", in_python("test_views.py", "")),
    ("Python: a fork is told from an end", PYTHON + "/errors.rs",
     'if reason == CloseReason::Forked { "Forked" } else { "Disconnected" }', 'if reason == CloseReason::Local { "Forked" } else { "Disconnected" }',
     conformance("a forked child")),
    ("Python: a reliable publisher that never waits is refused", PYTHON + "/errors.rs",
     'SubscribeError::Refused(_) | SubscribeError::NotReliable { .. } => "Refused",', "",
     conformance("a publisher that does not wait for anybody")),
    ("asyncio: what nobody waits for leaves the loop alone", PACKAGE + "/_loop.py",
     "            self.leave()\n        else:\n            self.wake()", "            pass\n        else:\n            self.wake()",
     in_python("test_asyncio.py", "leaves_the_loop_alone")),
    ("asyncio: a wait is announced", PACKAGE + "/_loop.py", "                if self._arm():\n", "                if True:\n",
     in_python("test_asyncio.py", "leaves_the_loop_alone")),
    ("asyncio: receivers that never wait let others run", PACKAGE + "/_loop.py",
     "                await asyncio.sleep(0)\n            while", "                pass\n            while",
     in_python("test_asyncio.py", "let_others_run")),
    ("asyncio: calls that never wait let others run", PACKAGE + "/_loop.py",
     "            await asyncio.sleep(0)\n        alone", "            pass\n        alone", in_python("test_asyncio.py", "let_others_run")),
    ("asyncio: calls go in order", PACKAGE + "/_loop.py",
     "if self._queue or not self._submit(submit, future):", "if not self._submit(submit, future):",
     in_python("test_asyncio.py", "executed_in_order")),
    ("asyncio: a name is looked up behind the calls, beside the loop", PACKAGE + "/_loop.py",
     "        if self._due:\n            return False\n", "", in_python("test_asyncio.py", "without_holding_up")),
    ("asyncio: a call that was cancelled before there was room is not made", PACKAGE + "/_loop.py",
     "if not future.done() and not begin():", "if not begin():", in_python("test_asyncio.py", "before_there_was_room")),
    ("asyncio: a close tells that calls may have been executed", PACKAGE + "/_loop.py",
     "own.may_have_executed = True", "pass", in_python("test_asyncio.py", "closing_ends")),
    ("asyncio: each call gets an exception of its own", PACKAGE + "/_loop.py",
     "                future.set_exception(copy.copy(error))", "                future.set_exception(error)",
     in_python("test_asyncio.py", "closing_ends")),
    # The players themselves
    ("a player in C that mixes up two errors", PLAYERS + "/player.c", 'case RINGPOST_NAME_TAKEN: return "name-taken";',
     'case RINGPOST_NAME_TAKEN: return "invalid-name";', conformance("a name is one client's")),
    ("a player in Rust that answers a byte too little", PLAYERS + "/player.rs",
     '("big", len) => response.write(&pattern(len.parse().expect("a length"))[..]),',
     '("big", len) => response.write(&pattern(len.parse().expect("a length"))[1..]),', conformance("what a link can carry")),
    ("a player in Python that tells no sequence", PLAYERS + "/player.py", "{sample.sequence} {sample.missed}", "1 {sample.missed}",
     conformance("topics and samples")),
    ("an independent client that leaves a header behind its block", "tests/independent.py",
     "        self.headers[(start + record) % self.size // 8] = 0\n", "", conformance("what a call can carry")),
    ("an independent client that takes another layout", "tests/independent.py", "self.responses = Ring(self.memory, 640,", "self.responses = Ring(self.memory, 1024,",
     conformance("what a call can carry")),
]


def cargo():
    nightly = subprocess.run(["cargo", "+nightly", "--version"], capture_output=True).returncode == 0
    return ["cargo", "+nightly"] if nightly else ["cargo"]


# Built quickly, and tests that fail do not look for the shortest case in which they do.
QUICKLY = {"CARGO_INCREMENTAL": "1", "CARGO_PROFILE_DEV_DEBUG": "0", "CARGO_PROFILE_RELEASE_LTO": "off",
           "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16", "CARGO_PROFILE_RELEASE_DEBUG": "0", "PROPTEST_MAX_SHRINK_ITERS": "0"}


def run(command, longest=LONGEST, quickly=QUICKLY, **environment):
    """'passed', 'failed' or 'hung', and the output."""
    environment = {**os.environ, **quickly, **environment}
    # A group of its own: what is late is ended with all that it started.
    started = subprocess.Popen(command, cwd=COPY, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True)
    try:
        output, _ = started.communicate(timeout=longest)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)
        output, _ = started.communicate()
        return "hung", output
    return ("passed" if started.returncode == 0 else "failed"), output


def build(command, **environment):
    """Builds a test program. Its path, or nothing and the compiler's words."""
    result, output = run(command + ["--no-run", "--message-format=json-render-diagnostics"], longest=3600, **environment)
    messages = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    programs = [message["executable"] for message in messages if message.get("executable")]
    return (programs[-1], "") if result == "passed" and programs else (None, output)


def run_tests(program, names, **environment):
    """Runs tests one at a time: a deadlock in one model ends the whole program."""
    for name in names:
        result, output = run([program, "--color=never", name], **environment)
        if "running 0 tests" in output:
            return "broken", f"no test is called {name}"
        if result != "passed":
            return result, output
    return "passed", output


def check(kind, what):
    """Runs a check on the copy. Building comes first, so that a mutant that does not compile is not taken for caught."""
    if kind == "loom" or kind.startswith("tests"):
        flags, place = ("--cfg loom", "loom") if kind == "loom" else (kind.removeprefix("tests"), "tests")
        environment = {"RUSTFLAGS": flags, "CARGO_TARGET_DIR": str(BUILD / place)}
        program, output = build(["cargo", "test", "--lib"] + (["--release"] if kind == "loom" else []), **environment)
        if program is None:
            return "broken", output
        # What is named is the beginning of a model's name; of a test's it may be any part.
        names = what if kind != "loom" else [f"::{name}" for name in what]
        return run_tests(program, names)
    if kind == "process":
        program, output = build(["cargo", "test", "--features", "cli", "--test", what[0]], CARGO_TARGET_DIR=str(BUILD / "tests"))
        return ("broken", output) if program is None else run_tests(program, what[1:])
    if kind == "program":
        program, output = build(["cargo", "test", "--features", "cli", "--bin", "ringpost"], CARGO_TARGET_DIR=str(BUILD / "tests"))
        return ("broken", output) if program is None else run_tests(program, what)
    if kind == "fuzz":
        environment = {"RUSTC_BOOTSTRAP": "1", "CARGO_TARGET_DIR": str(BUILD / "fuzz")}
        built, output = run(cargo() + ["fuzz", "build", what[0]], longest=3600, **environment)
        if built != "passed":
            return "broken", output
        corpus = BUILD / "corpus"
        corpus.mkdir(exist_ok=True)
        return run(cargo() + ["fuzz", "run", what[0], str(corpus), "fuzz/seeds/" + what[0], "--",
                              "-max_total_time=120", "-max_len=1024", "-timeout=10"], **environment)
    if kind in LANGUAGES:
        return check_language(kind, *what)
    # Instruction counts need the release profile as it is.
    environment = {"quickly": {}, "CARGO_TARGET_DIR": str(BUILD / "bench")}
    command = ["cargo", "bench", "--features", "internals", "--bench"]
    built, output = run(command + [what[0], "--no-run"], longest=3600, **environment)
    return ("broken", output) if built != "passed" else run(command + [*what], **environment)


# Checks that need more than Rust.
LANGUAGES = ("c", "python", "conformance")


def check_language(kind, *what):
    """Runs a check in another language. What it needs is built first."""
    # The profile `checked` as it is.
    environment = {"quickly": {"CARGO_INCREMENTAL": "1"}, "CARGO_TARGET_DIR": str(BUILD / "languages"), "PYTHONDONTWRITEBYTECODE": "1"}
    if kind == "conformance":
        # The players are built before the arguments are looked at.
        built, output = run(["tests/conformance/test", "--help"], longest=3600, **environment)
        return ("broken", output) if built != "passed" else run(["tests/conformance/test", "--case", *what], **environment)
    manifest = f"bindings/{kind}/Cargo.toml"
    built, output = run(["cargo", "build", "--locked", "--profile", "checked", "--manifest-path", manifest], longest=3600, **environment)
    if built != "passed":
        return "broken", output
    if kind == "c":
        return run(["bindings/c/test", "--profile", "checked", "--quick"], **environment)
    package, venv = BUILD / "package", BUILD / "venv"
    if not venv.exists():
        project = tomllib.loads((COPY / "bindings/python/pyproject.toml").read_text())
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin/pip", "install", "--quiet", *project["project"]["optional-dependencies"]["test"]], check=True)
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(COPY / PACKAGE, package / "ringpost")
    shutil.copy(BUILD / "languages/checked/lib_ringpost.so", package / "ringpost/_ringpost.abi3.so")
    file, name = what
    result, output = run([str(venv / "bin/python"), "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-k", name,
                          f"bindings/python/tests/{file}"], PYTHONPATH=str(package), **environment)
    return ("broken", output) if re.search(r"^(no tests ran|\d+ deselected) in", output, re.MULTILINE) else (result, output)


@functools.cache
def is_sound(kind, what):
    """Whether a check passes without a mutant. One that fails for want of a tool would catch everything."""
    return check(kind, what)[0] == "passed"


def copy_tree():
    shutil.rmtree(COPY, ignore_errors=True)
    COPY.mkdir(parents=True)
    for name in ["Cargo.toml", "Cargo.lock", "src", "benches", "examples", "fuzz", "tests", "bindings", "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs"]:
        source = TREE / name
        if source.is_dir():
            shutil.copytree(source, COPY / name, ignore=shutil.ignore_patterns("target", "corpus", "artifacts"))
        elif source.exists():
            shutil.copy(source, COPY / name)
    # Failpoints do nothing for these checks (only for those of the registry), but would stand in the midst of what is replaced.
    for path in (COPY / "src").rglob("*.rs"):
        path.write_text(FAILPOINT.sub("", path.read_text()))


def places(place, there):
    """Where a text occurs in a file, or in the files of a folder. Any white space in it stands for any other."""
    text = re.compile(r"\s+".join(re.escape(word) for word in there.split()))
    path = COPY / place
    files = sorted(path.rglob("*.rs")) if path.is_dir() else [path] if path.exists() else []
    return [(file, match.span()) for file in files for match in text.finditer(file.read_text())]


def main():
    wanted = sys.argv[1:]
    if wanted == ["--list"]:
        print("\n".join(mutant[0] for mutant in MUTANTS))
        return 0
    if wanted == ["--table"]:
        print("| switched off | in | kind | caught by |\n| --- | --- | --- | --- |")
        for name, file, _, _, (kind, what) in MUTANTS:
            by = "`ring::property`" if what == PROPERTY[1] else ", ".join(f"`{one}`" for one in what if one[0] != "-")
            print(f"| {name} | `{file.removeprefix('src/')}` | {kind.split()[0]} | {by} |")
        return 0
    checks_only = wanted == ["--check"]
    chosen = [m for m in MUTANTS if not wanted or checks_only or any(w in m[0] for w in wanted)]
    copy_tree()
    survivors = []
    for name, place, there, instead, (kind, what) in chosen:
        began = time.monotonic()
        found = places(place, there)
        if len(found) != 1:
            result, output = "broken", f"the text to replace occurs {len(found)} times in {place}"
        elif checks_only:
            continue
        elif kind in LANGUAGES and not is_sound(kind, what):
            result, output = "broken", "the check fails without the mutant, too"
        else:
            path, (start, end) = found[0]
            original = path.read_text()
            path.write_text(original[:start] + instead + original[end:])
            result, output = check(kind, what)
            path.write_text(original)
        print(f"{'caught' if result == 'failed' else result.upper():8} {time.monotonic() - began:4.0f} s  {name}"
              f"  [{kind}: {' '.join(what) if what != PROPERTY[1] else 'ring::property'}]", flush=True)
        if result != "failed":
            survivors.append(name)
            print("    " + "\n    ".join(output.splitlines()[-15:]), flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} {'found' if checks_only else 'caught'}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
