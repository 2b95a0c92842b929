"""Which combinations cannot give a claimed value, from their scores on a subset of the images."""

from __future__ import annotations

import numpy as np

from frechet.evaluation.diagnosis.claim import Claim
from frechet.statistics.row_sample import priorities

_MIN_SUBSET = 500
_SUBSET_FRACTION = 0.1
_BIAS_FACTOR, _BIAS_FACTOR_SINGULAR = 1.5, 3.0  # of the difference between m/2 and m images, for m >= d and m < d
_NOISE_FACTOR = 2.0
_MIN_NOISE = 0.05  # of the value: the difference of two halves may be small by chance


def select_subset(n: int, seed: int) -> list[int]:
    """Return a seeded subset of n images: a tenth, but at least 500 images or, of few images, half of them."""
    size = max(int(_SUBSET_FRACTION * n), min(_MIN_SUBSET, n // 2), min(n, 4))
    chosen = np.argsort(priorities(np.arange(n), seed), kind="stable")[:size]
    return [int(index) for index in np.sort(chosen)]


def can_match(claim: Claim, n_per_dim: float, value: float, first_half: float, second_half: float) -> bool:
    """Return whether a Fréchet distance of a subset leaves open that all images give the claimed value.

    The distance of m images is too large by a bias that falls as m grows: as 1/m if m is well above d, and more slowly below.
    The difference from the halves of the subset shows how large it is. All images give at most the value of the subset, and at
    least this value less a multiple of the difference, up to the noise between the halves.

    Args:
        claim: the claimed value.
        n_per_dim: number of images of the subset, divided by the number of features.
        value: the distance of the subset.
        first_half, second_half: the distances of both halves of the subset.
    """
    noise = _NOISE_FACTOR * max(abs(first_half - second_half), _MIN_NOISE * value)
    bias = max((first_half + second_half) / 2 - value, 0.0) * (
        _BIAS_FACTOR if n_per_dim >= 1 else _BIAS_FACTOR_SINGULAR
    )
    return value - bias - noise <= claim.value + claim.tolerance and (claim.value - claim.tolerance <= value + noise)
