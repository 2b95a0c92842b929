import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from seeded_weights import make_seeded_state_dict, write_pth

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A .pth of seeded Inception weights."""
    return write_pth(tmp_path_factory.mktemp("weights") / "seeded.pth", make_seeded_state_dict(2015))


@pytest.fixture(scope="session")
def weights_with_head(tmp_path_factory):
    """The same with the class scores' layer."""
    return write_pth(tmp_path_factory.mktemp("weights") / "head.pth", make_seeded_state_dict(2015, head=True))


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
    return make_image_folder(tmp_path / "images")


@pytest.fixture
def extracted_counts(monkeypatch):
    """How many images went through the network."""
    from frechet.features.extract import extract

    counts = []

    def counting_extract(image_refs, *args, **options):
        image_refs = list(image_refs)
        counts.append(len(image_refs))
        return extract(image_refs, *args, **options)

    monkeypatch.setattr("frechet.execution.workers.extract", counting_extract)
    return counts


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
