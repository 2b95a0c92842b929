"""The table of extractors, and a row of it made ready to run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from frechet.errors import RequestError
from frechet.features.conventions import CONVENTIONS, Convention
from frechet.features.recipe import Recipe
from frechet.networks import efficientnet_lite, inception
from frechet.networks.weights import EFFICIENTNET_LITE0, INCEPTION_2015, Layer, WeightsFile, load_weights

PRECISIONS = ("float32", "bfloat16")
BACKENDS = ("openvino",)


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """A network and what is needed to run it.

    Attributes:
        title: its name in labels.
        network: (ops, images, weights, tap) -> (n, d).
        layers: its convolutions, for reading weights.
        taps: tap -> d; the last is the default.
        pixels: height and width of its input.
        conventions: names of the conventions it is used with; the first is the default.
        weights: its published weights file.
    """

    title: str
    network: Callable[..., Any]
    layers: Callable[[], Iterator[Layer]]
    taps: dict[str, int]
    pixels: int
    conventions: tuple[str, ...]
    weights: WeightsFile


EXTRACTORS = {
    "inception": Extractor(
        title="Inception",
        network=inception.inception,
        layers=inception.layers,
        taps=inception.TAPS,
        pixels=inception.PIXELS,
        conventions=("pytorch-fid", "tensorflow"),
        weights=INCEPTION_2015,
    ),
    "efficientnet-lite0": Extractor(
        title="EfficientNet-Lite0",
        network=efficientnet_lite.efficientnet_lite0,
        layers=efficientnet_lite.layers,
        taps=efficientnet_lite.TAPS,
        pixels=efficientnet_lite.PIXELS,
        conventions=("efficientnet-lite0",),
        weights=EFFICIENTNET_LITE0,
    ),
}


class Runner(Protocol):
    """A network on a device: batches in, features out."""

    def map(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """(n, h, w, 3) float32 in 0..255 -> (n, d) float32, in order, several batches in flight."""


@dataclass(frozen=True, kw_only=True)
class LoadedExtractor:
    """An extractor ready to run.

    Attributes:
        runner: the network on its device.
        convention: how images enter.
        pixels: height and width of the input.
        dims: d.
        recipe: what its features must share with others.
        backend: the name of the backend.
    """

    runner: Runner
    convention: Convention
    pixels: int
    dims: int
    recipe: Recipe
    backend: str


def load_extractor(
    name: str = "inception",
    *,
    dims: int | None = None,
    convention: str | None = None,
    weights: Path | None = None,
    precision: str = "float32",
    backend: str = "auto",
    device: str = "auto",
) -> LoadedExtractor:
    """Check the wishes against the table, load the weights and build the network.

    Raises:
        RequestError: an unknown name, or a combination that does not exist; what exists is named.
        WeightsError: the weights are missing or wrong.
    """
    check_choice(name, EXTRACTORS, "extractor")
    extractor = EXTRACTORS[name]
    tap = _tap(extractor, dims)
    convention = convention or extractor.conventions[0]
    check_choice(convention, extractor.conventions, f"convention of {name}")
    chosen = CONVENTIONS[convention]
    check_choice(precision, PRECISIONS, "precision")
    backend = "openvino" if backend == "auto" else backend
    check_choice(backend, BACKENDS, "backend")
    check_choice(device, ("auto", "cpu"), f"device of the {backend} backend")
    found = load_weights(extractor.weights, extractor.layers, weights)
    from frechet.backends import openvino_ops  # here, so that reading statistics loads no backend

    runner = openvino_ops.compile_network(
        lambda ops, images: extractor.network(
            ops, ops.scale_shift(images, chosen.scale, chosen.shift), found.layers, tap
        ),
        pixels=extractor.pixels,
        precision=precision,
    )
    recipe = Recipe(
        extractor=name,
        layer=tap,
        weights=found.digest,
        official=found.official,
        convention=chosen.name,
        precision=precision,
    )
    return LoadedExtractor(
        runner=runner,
        convention=chosen,
        pixels=extractor.pixels,
        dims=extractor.taps[tap],
        recipe=recipe,
        backend=backend,
    )


def _tap(extractor: Extractor, dims: int | None) -> str:
    if dims is None:
        return list(extractor.taps)[-1]
    check_choice(str(dims), extractor.taps, f"--dims of {extractor.title}")
    return str(dims)


def check_choice(name: str, choices: Collection[str], what: str) -> None:
    """Refuse a name that is not among the choices, and name these."""
    if name not in choices:
        raise RequestError(f"no {what} {name!r}; there is {', '.join(choices)}")
