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

from frechet.errors import GeneratorFailed, RequestError
from frechet.images.image import Picture
from frechet.images.sources.memory import pixels_in

_AT_ONCE = 64  # images that are asked for in one call


class GeneratedSource:
    """As many images as are wanted of a function, each made once.

    Args:
        make: how many -> that many images: a uint8 array (n, h, w, 3) or torch tensor (n, 3, h, w), or a list of them or of PIL's.
        count: how many there are in all.
        again: whether they will be read more than once; they are then kept, uncompressed in a temporary file, and else
            forgotten once they are read.
    """

    address: str | None = None
    name = "a generator"

    def __init__(self, make: Callable[[int], Any], count: int, *, again: bool = False) -> None:
        self.make, self.count = make, count
        self.kept = Kept() if again else None
        self.made = 0
        self.waiting: dict[int, Any] = {}
        self.lock = Lock()

    def __len__(self) -> int:
        return self.count

    def name_of(self, place: int) -> str:
        return f"generated image {place}"

    def pictures(self, chosen: Sequence[int]) -> Iterator[Picture]:
        for index, place in enumerate(chosen):
            yield Picture(index, self.name_of(place), partial(self._load, place))

    def marks(self, _chosen: Sequence[int]) -> Iterator[str]:
        raise RequestError(
            "a run of images that a function makes cannot continue another (work_dir=): nothing tells them from others"
        )

    def _load(self, place: int) -> Any:
        with self.lock:  # one call after the other, in order, whoever asks
            if self.kept is not None and place in self.kept:
                return self.kept[place]
            while self.made <= place:
                self._make(min(_AT_ONCE, self.count - self.made))
            pixels = pixels_in(self.waiting.pop(place))
            if self.kept is not None:
                self.kept[place] = pixels
            return pixels

    def _make(self, count: int) -> None:
        try:
            images = self.make(count)
        except Exception as error:
            raise GeneratorFailed(
                f"the function that makes images failed when it was asked for {count}: {type(error).__name__}: {error}"
            ) from error
        if not hasattr(images, "__len__") or len(images) != count:
            given = f"{len(images)} images" if hasattr(images, "__len__") else type(images).__name__
            raise GeneratorFailed(f"the generator was asked for {count} images and gave {given}")
        if isinstance(images, np.ndarray):
            images = images.copy()  # its producer may use the memory again
        elif hasattr(images, "detach"):
            images = images.detach().clone()
        self.waiting.update(zip(range(self.made, self.made + count), images, strict=True))
        self.made += count


class Kept:
    """Images by their place: arrays, and PIL's that are no more than one, in a temporary file; others as they are."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115, gone with this object
        weakref.finalize(self, self.file.close)
        self.shapes: dict[int, tuple[int, tuple[int, ...]]] = {}
        self.others: dict[int, Any] = {}

    def __contains__(self, place: int) -> bool:
        return place in self.shapes or place in self.others

    def __getitem__(self, place: int) -> Any:
        if place in self.others:
            return self.others[place]
        start, shape = self.shapes[place]
        self.file.seek(start)
        return np.frombuffer(self.file.read(math.prod(shape)), np.uint8).reshape(shape)

    def __setitem__(self, place: int, pixels: Any) -> None:
        made_here = isinstance(pixels, Image.Image) and pixels.format is None and not pixels.info
        if made_here and pixels.mode in ("L", "RGB", "RGBA"):
            pixels = np.asarray(pixels)
        if isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8:
            self.shapes[place] = self.file.seek(0, os.SEEK_END), pixels.shape
            self.file.write(pixels.tobytes())
        else:
            self.others[place] = pixels
