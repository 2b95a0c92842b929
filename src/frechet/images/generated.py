"""Images that a model makes while they are scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from threading import Lock
from typing import Any

import numpy as np

from frechet.errors import GeneratorFailed, RequestError
from frechet.images.objects import pixels_in
from frechet.images.pictures import Picture

_AT_ONCE = 64  # images that are asked for in one call


class GeneratedSource:
    """As many images as are wanted of a function, each made once and forgotten once it is read.

    Args:
        make: how many -> that many images: a uint8 array (n, h, w, 3) or torch tensor (n, 3, h, w), or a list of them or of PIL's.
        count: how many there are in all.
    """

    address: str | None = None
    name = "a generator"

    def __init__(self, make: Callable[[int], Any], count: int) -> None:
        self.make, self.count = make, count
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
            "a run of images that a function makes cannot continue another (--work-dir): nothing tells them from others"
        )

    def _load(self, place: int) -> Any:
        with self.lock:  # one call after the other, in order, whoever asks
            while self.made <= place:
                self._make(min(_AT_ONCE, self.count - self.made))
            return pixels_in(self.waiting.pop(place))

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
