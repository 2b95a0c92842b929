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

from frechet.distances.gaussian import Gaussian
from frechet.distances.transport import Coupling, influence_function, optimal_coupling

_BLOCK_ROWS = 1024  # images
_LOG_STEP = 0.5  # of log t; the rule errs by exp(-2π²/step) of the sum
_MIN_T_RATIO, _MAX_T_RATIO = (
    1e-16,
    1e6,
)  # how far t reaches beyond the squares of the roots; above, the integrand is known


class LeaveOneOutChanges(NamedTuple):
    """What leaving out each image changes the squared distance by.

    Attributes:
        mean: (n,) through the difference of the means.
        covariance: (n,) through the covariances.
    """

    mean: np.ndarray
    covariance: np.ndarray


def leave_one_out_changes(rows: np.ndarray, p: Gaussian, q: Gaussian) -> LeaveOneOutChanges:
    """The change of d²(p, q) without each of p's images; of two images, of which one has no covariance, to first order.

    Args:
        rows: (n, d) features of all images of p.
        p, q: of the same dimension.
    """
    n, coupling = len(rows), optimal_coupling(p, q)
    if n < 3:
        first = influence_function(rows.astype(np.float64), p, q, coupling)
        return LeaveOneOutChanges(first.mean / (1 - n), first.covariance / (1 - n))
    blocks = [
        _block_changes(rows[start : start + _BLOCK_ROWS], n, p, q, coupling) for start in range(0, n, _BLOCK_ROWS)
    ]
    return LeaveOneOutChanges(*map(np.concatenate, zip(*blocks, strict=True)))


def _block_changes(rows: np.ndarray, n: int, p: Gaussian, q: Gaussian, coupling: Coupling) -> LeaveOneOutChanges:
    """Those of some of n images."""
    centered = rows - p.mean
    squares = np.sum(centered**2, axis=1)
    a, b = (n - 1) / (n - 2), n / ((n - 1) * (n - 2))
    mean = squares / (n - 1) ** 2 - 2 * (centered @ (p.mean - q.mean)) / (n - 1)
    real = coupling.roots > 0
    roots = coupling.roots[real]
    shared = _trace_sqrt_changes(roots, (centered @ coupling.onto_q[real].T) ** 2, a, b)
    return LeaveOneOutChanges(
        mean, (a - 1) * float(p.trace) - b * squares - 2 * ((a - 1) / (1 + a**0.5) * roots.sum() + shared)
    )


def _trace_sqrt_changes(roots: np.ndarray, squares: np.ndarray, a: float, b: float) -> np.ndarray:
    """(n,) tr √(a S² - b uuᵀ) - √a tr S of (k,) roots S and (n, k) squares z²."""
    if not len(roots):
        return np.zeros(len(squares))
    scale = roots.max()
    roots, squares = roots / scale, squares / scale
    known = a * roots**2
    weights = (b / a) * squares / roots
    t = np.exp(np.arange(np.log(known.min() * _MIN_T_RATIO), np.log(known.max() * _MAX_T_RATIO) + _LOG_STEP, _LOG_STEP))
    ratios = 1 - weights @ (known[:, None] / (known[:, None] + t))
    least = t / (known.max() + t)  # as eigenvalues interlace; less is rounding, of which the smallest roots are full
    beyond = b * (squares @ roots) * (t[-1] * np.exp(_LOG_STEP)) ** -0.5 / (1 - np.exp(-_LOG_STEP / 2))
    return scale * _LOG_STEP / (2 * np.pi) * (np.log(np.maximum(ratios, least)) @ t**0.5 - beyond)
