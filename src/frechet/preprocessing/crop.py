"""Crops to a square of given size, bit-identical to the code in PIL that papers use, and applied before any resize.

| crop | as in | what it does |
|---|---|---|
| adm | `center_crop_arr` of ADM, DiT, SiT, RAE | halve (box) while the shorter side is at least 2 s, bicubic to s, centre |
| torchvision | torchvision's `Resize(s)` and `CenterCrop(s)` | bilinear so that the shorter side is s, centre |
| long-edge | `CenterCropLongEdge` of BigGAN, GigaGAN, DMD2 | central square, Lanczos to s |
| stretch | `scale` of StyleGAN's and EDM's dataset_tool.py | Lanczos to s x s, not keeping the aspect ratio |

All of them enlarge images that are smaller than s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from PIL.Image import Resampling

from frechet._internal.choices import validate_choice
from frechet.errors import RequestError


def _crop_adm(image: Image.Image, size: int) -> Image.Image:
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Resampling.BICUBIC)
    return _cut(image, (image.width - size) // 2, (image.height - size) // 2, size)


def _crop_torchvision(image: Image.Image, size: int) -> Image.Image:
    short = min(image.size)
    width, height = (int(size * side / short) for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Resampling.BILINEAR)
    return _cut_center(image, size)


def _crop_long_edge(image: Image.Image, size: int) -> Image.Image:
    square = _cut_center(image, min(image.size))
    return square if square.width == size else square.resize((size, size), Resampling.LANCZOS)


def _stretch(image: Image.Image, size: int) -> Image.Image:
    return image.resize((size, size), Resampling.LANCZOS)


def _cut_center(image: Image.Image, size: int) -> Image.Image:
    """Cut as torchvision's `center_crop` does, whose offset is rounded half to even."""
    return _cut(image, round((image.width - size) / 2), round((image.height - size) / 2), size)


def _cut(image: Image.Image, left: int, top: int, size: int) -> Image.Image:
    return image.crop((left, top, left + size, top + size))


CROPS: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "adm": _crop_adm,
    "torchvision": _crop_torchvision,
    "long-edge": _crop_long_edge,
    "stretch": _stretch,
}


@dataclass(frozen=True)
class Crop:
    """A crop to a square.

    Attributes:
        name: a key of `CROPS`.
        size: height and width of the result in pixels.

    Raises:
        RequestError: an unknown name, or a size below 1.

    Examples:
        >>> import numpy as np
        >>> Crop("adm", 64).apply(np.zeros((100, 200, 3), np.uint8)).shape
        (64, 64, 3)
        >>> str(Crop("adm", 64))
        'adm(64)'
    """

    name: str
    size: int

    def __post_init__(self) -> None:
        validate_choice(self.name, CROPS, "crop")
        if self.size < 1:
            raise RequestError(f"the size of the crop is {self.size}; expected a number of pixels of at least 1")

    def __str__(self) -> str:
        return f"{self.name}({self.size})"

    def apply(self, rgb: np.ndarray) -> np.ndarray:
        """Crop an image.

        Args:
            rgb: (h, w, 3) uint8.

        Returns:
            (size, size, 3) uint8.
        """
        return np.asarray(CROPS[self.name](Image.fromarray(rgb), self.size))

    def apply_with_note(self, rgb: np.ndarray) -> tuple[np.ndarray, str | None]:
        """Crop an image, and report if it had to be enlarged because it was smaller than the crop in one direction."""
        is_smaller = min(rgb.shape[:2]) < self.size
        return self.apply(rgb), f"enlarged to the {self.size} pixels of the crop" if is_smaller else None
