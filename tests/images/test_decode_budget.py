"""The memory of decoding: a largest image, and a bound on all images that are decoded at the same time."""

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import toy
from helpers import run
from PIL import Image
from toy import TOY

import frechet
from frechet.errors import ImageDecodeError, RequestError
from frechet.execution.collect import collect_statistics
from frechet.execution.settings import Settings
from frechet.images.decode_budget import DecodeBudget
from frechet.images.sources.registry import open_source


@pytest.fixture
def folder_with_large_image(tmp_path):
    """Three small images and one of 40 x 30 pixels."""
    for number in range(3):
        Image.new("RGB", (5, 5), (number, 9, 9)).save(tmp_path / f"{number}.png")
    Image.new("RGB", (40, 30), (200, 0, 0)).save(tmp_path / "large.png")
    return tmp_path


def test_an_image_with_more_pixels_than_allowed_is_not_decoded(folder_with_large_image):
    source = open_source(folder_with_large_image)
    with pytest.raises(ImageDecodeError, match=r"large\.png: has 40 x 30 = 1,200 pixels.*--max-pixels"):
        collect_statistics(source, Settings(max_pixels=1199), TOY)
    assert collect_statistics(source, Settings(max_pixels=1200), TOY).n == 4
    skipped = collect_statistics(source, Settings(max_pixels=1199, on_bad_image="skip"), TOY)
    assert skipped.n == 3
    assert "1,200 pixels" in skipped.skipped_images[0]


def test_arrays_have_the_same_limit(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 30, 40, 3), np.uint8))
    with pytest.raises(ImageDecodeError, match="1,200 pixels"):
        collect_statistics(open_source(tmp_path / "a.npy"), Settings(max_pixels=1199), TOY)


@pytest.mark.parametrize("max_pixels", [0, -1, 10**9, 1.5, "many"])
def test_an_invalid_limit_is_rejected(max_pixels):
    with pytest.raises(RequestError, match=f"max_pixels is {max_pixels!r}"):
        Settings(max_pixels=max_pixels)


def test_the_limit_is_a_flag(folder_with_large_image):
    code, _, err = run("score", folder_with_large_image, folder_with_large_image, "--max-pixels", 0)
    assert code == 2
    assert "max_pixels is 0" in err
    assert frechet.score.__signature__.parameters["max_pixels"].default == 100_000_000


def test_images_are_decoded_together_only_within_the_budget():
    """Eight threads, images of 100 x 100 pixels at 16 bytes each, a budget of three: a fourth has to wait."""
    budget = DecodeBudget(max_bytes=3 * 160_000)
    image, peaks, active = Image.new("RGB", (100, 100)), [], []

    def decode():
        with budget.admit(10**6) as reserve:
            reserve(image)
            active.append(1)
            peaks.append(len(active))
            time.sleep(0.01)
            active.pop()

    threads = [threading.Thread(target=decode) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert 1 < max(peaks) <= 3
    assert budget.used == 0


def test_an_image_larger_than_the_budget_is_decoded_alone():
    budget = DecodeBudget(max_bytes=10)
    with budget.admit(10**6) as reserve:
        reserve(Image.new("RGB", (100, 100)))
    with pytest.raises(ImageDecodeError), budget.admit(10) as reserve:
        reserve(Image.new("RGB", (100, 100)))
    assert budget.used == 0


PEAK = """
import resource, sys
from toy import TOY
from frechet.execution.collect import collect_statistics
from frechet.execution.settings import Settings
from frechet.images import loader
from frechet.images.sources.registry import open_source
loader._budget.max_bytes = 1 << 29
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
collect_statistics(open_source(sys.argv[1]), Settings(workers=8), TOY)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.subprocess
def test_eight_threads_decode_within_the_budget(tmp_path, monkeypatch):
    """Eight images of 9 million pixels take 135 MB each while they are decoded, and 1.1 GB together."""
    paths = [Path(toy.__file__).parent, Path(frechet.__file__).parents[1]]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, paths)))
    stream = io.BytesIO()
    Image.new("RGB", (3000, 3000)).save(stream, "png")
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(stream.getvalue())
    done = subprocess.run([sys.executable, "-c", PEAK, tmp_path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < (1 << 29) + 135e6  # a budget of 512 MB, and one image
