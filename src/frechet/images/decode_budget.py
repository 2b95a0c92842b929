"""A bound on the memory that all decoding threads of this process take together."""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition

import numpy as np
from PIL import Image

from frechet._internal.memory import return_free_memory
from frechet.errors import ImageDecodeError
from frechet.images.file_header import FileHeader

MAX_PIXELS = 100_000_000  # of one image, by default
LARGEST_MAX_PIXELS = 2 * 89_478_485  # Pillow reads no larger images
_MAX_BYTES = 1 << 31  # of images that are being decoded
_LARGE_BYTES = 1 << 26  # of an image whose memory is given back before another one is admitted
_BYTES_PER_PIXEL, _WEBP_BYTES_PER_PIXEL = 16, 24  # at the peak of decoding and resizing; measured: 15, and 22 for WebP

_SMALL_SHARE = 1 / 2048  # of a budget: smaller images are not counted; 1 MB, 256 x 256 pixels

AnyImage = Image.Image | np.ndarray | FileHeader
Reserve = Callable[[AnyImage], None]


class DecodeBudget:
    """Admits images to be decoded while they fit into a number of bytes together; a larger one is admitted alone.

    Small images, of which a thread decodes thousands per second, are not counted.

    Args:
        max_bytes: largest number of bytes of the images that are decoded at the same time.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.used = 0
        self._changed = Condition()

    def admit(self, max_pixels: int) -> Admission:
        """Return a context whose value waits until an image may be decoded; what it reserved is released at the end of the block.

        It may be called again for the same image.

        Raises:
            ImageDecodeError: by that function, if the image has more than `max_pixels` pixels.
        """
        return Admission(self, max_pixels)

    def take(self, n_bytes: int) -> None:
        """Wait until an image of this size fits."""
        with self._changed:
            self._changed.wait_for(lambda: not self.used or self.used + n_bytes <= self.max_bytes)
            self.used += n_bytes

    def give_back(self, n_bytes: int) -> None:
        """Make room for other images."""
        with self._changed:
            self.used -= n_bytes
            self._changed.notify_all()


class Admission:
    """What one image has reserved of a budget; a class, since a generator takes longer than the decision about a small image."""

    __slots__ = ("_budget", "_max_pixels", "_reserved")

    def __init__(self, budget: DecodeBudget, max_pixels: int) -> None:
        self._budget, self._max_pixels, self._reserved = budget, max_pixels, 0

    def __enter__(self) -> Reserve:
        return self._reserve

    def __exit__(self, *_: object) -> None:
        if self._reserved:
            if self._reserved > _LARGE_BYTES:
                return_free_memory()
            self._release()

    def _reserve(self, image: AnyImage) -> None:
        n_bytes = estimate_bytes(image, self._max_pixels)
        if n_bytes <= _SMALL_SHARE * self._budget.max_bytes or n_bytes <= self._reserved:
            return
        self._release()
        self._budget.take(n_bytes)
        self._reserved = n_bytes

    def _release(self) -> None:
        if self._reserved:
            self._budget.give_back(self._reserved)
            self._reserved = 0


class ReadAhead:
    """Bounds the bytes of the decoded images that wait for the network; those that it needs next are always admitted.

    Args:
        max_bytes: largest number of bytes of images that wait.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used = 0
        self._needed: float = -1
        self._changed = Condition()

    def hold(self, position: int, n_bytes: int) -> None:
        """Wait until a decoded image at a position of the queue fits, or is needed."""
        with self._changed:
            self._changed.wait_for(lambda: position <= self._needed or self.used + n_bytes <= self.max_bytes)
            self.used += n_bytes

    def require(self, position: float) -> None:
        """Admit everything up to a position of the queue, because it is needed next."""
        with self._changed:
            self._needed = position
            self._changed.notify_all()

    def release(self, n_bytes: int) -> None:
        """Make room for other images."""
        with self._changed:
            self.used -= n_bytes
            self._changed.notify_all()


def estimate_bytes(image: AnyImage, max_pixels: int) -> int:
    """Return how many bytes decoding takes; an array is decoded already."""
    is_encoded = isinstance(image, (FileHeader, Image.Image))
    width, height = image.size if is_encoded else image.shape[1::-1] if image.ndim > 1 else (0, 0)  # type: ignore[misc, union-attr]
    if width * height > max_pixels:
        raise ImageDecodeError(
            f"has {width} x {height} = {width * height:,} pixels; at most {max_pixels:,} are decoded. Raise --max-pixels "
            "(max_pixels=) if the image is genuine."
        )
    if not is_encoded:
        return 0
    return width * height * (_WEBP_BYTES_PER_PIXEL if image.format == "WEBP" else _BYTES_PER_PIXEL)  # type: ignore[union-attr]
