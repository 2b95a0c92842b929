"""Whether rows and group moments can be those of the images that a mean and a covariance were computed from.

All rows, and the groups of all images, must reproduce the mean and the covariance up to rounding. A sample of the rows must
respect what holds for every sample (no subset of n numbers is further from their mean than all n together), and its mean
must be where the mean of a random sample can be. Neither has false alarms: the former is exact, and the latter has a
tolerance of seven standard errors, widened for the case that a few images hold all the variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from frechet.statistics.group_moments import GroupMoments

_BLOCK_ROWS = 2048
_ACCUMULATION_ERROR = 1e-6  # of moments in float64, relative to standard deviations; measured errors are below 1e-9
_MAX_SQUARED_SHIFT = 50.0  # of the mean of a sample, in units of its variance


@dataclass(frozen=True, kw_only=True)
class StoredMoments:
    """Mean and covariance of n images, and how precisely they and the rows are stored.

    Attributes:
        n: number of images.
        mean: (d,) float64.
        covariance: (d, d) float64.
        covariance_eps: relative precision of the covariance.
        eps: the largest machine epsilon of the dtypes in which mean and rows (or the means of groups) were stored.
    """

    n: int
    mean: np.ndarray
    covariance: np.ndarray
    covariance_eps: float
    eps: float

    @property
    def std(self) -> np.ndarray:
        """(d,) standard deviations."""
        return np.sqrt(np.maximum(self.covariance.diagonal(), 0.0))

    @property
    def rounding(self) -> np.ndarray:
        """(d,) largest error of the mean of rounded features."""
        return 2 * self.eps * (np.abs(self.mean) + self.std)


def describe_row_mismatch(rows: np.ndarray, moments: StoredMoments) -> str | None:
    """Return how rows contradict the moments, or None if they may be rows of the same images.

    Args:
        rows: (k, d) features of k ≤ n images, finite.
        moments: of all n images.
    """
    k, n = len(rows), moments.n
    if not k:
        return None
    probe = _make_probe(moments)
    total, squares, probed = np.zeros_like(moments.mean), np.zeros_like(moments.mean), np.zeros_like(moments.mean)
    for start in range(0, k, _BLOCK_ROWS):
        deviations = rows[start : start + _BLOCK_ROWS].astype(np.float64) - moments.mean
        total += deviations.sum(axis=0)
        squares += np.einsum("kd,kd->d", deviations, deviations)
        probed += (deviations @ probe) @ deviations
    if k == n:
        return _describe_mean_mismatch(total / n, moments) or _describe_scatter_mismatch(probed, probe, moments)
    return _describe_sample_mismatch(k, total, squares, moments)


def describe_group_mismatch(groups: GroupMoments, moments: StoredMoments) -> str | None:
    """Return how moments of groups contradict those of all images, or None if they may be of the same images."""
    merged = groups.merge_groups(range(len(groups)))
    probe = _make_probe(moments)
    return _describe_mean_mismatch(merged.mean - moments.mean, moments) or _describe_scatter_mismatch(
        merged.scatter @ probe, probe, moments
    )


def _make_probe(moments: StoredMoments) -> np.ndarray:
    """Return (d,) random signs. Two different matrices differ in their product with it (Freivalds 1977)."""
    return np.random.default_rng(0).choice([-1.0, 1.0], len(moments.mean))


def _describe_mean_mismatch(difference: np.ndarray, moments: StoredMoments) -> str | None:
    excess = np.abs(difference) - moments.rounding - _ACCUMULATION_ERROR * moments.std
    if (excess <= 0).all():
        return None
    column = int(excess.argmax())
    return f"have a mean that differs from mu by {abs(difference[column]):.3g} in column {column}"


def _describe_scatter_mismatch(probed: np.ndarray, probe: np.ndarray, moments: StoredMoments) -> str | None:
    """Compare the product of a scatter matrix and the probe with that of the covariance.

    The bound of row i is the sum over all columns j of the largest error of the covariance of features i and j.
    """
    std, rounding = moments.std, moments.rounding
    bound = _ACCUMULATION_ERROR * std * std.sum() + 2 * (rounding * std.sum() + std * rounding.sum())
    bound += 4 * rounding * rounding.sum() + 4 * len(std) * moments.covariance_eps * (std**2).max()
    excess = np.abs(probed / (moments.n - 1) - moments.covariance @ probe) - bound
    if (excess <= 0).all():
        return None
    return f"have a covariance that differs from sigma in row {int(excess.argmax())}"


def _describe_sample_mismatch(k: int, total: np.ndarray, squares: np.ndarray, moments: StoredMoments) -> str | None:
    n, std, rounding = moments.n, moments.std, moments.rounding
    shift = np.maximum(np.abs(total) - k * rounding, 0.0)
    limit = (n - 1) * (std**2 * (1 + _ACCUMULATION_ERROR) + 4 * moments.covariance_eps * (std**2).max())
    limit += 4 * k * rounding * (std + rounding)
    excess = squares + shift**2 / (n - k) - limit  # the other n - k images have to bring the mean back to mu
    if (excess > 0).any():
        return f"vary more in column {int(excess.argmax())} than sigma allows for all {n} images"
    expected = (std**2).sum() * (1 / k - 1 / n)  # of |mean - mu|² in sampling without replacement
    if ((shift / k) ** 2).sum() > (_MAX_SQUARED_SHIFT + 2 * n / k) * expected:
        return "have a mean that is too far from mu for a random sample"
    return None
