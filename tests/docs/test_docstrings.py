"""The examples in the docstrings of the public functions run and give the results that they show."""

import doctest
import inspect

import pytest

import frechet

DOCUMENTED = [name for name in frechet.__all__ if ">>>" in (inspect.getdoc(getattr(frechet, name)) or "")]


def test_functions_without_images_have_an_example():
    assert {"score", "fd", "collect", "score_statistics", "read_statistics", "influence", "Score", "Scores"} <= set(
        DOCUMENTED
    )


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_example_runs(name):
    public = getattr(frechet, name)
    runner = doctest.DocTestRunner()
    for example in doctest.DocTestFinder(recurse=False).find(public, name, globs={"frechet": frechet}):
        runner.run(example)
    assert runner.tries
    assert not runner.failures
