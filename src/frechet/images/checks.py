"""Data-quality checks of images, made while they are decoded: mistakes that a score alone would not reveal.

Each image is checked on its own, in a decoding thread; the results are judged once for all images of an input, so that
the number of threads does not change them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from frechet.images.fast_decoders import load_crc32
from frechet.images.pixels import FLOAT_TO_UINT8, MAX_12_BIT, guess_bit_depth

# digest: of the decoded pixels; format: of the file, "" if there was none; value_range_class: one of the four below;
# largest_16_bit: see `DecodedImage`; height, width: in pixels, after a crop
IMAGE_CHECK = np.dtype(
    [
        ("digest", np.uint64),
        ("format", "U4"),
        ("value_range_class", np.uint8),
        ("largest_16_bit", np.uint16),
        ("height", np.int32),
        ("width", np.int32),
    ]
)
ImageCheck = tuple[int, str, int, int, int, int]


class CheckedImage(NamedTuple):
    """An image that was decoded and checked.

    Attributes:
        pixels: (h, w, 3) uint8, or (size, size, 3) float32 if it was resized.
        check: what `check_image` found.
        notes: what was changed in decoding.
    """

    pixels: np.ndarray
    check: ImageCheck
    notes: tuple[str, ...]


ORDINARY, BINARY, BLACK, FLOAT_CAST = range(4)

LOSSY = frozenset({"JPEG", "MPO", "VP8", "JTIF"})  # see frechet.images.decode.DecodedImage
LOSSLESS = frozenset({"BMP", "PNG", "PPM", "TIFL", "VP8L"})  # WEBP and TIFF in older statistics may be either

_DUPLICATE_FRACTION = 0.01  # of the images; fewer duplicates are not reported
_NEARLY_ALL_FRACTION = 0.95
_SOME_FRACTION = 0.05
_NUM_SIZES = 10  # that are listed
_NUM_PROBES = (50, 1000)  # pixel values that are tested before all of them
_EXTREMES = bytes((0, 1, 2, 253, 254, 255))


def check_image(rgb: np.ndarray, file_format: str | None, largest_16_bit: int = 0) -> ImageCheck:
    """Compute one row of `IMAGE_CHECK`.

    Args:
        rgb: (h, w, 3) uint8.
        file_format: Pillow's name of the file format, or None.
        largest_16_bit: see `frechet.images.decode.DecodedImage`.
    """
    height, width, _ = rgb.shape
    flat = np.ascontiguousarray(rgb).reshape(-1)
    digest = _compute_digest(flat.data, rgb.shape)
    return digest, file_format or "", _classify_value_range(flat), largest_16_bit, height, width


def compute_digest(rgb: np.ndarray) -> int:
    """Compute 64 bits that identify the pixels (h, w, 3): the CRC-32 of both halves, each started with the shape."""
    return _compute_digest(np.ascontiguousarray(rgb).reshape(-1).data, rgb.shape)


def _compute_digest(data: memoryview, shape: tuple[int, ...]) -> int:
    crc32, half, start = load_crc32(), len(data) // 2, _compute_shape_crc(shape)
    return crc32(data[:half], start) << 32 | crc32(data[half:], start)


@lru_cache(maxsize=1024)
def _compute_shape_crc(shape: tuple[int, ...]) -> int:
    return zlib.crc32(repr(shape).encode())


def quality_notes(image_checks: np.ndarray, get_labels: Callable[[list[int]], list[str]]) -> Iterator[str]:
    """Yield a note for each kind of mistake found in a set of images.

    Args:
        image_checks: (n,) of `IMAGE_CHECK`, in order of the images.
        get_labels: return the labels of images, given their (ascending) indices in `image_checks`.
    """
    n, duplicates, float_casts = len(image_checks), find_duplicates(image_checks), find_float_casts(image_checks)
    if len(duplicates):
        first, second = get_labels(_first_duplicate_pair(image_checks, duplicates))
        yield f"{len(duplicates):,} of {n:,} images are identical to another image, the first: {second} == {first}"
    if largest := find_unused_bits(image_checks):
        dark = np.flatnonzero(image_checks["largest_16_bit"])
        (first,) = get_labels([int(dark[0])])
        bits = guess_bit_depth(largest)
        yield (
            f"no value of the {len(dark):,} images with 16 bits per channel (the first: {first}) exceeds {largest:,} of 65,535, so they are "
            f"nearly black; they probably contain {bits}-bit values. Multiply the values by 65535 / {2**bits - 1} and save the images again."
        )
    elif len(float_casts):
        (first,) = get_labels([int(float_casts[0])])
        yield (
            f"{len(float_casts):,} of {n:,} images contain no values except 0, 1, 2 and 253, 254, 255 (the first: {first}); "
            f"they look like floats in [0, 1] or [-1, 1], or normalized floats, cast to uint8. {FLOAT_TO_UINT8}"
        )


def find_duplicates(image_checks: np.ndarray) -> np.ndarray:
    """Return the indices of the images that are identical to another one, if they are more than 1 % of all."""
    _, inverse, counts = np.unique(image_checks["digest"], return_inverse=True, return_counts=True)
    duplicates = np.flatnonzero(counts[inverse] > 1)
    return duplicates if len(duplicates) > _DUPLICATE_FRACTION * len(image_checks) else duplicates[:0]


def find_float_casts(image_checks: np.ndarray) -> np.ndarray:
    """Return the indices of the images that look like floats cast to uint8, if nearly all images do.

    A cast keeps the integer part: [0, 1] becomes {0, 1}; [-1, 1] becomes {0, 1, 255}; a normalized image, which spans
    about three standard deviations in both directions, becomes {0, 1, 2, 253, 254, 255}. Line art and masks of {0, 255}
    are not counted, nor are black images among others.
    """
    classes = image_checks["value_range_class"]
    class_counts = np.bincount(classes, minlength=4)
    few = class_counts[FLOAT_CAST] + class_counts[BLACK] < _NEARLY_ALL_FRACTION * len(image_checks)
    if few and (
        class_counts[ORDINARY] > (1 - _NEARLY_ALL_FRACTION) * len(image_checks)
        or class_counts[FLOAT_CAST] < _SOME_FRACTION * len(image_checks)
    ):
        return np.empty(0, np.int64)
    return np.flatnonzero(classes != ORDINARY)


def find_unused_bits(image_checks: np.ndarray) -> int | None:
    """Return the largest value of all images with 16 bits per channel if none uses more than a sixteenth of the range, or None."""
    largest = int(image_checks["largest_16_bit"].max(initial=0))
    return largest if 0 < largest <= MAX_12_BIT else None


def count_formats(image_checks: np.ndarray) -> dict[str, int]:
    """Return the number of images per file format; images that come from no file are not counted."""
    formats, counts = np.unique(image_checks["format"], return_counts=True)
    return {str(name): int(count) for name, count in zip(formats, counts, strict=True) if name}


def count_sizes(image_checks: np.ndarray) -> dict[str, int]:
    """Return the number of images of each of the most frequent sizes, as "height x width", and of all others as "other"."""
    sizes, counts = np.unique(image_checks[["height", "width"]], return_counts=True)
    ranked = sorted(zip(sizes.tolist(), counts.tolist(), strict=True), key=lambda item: -item[1])
    common = {f"{height} x {width}": count for (height, width), count in ranked[:_NUM_SIZES]}
    others = sum(count for _, count in ranked[_NUM_SIZES:])
    return {**common, "other": others} if others else common


def classify_compression(formats: Mapping[str, int], num_images: int | None) -> str | None:
    """Return how nearly all images were compressed: "lossy" or "lossless"; None if mixed or unknown.

    Args:
        formats: number of images per file format.
        num_images: number of images in all, or None if unknown.
    """
    for name, file_formats in (("lossy", LOSSY), ("lossless", LOSSLESS)):
        count = sum(count for file_format, count in formats.items() if file_format in file_formats)
        if num_images and count >= _NEARLY_ALL_FRACTION * num_images:
            return name
    return None


def _first_duplicate_pair(image_checks: np.ndarray, duplicates: np.ndarray) -> list[int]:
    """Return the indices of the first image that repeats an earlier one: [earlier, repeated]."""
    seen: dict[int, int] = {}
    for index, digest in zip(duplicates.tolist(), image_checks["digest"][duplicates].tolist(), strict=True):
        if digest in seen:
            return [seen[digest], index]
        seen[digest] = index
    return []


def _classify_value_range(flat: np.ndarray) -> int:
    for count in _NUM_PROBES:
        if not _is_extreme(flat[:: len(flat) // count + 1]):
            return ORDINARY
    if not _is_extreme(flat):
        return ORDINARY
    if (flat + np.uint8(1) > 1).any():
        return FLOAT_CAST
    return BINARY if flat.any() else BLACK


def _is_extreme(values: np.ndarray) -> bool:
    """Return whether all values are within 2 of 0 or 255."""
    return not values.tobytes().translate(None, delete=_EXTREMES)
