"""The examples in the docstrings, and the programs in the documents."""

import doctest
import os
import re
import sys
from pathlib import Path

import pytest
import ringpost
import ringpost._ringpost
import ringpost.aio
from conftest import PATIENCE

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "module",
    [ringpost, ringpost.aio, ringpost.errors, ringpost._ringpost],
    ids=lambda module: module.__name__,
)
def test_docstrings(module, path):
    names = {"ringpost": ringpost, "path": path, **vars(module)}
    runner = doctest.DocTestRunner()
    tests = [doctest.DocTestParser().get_doctest(module.__doc__ or "", names, module.__name__, None, 0)]
    for name, found in vars(module).items():
        if isinstance(found, type) and found.__doc__:
            tests.append(doctest.DocTestParser().get_doctest(found.__doc__, dict(names), name, None, 0))
    for test in tests:
        assert runner.run(test).failed == 0, test.name
    assert runner.summarize().attempted > 0


def programs(*documents):
    """Each fenced block of Python, with the heading above it as its name."""
    for document in documents:
        text = (ROOT / document).read_text()
        for block in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            heading = re.findall(r"^#+ (.*)", text[: block.start()], re.MULTILINE)[-1]
            yield pytest.param(block[1], id=f"{document}: {heading}")


@pytest.mark.parametrize(
    "program", list(programs("README.md", "docs/PYTHON.md", "bindings/python/README.md"))
)
def test_programs(program, start, tmp_path):
    # The default path is in there.
    tmp_path.chmod(0o700)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    # The pages have short limits. Only a fault lasts so long here.
    program = re.sub(r"\btimeout([=(])[15]\b", rf"timeout\g<1>{PATIENCE}", program)
    process = start(sys.executable, "-c", program, env=environment)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_the_main_page_names_every_exception():
    page = (ROOT / "docs/PYTHON.md").read_text()
    for name, found in vars(ringpost.errors).items():
        if isinstance(found, type) and issubclass(found, ringpost.errors.Error):
            assert f"`{name}`" in page or f"`ringpost.errors.{name}`" in page, name


def test_the_main_page_has_programs():
    assert len(list(programs("docs/PYTHON.md"))) >= 8
