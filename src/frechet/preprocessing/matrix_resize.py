"""The resizes of all preprocessings as products with two small matrices, for devices: NumPy, PyTorch and JAX.

Pillow resizes 8-bit images with weights that are whole multiples of 2^-22, sums them up exactly, and rounds. A device gets the
same bits from float32: each weight is split into three parts of 8 bits, whose products with pixels are whole numbers and have
sums below 2^24, which float32 holds exactly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from array_api_compat import array_namespace

from frechet.preprocessing.registry import Preprocessing

Pixels: TypeAlias = np.ndarray | list[np.ndarray]
"""A batch: (n, size, size, 3) float32 in 0..255; or images of which some are uint8 (h, w, 3), which the device resizes."""
NUM_CACHED_LENGTHS = 512  # heights and widths whose matrices a device keeps: 1.2 MB for 1,024 pixels at size 299
_WEIGHT_BITS = 22  # PRECISION_BITS of Pillow's Resample.c
_PART_BASE, _NUM_PARTS = 256, 3
_MAX_TAPS = 512  # of 8 bits times 8 bits, in 24 bits
_MAX_GROUP_PIXELS = 1 << 24  # that are resized together, which bounds the memory that the resize takes


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
    rows, columns = (make_axis_matrices(preprocessing, length, size) for length in (height, width))
    return ResizeMatrices(columns, rows)


def make_axis_matrices(preprocessing: Preprocessing, length: int, size: int) -> tuple[np.ndarray, ...]:
    """Return the matrices (size, length) that resize one axis, of rows or of columns (see `ResizeMatrices`)."""
    convert = _split_weights if preprocessing.is_rounded else _to_float32
    return convert(preprocessing.resize_matrix(length, size))


def can_resize(preprocessing: Preprocessing, height: int, width: int, size: int) -> bool:
    """Return whether the matrices give the result of the host for images of a size.

    They do not crop, and the order in which Pillow resizes and rounds the axes of images that are not square depends on its
    version.
    """
    if height != width and (preprocessing.is_rounded or preprocessing.has_center_crop):
        return False
    return not preprocessing.is_rounded or 4 * height <= (_MAX_TAPS - 1) * size


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
    n, height, width, channels = images.shape
    x = xp.reshape(xp.permute_dims(xp.astype(images, xp.float32), (0, 1, 3, 2)), (-1, width))
    x = _combine(xp, [xp.matmul(x, xp.matrix_transpose(part)) for part in matrices.columns])
    size = x.shape[1]
    x = xp.reshape(x, (n, height, channels * size))
    x = _combine(xp, [xp.matmul(part, x) for part in matrices.rows])
    x = xp.reshape(x, (n, size, channels, size))
    return xp.permute_dims(xp.clip(x, 0.0, 255.0) if is_clipped else x, (0, 1, 3, 2))


def resize_by_size(
    images: Sequence[np.ndarray],
    resize_group: Callable[[list[np.ndarray]], Any],
    put: Callable[[np.ndarray], Any] = np.asarray,
) -> Any:
    """Resize images of any sizes on a device, those of one size together.

    Args:
        images: (h, w, 3) uint8; or (size, size, 3) float32 if the host has resized them.
        resize_group: return k images of one shape and type as (k, size, size, 3) float32 on the device.
        put: copy an array to the device.

    Returns:
        (n, size, size, 3) float32 on the device, in the order of `images`.
    """
    groups = list(_iter_groups(images))
    parts = [resize_group([images[index] for index in indices]) for indices in groups]
    if len(parts) == 1:
        return parts[0]
    xp = array_namespace(parts[0])
    rank = np.argsort(np.concatenate(groups)).astype(np.int32)
    return xp.take(xp.concat(parts), put(rank), axis=0)


def _iter_groups(images: Sequence[np.ndarray]) -> Iterator[list[int]]:
    """Yield the indices of images of one size and type that are resized together."""
    found: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        found[(*image.shape, image.dtype.char)].append(index)
    for (height, width, *_), indices in found.items():
        count = max(1, _MAX_GROUP_PIXELS // (height * width))
        yield from (indices[start : start + count] for start in range(0, len(indices), count))


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
