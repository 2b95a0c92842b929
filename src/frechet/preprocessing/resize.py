"""The resizes of all preprocessings: as functions on images, and as taps or matrices of one axis.

A function reads an image (h, w, c) uint8 and writes it into `out`, (size, size, c) float32, in 0..255. All resizes are
separable: bilinear interpolation without antialiasing is two taps per axis, every other resize a small matrix per axis.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image


class Taps(NamedTuple):
    """Linear interpolation of one axis: output i is (1 - weight[i]) * input[first[i]] + weight[i] * input[second[i]]."""

    first: np.ndarray  # (out,) intp
    second: np.ndarray  # (out,) intp
    weight: np.ndarray  # (out,) float32

    def interleave(self, channels: int) -> Taps:
        """Return the taps of a flat row in which each pixel is `channels` consecutive values."""
        channel = np.arange(channels)
        first, second = ((taps[:, None] * channels + channel).ravel() for taps in (self.first, self.second))
        return Taps(first, second, np.repeat(self.weight, channels))


@lru_cache(maxsize=512)
def half_pixel_taps(in_size: int, out_size: int) -> Taps:
    """Compute the taps of PyTorch's `interpolate(mode="bilinear", align_corners=False)`: pixel centres at i + 1/2."""
    return _make_taps(np.maximum((np.arange(out_size) + 0.5) * (in_size / out_size) - 0.5, 0.0), in_size)


@lru_cache(maxsize=512)
def tf1_taps(in_size: int, out_size: int) -> Taps:
    """Compute the taps of TensorFlow 1's `resize_bilinear(align_corners=False)`: output i at i * in_size / out_size."""
    return _make_taps(np.arange(out_size) * (in_size / out_size), in_size)


def _make_taps(position: np.ndarray, in_size: int) -> Taps:
    first = np.minimum(np.floor(position).astype(np.intp), in_size - 1)
    return Taps(first, np.minimum(first + 1, in_size - 1), (position - first).astype(np.float32))


def bilinear_half_pixel(image: np.ndarray, out: np.ndarray) -> None:
    """Resize as pytorch-fid does: bilinear, half-pixel centres, no antialiasing."""
    _resize_bilinear(image, out, half_pixel_taps)


def bilinear_tf1(image: np.ndarray, out: np.ndarray) -> None:
    """Resize as TTUR, ADM and torch-fidelity do: TensorFlow 1's bilinear, no antialiasing."""
    _resize_bilinear(image, out, tf1_taps)


def bicubic_pillow(image: np.ndarray, out: np.ndarray) -> None:
    """Resize as clean-fid does: Pillow's antialiased bicubic (a = -1/2) on float channels, clipped to 0..255, not rounded."""
    _resize_channels(image, out, Image.Resampling.BICUBIC)
    out.clip(0.0, 255.0, out=out)


def bicubic_antialiased(image: np.ndarray, out: np.ndarray) -> None:
    """Resize as PyTorch's `interpolate(mode="bicubic", antialias=True)` does with floats: not rounded and not clipped."""
    _resize_channels(image, out, Image.Resampling.BICUBIC)


def bicubic_pillow_rounded(image: np.ndarray, out: np.ndarray) -> None:
    """Resize as torchvision's `Resize` does with a PIL image: Pillow's bicubic on 8-bit values, rounded."""
    size = out.shape[1], out.shape[0]
    out[...] = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def bicubic_pillow_center_square(image: np.ndarray, out: np.ndarray) -> None:
    """Crop the central square and resize it with Pillow's bicubic on 8-bit values, rounded."""
    height, width = image.shape[:2]
    size = min(height, width)
    top, left = (height - size) // 2, (width - size) // 2
    bicubic_pillow_rounded(np.ascontiguousarray(image[top : top + size, left : left + size]), out)


