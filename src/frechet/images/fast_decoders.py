"""Decoders that are faster than Pillow's, for the files that they decode to the same bits, and a faster CRC-32 (extra `fast`)."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from functools import cache, partial
from io import BytesIO
from typing import Any

import numpy as np
import PIL
from PIL import Image, features

from frechet.images.file_header import FileHeader, guess_format, parse_header
from frechet.images.pixel_memory import Allocate, allocate_nothing
from frechet.images.png_store import store_pixels

_DECODERS = {"JPEG": "simplejpeg", "PNG": "imagecodecs"}  # by Pillow's name of the format
_EQUAL_MODES: dict[
    str, set[tuple[str, Any]]
] = {  # (mode, layout of the file) of the images that both libraries decode to the same pixels
    "JPEG": {("RGB", ("RGB", "")), ("L", ("L", ""))},
    "PNG": {("RGB", "RGB"), ("RGBA", "RGBA")},
}
_END_OF_PNG = b"\0\0\0\0IEND\xaeB`\x82"  # Pillow accepts no file that ends within its pixels
_COLOUR_TYPE_OF_PNG, _RGB = 25, 2  # its position in the file, and the value
_MIN_BYTES_TO_STORE = 1 << 14  # of a PNG; smaller ones are not decoded faster with `store_pixels`

Decoder = Callable[[bytes, np.ndarray], None]
"""Decodes a file into an array (h, w, 3) uint8; raises any error if it cannot."""


def decode_ordinary_file(
    data: bytes, reserve: Callable[[FileHeader], None] = lambda _: None, allocate: Allocate = allocate_nothing
) -> tuple[np.ndarray, str] | None:
    """Decode a file that `parse_header` finds ordinary, without Pillow.

    Args:
        data: the file.
        reserve: called with its header before it is decoded; it may wait, or reject the image.
        allocate: return memory for its pixels.

    Returns:
        (h, w, 3) uint8, equal to Pillow's `convert("RGB")`, and the format of the file; None if Pillow is to decode it.
    """
    decoder = load_decoder(guess_format(data))
    if decoder is None or (header := parse_header(data)) is None or not _is_allowed_by_pillow(header.size):
        return None
    reserve(header)
    rgb = _decode(decoder, data, header.size, allocate)
    return None if rgb is None else (rgb, header.format)


def decode_pixels(image: Image.Image, allocate: Allocate = allocate_nothing) -> np.ndarray | None:
    """Decode an opened file with a faster library than Pillow.

    Args:
        image: an image in a `BytesIO`, of which only the header has been read.
        allocate: return memory for its pixels.

    Returns:
        (h, w, 3) uint8, equal to Pillow's `convert("RGB")`. None if no faster library is installed, if its pixels may
        differ (CMYK, palettes, 16 bits, ...), or if it rejects the file, so that Pillow decides what is wrong with it.
    """
    decoder = load_decoder(image.format)
    data, tiles = getattr(image, "fp", None), list(getattr(image, "tile", []))
    if decoder is None or not isinstance(data, BytesIO) or len(tiles) != 1:
        return None
    if (image.mode, tiles[0][3]) not in _EQUAL_MODES[str(image.format)]:
        return None
    return _decode(decoder, data.getvalue(), image.size, allocate)


def _is_allowed_by_pillow(size: tuple[int, int]) -> bool:
    """Return whether Pillow opens images of this size without a warning."""
    return Image.MAX_IMAGE_PIXELS is None or size[0] * size[1] <= Image.MAX_IMAGE_PIXELS


def _decode(decoder: Decoder, data: bytes, size: tuple[int, int], allocate: Allocate) -> np.ndarray | None:
    """Return the pixels (h, w, 3) of a file whose header declares a size (width, height); None if the decoder rejects the file."""
    shape = (*size[::-1], 3)
    rgb = allocate(shape)
    if rgb is None:
        rgb = np.empty(shape, np.uint8)
    try:
        decoder(data, rgb)
    except Exception:  # each library has errors of its own
        return None
    return rgb


@cache
def describe_decoders() -> str:
    """Return the libraries that decode images, with their versions; those of the extra `fast` if they are installed and work."""
    names = [name for image_format, name in _DECODERS.items() if load_decoder(image_format)]
    return ", ".join([f"pillow {PIL.__version__}", *(f"{name} {_import_library(name).__version__}" for name in names)])


@cache
def load_crc32() -> Callable[[Any, int], int]:
    """Return a function (data, start) -> CRC-32: that of imagecodecs if it works, which takes a seventh of zlib's time."""
    library = _import_library("imagecodecs")
    if library is None or not library.DEFLATE.available:
        return zlib.crc32
    crc32: Callable[[Any, int], int] = library.deflate_crc32
    return crc32


@cache
def load_decoder(image_format: str | None) -> Decoder | None:
    """Return the faster decoder of a format, or None."""
    library = _import_library(_DECODERS.get(str(image_format)))
    if library is None:
        return None
    if image_format == "JPEG":
        if not features.check_feature("libjpeg_turbo"):  # other libraries round the pixels differently
            return None
        return partial(_decode_jpeg, library)
    return partial(_decode_png, library) if library.SPNG.available and library.DEFLATE.available else None


def _decode_jpeg(library: Any, data: bytes, rgb: np.ndarray) -> None:
    pixels = library.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, buffer=rgb)
    if pixels.shape != rgb.shape:
        raise ValueError("its size is not that of its header")


def _decode_png(library: Any, data: bytes, rgb: np.ndarray) -> None:
    if not data.endswith(_END_OF_PNG):
        raise ValueError("it has no end")
    stored = (
        store_pixels(data, library.deflate_decode, library.deflate_crc32) if len(data) >= _MIN_BYTES_TO_STORE else None
    )
    if data[_COLOUR_TYPE_OF_PNG] == _RGB and (stored or b"tRNS" not in data):
        library.spng_decode(stored or data, out=rgb)
    else:
        rgb[...] = library.spng_decode(stored or data)[:, :, :3]


def _import_library(name: str | None) -> Any:
    """Import a library; return None if it is missing or broken, e.g. because it was built for another NumPy."""
    try:
        library = importlib.import_module(str(name))
    except Exception:  # ImportError, ValueError, OSError ...
        return None
    return library if hasattr(library, "__version__") else None  # a folder of that name has none
