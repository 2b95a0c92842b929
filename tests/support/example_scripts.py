"""The example scripts, run inside the test process: loading the frameworks takes most of the time of a new one."""

import runpy
import warnings

import pytest
from helpers import ROOT

EXAMPLES = ROOT / "examples"
needs_examples = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="a source distribution has no examples")


@pytest.fixture
def run_example(monkeypatch, capsys):
    """A function that runs a script with arguments and returns the lines that it prints."""

    def run_example(name, *arguments):
        monkeypatch.setattr("sys.argv", [name, *map(str, arguments)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run_example
