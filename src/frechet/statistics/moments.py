"""Mean and covariance of a stream of features: centred, in float64, merged pairwise (Chan, Golub & LeVeque 1983)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RunningMoments:
    """Count, mean and scatter of n feature vectors of dimension d.

    Attributes:
        n: number of feature vectors.
        mean: (d,) float64.
        scatter: (d, d) float64, the sum of (x - mean)(x - mean)ᵀ.
    """

    n: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def empty(cls, dims: int) -> RunningMoments:
        """Return the identity of `merge` for d = `dims`."""
        return cls(0, np.zeros(dims), np.zeros((dims, dims)))

    @classmethod
    def from_features(cls, features: np.ndarray) -> RunningMoments:
        """Compute the moments of (n, d) features in float64."""
        if not len(features):
            return cls.empty(features.shape[1])
        rows = features.astype(np.float64)
        mean = rows.mean(axis=0)
        rows -= mean
        return cls(len(rows), mean, rows.T @ rows)

    def update(self, features: np.ndarray) -> RunningMoments:
        """Return the moments of these and of (k, d) further features."""
        return self.merge(RunningMoments.from_features(features))

    def merge(self, other: RunningMoments) -> RunningMoments:
        """Return the moments of both sets of features together."""
        if not self.n:
            return other
        if not other.n:
            return self
        n = self.n + other.n
        mean_difference = other.mean - self.mean
        scatter = np.outer(mean_difference, mean_difference * (self.n * other.n / n))
        scatter += self.scatter
        scatter += other.scatter
        return RunningMoments(n, self.mean + mean_difference * (other.n / n), scatter)

    @property
    def covariance(self) -> np.ndarray:
        """(d, d) float64, unbiased: the scatter divided by n - 1."""
        return self.scatter / (self.n - 1)
