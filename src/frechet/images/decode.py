"""Any picture to RGB, as the field's tools see it: `convert("RGB")`, alpha dropped, EXIF orientation left alone.

One difference, on purpose: 16-bit grey is scaled to 8 bits where the other tools clip it to white.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from frechet.errors import GeneratorError, ImageDecodeError, UnreachableError
from frechet.images.image import ImageLike, ImageRef

ALPHA_DROPPED = "alpha channel dropped, not blended"
SIXTEEN_BIT_SCALED = "16-bit values scaled to 8 bits"
FIRST_FRAME_ONLY = "only the first of several frames or pages scored"


class DecodedImage(NamedTuple):
    """A picture as RGB.

    Attributes:
        rgb: (h, w, 3) uint8.
        remark: what a user should know was done to it (`ALPHA`, `DEEP`, `FRAMES`), or None.
        format: of the file it came from, by Pillow's name; None for arrays and images made in memory.
    """

    rgb: np.ndarray
    note: str | None
    format: str | None


def decode(image_ref: ImageRef) -> DecodedImage:
    """The picture as RGB.

    Raises:
        BadImage: it cannot be decoded; the message names it.
    """
    try:
        pixels = image_ref.load()
        if isinstance(pixels, np.ndarray):
            return DecodedImage(*_array_to_rgb(pixels), None)
        is_multi_frame = _is_multi_frame(pixels)
        rgb, note = _image_to_rgb(pixels)
        return DecodedImage(rgb, FIRST_FRAME_ONLY if is_multi_frame else note, pixels.format)
    except (UnreachableError, GeneratorError):  # say nothing of the image
        raise
    except Exception as error:  # decoders of damaged data fail in many ways: OSError, struct.error, zlib.error ...
        raise ImageDecodeError(f"{image_ref.label}: {_describe_error(error)}") from error


def _image_to_rgb(image: ImageLike) -> tuple[np.ndarray, str | None]:
    if not isinstance(image, Image.Image):
        raise ImageDecodeError(f"is a {type(image).__name__}; expected a PIL image or a uint8 array (h, w, 3)")
    if image.mode == "F":
        raise ImageDecodeError("holds floating-point grey values whose range nobody knows; save it with 8 or 16 bits")
    if image.mode == "I" and image.format not in ("PNG", "PPM"):  # in those two, Pillow's I means 16 bits
        raise ImageDecodeError("holds 32-bit values whose range nobody knows; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        return np.asarray(_scale_to_uint8(image).convert("RGB")), SIXTEEN_BIT_SCALED
    note = ALPHA_DROPPED if image.mode in _ALPHA_MODES or "transparency" in image.info else None
    if image.mode == "P" and note:
        image = image.convert("RGBA")  # the same pixels, without Pillow's advice to convert to RGBA
    return np.asarray(image.convert("RGB")), note


def _is_multi_frame(image: ImageLike) -> bool:
    """Whether it is an animation or has pages; what telephones add to a JPEG (MPO) are maps, and previews."""
    return getattr(image, "is_animated", False) and getattr(image, "format", None) != "MPO"


_ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")


def _scale_to_uint8(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    return Image.fromarray(((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))


def _array_to_rgb(array: np.ndarray) -> tuple[np.ndarray, str | None]:
    if array.dtype != np.uint8:
        raise ImageDecodeError(
            f"is {array.dtype}; expected uint8 in 0..255 (floats in [0, 1]: (x * 255).round().astype('uint8'))"
        )
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise ImageDecodeError(f"has shape {array.shape}; expected (h, w, 3): channels last")
    if array.shape[2] == 1:
        return np.repeat(array, 3, axis=2), None
    return array[:, :, :3], ALPHA_DROPPED if array.shape[2] == 4 else None


def _describe_error(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "is not an image that can be recognised, whatever its name says"
    if isinstance(error, (ImageDecodeError, OSError)) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}"
