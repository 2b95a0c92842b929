"""FID∞: the distance extrapolated to endlessly many images (Chong & Forsyth 2020, arXiv:1911.07023)."""

from __future__ import annotations

import numpy as np

from frechet.distances.frechet import Terms, frechet_terms
from frechet.distances.gaussian import Array, Normal
from frechet.errors import TooFewImages

SIZES = 15  # as in the paper
FEWEST = 8  # of which a quarter is two


def frechet_infinity(x: Array, y: Array | Normal, *, seed: int = 0) -> Terms:
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
    for side in (x,) if isinstance(y, Normal) else (x, y):
        require_quarters(side.shape[0])
    random = np.random.default_rng(seed)
    found, inverses = [], []
    for share in np.linspace(0.25, 1.0, SIZES):
        sides = [side if isinstance(side, Normal) else _part(side, share, random) for side in (x, y)]
        found.append(frechet_terms(*map(_gaussian, sides)))
        inverses.append(sum(1 / side.shape[0] for side in sides if not isinstance(side, Normal)))
    mean, covariance = (
        float(np.polynomial.polynomial.polyfit(inverses, term, 1)[0]) for term in zip(*found, strict=True)
    )
    return Terms(mean, covariance)


def require_quarters(n: int) -> None:
    """Raises: TooFewImages: a quarter of so many images is no distribution."""
    if n < FEWEST:
        raise TooFewImages(f"a line through subsets from a quarter of the images on needs at least {FEWEST}; got {n}")


def _part(rows: Array, share: float, random: np.random.Generator) -> Array:
    size = max(2, round(share * rows.shape[0]))
    return rows[random.permutation(rows.shape[0])[:size], :]


def _gaussian(side: Array | Normal) -> Normal:
    return side if isinstance(side, Normal) else Normal.of_features(side.astype(np.float64))
