"""What the system withholds (a home, memory, threads, time) ends in a message, not in a traceback."""

import resource
import subprocess
import sys
import threading

import numpy as np
import pytest
from helpers import make_image_folder, restore_sigint, run

OFFLINE = ("--extractor", "efficientnet-lite0")
pytestmark = pytest.mark.usefixtures("small_inputs")


@pytest.fixture
def no_home(monkeypatch):
    """A user id without a name, as in containers: no HOME and no entry in the list of users."""

    def fail(_uid):
        raise KeyError("no such user")

    monkeypatch.setattr("pwd.getpwuid", fail)
    for variable in ("HOME", "XDG_CACHE_HOME", "TORCH_HOME", "FRECHET_WEIGHTS"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.usefixtures("no_home")
@pytest.mark.parametrize(
    "arguments",
    [
        ("cache", "list"),
        ("cache", "prune"),
        ("weights", "fetch"),
        ("weights", "verify"),
        ("doctor",),
        ("score", "images", "images", *OFFLINE, "--cache"),
        ("score", "images", "images"),
        ("score", "http://127.0.0.1:9/s.npz", "images", *OFFLINE),
    ],
    ids=" ".join,
)
def test_a_user_without_a_home_is_told_which_variable_to_set(tmp_path, monkeypatch, arguments):
    make_image_folder(tmp_path / "images", 3)
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments)
    assert code == 2
    assert "XDG_CACHE_HOME" in out + err or arguments == ("weights", "verify")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]  # in particular no folder "~"


@pytest.mark.slow
@pytest.mark.usefixtures("no_home")
@pytest.mark.parametrize(
    "arguments", [("weights", "list"), ("extractors",), ("score", "images", "images", *OFFLINE)], ids=" ".join
)
def test_what_needs_no_cache_works_without_a_home(tmp_path, monkeypatch, arguments):
    make_image_folder(tmp_path / "images", 3)
    monkeypatch.chdir(tmp_path)
    assert run(*arguments)[0] == 0


@pytest.mark.subprocess
@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [150, 250, 300, 450])
def test_too_little_memory(tmp_path, megabytes):
    folder = make_image_folder(tmp_path / "images", 3)
    done = subprocess.run(
        [sys.executable, "-m", "frechet", "score", folder, folder, *OFFLINE],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert (done.returncode in (2, 3), done.stdout) == (True, "")
    assert "error: " in done.stderr


def test_too_few_threads(tmp_path, monkeypatch):
    def fail(_thread):
        raise RuntimeError("can't start new thread")  # CPython's message

    folder = make_image_folder(tmp_path / "images", 3)
    monkeypatch.setattr(threading.Thread, "start", fail)
    code, out, err = run("score", folder, folder, *OFFLINE)
    assert (code, out) == (3, "")
    assert "threads" in err
    assert "ulimit -u" in err


def test_a_network_that_openvino_cannot_compile(tmp_path, monkeypatch):
    openvino = pytest.importorskip("openvino")

    def fail(*_arguments, **_options):
        raise RuntimeError(
            "Exception from core.cpp:117:\nResource temporarily unavailable\n\n"
        )  # its message at a limit

    folder = make_image_folder(tmp_path / "images", 3)
    monkeypatch.setattr(openvino.Core, "compile_model", fail)
    code, out, err = run("score", folder, folder, *OFFLINE)
    assert (code, out) == (3, "")
    assert "Resource temporarily unavailable" in err


def test_memory_that_runs_out_during_the_computation(tmp_path, monkeypatch):
    def fail(*_arguments, **_options):
        raise MemoryError

    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(50, 4)))
    monkeypatch.setattr("frechet.cli.score.run", fail)
    code, out, err = run("score", tmp_path / "a.npy", tmp_path / "a.npy", "--features")
    assert (code, out) == (3, "")
    assert "memory" in err


IMPORT_IS_INTERRUPTED = """
import sys
class Finder:
    def find_spec(name, *_):
        if name == "frechet.cli.main":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder)
"""
CLEANUP_IS_INTERRUPTED = """
import os, signal, sys, time, types
def main():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)
    finally:
        print("cleaning up", flush=True)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)
        print("not reached")
sys.modules["frechet.cli.main"] = types.SimpleNamespace(main=main)
"""


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("program", "printed"), [(IMPORT_IS_INTERRUPTED, ""), (CLEANUP_IS_INTERRUPTED, "cleaning up\n")]
)
def test_interrupts_during_the_start_and_twice_leave_no_traceback(program, printed):
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nfrom frechet.__main__ import main; main()"],
        preexec_fn=restore_sigint,
        capture_output=True,
        text=True,
        check=False,
        timeout=25,
    )
    assert (done.returncode, done.stdout) == (130, printed)
    assert "Traceback" not in done.stderr
