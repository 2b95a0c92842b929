"""Intervals that hold at every look at a growing sample, whenever one stops.

A sample is looked at after n₁ < n₂ < ... < n_K images. The estimates, divided by their standard errors, then have the covariance
√(n_i / n_j) of a Brownian motion that is observed at these times. An interval of ± c standard errors holds at all looks together
with probability 1 - α if c is the quantile of the largest of these |Z_k| (Pocock 1977, Biometrika 64; as an interval at every
look: Jennison & Turnbull 1989, JRSS B 51). On a geometric grid of looks, Z is stationary, and one c suits all looks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

LOOK_RATIO = 2**0.5  # of the numbers of images at consecutive looks
_NUM_NODES = 128  # of Gauss-Legendre quadrature; critical values are then accurate to 1e-6 for ratios of 1.1 and more
_MIN_RATIO = 1.1
_LARGEST_QUANTILE = 12.0


def plan_looks(first: int, largest: int) -> tuple[int, ...]:
    """Return the numbers of images at which a growing sample is looked at, in nearly equal ratios of about √2.

    Args:
        first: number of images at the first look, at least 1.
        largest: number of images at the last look, at least `first`.
    """
    steps = round(math.log(largest / first) / math.log(LOOK_RATIO)) or int(largest >= _MIN_RATIO * first)
    if not steps:
        return (largest,)
    ratio = largest / first
    return tuple(round(first * ratio ** (step / steps)) for step in range(steps + 1))


def critical_value(looks: Sequence[int], alpha: float) -> float:
    """Compute the c for which all |Z_k| ≤ c with probability 1 - α.

    Args:
        looks: numbers of images at the looks, ascending.
        alpha: probability that any interval of ± c standard errors misses, two-sided, between 0 and 1.
    """
    low, high = 0.0, _LARGEST_QUANTILE
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if crossing_probability(looks, middle) > alpha else (low, middle)
    return high


def crossing_probability(looks: Sequence[int], bound: float) -> float:
    """Compute the probability that any |Z_k| exceeds a bound, by recursive integration (Armitage, McPherson & Rowe 1969).

    Args:
        looks: numbers of images at the looks, ascending.
        bound: the bound.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NUM_NODES)
    z, weights = nodes * bound, weights * bound
    density = _normal_density(z)
    for before, after in pairwise(looks):
        correlation = math.sqrt(before / after)
        spread = math.sqrt(1 - correlation**2)
        density = _normal_density((z[:, None] - correlation * z) / spread) / spread @ (weights * density)
    return max(0.0, 1 - float(weights @ density))


def student_quantile(z: float, degrees: int) -> float:
    """Return the quantile of Student's distribution for the probability of a normal quantile (Fisher & Cornish 1960).

    Args:
        z: the normal quantile, with z² small compared with the degrees of freedom.
        degrees: degrees of freedom.
    """
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def _normal_density(z: np.ndarray) -> np.ndarray:
    return np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


class EstimateWithBounds(NamedTuple):
    """An estimate and the ends of its interval."""

    value: float
    low: float
    high: float


def difference_interval(one: EstimateWithBounds, other: EstimateWithBounds, scale: float = 1.0) -> EstimateWithBounds:
    """Combine the intervals of two estimates to that of their difference one - other (MOVER; Zou & Donner 2008).

    Each end of the difference uses the ends that matter to it, so that skewed intervals give a skewed one.

    Args:
        one, other: the estimates with intervals of the same confidence.
        scale: standard error of the difference, divided by that for independent estimates; less than 1 if they have errors
            in common, which cancel.
    """
    value = one.value - other.value
    below = scale * math.hypot(one.value - one.low, other.high - other.value)
    above = scale * math.hypot(one.high - one.value, other.value - other.low)
    return EstimateWithBounds(value, value - below, value + above)
