"""Threads decode small images in turns, and never wait for each other for ever."""

import threading
import time

import numpy as np
import pytest
from PIL import Image

from frechet.images import loader
from frechet.images.loader import load_batches
from frechet.images.sources.registry import open_source


def load(images, workers=2):
    source = open_source([Image.fromarray(image) for image in images])
    batches = load_batches(
        source.iter_images(range(len(source))),
        None,
        size=8,
        batch_size=64,
        workers=workers,
        workers_kind="threads",
        skip_bad_images=False,
        is_left_to_device=lambda *_: True,
    )
    return [image for batch in batches for image in batch.pixels]


@pytest.mark.parametrize(("side", "is_in_turns"), [(64, True), (65, False)])
def test_one_thread_at_a_time_decodes_small_images(side, is_in_turns, monkeypatch):
    decode, active, most_active = loader.decode, [], []

    def decode_slowly(image_ref, *options):
        active.append(1)
        most_active.append((image_ref.index, len(active)))
        time.sleep(0.001)
        active.pop()
        return decode(image_ref, *options)

    monkeypatch.setattr(loader, "decode", decode_slowly)
    load(np.zeros((256, side, side, 3), np.uint8), workers=3)
    # the first group of each thread is decoded before the size of its images is known
    assert (max(count for index, count in most_active if index >= 6 * 32) == 1) == is_in_turns


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
