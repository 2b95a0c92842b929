"""What is noticed of images in passing, while they are decoded: signs of accidents that a score would keep to itself.

Everything here is noted image by image, in decoding threads, and judged once for a whole side, so that no number of
threads moves it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np

# digest: of the decoded pixels; format: of the file, "" where there was none; look: one of the four below
IMAGE_CHECK = np.dtype([("digest", np.uint64), ("format", "U4"), ("look", np.uint8)])
ImageCheck = tuple[int, str, int]
ORDINARY, BINARY, BLACK, FLOAT_CAST = range(4)

LOSSY = frozenset({"JPEG", "MPO"})
LOSSLESS = frozenset({"BMP", "PNG", "PPM"})  # TIFF and WebP may be either

_DUPLICATE_FRACTION = 0.01  # the share of images, from which on repetition is told
_NEARLY_ALL_FRACTION = 0.95
_SOME_FRACTION = 0.05
_NUM_PROBES = 1000  # values of an image that are looked at first


def check_image(rgb: np.ndarray, file_format: str | None) -> ImageCheck:
    """One image's row of `SIGN`.

    Args:
        rgb: (h, w, 3) uint8.
        kind: the format of its file, by Pillow's name, or None.
    """
    flat = np.ascontiguousarray(rgb).reshape(-1)
    return _compute_digest(flat, rgb.shape), file_format or "", _classify_value_range(flat)


def quality_notes(image_checks: np.ndarray, names: Callable[[list[int]], list[str]]) -> Iterator[str]:
    """What a user should know of a side.

    Args:
        signs: (n,) of `SIGN`, in order of the images.
        names: gives the names of images by their (ascending) indices in `signs`.
    """
    duplicates, float_casts = find_duplicates(image_checks), find_float_casts(image_checks)
    if len(duplicates):
        first, again = names(_first_duplicate_pair(image_checks, duplicates))
        yield f"{len(duplicates):,} of {len(image_checks):,} images are identical to another, the first: {again} == {first}"
    if len(float_casts):
        (first,) = names([int(float_casts[0])])
        yield (
            f"{len(float_casts):,} of {len(image_checks):,} images hold no values but 0, 1, 2 and 253, 254, 255 (the first: {first}); "
            "they look like floats in [0, 1] or [-1, 1], or normalised ones, cast to uint8. "
            "From [0, 1]: (x * 255).round().astype('uint8'); from [-1, 1]: ((x + 1) * 127.5).round().astype('uint8')"
        )


def find_duplicates(image_checks: np.ndarray) -> np.ndarray:
    """Indices of the images that equal another, where they are more than one in a hundred."""
    _, inverse, counts = np.unique(image_checks["digest"], return_inverse=True, return_counts=True)
    duplicates = np.flatnonzero(counts[inverse] > 1)
    return duplicates if len(duplicates) > _DUPLICATE_FRACTION * len(image_checks) else duplicates[:0]


def find_float_casts(image_checks: np.ndarray) -> np.ndarray:
    """Indices of the images whose floats were cast to uint8, where nearly all of the side look so.

    A cast leaves the integer part: [0, 1] becomes {0, 1}; [-1, 1] becomes {0, 1, 255}; a normalised image, which spans
    some three standard deviations a side, {0, 1, 2, 253, 254, 255}. Line art and masks of {0, 255} are none of these,
    nor are black images among others.
    """
    class_counts = np.bincount(image_checks["look"], minlength=4)
    few = class_counts[FLOAT_CAST] + class_counts[BLACK] < _NEARLY_ALL_FRACTION * len(image_checks)
    if few and (
        class_counts[ORDINARY] > (1 - _NEARLY_ALL_FRACTION) * len(image_checks)
        or class_counts[FLOAT_CAST] < _SOME_FRACTION * len(image_checks)
    ):
        return np.empty(0, np.int64)
    return np.flatnonzero(image_checks["look"] != ORDINARY)


def count_formats(image_checks: np.ndarray) -> dict[str, int]:
    """How many images came from files of each format."""
    found, counts = np.unique(image_checks["format"], return_counts=True)
    return {str(file_format): int(count) for file_format, count in zip(found, counts, strict=True) if file_format}


def classify_compression(formats: Mapping[str, int], num_images: int | None) -> str | None:
    """What nearly all of n images were stored as: "lossy", "lossless", or None."""
    for name, file_formats in (("lossy", LOSSY), ("lossless", LOSSLESS)):
        if (
            num_images
            and sum(count for file_format, count in formats.items() if file_format in file_formats)
            >= _NEARLY_ALL_FRACTION * num_images
        ):
            return name
    return None


def _first_duplicate_pair(image_checks: np.ndarray, duplicates: np.ndarray) -> list[int]:
    """The first image that was there before, after the one that it equals."""
    seen: dict[int, int] = {}
    for index, digest in zip(duplicates.tolist(), image_checks["digest"][duplicates].tolist(), strict=True):
        if digest in seen:
            return [seen[digest], index]
        seen[digest] = index
    return []


def _compute_digest(flat: np.ndarray, shape: tuple[int, ...]) -> int:
    """64 bits of the pixels: the checksums of their two halves, each begun with the shape."""
    start, half = zlib.crc32(repr(shape).encode()), len(flat) // 2
    return zlib.crc32(flat[:half].data, start) << 32 | zlib.crc32(flat[half:].data, start)


def _classify_value_range(flat: np.ndarray) -> int:
    if not _is_extreme(flat[:: len(flat) // _NUM_PROBES + 1]) or not _is_extreme(flat):
        return ORDINARY
    if (flat + np.uint8(1) > 1).any():
        return FLOAT_CAST
    return BINARY if flat.any() else BLACK


def _is_extreme(values: np.ndarray) -> bool:
    """Whether all of them are within 2 of 0 or 255 (uint8 wraps around)."""
    return bool((values + np.uint8(3) < 6).all())
