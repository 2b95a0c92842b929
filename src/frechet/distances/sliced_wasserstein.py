"""Sliced Wasserstein distance along random directions."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32

from frechet.errors import TooFewImagesError


def monge_distance(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"], directions: Float[np.ndarray, "l d"]
) -> float:
    """Compute MIND, 3 d times the sliced squared Wasserstein distance (Berthet et al. 2026, arXiv:2605.06797).

    Args:
        x: (n, d) features.
        y: (m, d) features, m = n >= 1.
        directions: (l, d) unit vectors.

    Returns:
        A squared distance in squared feature units, averaged over the directions.

    Raises:
        TooFewImagesError: n and m differ, or are 0.
    """
    if len(x) != len(y) or not len(x):
        raise TooFewImagesError(f"MIND compares equal numbers of images; got {len(x)} and {len(y)}")
    total = 0.0
    for block in np.array_split(directions, max(1, len(directions) // 64)):
        x_sorted, y_sorted = (np.sort(features @ block.T, axis=0) for features in (x, y))
        total += float(((x_sorted - y_sorted).astype(np.float64) ** 2).sum())
    return 3 * x.shape[1] * total / (len(x) * len(directions))


def sample_unit_directions(count: int, d: int, random: np.random.Generator) -> Float32[np.ndarray, "l d"]:
    """Draw (count, d) vectors from the uniform distribution on the unit sphere."""
    normal = random.standard_normal((count, d))
    return (normal / np.linalg.norm(normal, axis=1, keepdims=True)).astype(np.float32)
