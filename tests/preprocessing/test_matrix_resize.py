"""A device resizes images as the host does, for every preprocessing, in every library."""

import numpy as np
import pytest
from golden_images import photographs

from frechet.preprocessing.matrix_resize import (
    ResizeMatrices,
    can_resize,
    make_resize_matrices,
    resize_by_size,
    resize_with_matrices,
)
from frechet.preprocessing.registry import PREPROCESSINGS

LIBRARIES = ["numpy", "torch", "jax.numpy"]
INPUT_SIZES = {
    name: 299 if "im" not in name and "clip" not in name and name != "beit" else 224 for name in PREPROCESSINGS
}
ROUNDED = {"imagenet", "imagenet-crop", "imagenet-middle", "beit", "clip", "clip-stretch", "quantised-bicubic"}


def resize_on_host(name, image, size):
    out = np.empty((size, size, 3), np.float32)
    PREPROCESSINGS[name].resize(image, out)
    return out


def resize_on_device(name, images, size, library="numpy"):
    xp = pytest.importorskip(library)
    matrices = make_resize_matrices(PREPROCESSINGS[name], *images.shape[1:3], size)
    on_device = ResizeMatrices(*(tuple(xp.asarray(part) for part in axis) for axis in matrices))
    found = resize_with_matrices(xp.asarray(images), on_device, is_clipped=PREPROCESSINGS[name].is_clipped)
    return np.asarray(found)


def make_images(height, width, count=2):
    """Return photographs of one size, and one of random black and white pixels, which overshoot."""
    whole = photographs()[0].convert("RGB")
    resized = [np.asarray(whole.resize((width, height), box=(50 * k, 0, 400, 400))) for k in range(count)]
    noise = np.random.default_rng(height).integers(0, 2, (height, width, 3), np.uint8) * 255
    return np.stack([*resized, noise])


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_a_device_resizes_as_the_host(name, library):
    size = 32
    shapes = [(16, 16), (size, size), (75, 75), (33, 21), (64, 43), (31, 150)]
    for shape in shapes if library == "numpy" else shapes[2:4]:
        if not can_resize(PREPROCESSINGS[name], *shape, size):
            assert name in ROUNDED
            assert shape[0] != shape[1]
            continue
        images = make_images(*shape)
        found = resize_on_device(name, images, size, library)
        expected = np.stack([resize_on_host(name, image, size) for image in images])
        if name in ROUNDED:
            np.testing.assert_array_equal(found, expected)
        else:
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "shape", [(16, 16), (256, 256), (299, 299), (2000, 2000), (640, 427), (301, 700), (4000, 3000), (31, 4000)]
)
@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_images_of_any_size_are_resized_as_on_the_host(name, shape):
    if not can_resize(PREPROCESSINGS[name], *shape, INPUT_SIZES[name]):
        pytest.skip("on the host")
    images = make_images(*shape, count=1)
    found = resize_on_device(name, images, INPUT_SIZES[name])
    expected = np.stack([resize_on_host(name, image, INPUT_SIZES[name]) for image in images])
    np.testing.assert_allclose(found, expected, rtol=0, atol=0 if name in ROUNDED else 5e-4)


def test_every_rounded_preprocessing_is_declared():
    assert {name for name, row in PREPROCESSINGS.items() if row.is_rounded} == ROUNDED


def test_images_of_many_sizes_are_resized_by_size_and_keep_their_order():
    random = np.random.default_rng(0)
    shapes = [(8, 9), (5, 5), (8, 9), (7, 3), (5, 4), (8, 9)]
    images = [random.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]
    images.insert(3, random.random((4, 4, 3), np.float32))  # resized by the host
    calls = []

    def resize_group(group):
        calls.append(len(group))
        return np.stack(
            [image[:4, :3].astype(np.float32) if image.dtype == np.uint8 else image[:, :3] for image in group]
        )

    found = resize_by_size(images, resize_group)
    assert sorted(calls) == [1, 1, 1, 1, 3]
    for image, resized in zip(images, found, strict=True):
        np.testing.assert_array_equal(resized, image[:4, :3])


def test_images_whose_bits_a_device_might_change_are_left_to_the_host():
    for name, is_rounded in [("clip", True), ("imagenet", True), ("clean", False)]:
        assert can_resize(PREPROCESSINGS[name], 500, 500, 224)
        assert can_resize(PREPROCESSINGS[name], 500, 499, 224) != is_rounded
    assert not can_resize(PREPROCESSINGS["clip"], 30_000, 30_000, 224)  # the sums need more than 24 bits
