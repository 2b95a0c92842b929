"""An extractor that is ready to run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import NamedTuple, Protocol

import numpy as np

from frechet.features.spec import FeatureSpec
from frechet.preprocessing.registry import Preprocessing


class Runner(Protocol):
    """A network on a device.

    Attributes:
        batch_size: default number of images per batch on this device.
    """

    batch_size: int

    def map(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Compute the features of each batch, in order, with several batches in flight.

        Args:
            batches: (n, h, w, 3) float32 pixels in [0, 255].

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
    """

    runner: Runner
    preprocessing: Preprocessing
    input_size: int
    dims: int
    spec: FeatureSpec
    backend: str
    device: str = "cpu"
    extra_layers: Mapping[str, Layer] = field(default_factory=dict)

    @property
    def total_dims(self) -> int:
        """Number of columns that the runner returns, all layers together."""
        return self.dims + sum(layer.dims for layer in self.extra_layers.values())

    @property
    def layer_slices(self) -> dict[str, slice]:
        """The columns of each layer in the runner's output; "features" is the main layer."""
        ends = list(accumulate([0, self.dims, *(layer.dims for layer in self.extra_layers.values())]))
        return {name: slice(*pair) for name, pair in zip(["features", *self.extra_layers], pairwise(ends), strict=True)}
