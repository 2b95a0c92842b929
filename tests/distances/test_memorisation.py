"""Measures of memorisation, compared with values computed by hand."""

import math

import numpy as np
import pytest

from frechet.distances.memorisation import data_copying_score, nearest_cosine_distance, penalise_distance
from frechet.errors import TooFewImagesError

CENTERS = (0, 100, 200)  # of three cells, on a line


def images(*distances):
    """One image per cell and distance, at that distance below the nearest training image."""
    rows = [center - distance for center, per_cell in zip(CENTERS, distances, strict=True) for distance in per_cell]
    return np.array(rows, np.float32)[:, None]


TRAIN = images((0, -1), (0, -1), (0, -1))


@pytest.mark.slow
def test_ct_is_the_weighted_mean_of_mann_whitney_z_scores():
    """Each z is (U - nm/2 + 1/2) / sqrt(nm(n + m + 1)/12), with U the number of pairs in which the generated image is further
    away, and ties counted as 1/2."""
    held_out = images((2, 3, 4, 5), (2, 3, 4, 5, 6, 7), (2, 3, 4, 5, 6))
    generated = images([2] + [1] * 20, [9] * 24, [9] * 20)  # of 20 images, the third cell does not count
    first = (0.5 - 21 * 4 / 2 + 0.5) / math.sqrt(21 * 4 * 26 / 12)  # one tie, all others nearer
    second = (24 * 6 - 24 * 6 / 2 + 0.5) / math.sqrt(24 * 6 * 31 / 12)  # all further away
    expected = (4 * first + 6 * second) / 10
    assert data_copying_score(TRAIN, held_out, generated) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("held_out", "generated", "message"),
    [
        (((2, 3), (2, 3), ()), ([1] * 21, [1] * 21, [1] * 21), "contains 0 held-out and 2 training images"),
        (((2, 3), (2, 3), (2, 3)), ([1] * 20, [1] * 20, [1] * 20), "more than 20 generated images.*; got 60 in total"),
    ],
)
def test_ct_requires_images_in_its_cells(held_out, generated, message):
    with pytest.raises(TooFewImagesError, match=message):
        data_copying_score(TRAIN, images(*held_out), images(*generated))


def test_opposite_directions_have_cosine_distance_zero():
    """Rows at 180 and 60 degrees to the only row of y that counts: rows that sum to 0 are left out of x and of y."""
    x = np.array([[-2.0, 0.0], [1.0, math.sqrt(3)], [2.0, -2.0]])
    y = np.array([[3.0, 0.0], [-1.0, 1.0]])
    assert nearest_cosine_distance(x, y) == pytest.approx((0 + 0.5) / 2, abs=1e-12)


def test_only_distances_below_the_threshold_are_penalised():
    assert penalise_distance(3.0, 0.1) == 3.0
    assert penalise_distance(3.0, 0.0999) == pytest.approx(3.0 / 0.0999, rel=1e-12)
    assert penalise_distance(3.0, 0.25, threshold=0.3) == pytest.approx(12, rel=1e-12)
