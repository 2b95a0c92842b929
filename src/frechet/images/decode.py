"""Decode any image to RGB in the way other tools do: `convert("RGB")`, alpha dropped, EXIF orientation ignored.

One intended difference: 16-bit grey is scaled to 8 bits, whereas other tools clip it to white.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from frechet._internal.masked_arrays import is_masked
from frechet.errors import ArchiveError, FrechetError, ImageDecodeError, RunError
from frechet.images.decode_budget import Reserve
from frechet.images.fast_decoders import decode_ordinary_file, decode_pixels
from frechet.images.image import EncodedImage, ImageLike, ImageRef
from frechet.images.pillow_file import open_image
from frechet.images.pixel_memory import Allocate, allocate_nothing
from frechet.images.pixels import find_pixel_error

ALPHA_DROPPED = "alpha channel dropped, not blended"
SIXTEEN_BIT_SCALED = "16-bit values scaled to 8 bits"
ORIENTATION_IGNORED = (
    "EXIF orientation ignored, as in other tools; rotate the pixels to score the image as it is displayed"
)
FIRST_FRAME_ONLY = "only the first of several frames or pages scored"


class DecodedImage(NamedTuple):
    """An image as RGB.

    Attributes:
        rgb: (h, w, 3) uint8.
        note: what was changed or ignored in decoding (one of the constants above), or None.
        format: Pillow's name of the file format, of at most four letters; None for arrays and images made in memory. WebP is
            "VP8" (lossy) or "VP8L" (lossless), the names of its codecs; TIFF compressed as JPEG is "JTIF", lossless
            TIFF is "TIFL".
        largest_16_bit: largest value of an image with 16 bits per channel, without its alpha channel (of a colour image: the
            largest value with the same high byte); 0 for other images.
    """

    rgb: np.ndarray
    note: str | None
    format: str | None
    largest_16_bit: int = 0


def decode(
    image_ref: ImageRef, reserve: Reserve = lambda _: None, allocate: Allocate = allocate_nothing
) -> DecodedImage:
    """Load an image and convert it to RGB.

    Args:
        image_ref: the image.
        reserve: called with the image before it is decoded; it may wait, or reject the image (see `DecodeBudget`).
        allocate: return memory for the pixels of an encoded image (see `GroupMemory`).

    Raises:
        ImageDecodeError: the image cannot be decoded; the message starts with its label.
        RunError: the machine refused to read it or ran out of a resource, which says nothing about the image.
        FrechetError: whatever else the source raises about more than this image.
    """
    try:
        image = image_ref.load()
        if isinstance(image, EncodedImage):
            return _decode_file(image.data, reserve, allocate)
        return _decode_image(image, reserve, allocate)
    except Exception as error:  # decoders of damaged data fail in many ways: OSError, struct.error, zlib.error ...
        if isinstance(error, FrechetError) and not isinstance(error, (ImageDecodeError, ArchiveError)):
            raise
        if fault := next(filter(_is_fault_of_machine, _iter_causes(error)), None):
            raise RunError(
                f"{image_ref.label} could not be read: {_describe_error(fault)}. This is a problem of the system, not of the image, so "
                "the image is not skipped. Check the file permissions, the free memory and the open-file limit, then run again."
            ) from error
        if isinstance(error, (ImageDecodeError, ArchiveError)):
            raise ImageDecodeError(f"{image_ref.label}: {error}") from error
        raise ImageDecodeError(f"{image_ref.label} cannot be decoded: {_describe_error(error)}") from error


def _decode_file(data: bytes, reserve: Reserve, allocate: Allocate) -> DecodedImage:
    if (decoded := decode_ordinary_file(data, reserve, allocate)) is not None:
        rgb, file_format = decoded
        return DecodedImage(rgb, None, file_format)
    try:
        image = open_image(data)
    except UnidentifiedImageError as error:
        raise _UnknownContentError(_explain_unknown_content(data)) from error
    return _decode_image(image, reserve, allocate)


class _UnknownContentError(ValueError):
    """An image file that no decoder recognises; the message says how the file differs from images."""


def _explain_unknown_content(data: bytes) -> str:
    if not data:
        return "the file is empty"
    file_format = next((name for start, name in _FILE_STARTS.items() if start.match(data)), None)
    if file_format:
        return f"it starts like a {file_format} file, but is incomplete or damaged ({len(data):,} bytes); it may have been truncated"
    return "its content is not in a known image format"


def _decode_image(image: Image.Image | np.ndarray, reserve: Reserve, allocate: Allocate) -> DecodedImage:
    reserve(image)
    if isinstance(image, np.ndarray):
        return DecodedImage(*_array_to_rgb(image), None)
    note = FIRST_FRAME_ONLY if _is_multi_frame(image) else ORIENTATION_IGNORED if _is_rotated(image) else None
    rgb, conversion_note, largest_16_bit = _image_to_rgb(image, allocate)
    return DecodedImage(rgb, note or conversion_note, _get_format(image), largest_16_bit)


def _image_to_rgb(image: ImageLike, allocate: Allocate) -> tuple[np.ndarray, str | None, int]:
    """Return the pixels, a note on the conversion, and `DecodedImage.largest_16_bit`."""
    if not isinstance(image, Image.Image):
        raise ImageDecodeError(f"is a {type(image).__name__}; expected a PIL image or a uint8 array (h, w, 3)")
    if image.mode == "F":
        raise ImageDecodeError("has floating-point pixels of unknown range; save it as 8- or 16-bit")
    if image.mode == "I" and image.format not in ("PNG", "PPM"):  # in those two, Pillow's I means 16 bits
        raise ImageDecodeError("has 32-bit pixels of unknown range; save it as 8- or 16-bit")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        return np.asarray(_scale_to_uint8(values).convert("RGB")), SIXTEEN_BIT_SCALED, int(values.max(initial=0))
    note = ALPHA_DROPPED if image.mode in _ALPHA_MODES or "transparency" in image.info else None
    if (rgb := decode_pixels(image, allocate)) is not None:
        return rgb, note, 0
    has_16_bits = _has_16_bits(image)  # known until it is decoded
    if image.mode == "P" and note:
        image = image.convert("RGBA")  # gives the same pixels and avoids Pillow's warning
    converted = image if image.mode == "RGB" else image.convert("RGB")
    rgb = np.frombuffer(converted.tobytes(), np.uint8).reshape(converted.height, converted.width, 3)
    if (memory := allocate(rgb.shape)) is not None:
        memory[...] = rgb
        rgb = memory
    if has_16_bits:
        return rgb, note or SIXTEEN_BIT_SCALED, int(rgb.max(initial=0)) << 8 | 255
    return rgb, note, 0


def _has_16_bits(image: Image.Image) -> bool:
    """Return whether a colour image has 16 bits per channel, of which Pillow keeps the high byte; only known before it is decoded."""
    return any(re.search(r";16[BLN]", str(tile[3])) for tile in getattr(image, "tile", ()))


def _is_multi_frame(image: ImageLike) -> bool:
    """Return whether an image has several frames or pages; the extra pictures of an MPO are depth maps and previews."""
    return getattr(image, "is_animated", False) and getattr(image, "format", None) != "MPO"


def _is_rotated(image: ImageLike) -> bool:
    """Return whether EXIF metadata ask for a rotation or reflection; Pillow applies those of TIFF itself."""
    if "exif" not in getattr(image, "info", {}) or getattr(image, "format", None) == "TIFF":
        return False
    try:
        return bool(image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9))  # type: ignore[union-attr]
    except Exception:  # damaged metadata; the pixels are what is scored
        return False


def _get_format(image: ImageLike) -> str | None:
    """Return the format with its compression (see `DecodedImage`)."""
    name: str | None = getattr(image, "format", None)
    compression = getattr(image, "info", {}).get("compression")
    return _FORMATS_BY_COMPRESSION.get((name, compression)) or name


_FORMATS_BY_COMPRESSION: dict[tuple[str | None, Any], str] = {
    ("WEBP", "webp_lossy"): "VP8",
    ("WEBP", "webp_lossless"): "VP8L",
    ("TIFF", "jpeg"): "JTIF",
    ("TIFF", "tiff_jpeg"): "JTIF",
    **{
        ("TIFF", name): "TIFL" for name in ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "zstd")
    },
}

_ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")


def _scale_to_uint8(values: np.ndarray) -> Image.Image:
    return Image.fromarray(((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))


def _array_to_rgb(array: np.ndarray) -> tuple[np.ndarray, str | None]:
    if error := find_pixel_error(array.dtype, array.shape, "hwc", array):
        raise ImageDecodeError(error)
    if is_masked(array):
        raise ImageDecodeError("has masked pixels; expected none. Pass x.filled(value), or leave out the image.")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.shape[2] == 1:
        return np.repeat(array, 3, axis=2), None
    return array[:, :, :3], ALPHA_DROPPED if array.shape[2] == 4 else None


_FILE_STARTS = {
    re.compile(rb"\xff\xd8"): "JPEG",
    re.compile(rb"\x89PNG"): "PNG",
    re.compile(rb"RIFF....WEBP", re.DOTALL): "WebP",
    re.compile(rb"BM"): "BMP",
    re.compile(rb"II\*\0|MM\0\*"): "TIFF",
}
_ERRNOS_OF_IMAGES = (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL)


def _is_fault_of_machine(error: BaseException) -> bool:
    """Return whether an error is about memory, open files, permissions or devices rather than about an image."""
    if isinstance(error, OSError):
        return error.errno not in _ERRNOS_OF_IMAGES or "out of memory" in str(error)  # the latter is Pillow's
    return isinstance(error, MemoryError)


def _iter_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and those that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _describe_error(error: BaseException) -> str:
    if isinstance(error, _UnknownContentError):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        return "its content is not in a known image format"
    if isinstance(error, OSError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}"
