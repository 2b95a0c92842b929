"""Threads decode small images in turns, and never wait for each other for ever."""

import threading
import time
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from frechet.errors import ImageDecodeError
from frechet.images import loader
from frechet.images.image import ImageSource
from frechet.images.loader import load_batches
from frechet.images.sources.registry import open_source


def load(images, workers=2, **options):
    source = images if isinstance(images, ImageSource) else open_source([Image.fromarray(image) for image in images])
    batches = load_batches(
        source.iter_images(range(len(source))),
        None,
        size=8,
        batch_size=64,
        workers=workers,
        workers_kind="threads",
        **{"skip_bad_images": False, **options},
        is_left_to_device=lambda *_: True,
    )
    return [image for batch in batches for image in batch.pixels]


@pytest.mark.parametrize(("side", "is_in_turns"), [(32, True), (33, False)])
def test_one_thread_at_a_time_decodes_tiny_images(side, is_in_turns, monkeypatch):
    decode, counts, active, at_once = loader.decode, Counter(), set(), []

    def decode_slowly(image_ref, *options):
        thread = threading.get_ident()
        counts[thread] += 1
        active.add(thread)
        at_once.append(
            sum(counts[each] > 32 for each in active.copy())
        )  # after its first group, the size of images is known
        time.sleep(0.001)
        active.remove(thread)
        return decode(image_ref, *options)

    monkeypatch.setattr(loader, "decode", decode_slowly)
    images = np.zeros((256, side, side, 3), np.uint8)
    load(images, workers=3)
    assert (max(at_once) == 1) == is_in_turns
    counts.clear()
    at_once.clear()
    load(images, workers=3, crop=lambda rgb: (rgb[:8, :8], None))
    assert max(at_once) > 1  # the images themselves may be large


class SlowSource(ImageSource):
    """Images that are read from a slow disk."""

    def __init__(self):
        super().__init__("slow")
        self.active, self.most_active = [], 0

    def __len__(self):
        return 256

    def load(self, index):
        self.active.append(index)
        time.sleep(0.001)
        self.most_active = max(self.most_active, len(self.active) if index >= 6 * 32 else 0)
        self.active.remove(index)
        if index == 200:
            raise ImageDecodeError("is broken")
        return np.full((8, 8, 3), index, np.uint8)


def test_threads_read_tiny_images_at_the_same_time():
    source = SlowSource()
    images = load(source, workers=3, skip_bad_images=True)
    assert source.most_active > 1
    np.testing.assert_array_equal([image[0, 0, 0] for image in images], [n for n in range(256) if n != 200])


def test_larger_images_after_small_ones_do_not_stop_the_run(monkeypatch):
    """A thread that waits for the network, since too many images wait for it, lets the one take its turn that the network needs next."""
    monkeypatch.setattr(loader, "_MAX_WAITING_BYTES", 1 << 20)
    decode, delayed = loader.DecodeProcesses.decode, 4

    def decode_late(self, position, group):
        if position == delayed:
            time.sleep(0.3)
        return decode(self, position, group)

    monkeypatch.setattr(loader.DecodeProcesses, "decode", decode_late)
    images = [np.zeros((8, 8, 3), np.uint8)] * (32 * delayed) + [np.zeros((300, 300, 3), np.uint8)] * 64
    found = []
    thread = threading.Thread(target=lambda: found.extend(load(images)), daemon=True)
    thread.start()
    thread.join(30)
    assert [image.shape for image in found] == [image.shape for image in images]
