"""How unequal the contributions of images to a sample covariance are, which the second order of the bias depends on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from frechet.distances.gaussian import Gaussian
from frechet.distances.interval_input import IntervalInput
from frechet.statistics.row_sample import choose_rows

MAX_ROWS = 1024  # enough for moments of weights, most of which are near 1
_BLOCK = 64
_REGULARIZATION = 1e-5  # of the covariance's norm, added before it is inverted; far smaller variances do not matter


def weight_skewness(p: IntervalInput) -> float:
    """Estimate 1 + E w³ / E w² - E w² for the weights w of images, which have mean 1, in their covariance.

    The weight of an image is its squared length in whitened coordinates. With weights, the effective number of images is
    n / E w², so that γ becomes γ E w², and the third free cumulant of the covariance becomes γ² E w³. The result is the r of
    equal weights for which (r - 1) γ is the same.

    With the leverage h of an image in a covariance that contains it, w is proportional to h / (1 - h) (Cook & Weisberg
    1982). The lengths of Gaussian images vary as well, which increases the result by about 2 / (d (1 - γ)); this is subtracted,
    because it is not a weight.

    Args:
        p: the input; images of one unit are treated as different ones.

    Returns:
        At least 1, and 1 for a fixed distribution or one without variance.
    """
    if p.groups is None or p.rows is None or p.n is None:
        return 1.0
    upper = _regularize(p.gaussian).cholesky()
    if upper is None:
        return 1.0
    centered = (p.rows[choose_rows(len(p.rows), MAX_ROWS)] - p.gaussian.mean).astype(np.float32)
    whitened = centered @ _invert_triangular(upper.astype(np.float32))
    leverage = np.einsum("rd,rd->r", whitened, whitened).astype(np.float64) / (p.n - 1)
    weights = leverage / np.maximum(1 - leverage, 1 / p.n)
    weights /= weights.mean()
    squares = float((weights**2).mean())
    of_gaussian_images = 2 / (len(p.gaussian.mean) * max(1 - p.dims_per_image, 1 / p.n))
    return max(1.0, 1 + float((weights**3).mean()) / squares - squares - of_gaussian_images)


def _invert_triangular(upper: Float32[np.ndarray, "d d"]) -> Float32[np.ndarray, "d d"]:
    """Invert an upper triangular matrix by blocks, several times as fast as NumPy's inverse, which is that of a general matrix."""
    d, half = len(upper), len(upper) // 2
    if d <= _BLOCK:
        return np.linalg.inv(upper)
    inverse = np.zeros_like(upper)
    inverse[:half, :half] = first = _invert_triangular(upper[:half, :half])
    inverse[half:, half:] = last = _invert_triangular(upper[half:, half:])
    inverse[:half, half:] = -first @ (upper[:half, half:] @ last)
    return inverse


def _regularize(gaussian: Gaussian) -> Gaussian:
    """Return the Gaussian with a small multiple of the identity added to its covariance."""
    assert gaussian.covariance is not None
    shift = _REGULARIZATION * float(np.linalg.norm(gaussian.covariance))
    return replace(gaussian, covariance=gaussian.covariance + shift * np.eye(len(gaussian.mean)))
