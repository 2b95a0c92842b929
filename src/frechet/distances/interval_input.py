"""One of the two inputs of an interval: its Gaussian, how it was sampled, and what is left without some of its images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Integer

from frechet.distances.gaussian import FLOAT64_EPS, Gaussian
from frechet.statistics.group_moments import GroupMoments
from frechet.statistics.moments import RunningMoments

NUM_DELETIONS = 5  # parts of the images that are left out in turn; each consists of two groups
_BLOCK_ROWS = 64  # rows of a covariance that the processor's cache holds
_FLOAT32_EPS = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class IntervalInput:
    """One of the two inputs of a comparison, and how it was sampled.

    Attributes:
        gaussian: Gaussian of the features, with its covariance as a matrix.
        n: number of images, or None if unknown.
        groups: moments of random groups of the images; None for a distribution that is fixed, without a sampling error.
        n_units: effective number of sampling units (independent images, pairs or clusters); None if each image is one.
        unit_skewness: n Σ m³ / (Σ m²)² for units of m images; 1 for units of equal size.
        rows: (r, d) features of a sample of the images, or of all of them (r = n); needed if there are groups.
        units: (r,) sampling unit of each row; None if each image is one.
        row_groups: (r,) group of each row; needed for pairs.
        strata: (r,) stratum of each row of a stratified sample, whose strata have fixed proportions; None otherwise.
    """

    gaussian: Gaussian
    n: int | None = None
    groups: GroupMoments | None = None
    n_units: int | None = None
    unit_skewness: float = 1.0
    rows: Float[np.ndarray, "r d"] | None = None
    units: Integer[np.ndarray, " r"] | None = None
    row_groups: Integer[np.ndarray, " r"] | None = None
    strata: Integer[np.ndarray, " r"] | None = None

    @property
    def has_all_rows(self) -> bool:
        """Whether the features of every image are available."""
        return self.rows is not None and len(self.rows) == self.n

    def fix(self) -> IntervalInput:
        """Return this input as a fixed distribution."""
        return IntervalInput(self.gaussian)

    @property
    def dims_per_image(self) -> float:
        """Return γ = d/n, with the effective number of independent images; 0 for a fixed distribution."""
        n = self.n if self.n_units is None else self.n_units
        return 0.0 if self.groups is None or n is None else self.gaussian.mean.shape[0] / n

    def leave_out(self, part: int) -> tuple[Gaussian, float]:
        """Return the Gaussian without one part of the images, and the share of these images; all of it if it is fixed."""
        if self.groups is None or self.n is None:
            return self.gaussian, 0.0
        removed = self.groups.merge_groups(range(part, len(self.groups), NUM_DELETIONS))
        return remove_moments(self.gaussian, self.n, removed), removed.n / self.n


def remove_moments(gaussian: Gaussian, n: int, removed: RunningMoments) -> Gaussian:
    """Compute the Gaussian of n images without some of them.

    The precision of its covariance is lower if these images had most of the variance, or if their moments were stored as
    float32.

    Args:
        gaussian: Gaussian of all images, with its covariance as a matrix.
        n: number of all images.
        removed: moments of the images that are left out, fewer than n - 1.
    """
    assert gaussian.covariance is not None
    rest = n - removed.n
    shift = (removed.mean - gaussian.mean) * (removed.n / rest)
    covariance = np.empty_like(gaussian.covariance)
    for start in range(0, len(shift), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        scatter = gaussian.covariance[rows] * (n - 1)
        scatter -= removed.scatter[rows]
        scatter -= np.outer(shift[rows], shift * (n * rest / removed.n)) if removed.n else 0.0
        np.divide(scatter, rest - 1, out=covariance[rows])
    left = Gaussian(gaussian.mean - shift, covariance=covariance)
    error = FLOAT64_EPS * float(gaussian.trace) * (n - 1) + _FLOAT32_EPS * float(np.trace(removed.scatter))
    lost = error / max(float(left.trace) * (rest - 1), error) if error else 0.0
    return replace(left, covariance_eps=max(gaussian.covariance_eps, lost))
