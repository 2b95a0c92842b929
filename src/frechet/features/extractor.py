"""An extractor ready to run, whoever loaded it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import NamedTuple, Protocol

import numpy as np

from frechet.features.spec import FeatureSpec
from frechet.preprocessing.registry import Preprocessing


class Runner(Protocol):
    """A network on a device: batches in, features out; `batch_size` is what suits it."""

    batch_size: int

    def map(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """(n, h, w, 3) float32 in 0..255 -> (n, d) float32, in order, several batches in flight."""


class Layer(NamedTuple):
    """A layer beside the one that was asked for."""

    dims: int
    spec: FeatureSpec


@dataclass(frozen=True, kw_only=True)
class LoadedExtractor:
    """An extractor ready to run.

    Attributes:
        runner: the network on its device.
        convention: how images enter.
        pixels: height and width of the input.
        dims: d, of the layer that was asked for.
        recipe: what that layer's features must share with others.
        backend, device: their names.
        further: taps whose columns follow those of that layer.
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
        """Columns of all layers together."""
        return self.dims + sum(layer.dims for layer in self.extra_layers.values())

    @property
    def layer_slices(self) -> dict[str, slice]:
        """Where each layer's columns are: "features" is the one that was asked for."""
        ends = list(accumulate([0, self.dims, *(layer.dims for layer in self.extra_layers.values())]))
        return {name: slice(*pair) for name, pair in zip(["features", *self.extra_layers], pairwise(ends), strict=True)}
