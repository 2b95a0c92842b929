"""The mean of a value over pairs of images, with its standard error."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from frechet.distances.sampling_error import NUM_INFLUENCE_GROUPS, student_quantile_95
from frechet.statistics.row_sample import priorities


class MeanOfPairs(NamedTuple):
    """A mean over independent pairs.

    Attributes:
        value: the mean.
        standard_error: standard deviation of the pairs, divided by √n.
        low, high: 95 % confidence interval by Student's distribution.
        groups: means of random groups of pairs, scaled so that their sample variance is about the squared standard error (see
            `frechet.distances.interval.Interval`); None with fewer than two pairs per group.
    """

    value: float
    standard_error: float
    low: float
    high: float
    groups: tuple[float, ...] | None


def mean_of_pairs(values: Float[np.ndarray, " n"]) -> MeanOfPairs:
    """Compute the mean over n ≥ 2 independent pairs, its standard error and its 95 % confidence interval.

    Args:
        values: (n,) finite values.
    """
    n = len(values)
    mean = float(values.mean())
    error = float(values.std(ddof=1) / n**0.5)
    half = student_quantile_95(n - 1) * error
    return MeanOfPairs(mean, error, mean - half, mean + half, _average_over_groups(values - mean))


def _average_over_groups(deviations: Float[np.ndarray, " n"]) -> tuple[float, ...] | None:
    n = len(deviations)
    if n < 2 * NUM_INFLUENCE_GROUPS:
        return None
    groups = (priorities(np.arange(n), seed=1) % np.uint64(NUM_INFLUENCE_GROUPS)).astype(np.int64)
    totals = np.bincount(groups, weights=deviations, minlength=NUM_INFLUENCE_GROUPS)
    return tuple((totals * NUM_INFLUENCE_GROUPS**0.5 / n).tolist())
