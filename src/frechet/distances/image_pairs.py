"""Differences between the pixels of an image and of its reconstruction: peak signal-to-noise ratio and structural similarity."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

_PEAK = 255.0  # largest pixel
_SIGMA, _RADIUS = 1.5, 5  # of the window of SSIM, in pixels
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
MIN_SSIM_SIZE = _RADIUS + 1  # pixels; the border of an image is mirrored


def peak_signal_noise_ratio(x: UInt8[np.ndarray, "h w 3"], y: UInt8[np.ndarray, "h w 3"]) -> float:
    """Compute the peak signal-to-noise ratio of two images in dB: 10 log₁₀(255² / mean squared error).

    Args:
        x, y: (h, w, 3) uint8.

    Returns:
        The ratio; infinity for equal images.
    """
    difference = x.astype(np.int32) - y
    total = int((difference**2).sum(dtype=np.int64))
    return float(10 * np.log10(_PEAK**2 * difference.size / total)) if total else float("inf")


def structural_similarity(x: UInt8[np.ndarray, "h w 3"], y: UInt8[np.ndarray, "h w 3"]) -> float:
    """Compute the structural similarity of two images (Wang et al. 2004, equation 13), averaged over pixels and channels.

    The window is a Gaussian with a standard deviation of 1.5 pixels and 11 x 11 pixels; images are mirrored at their border.
    Variances are divided by the weight of the window, as in the paper and in torchmetrics.

    Args:
        x, y: (h, w, 3) uint8, with h and w of at least 6.

    Returns:
        The similarity, at most 1, which is that of equal images.
    """
    one, other = x.astype(np.float64), y.astype(np.float64)
    mean_1, mean_2 = _smooth(one), _smooth(other)
    product, squares = mean_1 * mean_2, mean_1**2 + mean_2**2
    variances = np.maximum(_smooth(one**2 + other**2) - squares, 0)
    covariance = _smooth(one * other) - product
    similar_means = (2 * product + _C1) / (squares + _C1)
    similar_structures = (2 * covariance + _C2) / (variances + _C2)
    return float((similar_means * similar_structures).mean())


def _smooth(x: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    """Average over the window around each pixel."""
    weights = np.exp(-((np.arange(_RADIUS + 1) / _SIGMA) ** 2) / 2)
    weights /= weights[0] + 2 * weights[1:].sum()
    for axis in (0, 1):
        margins = [(_RADIUS, _RADIUS) if axis == each else (0, 0) for each in range(3)]
        padded = np.moveaxis(np.pad(x, margins, mode="reflect"), axis, 0)
        n = x.shape[axis]
        total = padded[_RADIUS : _RADIUS + n] * weights[0]
        both = np.empty_like(total)  # a new array for each offset would take most of the time
        for offset, weight in enumerate(weights[1:], start=1):
            np.add(padded[_RADIUS - offset :][:n], padded[_RADIUS + offset :][:n], out=both)
            both *= weight
            total += both
        x = np.moveaxis(total, 0, axis)
    return x
