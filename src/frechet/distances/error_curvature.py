"""Curvature of a squared Fréchet distance along its own sampling error.

The influence function ψ is the change of the distance d² with the weights of the images. If the weight of image i changes by ε ψᵢ/n²,
d² changes by ε σ² + ε² κ σ⁴ + ..., where σ² = Σ ψᵢ²/n² is its squared standard error. κ does not depend on n. An error of x standard
errors is therefore one of x + κσ (x² - 1) in a distance without bias, which makes small estimates seem too certain: their σ is smaller.

Both maps of a coupling have factors W₁ and W₂ in whose coordinates both covariances are diag(s). With changes G of the first and
H of the second one there, the second order of -2 tr √(Σ₁Σ₂) is Σ (Gᵢⱼ - Hᵢⱼ)² / (2 (sᵢ + sⱼ)), which is 0 for G = H: then
tr √(Σ₁Σ₂) = tr (diag(s) + G).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from frechet.distances.gaussian import Gaussian
from frechet.distances.transport import Coupling, inverse_sums
from frechet.statistics.row_sample import choose_rows

MAX_ROWS = 1024  # of an input: κ is too large by its share of noise, about 20 % for 3 rows per dimension


class WeightedRows(NamedTuple):
    """Images of one input, and the direction in which their weights change.

    Attributes:
        rows: (r, d) features of all n images, or of a random sample.
        influence: (r,) ψ of each image.
        unit_influence: (r,) sum of ψ over the sampling unit of each image, its pair or cluster; equal to `influence` if images are independent.
        n: number of images.
    """

    rows: Float[np.ndarray, "r d"]
    influence: Float[np.ndarray, " r"]
    unit_influence: Float[np.ndarray, " r"]
    n: int


def curvature_along_error(
    p: Gaussian, q: Gaussian, coupling: Coupling, generated: WeightedRows | None, reference: WeightedRows | None
) -> float:
    """Compute κ, half the second derivative of the squared distance along its error, over the squared first one.

    Source: the quadratic coefficient of ABC intervals (DiCiccio & Efron 1992, Biometrika 79, section 4), divided by σ.

    Args:
        p, q: the Gaussians of the inputs.
        coupling: their coupling.
        generated, reference: images of p and q; None for a fixed distribution.

    Returns:
        κ, in inverse squared feature units; 0 if the influence of every image is 0. It is 1 / (4 d²) if only the means differ, in one
        direction, and the covariances are equal and constant.
    """
    one = _change_moments(generated, p, coupling.onto_q)
    other = _change_moments(reference, q, coupling.onto_p)
    slope = one.slope + other.slope
    if not slope:
        return 0.0
    positive = np.concatenate([one.increased, other.decreased])
    negative = np.concatenate([one.decreased, other.increased])
    difference = (positive.T @ positive - negative.T @ negative).astype(np.float64)
    spread = float(np.vdot(difference, difference * inverse_sums(coupling.roots))) / 2
    shift = one.mean - other.mean
    return (spread + float(shift @ shift) - one.spread_of_mean - other.spread_of_mean) / slope**2


class _Change(NamedTuple):
    """How the moments of one input change along the error.

    Attributes:
        slope: change of the squared distance.
        mean: (d,) change of the mean Δ.
        spread_of_mean: Δᵀ (I - T) Δ, by which the change of the covariance is smaller in the second order.
        increased, decreased: (_, k) rows y, in the coordinates of the map, whose y yᵀ are added to and subtracted from the covariance.
    """

    slope: float
    mean: Float[np.ndarray, " d"]
    spread_of_mean: float
    increased: Float[np.ndarray, "r k"]
    decreased: Float[np.ndarray, "s k"]


def _change_moments(sample: WeightedRows | None, gaussian: Gaussian, onto_other: Float[np.ndarray, "k d"]) -> _Change:
    k, d = onto_other.shape
    if sample is None:
        return _Change(0.0, np.zeros(d), 0.0, np.zeros((0, k), np.float32), np.zeros((0, k), np.float32))
    chosen = choose_rows(len(sample.rows), MAX_ROWS)
    influence = sample.influence[chosen]
    weights = sample.unit_influence[chosen] / (sample.n * len(influence))
    centered = (sample.rows[chosen] - gaussian.mean).astype(np.float32)
    mean = centered.T @ weights
    moved = centered @ onto_other.T.astype(np.float32)
    moved *= np.sqrt(np.abs(weights))[:, None].astype(np.float32)
    spread_of_mean = float(mean @ mean) - float(((onto_other @ mean) ** 2).sum())
    return _Change(float(influence @ weights), mean, spread_of_mean, moved[weights > 0], moved[weights < 0])
