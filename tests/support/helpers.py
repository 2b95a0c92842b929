"""What several test modules share: folders of images, the command line, comparisons of statistics."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import click
import numpy as np
import pytest
from PIL import Image

from frechet.cli.main import frechet, main

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"


def assert_same_statistics(one, other):
    """Assert that two statistics have the same bits."""
    assert one.n == other.n
    for name in ("mean", "covariance", "rows", "indices", "units"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.group_moments is None) == (other.group_moments is None)
    for name in ("n", "mean", "scatter") if one.group_moments is not None else ():
        np.testing.assert_array_equal(getattr(one.group_moments, name), getattr(other.group_moments, name))


def list_chunk_files(folder):
    """Return inode and modification time of each finished chunk in a work directory, by file name."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("images/chunk-*.npz")}


def make_image_folder(path, count=6, seed=0, size=(40, 32)):
    """Write `count` PNG images of seeded noise, `size` = (height, width). Return the folder."""
    random = np.random.default_rng(seed)
    path.mkdir(parents=True)
    for index in range(count):
        pixels = random.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(path / f"{index:03d}.png")
    return path


def parse_options(name, words):
    """Return the options of a command as the command line parses them.

    The command is parsed within `frechet`, whose name for the help option it takes: click keeps the first one for the whole process.
    """
    parent = click.Context(frechet, **frechet.context_settings)
    return frechet.get_command(parent, name).make_context(name, list(words), parent=parent).params


def run(*arguments, **environment_overrides):
    """Run the command line in this process. Return (exit code, stdout, stderr)."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, {"COLUMNS": "120", **environment_overrides}),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        pytest.raises(SystemExit) as end,
    ):
        main([str(argument) for argument in arguments])
    return end.value.code, stdout.getvalue(), stderr.getvalue()


def run_process(*arguments, **environment_overrides):
    """Run the command line in a new process, for tests of what a process has. Return (exit code, stdout, stderr)."""
    completed = subprocess.run(
        [sys.executable, "-m", "frechet", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "120", **environment_overrides},
        check=False,
    )
    return completed.returncode, completed.stdout, completed.stderr


def restore_sigint():
    """Let a child be interrupted: what a shell starts in the background ignores SIGINT, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
