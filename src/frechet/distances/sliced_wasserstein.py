"""Distances along random directions."""

from __future__ import annotations

import numpy as np

from frechet.errors import TooFewImagesError


def monge_distance(x: np.ndarray, y: np.ndarray, directions: np.ndarray) -> float:
    """MIND: 3 d times the sliced squared Wasserstein distance (Berthet et al. 2026, arXiv:2605.06797).

    Args:
        x, y: (n, d) each; the same n.
        directions: (k, d) of length 1.

    Raises:
        TooFewImages: n differs, or is 0.
    """
    if len(x) != len(y) or not len(x):
        raise TooFewImagesError(f"MIND compares equal numbers of images; got {len(x)} and {len(y)}")
    total = 0.0
    for direction in np.array_split(directions, max(1, len(directions) // 64)):
        one, other = (np.sort(features @ direction.T, axis=0) for features in (x, y))
        total += float(((one - other).astype(np.float64) ** 2).sum())
    return 3 * x.shape[1] * total / (len(x) * len(directions))


def sample_unit_directions(count: int, d: int, random: np.random.Generator) -> np.ndarray:
    """(count, d) float32, uniform on the sphere."""
    drawn = random.standard_normal((count, d))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
