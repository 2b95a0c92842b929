"""FID∞: the distance extrapolated to endlessly many images (Chong & Forsyth 2020, arXiv:1911.07023)."""

from __future__ import annotations

import numpy as np

from frechet.distances.frechet import FrechetTerms, frechet_terms
from frechet.distances.gaussian import Array, Gaussian
from frechet.errors import TooFewImagesError

NUM_SIZES = 15  # as in the paper
MIN_IMAGES = 8  # of which a quarter is two


def frechet_infinity(x: Array, y: Array | Gaussian, *, seed: int = 0) -> FrechetTerms:
    """The intercept of a line through distances against 1/n + 1/m, at 15 sizes from n/4 to n of seeded random subsets.

    Args:
        x: (n, d) features.
        y: (m, d) features, of which the same share is taken each time, or a Gaussian, whose own bias then stays in.
        seed: of the subsets.

    Returns:
        Both terms, extrapolated each for itself; the sum may be negative.

    Raises:
        TooFewImages: fewer than 8 on a side.
    """
    for side in (x,) if isinstance(y, Gaussian) else (x, y):
        require_enough_images(side.shape[0])
    random = np.random.default_rng(seed)
    found, inverses = [], []
    for fraction in np.linspace(0.25, 1.0, NUM_SIZES):
        sides = [side if isinstance(side, Gaussian) else _random_subset(side, fraction, random) for side in (x, y)]
        found.append(frechet_terms(*map(_as_gaussian, sides)))
        inverses.append(sum(1 / side.shape[0] for side in sides if not isinstance(side, Gaussian)))
    mean, covariance = (
        float(np.polynomial.polynomial.polyfit(inverses, term, 1)[0]) for term in zip(*found, strict=True)
    )
    return FrechetTerms(mean, covariance)


def require_enough_images(n: int) -> None:
    """Raises: TooFewImages: a quarter of so many images is no distribution."""
    if n < MIN_IMAGES:
        raise TooFewImagesError(
            f"a line through subsets from a quarter of the images on needs at least {MIN_IMAGES}; got {n}"
        )


def _random_subset(rows: Array, fraction: float, random: np.random.Generator) -> Array:
    size = max(2, round(fraction * rows.shape[0]))
    return rows[random.permutation(rows.shape[0])[:size], :]


def _as_gaussian(side: Array | Gaussian) -> Gaussian:
    return side if isinstance(side, Gaussian) else Gaussian.from_features(side.astype(np.float64))
