"""What several test modules share: folders of images, the command line in a process of its own, comparisons."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"


def assert_same_statistics(one, other):
    """Two statistics have the same bits."""
    assert one.n == other.n
    for name in ("mean", "covariance", "rows", "places"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def list_chunk_files(folder):
    """Finished parts in a work-dir: which files they are."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("images/part-*.npz")}


def make_image_folder(path, count=6, seed=0, size=(40, 32)):
    random = np.random.default_rng(seed)
    path.mkdir(parents=True)
    for index in range(count):
        pixels = random.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(path / f"{index:03d}.png")
    return path


def run(*arguments, **environment_overrides):
    """The command line in a process of its own: (exit code, stdout, stderr)."""
    environment = {**os.environ, "COLUMNS": "120", **environment_overrides}
    completed = subprocess.run(
        [sys.executable, "-m", "frechet", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    return completed.returncode, completed.stdout, completed.stderr


def restore_sigint():
    """In a child: what a shell starts in the background ignores SIGINT, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
