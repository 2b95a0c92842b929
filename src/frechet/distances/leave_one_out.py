"""By how much the squared Fréchet distance changes when one image is left out, exactly and for every image.

Without x, with c = x - μ₁, the Gaussian of n images becomes

    μ₁ - c / (n-1),   a Σ₁ - b ccᵀ,   a = (n-1) / (n-2),   b = n / ((n-1)(n-2)),

and the term tr √(Σ₁Σ₂) = Σ sᵢ becomes the sum of the roots of the eigenvalues of a diag(s²) - b uuᵀ, with uᵢ² = sᵢ zᵢ² and
z = Wc. One decomposition serves all images, because √α - √β = 1/2π ∫₀^∞ t^{-½} log((α + t) / (β + t)) dt, and the ratio of
the two determinants is 1 - b Σ uᵢ² / (a sᵢ² + t). The integrand is analytic in log t, so that the trapezoidal rule, which
is a matrix product, converges exponentially.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from frechet.distances.gaussian import Gaussian
from frechet.distances.transport import Coupling, influence_function, optimal_coupling

_BLOCK_ROWS = 1024
_LOG_STEP = 0.5  # step in log t; the relative error of the trapezoidal rule is exp(-2π²/step)
_MIN_T_RATIO, _MAX_T_RATIO = 1e-16, 1e6  # range of t, relative to the squared roots; the rest has a closed form


class LeaveOneOutChanges(NamedTuple):
    """Changes of the squared distance when each image is left out, in squared feature units.

    Attributes:
        mean: (n,) change of the term of the means.
        covariance: (n,) change of the term of the covariances.
    """

    mean: Float[np.ndarray, " n"]
    covariance: Float[np.ndarray, " n"]


def leave_one_out_changes(rows: Float[np.ndarray, "n d"], p: Gaussian, q: Gaussian) -> LeaveOneOutChanges:
    """Compute by how much the squared Fréchet distance changes when each image of p is left out.

    Args:
        rows: (n, d) features of all images of p. For n = 2, where the remaining image has no covariance, the changes are
            those of the influence function.
        p, q: Gaussians of the same dimension.

    Raises:
        MismatchError: the Gaussians have different dimensions.
    """
    n, coupling = len(rows), optimal_coupling(p, q)
    if n < 3:
        influence = influence_function(rows.astype(np.float64), p, q, coupling)
        return LeaveOneOutChanges(influence.mean / (1 - n), influence.covariance / (1 - n))
    blocks = [
        _block_changes(rows[start : start + _BLOCK_ROWS], n, p, q, coupling) for start in range(0, n, _BLOCK_ROWS)
    ]
    return LeaveOneOutChanges(*map(np.concatenate, zip(*blocks, strict=True)))


def _block_changes(
    rows: Float[np.ndarray, "b d"], n: int, p: Gaussian, q: Gaussian, coupling: Coupling
) -> LeaveOneOutChanges:
    """Compute the changes for some of the n images of p, n >= 3."""
    centered = rows - p.mean
    squares = np.sum(centered**2, axis=1)
    a, b = (n - 1) / (n - 2), n / ((n - 1) * (n - 2))
    mean = squares / (n - 1) ** 2 - 2 * (centered @ (p.mean - q.mean)) / (n - 1)
    real = coupling.roots > 0
    roots = coupling.roots[real]
    trace_changes = _trace_sqrt_changes(roots, (centered @ coupling.onto_q[real].T) ** 2, a, b)
    return LeaveOneOutChanges(
        mean, (a - 1) * float(p.trace) - b * squares - 2 * ((a - 1) / (1 + a**0.5) * roots.sum() + trace_changes)
    )


def _trace_sqrt_changes(
    roots: Float[np.ndarray, " k"], squares: Float[np.ndarray, "b k"], a: float, b: float
) -> Float[np.ndarray, " b"]:
    """Compute tr √(a S² - b uuᵀ) - √a tr S for each image.

    Args:
        roots: (k,) positive roots S.
        squares: (b, k) squares z² of the images.
        a, b: see the module.
    """
    if not len(roots):
        return np.zeros(len(squares))
    scale = roots.max()
    roots, squares = roots / scale, squares / scale
    known = a * roots**2
    weights = (b / a) * squares / roots
    t = np.exp(np.arange(np.log(known.min() * _MIN_T_RATIO), np.log(known.max() * _MAX_T_RATIO) + _LOG_STEP, _LOG_STEP))
    ratios = 1 - weights @ (known[:, None] / (known[:, None] + t))
    least = t / (known.max() + t)  # a bound, since eigenvalues interlace; the smallest roots are lower by rounding
    tail = b * (squares @ roots) * (t[-1] * np.exp(_LOG_STEP)) ** -0.5 / (1 - np.exp(-_LOG_STEP / 2))
    return scale * _LOG_STEP / (2 * np.pi) * (np.log(np.maximum(ratios, least)) @ t**0.5 - tail)
