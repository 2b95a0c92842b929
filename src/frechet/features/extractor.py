"""An extractor that is ready to run."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np

from frechet._internal.fields import name_option
from frechet.errors import RequestError
from frechet.features.spec import FeatureSpec
from frechet.preprocessing.matrix_resize import can_resize
from frechet.preprocessing.registry import Preprocessing

PREPROCESS_ON = ("auto", "host", "device")
MAX_DEVICE_PIXELS = (
    1 << 20
)  # of an image that is resized on an accelerator by default; decoding larger ones takes longer


class Runner(Protocol):
    """A network on a device.

    Attributes:
        batch_size: default number of images per batch on this device.
    """

    batch_size: int

    def map(self, batches: Iterable[Any]) -> Iterator[np.ndarray]:
        """Compute the features of each batch, in order, with several batches in flight.

        Args:
            batches: each of them `Pixels`; without uint8 images unless the attribute `can_resize` of the runner is True.

        Returns:
            (n, d) float32 features of each batch.
        """


class Layer(NamedTuple):
    """An extra layer whose features are computed in the same pass.

    Attributes:
        dims: number of features.
        spec: identifies the features.
    """

    dims: int
    spec: FeatureSpec


@dataclass(frozen=True, kw_only=True)
class LoadedExtractor:
    """A network on its device, with its preprocessing.

    Attributes:
        runner: the network on its device.
        preprocessing: resize and normalisation.
        input_size: height and width of the network's input, in pixels.
        dims: number of features d of the main layer.
        spec: identifies the features of the main layer.
        backend: name of the backend, e.g. "openvino".
        device: name of the device, e.g. "cuda:0".
        extra_layers: further layers by name; their columns follow those of the main layer.
        max_device_pixels: largest number of pixels of an image that the device resizes; 0 if the host resizes all images.
    """

    runner: Runner
    preprocessing: Preprocessing
    input_size: int
    dims: int
    spec: FeatureSpec
    backend: str
    device: str = "cpu"
    extra_layers: Mapping[str, Layer] = field(default_factory=dict)
    max_device_pixels: int = 0

    @property
    def preprocess_on(self) -> str:
        """Where images are resized: "host" or "device"."""
        return "device" if self.max_device_pixels else "host"

    def is_left_to_device(self, height: int, width: int) -> bool:
        """Return whether the device resizes images of this size."""
        return height * width <= self.max_device_pixels and can_resize(
            self.preprocessing, height, width, self.input_size
        )

    def place_preprocessing(self, preprocess_on: str) -> LoadedExtractor:
        """Return the extractor with its preprocessing on the host or on the device.

        Args:
            preprocess_on: "host"; "device"; or "auto" for the device if it is an accelerator, and then for images of at
                most `MAX_DEVICE_PIXELS`, whose decoding takes less time than their resize on the host.

        Raises:
            RequestError: the backend does not resize images.
        """
        if not getattr(self.runner, "can_resize", False):
            if preprocess_on == "device":
                raise RequestError(
                    f"{name_option('preprocess_on')} is 'device', but the {self.backend} backend resizes images on the host; use --backend torch or "
                    "jax (backend=), or leave it out"
                )
            return self
        is_accelerator = not self.device.endswith("cpu")
        limits = {"host": 0, "device": sys.maxsize, "auto": MAX_DEVICE_PIXELS if is_accelerator else 0}
        return self.limit_device_pixels(limits[preprocess_on])

    def limit_device_pixels(self, max_device_pixels: int) -> LoadedExtractor:
        """Return the extractor with another `max_device_pixels`, which is 0 if the backend does not resize images."""
        return replace(self, max_device_pixels=max_device_pixels if getattr(self.runner, "can_resize", False) else 0)

    @property
    def total_dims(self) -> int:
        """Number of columns that the runner returns, all layers together."""
        return self.dims + sum(layer.dims for layer in self.extra_layers.values())

    @property
    def layer_slices(self) -> dict[str, slice]:
        """The columns of each layer in the runner's output; "features" is the main layer."""
        ends = list(accumulate([0, self.dims, *(layer.dims for layer in self.extra_layers.values())]))
        return {name: slice(*pair) for name, pair in zip(["features", *self.extra_layers], pairwise(ends), strict=True)}
