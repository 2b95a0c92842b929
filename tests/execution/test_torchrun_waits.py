"""What a command waits for under torchrun: ranks that never join, ranks that stop, and nothing at all inside a job."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import toy
from helpers import run_process
from test_engines import rank_of, torchrun

import frechet

pytestmark = pytest.mark.subprocess
pytest.importorskip("torch")

CORNER = ("--extractor", "toy_network:corner", "--preprocessing", "pytorch-fid")
RANK = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "2",
    "LOCAL_WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29637",
}
LAUNCH = {"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": "0"}


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """Two files of 300 images, and processes that can import the toy extractors."""
    paths = [Path(toy.__file__).parent, Path(frechet.__file__).parents[1]]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, paths)))
    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / name, np.random.default_rng(len(name)).integers(0, 256, (300, 4, 4, 3), np.uint8))
    return tmp_path / "a.npy", tmp_path / "b.npy"


@pytest.mark.parametrize("launch", [{}, LAUNCH])
def test_a_command_inside_a_torchrun_job_computes_alone(inputs, launch):
    """The shell is a process of the job, and the command inherits its variables; no other rank ever joins."""
    command = [sys.executable, "-m", "frechet", "score", *inputs, *CORNER, "--json"]
    done = subprocess.run(
        ["sh", "-c", '"$@"; exit $?', "sh", *command],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **RANK, **launch},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "fd" in json.loads(done.stdout)["scores"]
    assert ("--engine torchrun" in done.stderr) == bool(launch)


@pytest.mark.parametrize("options", [(), ("--engine", "torchrun")])
def test_ranks_that_do_not_join_are_reported(inputs, options):
    start = time.monotonic()
    code, out, err = run_process(
        "score", *inputs, *CORNER, "--rendezvous-timeout", 2, *options, **RANK, **(LAUNCH if not options else {})
    )
    assert code == 3
    assert out == ""
    for part in ("all 2 ranks", "127.0.0.1:29637", "2 s", "--rendezvous-timeout"):
        assert part in err
    assert "Traceback" not in err
    assert time.monotonic() - start < 60


@pytest.mark.slow
def test_a_stopped_rank_ends_the_run(tmp_path, inputs):
    np.save(tmp_path / "many.npy", np.random.default_rng(0).integers(0, 256, (60 * 256, 4, 4, 3), np.uint8))
    process = torchrun(
        2,
        "stats",
        tmp_path / "many.npy",
        tmp_path / "s.npz",
        "--extractor",
        "toy_impatient:slow_corner",
        "--preprocessing",
        "pytorch-fid",
        "--work-dir",
        tmp_path / "work",
    )
    while not list(tmp_path.glob("work/images/chunk-*")):
        time.sleep(0.1)
        assert process.poll() is None
    rank = rank_of(process.pid, 1)
    os.kill(rank, signal.SIGSTOP)
    try:
        reported = next(line for line in process.stderr if "rank 1 has not responded" in line)
    finally:
        os.kill(rank, signal.SIGKILL)  # torchrun gives a rank 30 s to end
    process.communicate(timeout=60)
    assert reported
    assert process.returncode
