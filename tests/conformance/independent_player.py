"""Plays the steps of cases.txt with the client of tests/independent.py, as far as that goes: see play.py."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import independent  # noqa: E402
