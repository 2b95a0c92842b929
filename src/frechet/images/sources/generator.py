"""Images that a model makes while they are scored."""

from __future__ import annotations

import math
import os
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from frechet.errors import GeneratorError, RequestError
from frechet.images.image import ImageRef
from frechet.images.sources.memory import item_to_image

_BATCH_SIZE = 64  # images that are asked for in one call


class GeneratorSource:
    """As many images as are wanted of a function, each made once.

    Args:
        make: how many -> that many images: a uint8 array (n, h, w, 3) or torch tensor (n, 3, h, w), or a list of them or of PIL's.
        count: how many there are in all.
        again: whether they will be read more than once; they are then kept, uncompressed in a temporary file, and else
            forgotten once they are read.
    """

    location: str | None = None
    label = "a generator"

    def __init__(self, generate: Callable[[int], Any], count: int, *, cache_images: bool = False) -> None:
        self.generate, self.count = generate, count
        self.cache = ImageCache() if cache_images else None
        self.num_generated = 0
        self.pending: dict[int, Any] = {}
        self.lock = Lock()

    def __len__(self) -> int:
        return self.count

    def get_label(self, source_index: int) -> str:
        return f"generated image {source_index}"

    def iter_images(self, source_indices: Sequence[int]) -> Iterator[ImageRef]:
        for index, source_index in enumerate(source_indices):
            yield ImageRef(index, self.get_label(source_index), partial(self._load, source_index))

    def fingerprints(self, _source_indices: Sequence[int]) -> Iterator[str]:
        raise RequestError(
            "a run of images that a function makes cannot continue another (work_dir=): nothing tells them from others"
        )

    def _load(self, source_index: int) -> Any:
        with self.lock:  # one call after the other, in order, whoever asks
            if self.cache is not None and source_index in self.cache:
                return self.cache[source_index]
            while self.num_generated <= source_index:
                self._generate_batch(min(_BATCH_SIZE, self.count - self.num_generated))
            pixels = item_to_image(self.pending.pop(source_index))
            if self.cache is not None:
                self.cache[source_index] = pixels
            return pixels

    def _generate_batch(self, count: int) -> None:
        try:
            images = self.generate(count)
        except Exception as error:
            raise GeneratorError(
                f"the function that makes images failed when it was asked for {count}: {type(error).__name__}: {error}"
            ) from error
        if not hasattr(images, "__len__") or len(images) != count:
            given = f"{len(images)} images" if hasattr(images, "__len__") else type(images).__name__
            raise GeneratorError(f"the generator was asked for {count} images and gave {given}")
        if isinstance(images, np.ndarray):
            images = images.copy()  # its producer may use the memory again
        elif hasattr(images, "detach"):
            images = images.detach().clone()
        self.pending.update(zip(range(self.num_generated, self.num_generated + count), images, strict=True))
        self.num_generated += count


class ImageCache:
    """Images by their place: arrays, and PIL's that are no more than one, in a temporary file; others as they are."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115, gone with this object
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
