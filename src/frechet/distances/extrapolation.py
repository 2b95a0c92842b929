"""FID∞: the distance extrapolated to an infinite number of images (Chong & Forsyth 2020, arXiv:1911.07023)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from frechet.distances.frechet import FrechetTerms, frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.errors import TooFewImagesError

NUM_SIZES = 15  # as in the paper
MIN_IMAGES = 8  # a quarter of them, the smallest subset, has a covariance


def frechet_infinity(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"] | Gaussian, *, seed: int = 0
) -> FrechetTerms:
    """Extrapolate the squared Fréchet distance to an infinite number of images.

    Distances are computed for 15 sizes of seeded random subsets from n/4 to n. The result is the intercept of a line
    fitted to them as a function of 1/n + 1/m (Chong & Forsyth 2020, arXiv:1911.07023, section 3).

    Args:
        x: (n, d) features, n >= 8.
        y: (m, d) features, m >= 8, of which subsets of the same fraction are taken; or a Gaussian, which is used as it
            is, so that its own small-sample bias remains.
        seed: seed of the subsets.

    Returns:
        Both terms of the distance, extrapolated separately; they may be negative.

    Raises:
        TooFewImagesError: n or m is less than 8.
    """
    for features in (x,) if isinstance(y, Gaussian) else (x, y):
        require_enough_images(features.shape[0])
    random = np.random.default_rng(seed)
    distances, inverse_sizes = [], []
    for fraction in np.linspace(0.25, 1.0, NUM_SIZES):
        inputs = [each if isinstance(each, Gaussian) else _random_subset(each, fraction, random) for each in (x, y)]
        distances.append(frechet_terms(*map(_as_gaussian, inputs)))
        inverse_sizes.append(sum(1 / each.shape[0] for each in inputs if not isinstance(each, Gaussian)))
    mean, covariance = (
        float(np.polynomial.polynomial.polyfit(inverse_sizes, term, 1)[0]) for term in zip(*distances, strict=True)
    )
    return FrechetTerms(mean, covariance)


def require_enough_images(n: int) -> None:
    """Check that the smallest subset, a quarter of the images, is large enough.

    Raises:
        TooFewImagesError: n is less than 8.
    """
    if n < MIN_IMAGES:
        raise TooFewImagesError(
            f"the extrapolation to an infinite number of images needs at least {MIN_IMAGES} images; got {n}"
        )


def _random_subset(
    rows: Float[np.ndarray, "n d"], fraction: float, random: np.random.Generator
) -> Float[np.ndarray, "m d"]:
    size = max(2, round(fraction * rows.shape[0]))
    return rows[random.permutation(rows.shape[0])[:size], :]


def _as_gaussian(features: Float[np.ndarray, "n d"] | Gaussian) -> Gaussian:
    return features if isinstance(features, Gaussian) else Gaussian.from_features(features.astype(np.float64))