def bicubic_pillow_center_crop(image: np.ndarray, out: np.ndarray) -> None:
    """Resize and crop as torchvision's `Resize(256)` and `CenterCrop(224)` do: the central 7/8 of the shorter side."""
    size, short = _pre_crop_size(out.shape[0]), min(image.shape[:2])
    height, width = (size * in_size // short for in_size in image.shape[:2])
    whole = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    top, left = (round((in_size - out.shape[0]) / 2) for in_size in (height, width))
    out[...] = np.asarray(whole)[top : top + out.shape[0], left : left + out.shape[1]]


def bilinear_pillow(image: np.ndarray, out: np.ndarray) -> None:
    """Resize as torchmetrics does: antialiased bilinear on float channels; PyTorch uses Pillow's filter."""
    _resize_channels(image, out, Image.Resampling.BILINEAR)


@lru_cache(maxsize=64)
def half_pixel_matrix(in_size: int, out_size: int) -> np.ndarray:
    """Return `bilinear_half_pixel` of one axis as a matrix (out_size, in_size), float64."""
    return _taps_to_matrix(half_pixel_taps(in_size, out_size), in_size)


@lru_cache(maxsize=64)
def tf1_matrix(in_size: int, out_size: int) -> np.ndarray:
    """Return `bilinear_tf1` of one axis as a matrix (out_size, in_size), float64."""
    return _taps_to_matrix(tf1_taps(in_size, out_size), in_size)


@lru_cache(maxsize=64)
def bicubic_matrix(in_size: int, out_size: int) -> np.ndarray:
    """Return Pillow's bicubic (Keys' kernel with a = -1/2, before clipping) of one axis as (out_size, in_size), float64."""
    return _antialiased_matrix(_keys_kernel, 2.0, in_size, out_size)


@lru_cache(maxsize=64)
def bicubic_center_crop_matrix(in_size: int, out_size: int) -> np.ndarray:
    """Return `bicubic_pillow_center_crop` of one axis of a square as a matrix (out_size, in_size), float64."""
    return bicubic_center_crop_axis(in_size, in_size, out_size)


def bicubic_center_crop_axis(length: int, short: int, out_size: int) -> np.ndarray:
    """Return `bicubic_pillow_center_crop` of one axis as a matrix (out_size, length), float64; `short` is the shorter side."""
    whole = bicubic_matrix(length, _pre_crop_size(out_size) * length // short)
    first = round((len(whole) - out_size) / 2)
    return whole[first : first + out_size]


def _pre_crop_size(out_size: int) -> int:
    """Return the size of the shorter side before the crop: 256 for 224."""
    return out_size * 8 // 7


@lru_cache(maxsize=64)
def bilinear_antialiased_matrix(in_size: int, out_size: int) -> np.ndarray:
    """Return `bilinear_pillow` of one axis as a matrix (out_size, in_size), float64."""
    return _antialiased_matrix(lambda x: np.maximum(1 - np.abs(x), 0.0), 1.0, in_size, out_size)


def _taps_to_matrix(taps: Taps, in_size: int) -> np.ndarray:
    matrix, rows = np.zeros((len(taps.weight), in_size)), np.arange(len(taps.weight))
    np.add.at(matrix, (rows, taps.first), 1 - taps.weight.astype(np.float64))
    np.add.at(matrix, (rows, taps.second), taps.weight)
    return matrix


def _antialiased_matrix(
    kernel: Callable[[np.ndarray], np.ndarray], support: float, in_size: int, out_size: int
) -> np.ndarray:
    """Return the matrix of an antialiased resize: a kernel stretched when shrinking, cut at whole pixels and normalized, as in Pillow."""
    scale = in_size / out_size
    stretch = max(scale, 1.0)
    center = (np.arange(out_size)[:, None] + 0.5) * scale
    pixel = np.arange(in_size)[None, :]
    reach = support * stretch
    inside = (pixel >= np.floor(center - reach + 0.5)) & (pixel < np.floor(center + reach + 0.5))
    weights = np.where(inside, kernel((pixel + 0.5 - center) / stretch), 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def _keys_kernel(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    x = np.abs(x)
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _resize_channels(image: np.ndarray, out: np.ndarray, resample: Image.Resampling) -> None:
    height, width = out.shape[:2]
    for c, channel in enumerate(Image.fromarray(image).split()):
        out[:, :, c] = channel.convert("F").resize((width, height), resample)


_BAND = 32  # output rows per step: everything that a band needs stays in the CPU cache


def _resize_bilinear(image: np.ndarray, out: np.ndarray, taps: Callable[[int, int], Taps]) -> None:
    """Interpolate rows and columns, in the order that needs fewer operations, on flat rows of width * channels values."""
    height, width, channels = image.shape
    rows, columns = taps(height, out.shape[0]), taps(width, out.shape[1]).interleave(channels)
    flat, out_size = image.reshape(height, width * channels), out.reshape(out.shape[0], -1)
    enlarged = height < out.shape[0]
    if enlarged:
        flat = _lerp(flat, columns, axis=1)
    for start in range(0, out.shape[0], _BAND):
        band = slice(start, start + _BAND)
        mixed = _lerp(flat, Taps(rows.first[band], rows.second[band], rows.weight[band, None]), axis=0)
        out_size[band] = mixed if enlarged else _lerp(mixed, columns, axis=1)


def _lerp(flat: np.ndarray, taps: Taps, axis: int) -> np.ndarray:
    first, second = flat.take(taps.first, axis=axis), flat.take(taps.second, axis=axis)
    mixed = np.subtract(second, first, dtype=np.float32)
    mixed *= taps.weight
    mixed += first
    return mixed
