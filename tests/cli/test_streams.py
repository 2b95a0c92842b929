"""A result that was computed is printed before anything else can fail, and broken streams cause no traceback."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import run

import frechet
from frechet.errors import OutputError, RunError

FLAGS = "--features --interval none"


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """Two arrays of features; a warning says that they record no extractor."""
    folder = tmp_path_factory.mktemp("arrays")
    for index, name in enumerate("ab"):
        np.save(folder / f"{name}.npy", np.random.default_rng(index).normal(size=(50, 4)).astype(np.float32))
    return folder / "a.npy", folder / "b.npy"


@pytest.fixture(scope="module")
def value(arrays):
    """The score, computed through Python."""
    return frechet.score(*arrays, features=True, interval="none")["fd"].value


def run_in_shell(arguments, redirections):
    """Run the command line with redirections of bash. Return (exit code, stdout, stderr)."""
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m frechet {arguments} {redirections}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.subprocess
@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "2> >(exec true)"])
def test_a_broken_stderr_does_not_cost_the_result(arrays, value, stderr):
    code, out, _ = run_in_shell(f"score {arrays[0]} {arrays[1]} {FLAGS} --json", stderr)
    assert code == 0
    assert json.loads(out)["scores"]["fd"]["value"] == value  # and no warning among the numbers


@pytest.mark.subprocess
@pytest.mark.parametrize("stdout", [">&-", ">/dev/full", ">&- <&-"])
def test_a_broken_stdout_fails_the_run_after_the_outputs_are_written(arrays, value, tmp_path, stdout):
    output = tmp_path / "score.json"
    code, _, err = run_in_shell(f"score {arrays[0]} {arrays[1]} {FLAGS} --output {output}", stdout)
    assert code == 3
    assert "stdout" in err or "No space left" in err
    assert "Traceback" not in err
    assert "Exception" not in err
    assert json.loads(output.read_text())["scores"]["fd"]["value"] == value


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("arguments", "redirections", "expected"),
    [
        ("--help", ">&-", 3),
        ("--help", ">/dev/full", 3),
        ("metrics", ">&- 2>&-", 3),
        ("score no.npy no.npy", "2>&-", 2),
        ("score no.npy no.npy", "2>/dev/full", 2),
        ("score --no-such-flag", "2>/dev/full", 2),
        ("score --no-such-flag", "2>&-", 2),
        ("score --no-such-flag", ">&- 2>&- <&-", 2),
    ],
)
def test_exit_codes_do_not_depend_on_the_streams(arguments, redirections, expected):
    code, out, err = run_in_shell(arguments, redirections)
    assert (code, out) == (expected, "")
    assert "Traceback" not in err
    assert "Exception" not in err


@pytest.mark.subprocess
def test_streams_that_are_closed_are_not_replaced_by_output_files(arrays, tmp_path):
    """The system gives a new file the lowest free number. A library that writes to 2 would write into it."""
    probe = (
        "import os, sys; from frechet.__main__ import main; import frechet.statistics.npz_format as target\n"
        "save = target.np.savez\n"
        "def savez(file, **arrays): os.write(2, b'noise'); save(file, **arrays)\n"
        f"target.np.savez = savez; sys.argv[1:] = ['stats', {str(arrays[0])!r}, {str(tmp_path / 's.npz')!r}, '--features']; main()"
    )
    subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "$PROBE" >&- 2>&- <&-'], env={**os.environ, "PROBE": probe}, check=False
    )
    assert frechet.read_statistics(tmp_path / "s.npz").n == 50
    assert (tmp_path / "s.npz").read_bytes().startswith(b"PK")


def test_the_number_is_printed_if_the_output_vanishes_during_the_run(arrays, value, tmp_path, monkeypatch):
    """Also if its folder is deleted, which is an OutputError: exit code 2 would mean that nothing was computed."""

    def vanish(path, **_options):
        raise OutputError(f"output folder {path.parent} does not exist; create it first")

    monkeypatch.setattr("frechet.cli.output_files.atomic_write", vanish)
    code, out, err = run("score", *arrays, *FLAGS.split(), "--json", "--output", tmp_path / "s.json")
    assert (code, json.loads(out)["scores"]["fd"]["value"]) == (3, value)
    assert "does not exist" in err


@pytest.mark.slow
def test_the_number_and_the_output_survive_a_report_that_cannot_be_written(arrays, value, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")

    def fail(*_arguments, **_options):
        raise RunError("page.html was not written: the disk is full")

    monkeypatch.setattr("frechet.reports.html.atomic_write", fail)
    outputs = ("--output", tmp_path / "s.json", "--report", tmp_path / "page.html")
    code, out, err = run("score", *arrays, *FLAGS.split(), "--json", *outputs)
    assert (code, json.loads(out)["scores"]["fd"]["value"]) == (3, value)
    assert "disk is full" in err
    assert json.loads((tmp_path / "s.json").read_text())["scores"]["fd"]["value"] == value


@pytest.mark.slow
def test_both_failures_are_reported(arrays, value, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    for module, text in (("frechet.cli.output_files", "first failure"), ("frechet.reports.html", "second failure")):

        def fail(*_arguments, text=text, **_options):
            raise RunError(text)

        monkeypatch.setattr(f"{module}.atomic_write", fail)
    outputs = ("--output", tmp_path / "s.json", "--report", tmp_path / "page.html")
    code, out, err = run("score", *arrays, *FLAGS.split(), "--json", *outputs)
    assert (code, json.loads(out)["scores"]["fd"]["value"]) == (3, value)
    assert "first failure" in err
    assert "second failure" in err


def test_statistics_that_cannot_be_saved_exit_with_3(arrays, tmp_path, monkeypatch):
    def vanish(path, **_options):
        raise OutputError(f"output folder {path.parent} does not exist; create it first")

    monkeypatch.setattr("frechet.statistics.npz_format.atomic_write", vanish)
    code, out, err = run("stats", arrays[0], tmp_path / "s.npz", "--features")
    assert (code, out) == (3, "")
    assert "does not exist" in err


@pytest.mark.subprocess
def test_characters_that_stdout_cannot_encode_are_escaped(tmp_path):
    np.save(tmp_path / "é.npy", np.random.default_rng(0).normal(size=(50, 4)))
    done = subprocess.run(
        [sys.executable, "-m", "frechet", "stats", tmp_path / "é.npy", tmp_path / "ü.npz", "--features"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, done.stderr)
    assert "\\xfc.npz: 50 rows" in done.stdout
