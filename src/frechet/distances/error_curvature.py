"""Curvature of a squared Fréchet distance along its own sampling error.

The influence function ψ is the derivative of the distance d² with respect to the weights of the images. If the weight of image i changes
by ε ψᵢ/n², d² changes by ε σ² + ε² κ σ⁴ + ..., where σ² = Σ ψᵢ²/n² is its squared standard error. To second order, the bias-corrected
distance of a sample is therefore off by σ (x + κσ (x² - 1)), where x has a standard normal distribution. A sample with a small distance
also has a small standard error.

Both maps of a coupling have factors W₁ and W₂ in whose coordinates both covariances are diag(s). Let G and H be the changes of the two
covariances in these coordinates, and Δ₁ and Δ₂ those of the means. The second order of d² is then

    Σ (Gᵢⱼ - Hᵢⱼ)² / (2 (sᵢ + sⱼ)) + |W₁Δ₁ - W₂Δ₂|²

which is 0 if both distributions change in the same way.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from frechet.distances.gaussian import Gaussian
from frechet.distances.transport import Coupling, inverse_sums
from frechet.statistics.row_sample import choose_rows

MAX_ROWS = 1024  # of an input


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

    def choose(self, limit: int) -> WeightedRows:
        """Return a random sample of at most `limit` of these images."""
        chosen = choose_rows(len(self.rows), limit)
        return WeightedRows(self.rows[chosen], self.influence[chosen], self.unit_influence[chosen], self.n)


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
        κ, in inverse squared feature units, 0 or more; 0 if the influence of every image is 0. It is 1 / (4 d²) if only the means differ,
        in one direction, and the covariances are known.
    """
    given = [
        (sign, sample.choose(MAX_ROWS), gaussian.mean, onto_other)
        for sign, sample, gaussian, onto_other in (
            (1, generated, p, coupling.onto_q),
            (-1, reference, q, coupling.onto_p),
        )
        if sample is not None
    ]
    largest = max((float(np.abs(sample.unit_influence).max()) for _, sample, _, _ in given), default=0.0)
    if not largest:
        return 0.0
    scale = float(p.trace + q.trace) ** 0.5  # in its units, all numbers are within the range of float32
    roots = np.asarray(coupling.roots) / scale**2
    inverse = inverse_sums(roots)
    covariance, mean, slope, rest = np.zeros((len(roots), len(roots))), np.zeros(len(roots)), 0.0, 0.0
    for sign, sample, center, onto_other in given:
        change = _change_moments(sample, center, onto_other, scale, largest)
        covariance += sign * (change.covariance - np.diag(change.total * roots))
        mean += sign * change.mean
        slope += change.slope
        noise = change.squares_of_images(roots, inverse) * (1 - len(sample.rows) / sample.n)
        rest -= change.total * change.slope / scale**2 + noise
    curvature = float(np.vdot(covariance, covariance * inverse)) / 2 + float(mean @ mean) + rest
    return max(0.0, curvature) * (scale / slope) ** 2


class _Change(NamedTuple):
    """How one input changes along the error, in the coordinates of the map to the other one.

    Attributes:
        weights: (r,) changes w of the weights of its images.
        scaled_rows: (r, k) y √|w| of each image y.
        slope: change of the squared distance, in squared feature units.
    """

    weights: Float[np.ndarray, " r"]
    scaled_rows: Float[np.ndarray, "r k"]
    slope: float

    @property
    def total(self) -> float:
        """Change of the sum of the weights, by which they are divided; 0 unless clusters have different sizes."""
        return float(self.weights.sum())

    @property
    def mean(self) -> Float[np.ndarray, " k"]:
        """(k,) change of the mean."""
        weights = np.sqrt(np.abs(self.weights)) * np.sign(self.weights)
        return self.scaled_rows.T.astype(np.float64) @ weights

    @property
    def covariance(self) -> Float[np.ndarray, "k k"]:
        """(k, k) change of the covariance."""
        added, removed = self.scaled_rows[self.weights > 0], self.scaled_rows[self.weights < 0]
        return (added.T @ added - removed.T @ removed).astype(np.float64)

    def squares_of_images(self, roots: Float[np.ndarray, " k"], inverse: Float[np.ndarray, "k k"]) -> float:
        """Return the sum of what each image alone contributes to the second order."""
        squares = self.scaled_rows**2
        of_covariance = float(np.vdot(squares @ inverse.astype(np.float32), squares)) / 2
        of_mean = float(np.abs(self.weights) @ squares.sum(axis=1))
        return of_covariance + of_mean / 2 + float(self.weights @ self.weights) * float(roots.sum()) / 4


def _change_moments(
    sample: WeightedRows,
    center: Float[np.ndarray, " d"],
    onto_other: Float[np.ndarray, "k d"],
    scale: float,
    largest: float,
) -> _Change:
    """Change the weights of images by ψ / (n r largest), and divide the images by the scale."""
    r = len(sample.rows)
    weights = sample.unit_influence / largest / (sample.n * r)
    slope = float(sample.influence @ weights)
    centered = ((sample.rows - center) / scale).astype(np.float32)
    moved = centered @ onto_other.T.astype(np.float32)
    moved *= np.sqrt(np.abs(weights))[:, None].astype(np.float32)
    return _Change(weights, moved, slope)
