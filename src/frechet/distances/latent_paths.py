"""Short ways between latents, and the mean of what was measured along them (Karras et al. 2019, section 4.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_TINY = 1e-7

Interpolation = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


def lerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """The point at t on the straight line from a (n, z) to b (n, z)."""
    return a + (b - a) * t


def slerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """The same on the arc (Shoemake 1985), for rows of any length; on the line where an arc is not defined."""
    cosine = (normalize_latents(a) * normalize_latents(b)).sum(axis=1, keepdims=True)
    angle = np.arccos(cosine.clip(-1, 1))
    sine = np.maximum(np.sin(angle), _TINY)
    arc = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / sine
    short = np.minimum(*(np.linalg.norm(latents, axis=1, keepdims=True) for latents in (a, b))) < _TINY
    return np.where(short | (np.abs(cosine) > 1 - _TINY), lerp(a, b, t), arc)


def normalize_latents(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1; those of length 0 stay."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY)


INTERPOLATIONS: dict[str, Interpolation] = {
    "lerp": lerp,
    "slerp_any": slerp,
    "slerp_unit": lambda a, b, t: normalize_latents(slerp(a, b, t)),
}


class TrimmedMean(NamedTuple):
    """A mean and its standard error."""

    mean: float
    standard_error: float


def trimmed_mean(values: np.ndarray, low: float, high: float) -> TrimmedMean:
    """The mean of what lies between two percentiles, both ends counted.

    Args:
        values: (n,) independent draws, n >= 2.
        low, high: in 0..100; where a percentile lies between two values, the outer one is the end.

    Returns:
        The mean, and its standard error by the Winsorised variance (Tukey & McLaughlin 1963).
    """
    ends = np.percentile(values, low, method="lower"), np.percentile(values, high, method="higher")
    kept = values[(values >= ends[0]) & (values <= ends[1])]
    spread = np.clip(values, *ends).std(ddof=1)
    return TrimmedMean(float(kept.mean()), float(spread * len(values) ** 0.5 / len(kept)))
