"""Statistics files that also hold images, as ADM's reference batches do: from a path and over HTTP."""

import http.server
import threading
from functools import partial

import numpy as np
import pytest

import frechet

pytest.importorskip("torch")  # runs the toy extractor

SIZE = 8


def mean_color(images):
    """Features (n, 3): the mean of each channel, in 0..255."""
    return images.mean((2, 3))


mean_color.input_size = SIZE
OPTIONS = {"extractor": mean_color, "preprocessing": "pytorch-fid", "backend": "torch"}


@pytest.fixture
def batch(tmp_path):
    """An ADM-style file: statistics of 200 images, and 40 of those images."""
    images = np.random.default_rng(0).integers(0, 256, (200, SIZE, SIZE, 3), np.uint8)
    statistics = frechet.collect(images, **OPTIONS)
    np.savez(tmp_path / "reference.npz", mu=statistics.mean, sigma=statistics.covariance, arr_0=images[:40])
    return tmp_path / "reference.npz", images


@pytest.fixture
def served(batch, monkeypatch, tmp_path):
    """The URL of that file, on a local server."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(batch[0].parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/reference.npz"
        server.shutdown()


def test_fd_uses_the_statistics_and_kid_the_images(batch):
    path, images = batch
    generated = 255 - images[:60]
    scores = frechet.score(generated, path, metrics=["fd", "kid"], **OPTIONS)
    assert scores["kid"].value == pytest.approx(
        frechet.score(generated, images[:40], metrics="kid", **OPTIONS)["kid"].value
    )
    assert scores["fd"].value == pytest.approx(frechet.score(generated, images, **OPTIONS)["fd"].value, rel=1e-6)
    assert any("40 images" in warning and str(path) in warning for warning in scores["kid"].warnings)


def test_a_url_gives_the_scores_of_the_file(batch, served):
    path, images = batch
    generated = 255 - images[:60]
    expected = frechet.score(generated, path, metrics=["fd", "kid"], **OPTIONS)
    scores = frechet.score(generated, served, metrics=["fd", "kid"], **OPTIONS)
    assert not scores.unavailable
    for metric in ("fd", "kid"):
        assert scores[metric].value == expected[metric].value
    assert any(served in warning for warning in scores["kid"].warnings)  # and no path of the cache
