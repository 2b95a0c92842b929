"""Resizes equal their taps and matrices, and small cases calculated by hand."""

import numpy as np
import pytest

from frechet.preprocessing import resize


def taps_to_matrix(taps, in_size):
    matrix = np.zeros((len(taps.first), in_size))
    for row, (first, second, weight) in enumerate(zip(*taps, strict=True)):
        matrix[row, first] += 1 - weight
        matrix[row, second] += weight
    return matrix


@pytest.mark.parametrize("taps", [resize.half_pixel_taps, resize.tf1_taps])
@pytest.mark.parametrize("shape", [(32, 32), (40, 500), (500, 40), (299, 299), (1, 7), (700, 640)])
def test_a_bilinear_resize_equals_its_matrices(taps, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    function = {resize.half_pixel_taps: resize.bilinear_half_pixel, resize.tf1_taps: resize.bilinear_tf1}[taps]
    out = np.empty((299, 299, 3), np.float32)
    function(image, out)
    rows, columns = taps_to_matrix(taps(shape[0], 299), shape[0]), taps_to_matrix(taps(shape[1], 299), shape[1])
    expected = np.einsum("ih,hwc,jw->ijc", rows, image, columns, optimize=True)
    np.testing.assert_allclose(out, expected, atol=1e-4)


def test_half_pixel_taps_match_a_hand_calculation():
    # 2 -> 4: centres at -.25 (clamped to 0), .25, .75, 1.25
    np.testing.assert_allclose(
        taps_to_matrix(resize.half_pixel_taps(2, 4), 2), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    )


def test_tf1_taps_match_a_hand_calculation():
    # 2 -> 4: sources at 0, .5, 1, 1.5 (clamped)
    np.testing.assert_allclose(taps_to_matrix(resize.tf1_taps(2, 4), 2), [[1, 0], [0.5, 0.5], [0, 1], [0, 1]])


def test_the_bicubic_resize_is_clipped_and_not_rounded():
    image = (np.random.default_rng(0).random((50, 70, 3)) > 0.5).astype(np.uint8) * 255
    out = np.empty((224, 224, 3), np.float32)
    resize.bicubic_pillow(image, out)
    assert out.min() == 0
    assert out.max() == 255
    assert np.abs(out - out.round()).max() > 0.1


@pytest.mark.parametrize(("size", "out_size"), [(32, 224), (300, 224), (224, 224)])
def test_antialiased_bicubic_is_pytorchs_and_is_not_clipped(size, out_size):
    torch = pytest.importorskip("torch")
    image = np.random.default_rng(0).integers(0, 2, (size, size + 7, 3), np.uint8) * 255
    out = np.empty((out_size, out_size, 3), np.float32)
    resize.bicubic_antialiased(image, out)
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(x, size=(out_size, out_size), mode="bicubic", antialias=True)
    np.testing.assert_allclose(
        out, expected[0].permute(1, 2, 0).numpy(), atol=0.01
    )  # PyTorch computes weights in float32
    assert size > out_size or out.min() < -1 or size == out_size
