"""The examples in the docstrings."""

import doctest

import pytest
import ringpost
import ringpost._ringpost
import ringpost.aio


@pytest.mark.parametrize("module", [ringpost, ringpost.aio, ringpost.errors, ringpost._ringpost], ids=lambda module: module.__name__)
def test_examples(module, path):
    names = {"ringpost": ringpost, "path": path, **vars(module)}
    runner = doctest.DocTestRunner()
    tests = [doctest.DocTestParser().get_doctest(module.__doc__ or "", names, module.__name__, None, 0)]
    for name, found in vars(module).items():
        if isinstance(found, type) and found.__doc__:
            tests.append(doctest.DocTestParser().get_doctest(found.__doc__, dict(names), name, None, 0))
    for test in tests:
        assert runner.run(test).failed == 0, test.name
    assert runner.summarize().attempted > 0
