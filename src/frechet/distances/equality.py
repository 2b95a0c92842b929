"""Whether two sets of images may be of one distribution, by permutation; and how far apart parts of one set lie.

The statistic is the squared Fréchet distance to second order about the Gaussian of both sets together,

    t = |δμ|² + ½ Σᵢⱼ Δᵢⱼ² / (λᵢ + λⱼ),   Δ = Vᵀ (Σ₁ - Σ₂) V,   Σ = V diag(λ) Vᵀ,

so that one decomposition serves all permutations. A permutation test is exact for any statistic (Phipson & Smyth 2010, for its
p-value); since parts of few images lie further apart than t says, t is scaled by a few distances that are computed in full.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from frechet.distances.frechet import frechet_terms
from frechet.distances.normal import Array, Normal, namespace_of
from frechet.distances.transport import inverse_sums

PERMUTATIONS = 39  # the smallest p-value is 1/40
IN_FULL = 4  # of them, whose distance is computed in full


class Equality(NamedTuple):
    """What permutations of the images between both sides say.

    Attributes:
        p_value: of both sides having one distribution; 1/40 at least.
        mean, deviation: of the squared distances between the permuted sides, in squared feature units.
    """

    p_value: float
    mean: float
    deviation: float


class _Pool(NamedTuple):
    """All images, in the axes of their common Gaussian.

    Attributes:
        rows: (n, d) centred, along the axes.
        scatter: (d, d) rowsᵀ rows.
        inverse_sums: (d, d) 1 / (λᵢ + λⱼ).
    """

    rows: Array
    scatter: Array
    inverse_sums: Array

    def parted(self, chosen: np.ndarray) -> tuple[Normal, Normal]:
        """The Gaussians of the chosen images and of all others."""
        xp = namespace_of(self.rows)
        part = self.rows[chosen, :]
        n, m = self.rows.shape[0], part.shape[0]
        squares, mean = part.T @ part, xp.mean(part, axis=0)
        rest = -mean * (m / (n - m))
        return (
            Normal(mean, covariance=(squares - m * _outer(mean)) / (m - 1)),
            Normal(rest, covariance=(self.scatter - squares - (n - m) * _outer(rest)) / (n - m - 1)),
        )

    def second_order(self, one: Normal, other: Normal) -> float:
        """t."""
        xp = namespace_of(self.rows)
        gap, delta = one.mean - other.mean, one.covariance - other.covariance
        return float(xp.sum(gap**2) + xp.sum(delta**2 * self.inverse_sums) / 2)


def permutation_test(
    p_rows: Array, q_rows: Array, *, seed: int = 0, done: Callable[[int, int], None] = lambda *_: None
) -> Equality:
    """Compare two sets with random partitions of both together.

    Args:
        p_rows, q_rows: (n, d) and (m, d) features of all images of either side.
        seed: of the permutations.
        done: called with (steps done, steps in all).
    """
    pool = _pooled(p_rows, q_rows)
    n, m = pool.rows.shape[0], q_rows.shape[0]
    observed = pool.second_order(*pool.parted(np.arange(n - m, n)))
    random = np.random.default_rng(seed)
    found, in_full = [], []
    for step in range(PERMUTATIONS):
        sides = pool.parted(random.permutation(n)[:m])
        found.append(pool.second_order(*sides))
        if step < IN_FULL:
            in_full.append(frechet_terms(*sides).total)
        done(step + 1, PERMUTATIONS)
    further = sum(value >= observed for value in found)
    scale = sum(in_full) / sum(found[:IN_FULL]) if any(found[:IN_FULL]) else 1.0
    return Equality(
        (1 + further) / (1 + PERMUTATIONS), scale * float(np.mean(found)), scale * float(np.std(found, ddof=1))
    )


def _pooled(p_rows: Array, q_rows: Array) -> _Pool:
    xp = namespace_of(p_rows, q_rows)
    rows = xp.astype(xp.concat([p_rows, q_rows], axis=0), xp.float64)
    rows = rows - xp.mean(rows, axis=0)
    values, axes = xp.linalg.eigh(rows.T @ rows / (rows.shape[0] - 1))
    rows = rows @ axes
    values = xp.where(values > 0, values, xp.zeros_like(values))
    return _Pool(rows, rows.T @ rows, inverse_sums(values))


def _outer(mean: Array) -> Array:
    return mean[:, None] * mean[None, :]
