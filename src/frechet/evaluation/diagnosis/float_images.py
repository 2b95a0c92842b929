"""Generated images that are floating-point numbers, with the ways to store them as 8 bits."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from frechet._internal.array_headers import retry_parsing
from frechet.errors import ImageDecodeError, SourceError, TooFewImagesError
from frechet.images.image import ImageSource
from frechet.preprocessing.quantize import to_uint8
from frechet.preprocessing.value_range import validate_value_range

ValueRange = tuple[float, float]


def _floor(images: np.ndarray, value_range: ValueRange) -> np.ndarray:
    """Scale to 0..255 and drop the fraction: `(x + 1) / 2 * 255` or `x * 255`, cast to uint8."""
    to_uint8(images, value_range=value_range)  # checks the values
    low, high = value_range
    scaled = (images.astype(np.float32) - np.float32(low)) / np.float32(high - low) * np.float32(255)
    return scaled.clip(0, 255).astype(np.uint8)


ROUNDING_RULES: Mapping[str, Callable[[np.ndarray, ValueRange], np.ndarray]] = {
    "round": lambda images, value_range: to_uint8(images, value_range=value_range, rounding="round"),
    "truncate": lambda images, value_range: to_uint8(images, value_range=value_range, rounding="truncate"),
    "floor": _floor,
}


class FloatImages(ImageSource):
    """Floating-point images (n, h, w, 3) in memory or in an .npy file; `load` returns them unconverted.

    Args:
        array: the images.
        label: name to display.
        value_range: the values (black, white); None for (-1, 1) if there are negative ones among the first images, else (0, 1).

    Raises:
        SourceError: another shape.
        TooFewImagesError: fewer than two images.
    """

    def __init__(self, array: np.ndarray, label: str, value_range: ValueRange | None) -> None:
        super().__init__(label)
        if array.ndim != 4 or array.shape[3] != 3 or 0 in array.shape:
            raise SourceError(
                f"{label} is {array.dtype} of shape {array.shape}; expected images (n, h, w, 3). For (n, 3, h, w): "
                "x.transpose(0, 2, 3, 1)"
            )
        if len(array) < 2:
            raise TooFewImagesError(f"{label} contains 1 image; at least 2 are required")
        self.array = array
        self.value_range = validate_value_range(value_range or ((-1, 1) if (array[:64] < 0).any() else (0, 1)))

    def __len__(self) -> int:
        return len(self.array)

    def load(self, source_index: int) -> np.ndarray:
        image = np.asarray(self.array[source_index])
        if np.isnan(image).any():
            raise ImageDecodeError(
                f"{self.get_label(source_index)} contains NaN; expected numbers in {self.value_range}"
            )
        return image


def open_float_images(data: Any, value_range: ValueRange | None) -> FloatImages | None:
    """Open an array or an .npy file of floating-point images; None if it is anything else.

    Raises:
        RequestError: there are fewer than two images, they are not (n, h, w, 3), or `value_range` is invalid.
    """
    if isinstance(data, np.ndarray):
        return FloatImages(data, "images in memory", value_range) if data.dtype.kind == "f" else None
    if not isinstance(data, (str, os.PathLike)) or Path(data).suffix.lower() != ".npy":
        return None
    try:
        array = retry_parsing(lambda: np.load(data, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError):
        return None  # opening it as images reports what is wrong
    return FloatImages(array, str(data), value_range) if array.dtype.kind == "f" else None
