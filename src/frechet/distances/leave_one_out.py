"""What the squared Fréchet distance changes by when an image is left out, of every image and exactly.

Without x, at c = x - μ₁, the Gaussian of n images becomes

    μ₁ - c / (n-1),   a Σ₁ - b ccᵀ,   a = (n-1) / (n-2),   b = n / ((n-1)(n-2)),

and what it shares with q, tr √(Σ₁Σ₂) = Σ sᵢ, the sum of the roots of the eigenvalues of a diag(s²) - b uuᵀ, uᵢ² = sᵢ zᵢ², z = Wc.
One decomposition serves all images, since √α - √β = 1/2π ∫₀^∞ t^{-½} log((α + t) / (β + t)) dt, and the ratio of the two
determinants is 1 - b Σ uᵢ² / (a sᵢ² + t). The integrand is analytic in log t: by the trapezoidal rule it is a matrix product.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from frechet.distances.gaussian import Normal
from frechet.distances.transport import Coupling, couple, influence

_AT_ONCE = 1024  # images
_STEP = 0.5  # of log t; the rule errs by exp(-2π²/step) of the sum
_BELOW, _ABOVE = 1e-16, 1e6  # how far t reaches beyond the squares of the roots; above, the integrand is known


class Changes(NamedTuple):
    """What leaving out each image changes the squared distance by.

    Attributes:
        mean: (n,) through the difference of the means.
        covariance: (n,) through the covariances.
    """

    mean: np.ndarray
    covariance: np.ndarray


def changes_without(rows: np.ndarray, p: Normal, q: Normal) -> Changes:
    """The change of d²(p, q) without each of p's images; of two images, of which one has no covariance, to first order.

    Args:
        rows: (n, d) features of all images of p.
        p, q: of the same dimension.
    """
    n, coupling = len(rows), couple(p, q)
    if n < 3:
        first = influence(rows.astype(np.float64), p, q, coupling)
        return Changes(first.mean / (1 - n), first.covariance / (1 - n))
    blocks = [_changes(rows[start : start + _AT_ONCE], n, p, q, coupling) for start in range(0, n, _AT_ONCE)]
    return Changes(*map(np.concatenate, zip(*blocks, strict=True)))


def _changes(rows: np.ndarray, n: int, p: Normal, q: Normal, coupling: Coupling) -> Changes:
    """Those of some of n images."""
    centred = rows - p.mean
    squares = np.sum(centred**2, axis=1)
    a, b = (n - 1) / (n - 2), n / ((n - 1) * (n - 2))
    mean = squares / (n - 1) ** 2 - 2 * (centred @ (p.mean - q.mean)) / (n - 1)
    real = coupling.roots > 0
    roots = coupling.roots[real]
    shared = _roots_without(roots, (centred @ coupling.onto_q[real].T) ** 2, a, b)
    return Changes(mean, (a - 1) * float(p.trace) - b * squares - 2 * ((a - 1) / (1 + a**0.5) * roots.sum() + shared))


def _roots_without(roots: np.ndarray, squares: np.ndarray, a: float, b: float) -> np.ndarray:
    """(n,) tr √(a S² - b uuᵀ) - √a tr S of (k,) roots S and (n, k) squares z²."""
    if not len(roots):
        return np.zeros(len(squares))
    scale = roots.max()
    roots, squares = roots / scale, squares / scale
    known = a * roots**2
    weights = (b / a) * squares / roots
    t = np.exp(np.arange(np.log(known.min() * _BELOW), np.log(known.max() * _ABOVE) + _STEP, _STEP))
    ratios = 1 - weights @ (known[:, None] / (known[:, None] + t))
    least = t / (known.max() + t)  # as eigenvalues interlace; less is rounding, of which the smallest roots are full
    beyond = b * (squares @ roots) * (t[-1] * np.exp(_STEP)) ** -0.5 / (1 - np.exp(-_STEP / 2))
    return scale * _STEP / (2 * np.pi) * (np.log(np.maximum(ratios, least)) @ t**0.5 - beyond)
