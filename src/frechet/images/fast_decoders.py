"""Decoders that are faster than Pillow's, for the files that they decode to the same bits, and a faster CRC-32 (extra `fast`)."""

from __future__ import annotations

import importlib
import importlib.metadata
import zlib
from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
import PIL
from PIL import Image, features

_DECODERS = {"JPEG": "simplejpeg", "PNG": "imagecodecs"}  # by Pillow's name of the format
_EQUAL_MODES: dict[
    str, set[tuple[str, Any]]
] = {  # (mode, layout of the file) of the images that both libraries decode to the same pixels
    "JPEG": {("RGB", ("RGB", "")), ("L", ("L", ""))},
    "PNG": {("RGB", "RGB"), ("RGBA", "RGBA")},
}
_END_OF_PNG = b"\0\0\0\0IEND\xaeB`\x82"  # Pillow accepts no file that ends within its pixels


def decode_pixels(image: Image.Image) -> np.ndarray | None:
    """Decode an opened file with a faster library than Pillow.

    Args:
        image: an image in a `BytesIO`, of which only the header has been read.

    Returns:
        (h, w, 3) uint8, equal to Pillow's `convert("RGB")`. None if no faster library is installed, if its pixels may
        differ (CMYK, palettes, 16 bits, ...), or if it rejects the file, so that Pillow decides what is wrong with it.
    """
    decoder = _load_decoder(image.format)
    data, tiles = getattr(image, "fp", None), list(getattr(image, "tile", []))
    if decoder is None or not isinstance(data, BytesIO) or len(tiles) != 1:
        return None
    if (image.mode, tiles[0][3]) not in _EQUAL_MODES[str(image.format)]:
        return None
    try:
        pixels = np.asarray(decoder(data.getvalue()))
    except Exception:  # each library has errors of its own
        return None
    is_expected = pixels.dtype == np.uint8 and pixels.shape[:2] == image.size[::-1] and pixels.ndim == 3
    return pixels[:, :, :3] if is_expected and pixels.shape[2] in (3, 4) else None


@cache
def describe_decoders() -> str:
    """Return the libraries that decode images, with their versions; those of the extra `fast` if they are installed and work."""
    names = [name for image_format, name in _DECODERS.items() if _load_decoder(image_format)]
    return ", ".join([f"pillow {PIL.__version__}", *(f"{name} {importlib.metadata.version(name)}" for name in names)])


@cache
def load_crc32() -> Callable[[Any, int], int]:
    """Return a function (data, start) -> CRC-32: that of imagecodecs if it works, which takes a seventh of zlib's time."""
    library = _import_library("imagecodecs")
    if library is None or not library.DEFLATE.available:
        return zlib.crc32
    crc32: Callable[[Any, int], int] = library.deflate_crc32
    return crc32


@cache
def _load_decoder(image_format: str | None) -> Callable[[bytes], Any] | None:
    """Return the faster decoder of a format, or None."""
    library = _import_library(_DECODERS.get(str(image_format)))
    if library is None:
        return None
    if image_format == "JPEG":
        if not features.check_feature("libjpeg_turbo"):  # other libraries round the pixels differently
            return None
        return lambda data: library.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False)
    if not library.SPNG.available:
        return None
    return lambda data: library.spng_decode(data) if data.endswith(_END_OF_PNG) else None


def _import_library(name: str | None) -> Any:
    """Import a library; return None if it is missing or broken, e.g. because it was built for another NumPy."""
    try:
        importlib.metadata.version(str(name))
        return importlib.import_module(str(name))
    except Exception:  # ImportError, ValueError, OSError ...
        return None
