"""Images that a function generates while they are scored."""

from __future__ import annotations

import math
import os
import tempfile
import weakref
from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from frechet.errors import GeneratorError
from frechet.images.image import ImageLike, ImageSource
from frechet.images.sources.memory import copy_item, item_to_image

GENERATED_PER_CALL = 64  # images that are requested in one call


class GeneratorSource(ImageSource):
    """A fixed number of images from a function, each generated once.

    Args:
        generate: function that takes n and returns n images: a uint8 array (n, h, w, 3), a uint8 PyTorch tensor
            (n, 3, h, w), or a list of such images or of PIL images.
        count: number of images in all.
        cache_images: keep the images, uncompressed in a temporary file, so that they can be read more than once;
            otherwise each is discarded once it has been read.
    """

    def __init__(self, generate: Callable[[int], Any], count: int, *, cache_images: bool = False) -> None:
        super().__init__("generated images")
        self.generate, self.count = generate, count
        self.cache = ImageCache() if cache_images else None
        self.num_generated = 0
        self.pending: dict[int, Any] = {}
        self.lock = Lock()

    def __len__(self) -> int:
        return self.count

    def get_label(self, source_index: int) -> str:
        return f"generated image {source_index}"

    def load(self, source_index: int) -> ImageLike:
        with self.lock:  # one call after the other, in order, whichever thread needs the image
            if self.cache is not None and source_index in self.cache:
                return self.cache[source_index]
            while self.num_generated <= source_index:
                self._generate_batch(min(GENERATED_PER_CALL, self.count - self.num_generated))
            pixels = item_to_image(self.pending.pop(source_index))
            if self.cache is not None:
                self.cache[source_index] = pixels
            return pixels

    def _generate_batch(self, count: int) -> None:
        images = call_generator(self.generate, count, "images")
        images = copy_item(images)  # the function may reuse the memory
        self.pending.update(zip(range(self.num_generated, self.num_generated + count), images, strict=True))
        self.num_generated += count


def call_generator(generate: Callable[[int], Any], count: int, kind: str) -> Any:
    """Call a function that generates images or features, and check their number.

    Args:
        generate: the function.
        count: number of images.
        kind: "images" or "features", for messages.

    Raises:
        GeneratorError: the function raised an error or returned another number of them.
    """
    function = f"the function that generates {kind}"
    try:
        returned = generate(count)
    except Exception as error:
        raise GeneratorError(f"{function} failed when called with {count}: {type(error).__name__}: {error}") from error
    unit = "images" if kind == "images" else "rows"
    if not hasattr(returned, "__len__") or len(returned) != count:
        given = f"{len(returned)} {unit}" if hasattr(returned, "__len__") else f"a {type(returned).__name__}"
        raise GeneratorError(f"{function} returned {given} when called with {count}; expected {count} {unit}")
    return returned


class ImageCache:
    """Images by index: arrays and plain PIL images in a temporary file, others (with metadata) in memory."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115, closed together with this object
        weakref.finalize(self, self.file.close)
        self.shapes: dict[int, tuple[int, tuple[int, ...]]] = {}
        self.in_memory: dict[int, Any] = {}

    def __contains__(self, source_index: int) -> bool:
        return source_index in self.shapes or source_index in self.in_memory

    def __getitem__(self, source_index: int) -> Any:
        if source_index in self.in_memory:
            return self.in_memory[source_index]
        start, shape = self.shapes[source_index]
        self.file.seek(start)
        return np.frombuffer(self.file.read(math.prod(shape)), np.uint8).reshape(shape)

    def __setitem__(self, source_index: int, pixels: Any) -> None:
        is_plain_pil = isinstance(pixels, Image.Image) and pixels.format is None and not pixels.info
        if is_plain_pil and pixels.mode in ("L", "RGB", "RGBA"):
            pixels = np.asarray(pixels)
        if isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8:
            self.shapes[source_index] = self.file.seek(0, os.SEEK_END), pixels.shape
            self.file.write(pixels.tobytes())
        else:
            self.in_memory[source_index] = pixels
