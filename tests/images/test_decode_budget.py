"""The memory of decoding: a largest image, and a bound on all images that are decoded at the same time."""

import io
import os
import re
import subprocess
import sys
import threading
import time
from functools import partial
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
from frechet.images import loader
from frechet.images.decode_budget import DecodeBudget
from frechet.images.image import ImageRef
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
    with pytest.raises(RequestError, match=re.escape(f"--max-pixels (max_pixels=) is {max_pixels!r}")):
        Settings(max_pixels=max_pixels)


def test_the_limit_is_a_flag(folder_with_large_image):
    code, _, err = run("score", folder_with_large_image, folder_with_large_image, "--max-pixels", 0)
    assert code == 2
    assert "--max-pixels (max_pixels=) is 0" in err
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


def test_a_second_attempt_to_decode_an_image_does_not_wait_for_the_first():
    """A fast decoder and Pillow take turns; both reserve the memory of the image."""
    budget, image = DecodeBudget(max_bytes=200_000), Image.new("RGB", (100, 100))

    def decode():
        with budget.admit(10**6) as reserve:
            reserve(image)
            reserve(image)

    thread = threading.Thread(target=decode, daemon=True)
    thread.start()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert budget.used == 0


def test_a_larger_reservation_replaces_the_first():
    budget = DecodeBudget(max_bytes=10**6)
    with budget.admit(10**6) as reserve:
        reserve(Image.new("RGB", (100, 100)))
        reserve(Image.new("RGB", (100, 110)))
        assert budget.used == 100 * 110 * 16
    assert budget.used == 0


def test_small_images_are_not_counted():
    """At 16 bytes per pixel, 256 x 256 pixels take a 2,048th of the budget."""
    budget = DecodeBudget()
    with budget.admit(10**6) as reserve:
        reserve(Image.new("RGB", (256, 256)))
        assert budget.used == 0
        reserve(Image.new("RGB", (256, 257)))
        assert budget.used == 256 * 257 * 16


def test_an_image_larger_than_the_budget_is_decoded_alone():
    budget = DecodeBudget(max_bytes=10)
    with budget.admit(10**6) as reserve:
        reserve(Image.new("RGB", (100, 100)))
    with pytest.raises(ImageDecodeError), budget.admit(10) as reserve:
        reserve(Image.new("RGB", (100, 100)))
    assert budget.used == 0


@pytest.fixture
def load_for_device(monkeypatch):
    """Return a function that loads images of 33 x 33 pixels, of which 100 may wait, and notes when each is decoded."""
    monkeypatch.setattr(loader, "_MAX_WAITING_BYTES", 100 * 33 * 33 * 3)

    def load(count, decoded, **options):
        def decode(index):
            decoded.append(index)
            return np.full((33, 33, 3), index % 256, np.uint8) if index != options.get("broken") else None

        refs = (ImageRef(index, str(index), partial(decode, index)) for index in range(count))
        return loader.load_batches(
            refs,
            None,  # nothing is resized here
            size=4,
            batch_size=options.get("batch_size", 64),
            workers=4,
            skip_bad_images=False,
            is_left_to_device=lambda height, width: True,
        )

    return load


def wait_until_constant(items):
    """Return the number of items once it has not changed for 0.2 seconds."""
    count = -1
    while count != len(items):
        count = len(items)
        time.sleep(0.2)
    return count


def test_images_that_wait_for_the_device_are_bounded(load_for_device):
    batches = load_for_device(1000, decoded := [])
    seen = len(next(batches).image_refs)
    threads, group = (
        4,
        32,
    )  # each thread has an image that waits for room; the group that was needed last had room at once
    assert seen < wait_until_constant(decoded) <= seen + 100 + threads + group
    assert [image_ref.index for batch in batches for image_ref in batch.image_refs] == list(range(64, 1000))


def test_a_batch_ends_before_its_images_take_too_much_memory(load_for_device):
    batches = list(load_for_device(300, [], batch_size=256))
    assert [len(batch.image_refs) for batch in batches] == [100, 100, 56, 44]
    assert [int(image[0, 0, 0]) for batch in batches for image in batch.pixels] == [i % 256 for i in range(300)]
    assert [image_ref.index for batch in batches for image_ref in batch.image_refs] == list(range(300))


def test_images_that_wait_do_not_keep_an_error_from_ending_the_run(load_for_device):
    with pytest.raises(ImageDecodeError, match="70 cannot be decoded: "):
        list(load_for_device(1000, [], broken=70))


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
