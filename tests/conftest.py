import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from seeded_weights import seeded_state, write_pth

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A .pth of seeded Inception weights."""
    return write_pth(tmp_path_factory.mktemp("weights") / "seeded.pth", seeded_state(2015))


@pytest.fixture(scope="session")
def weights_with_head(tmp_path_factory):
    """The same with the class scores' layer."""
    return write_pth(tmp_path_factory.mktemp("weights") / "head.pth", seeded_state(2015, head=True))


@pytest.fixture(scope="session")
def golden():
    with np.load(DATA / "golden.npz") as archive:
        return dict(archive)


@pytest.fixture
def no_weights(monkeypatch, tmp_path):
    """A home without any weights."""
    monkeypatch.delenv("FRECHET_WEIGHTS", raising=False)
    for variable in ("HOME", "XDG_CACHE_HOME", "TORCH_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path):
    """Six small images in a folder."""
    return make_folder(tmp_path / "images")


@pytest.fixture
def computed(monkeypatch):
    """How many images went through the network."""
    from frechet.features.extract import extract

    counts = []

    def counted(pictures, *args, **options):
        pictures = list(pictures)
        counts.append(len(pictures))
        return extract(pictures, *args, **options)

    monkeypatch.setattr("frechet.execution.workers.extract", counted)
    return counts


def require_same(one, other):
    """Two statistics have the same bits."""
    assert one.n == other.n
    for name in ("mean", "covariance", "rows", "places"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def files_of(folder):
    """Finished parts in a work-dir: which files they are."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("images/part-*.npz")}


def make_folder(path, count=6, seed=0, size=(40, 32)):
    random = np.random.default_rng(seed)
    path.mkdir(parents=True)
    for index in range(count):
        pixels = random.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(path / f"{index:03d}.png")
    return path


def run(*arguments, **variables):
    """The command line in a process of its own: (exit code, stdout, stderr)."""
    environment = {**os.environ, "COLUMNS": "120", **variables}
    done = subprocess.run(
        [sys.executable, "-m", "frechet", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def hears_ctrl_c():
    """In a child: what a shell starts in the background ignores SIGINT, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
