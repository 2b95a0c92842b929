"""Memory of pixels is used again, never while an image is in it, and not kept without bound."""

import numpy as np
import pytest
from PIL import Image

from frechet.images import loader
from frechet.images.pixel_memory import BlockPool, GroupMemory
from frechet.images.sources.registry import open_source

SHAPE = (100, 200, 3)  # 60,000 bytes


def address(array):
    return array.__array_interface__["data"][0]


def allocate_group(pool, count=4, shape=SHAPE):
    memory = GroupMemory(pool, count)
    return [memory.allocate(shape) for _ in range(count)]


@pytest.fixture
def pool():
    pool = BlockPool()
    pool.last_shape = SHAPE
    return pool


def test_images_of_a_group_lie_one_after_another(pool):
    images = allocate_group(pool)
    assert [address(image) - address(images[0]) for image in images] == [0, 60_000, 120_000, 180_000]
    assert all(image.shape == SHAPE and image.dtype == np.uint8 and image.flags.writeable for image in images)


def test_a_block_is_used_again_after_its_last_image(pool):
    first = allocate_group(pool)
    kept, start = first[2], address(first[0])
    del first
    second = allocate_group(pool)
    assert not any(np.shares_memory(kept, image) for image in second)
    del kept
    assert address(allocate_group(pool)[0]) == start


def test_an_image_derived_from_another_keeps_its_block(pool):
    derived = allocate_group(pool)[3][::2, 10:, :1].T
    assert not any(np.shares_memory(derived, image) for image in allocate_group(pool))


def test_unused_blocks_are_kept_within_a_bound():
    pool = BlockPool(max_kept_bytes=250_000)
    pool.last_shape = SHAPE
    groups = [allocate_group(pool) for _ in range(5)]
    del groups
    assert sum(map(len, pool._free)) == 240_000  # one of five


def test_sizes_that_are_no_longer_needed_make_room():
    pool = BlockPool(max_kept_bytes=1000)
    for n_bytes in [1000] * 2 + [10] * 2:
        block = pool.take(n_bytes)
        del block
    assert [len(each) for each in pool._free] == [10]


def test_an_array_may_be_freed_while_a_block_is_searched():
    """By a garbage collection, in the thread that holds the lock."""
    freed = [np.empty(8, np.uint8).data]

    class Blocks(list):
        def __getitem__(self, at):
            block = super().__getitem__(at)
            if freed:
                pool._give_back(freed.pop())
            return block

    pool = BlockPool(max_kept_bytes=20)
    pool._free = Blocks(np.empty(10, np.uint8).data for _ in range(2))
    assert pool.take(10).shape == (10,)


@pytest.mark.parametrize("shapes", [[(100, 201, 3), SHAPE, (100, 202, 3)], [(32, 32, 3)] * 2, [(2000, 2000, 3)] * 2])
def test_other_images_take_memory_of_their_own(pool, shapes):
    """Images of different sizes that are not large, small images, and very large ones."""
    memory = GroupMemory(pool, len(shapes))
    assert [memory.allocate(shape) for shape in shapes] == [None] * len(shapes)


def test_large_images_of_different_sizes_use_blocks_of_similar_sizes_again(pool):
    def allocate(*shapes):
        memory = GroupMemory(pool, len(shapes))
        return [memory.allocate(shape) for shape in shapes]

    images = allocate((300, 400, 3), (500, 400, 3), (1500, 1500, 3), (1500, 1500, 3))
    assert [image.shape for image in images] == [(300, 400, 3), (500, 400, 3), (1500, 1500, 3), (1500, 1500, 3)]
    starts = [address(image) for image in images]
    del images
    small, larger = allocate((300, 390, 3), (300, 401, 3))  # the latter fits only into blocks that are much larger
    assert address(small) == starts[0]
    assert address(larger) not in starts
    assert not np.shares_memory(small, larger)


def test_decoded_images_are_not_overwritten_while_they_are_in_use(tmp_path):
    """Images of 96 x 96 pixels, each of one colour: what the first batches hold stays as it is while later ones are decoded."""
    count = 200
    for number in range(count):
        Image.new("RGB", (96, 96), (number, 7, 9)).save(tmp_path / f"{number:03}.png")
    source = open_source(tmp_path)
    batches = loader.load_batches(
        source.iter_images(range(count)),
        None,
        size=8,
        batch_size=16,
        workers=2,
        skip_bad_images=False,
        is_left_to_device=lambda *_: True,
    )
    pixels = [image for batch in batches for image in batch.pixels]
    assert [np.unique(image[:, :, 0]).tolist() for image in pixels] == [[number] for number in range(count)]


def test_the_images_of_an_array_file_are_not_copied(tmp_path):
    """Each image of a batch is a part of the 32 rows that were read together."""
    np.savez(tmp_path / "a.npz", arr_0=np.random.default_rng(0).integers(0, 256, (96, 20, 20, 3), np.uint8))
    source = open_source(tmp_path / "a.npz")
    (batch,) = loader.load_batches(
        source.iter_images(range(96)),
        None,
        size=8,
        batch_size=96,
        workers=2,
        skip_bad_images=False,
        is_left_to_device=lambda *_: True,
    )
    steps = np.diff([address(image) for image in batch.pixels])
    assert (steps == 20 * 20 * 3).sum() >= 93
