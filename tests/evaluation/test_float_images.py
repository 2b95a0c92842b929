"""Floating-point images of a diagnosis."""

import numpy as np
import pytest

from frechet.errors import SourceError, TooFewImagesError
from frechet.evaluation.diagnosis.float_images import FloatImages


@pytest.mark.parametrize("shape", [(2, 1, 5, 3), (2, 5, 1, 3), (9, 4, 4, 3)])
def test_images_of_every_size_are_accepted(shape):
    assert len(FloatImages(np.zeros(shape, np.float32), "x", None)) == shape[0]


@pytest.mark.parametrize("shape", [(0, 4, 4, 3), (2, 0, 4, 3), (2, 4, 0, 3), (2, 4, 4, 4), (2, 3, 4, 4), (4, 4, 3)])
def test_other_shapes_are_rejected(shape):
    with pytest.raises(SourceError, match=r"expected images \(n, h, w, 3\)"):
        FloatImages(np.zeros(shape, np.float32), "x", None)


def test_one_image_is_too_few():
    with pytest.raises(TooFewImagesError, match="contains 1 image"):
        FloatImages(np.zeros((1, 4, 4, 3), np.float32), "x", None)


@pytest.mark.parametrize(("lowest", "expected"), [(0.0, (0, 1)), (-0.1, (-1, 1))])
def test_the_range_is_that_of_the_first_images(lowest, expected):
    array = np.zeros((2, 4, 4, 3), np.float32)
    array[1, 2, 2, 0] = lowest
    assert FloatImages(array, "x", None).value_range == expected
    assert FloatImages(array, "x", (-2, 2)).value_range == (-2, 2)
