"""Interpolation between latents, and the trimmed mean of distances along it (Karras et al. 2019, arXiv:1812.04948)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

_TINY = 1e-7

Interpolation = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


def lerp(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "n d"], t: float) -> Float[np.ndarray, "n d"]:
    """Interpolate linearly between latents.

    Args:
        a, b: (n, d) latents.
        t: position on the line, 0 (a) to 1 (b).
    """
    return a + (b - a) * t


def slerp(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "n d"], t: float) -> Float[np.ndarray, "n d"]:
    """Interpolate spherically between latents of any length (Shoemake 1985).

    Pairs without a unique arc (parallel, opposite or of length zero) are interpolated linearly.

    Args:
        a, b: (n, d) latents.
        t: position on the arc, 0 (a) to 1 (b).
    """
    cosine = (normalize_latents(a) * normalize_latents(b)).sum(axis=1, keepdims=True)
    angle = np.arccos(cosine.clip(-1, 1))
    sine = np.maximum(np.sin(angle), _TINY)
    arc = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / sine
    short = np.minimum(*(np.linalg.norm(latents, axis=1, keepdims=True) for latents in (a, b))) < _TINY
    return np.where(short | (np.abs(cosine) > 1 - _TINY), lerp(a, b, t), arc)


def normalize_latents(latents: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Scale (n, d) latents to unit length; rows of zeros remain."""
    return latents / np.maximum(np.linalg.norm(latents, axis=1, keepdims=True), _TINY)


INTERPOLATIONS: dict[str, Interpolation] = {
    "lerp": lerp,
    "slerp_any": slerp,
    "slerp_unit": lambda a, b, t: normalize_latents(slerp(a, b, t)),
}


class TrimmedMean(NamedTuple):
    """A trimmed mean and its standard error."""

    mean: float
    standard_error: float


def trimmed_mean(values: Float[np.ndarray, " n"], low: float, high: float) -> TrimmedMean:
    """Compute the mean of the values between two percentiles, both included.

    Args:
        values: (n,) independent draws, n >= 2.
        low, high: percentiles in 0..100. A percentile between two values is rounded outwards to one of them.

    Returns:
        The mean, and its standard error from the Winsorised variance (Tukey & McLaughlin 1963).
    """
    ends = np.percentile(values, low, method="lower"), np.percentile(values, high, method="higher")
    kept = values[(values >= ends[0]) & (values <= ends[1])]
    winsorised_std = np.clip(values, *ends).std(ddof=1)
    return TrimmedMean(float(kept.mean()), float(winsorised_std * len(values) ** 0.5 / len(kept)))
