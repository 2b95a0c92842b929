"""The resizes of all preprocessings as products with two small matrices, for devices: NumPy, PyTorch and JAX.

Pillow resizes 8-bit images with weights that are whole multiples of 2^-22, sums them up exactly, and rounds. A device gets the
same bits from float32: each weight is split into three parts of 8 bits, whose products with pixels are whole numbers and have
sums below 2^24, which float32 holds exactly.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from frechet.preprocessing.registry import Preprocessing

_WEIGHT_BITS = 22  # PRECISION_BITS of Pillow's Resample.c
_PART_BASE, _NUM_PARTS = 256, 3
_MAX_TAPS = 512  # of 8 bits times 8 bits, in 24 bits


class ResizeMatrices(NamedTuple):
    """The resize of images of one size.

    Attributes:
        columns: matrices (size, width) float32: one, or the parts of Pillow's weights, the most significant first.
        rows: matrices (size, height) float32, likewise.
    """

    columns: tuple[Any, ...]
    rows: tuple[Any, ...]


def make_resize_matrices(preprocessing: Preprocessing, height: int, width: int, size: int) -> ResizeMatrices:
    """Return the matrices that resize images (height, width) to (size, size), as NumPy arrays."""
    rows, columns = preprocessing.make_matrices(height, width, size)
    convert = _split_weights if preprocessing.is_rounded else _to_float32
    return ResizeMatrices(convert(columns), convert(rows))


def can_resize(preprocessing: Preprocessing, height: int, width: int, size: int) -> bool:
    """Return whether the matrices give the bits of the host; not so only for extremely long images."""
    return not preprocessing.is_rounded or 4 * max(height, width) <= (_MAX_TAPS - 1) * size


def resize_with_matrices(images: Any, matrices: ResizeMatrices, *, is_clipped: bool) -> Any:
    """Resize images of one size.

    Args:
        images: (n, h, w, 3) uint8.
        matrices: the matrices for that size, as arrays of the same library and device.
        is_clipped: whether values are clipped to 0..255.

    Returns:
        (n, size, size, 3) float32 in 0..255, in the memory layout (n, size, 3, size).
    """
    xp = array_namespace(images)
    x = xp.permute_dims(xp.astype(images, xp.float32), (0, 1, 3, 2))
    x = _combine(xp, [xp.matmul(x, xp.matrix_transpose(part)) for part in matrices.columns])
    n, height, channels, size = x.shape
    flat = xp.reshape(x, (n, height, channels * size))
    x = _combine(xp, [xp.matmul(part, flat) for part in matrices.rows])
    x = xp.reshape(x, (n, size, channels, size))
    return xp.permute_dims(xp.clip(x, 0, 255) if is_clipped else x, (0, 1, 3, 2))


def _combine(xp: Any, products: list[Any]) -> Any:
    """Add up the products with the parts of the weights, and round to 8 bits; a single product is the result."""
    if len(products) == 1:
        return products[0]
    total = xp.astype(products[0], xp.int32)
    for product in products[1:]:
        total = total * _PART_BASE + xp.astype(product, xp.int32)
    return xp.astype(xp.clip((total + (1 << _WEIGHT_BITS - 1)) >> _WEIGHT_BITS, 0, 255), xp.float32)


def _to_float32(matrix: np.ndarray) -> tuple[np.ndarray, ...]:
    return (np.asarray(matrix, np.float32),)


def _split_weights(matrix: np.ndarray) -> tuple[np.ndarray, ...]:
    """Round weights as Pillow does, and split them into parts in -128..127, the most significant first."""
    rest = np.trunc(matrix * 2.0**_WEIGHT_BITS + np.copysign(0.5, matrix)).astype(np.int64)
    parts = []
    for _ in range(_NUM_PARTS - 1):
        low = (rest + _PART_BASE // 2) % _PART_BASE - _PART_BASE // 2
        parts.append(low)
        rest = (rest - low) // _PART_BASE
    return tuple(part.astype(np.float32) for part in (rest, *reversed(parts)))
