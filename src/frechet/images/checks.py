"""What is noticed of images in passing, while they are decoded: signs of accidents that a score would keep to itself.

Everything here is noted image by image, in decoding threads, and judged once for a whole side, so that no number of
threads moves it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np

# digest: of the decoded pixels; format: of the file, "" where there was none; look: one of the four below
SIGN = np.dtype([("digest", np.uint64), ("format", "U4"), ("look", np.uint8)])
Sign = tuple[int, str, int]
ORDINARY, BINARY, BLACK, CAST = range(4)

LOSSY = frozenset({"JPEG", "MPO"})
LOSSLESS = frozenset({"BMP", "PNG", "PPM"})  # TIFF and WebP may be either

_REPEATED = 0.01  # the share of images, from which on repetition is told
_NEARLY_ALL = 0.95
_SOME = 0.05
_PROBES = 1000  # values of an image that are looked at first


def sign_of(rgb: np.ndarray, kind: str | None) -> Sign:
    """One image's row of `SIGN`.

    Args:
        rgb: (h, w, 3) uint8.
        kind: the format of its file, by Pillow's name, or None.
    """
    flat = np.ascontiguousarray(rgb).reshape(-1)
    return _digest(flat, rgb.shape), kind or "", _look(flat)


def remarks_on(signs: np.ndarray, names: Callable[[list[int]], list[str]]) -> Iterator[str]:
    """What a user should know of a side.

    Args:
        signs: (n,) of `SIGN`, in order of the images.
        names: gives the names of images by their (ascending) indices in `signs`.
    """
    repeated, cast = repeated_in(signs), cast_in(signs)
    if len(repeated):
        first, again = names(_first_pair(signs, repeated))
        yield f"{len(repeated):,} of {len(signs):,} images are identical to another, the first: {again} == {first}"
    if len(cast):
        (first,) = names([int(cast[0])])
        yield (
            f"{len(cast):,} of {len(signs):,} images hold no values but 0, 1, 2 and 253, 254, 255 (the first: {first}); "
            "they look like floats in [0, 1] or [-1, 1], or normalised ones, cast to uint8. "
            "From [0, 1]: (x * 255).round().astype('uint8'); from [-1, 1]: ((x + 1) * 127.5).round().astype('uint8')"
        )


def repeated_in(signs: np.ndarray) -> np.ndarray:
    """Indices of the images that equal another, where they are more than one in a hundred."""
    _, inverse, counts = np.unique(signs["digest"], return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(counts[inverse] > 1)
    return repeated if len(repeated) > _REPEATED * len(signs) else repeated[:0]


def cast_in(signs: np.ndarray) -> np.ndarray:
    """Indices of the images whose floats were cast to uint8, where nearly all of the side look so.

    A cast leaves the integer part: [0, 1] becomes {0, 1}; [-1, 1] becomes {0, 1, 255}; a normalised image, which spans
    some three standard deviations a side, {0, 1, 2, 253, 254, 255}. Line art and masks of {0, 255} are none of these,
    nor are black images among others.
    """
    looks = np.bincount(signs["look"], minlength=4)
    few = looks[CAST] + looks[BLACK] < _NEARLY_ALL * len(signs)
    if few and (looks[ORDINARY] > (1 - _NEARLY_ALL) * len(signs) or looks[CAST] < _SOME * len(signs)):
        return np.empty(0, np.int64)
    return np.flatnonzero(signs["look"] != ORDINARY)


def formats_in(signs: np.ndarray) -> dict[str, int]:
    """How many images came from files of each format."""
    found, counts = np.unique(signs["format"], return_counts=True)
    return {str(kind): int(count) for kind, count in zip(found, counts, strict=True) if kind}


def compression_of(formats: Mapping[str, int], n: int | None) -> str | None:
    """What nearly all of n images were stored as: "lossy", "lossless", or None."""
    for name, kinds in (("lossy", LOSSY), ("lossless", LOSSLESS)):
        if n and sum(count for kind, count in formats.items() if kind in kinds) >= _NEARLY_ALL * n:
            return name
    return None


def _first_pair(signs: np.ndarray, repeated: np.ndarray) -> list[int]:
    """The first image that was there before, after the one that it equals."""
    seen: dict[int, int] = {}
    for index, digest in zip(repeated.tolist(), signs["digest"][repeated].tolist(), strict=True):
        if digest in seen:
            return [seen[digest], index]
        seen[digest] = index
    return []


def _digest(flat: np.ndarray, shape: tuple[int, ...]) -> int:
    """64 bits of the pixels: the checksums of their two halves, each begun with the shape."""
    start, half = zlib.crc32(repr(shape).encode()), len(flat) // 2
    return zlib.crc32(flat[:half].data, start) << 32 | zlib.crc32(flat[half:].data, start)


def _look(flat: np.ndarray) -> int:
    if not _extreme(flat[:: len(flat) // _PROBES + 1]) or not _extreme(flat):
        return ORDINARY
    if (flat + np.uint8(1) > 1).any():
        return CAST
    return BINARY if flat.any() else BLACK


def _extreme(values: np.ndarray) -> bool:
    """Whether all of them are within 2 of 0 or 255 (uint8 wraps around)."""
    return bool((values + np.uint8(3) < 6).all())
