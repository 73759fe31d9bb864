"""The programs in `examples/` do what they say, each in a process of its own."""

import re
import signal
import sys
from pathlib import Path

import pytest
from conftest import PATIENCE

EXAMPLES = Path(__file__).parents[1] / "examples"

# What those print that have both sides within them.
PRINTED = {
    "event_loop": """\
ONE TWO THREE
bob got a note from alice
alice got thanks
prices/ACME 187.50
prices/ACME 187.25
no more messages
""",
    "fixed_layouts": """\
1 187.5 100 0
2 187.25 50 1
[3 4] 186.75
""",
    "frames": "[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]\n",
    "json_messages": """\
{'total': 42, 'for': 'alice'}
{'event': 'shipped', 'items': [1, 2]}
""",
    "link": """\
bob answers hello alice
hello one, hello two, hello three
it fails: there is nothing to greet
without the server: hello again
served: ['alice']
""",
    "msgspec_calls": """\
pens: 10.0
this is no order: Expected `int`, got `str` - at `$.count`
""",
    "workers": "True [0, 0, 0]\n",
}


@pytest.mark.parametrize("name", PRINTED)
def test_it_prints_what_it_should(start, path, name):
    process = start(sys.executable, EXAMPLES / f"{name}.py", path)
    out, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, PRINTED[name])


def test_server_and_client(start, path):
    server = start(sys.executable, EXAMPLES / "server.py", path)
    assert server.stdout.readline() == f"ready at {path}\n"
    client = start(sys.executable, EXAMPLES / "client.py", "alice", path)
    out, _ = client.communicate(timeout=PATIENCE)
    assert client.returncode == 0
    assert re.fullmatch(
        r"alice has the key [0-9A-Z]{26}\nthe server says HELLO\nalice sent: a note to myself\n", out
    )
    server.send_signal(signal.SIGTERM)
    out, _ = server.communicate(timeout=PATIENCE)
    assert (server.returncode, out) == (0, "alice asks b'hello'\nended\n")


def test_every_example_is_run():
    names = {example.stem for example in EXAMPLES.glob("*.py")}
    assert names == {*PRINTED, "server", "client"}
