"""The table of extractors, and a row of it made ready to run."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from frechet._internal.download import Progress
from frechet.errors import RequestError
from frechet.features.encoders import ENCODERS, Encoder, load_encoder
from frechet.features.extractor import LoadedExtractor, Runner, Tap
from frechet.features.spec import Recipe
from frechet.networks import efficientnet_lite, inception, vgg
from frechet.networks.weights import (
    EFFICIENTNET_LITE0,
    INCEPTION_2015,
    INCEPTION_TORCHVISION,
    VGG16,
    Folded,
    Layer,
    WeightsFile,
    load_weights,
)
from frechet.preprocessing.registry import CONVENTIONS, Convention, Scalars

PRECISIONS = ("float32", "bfloat16", "float16")
BACKENDS = ("openvino", "torch", "jax")


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """A network and what is needed to run it.

    Attributes:
        title: its name in labels.
        network: (ops, images, weights, taps) -> (n, width), the columns of each tap after those of the one before.
        layers: its convolutions, for reading weights.
        taps: tap -> d, all different.
        default_tap: the tap that is meant where none is said.
        heads: taps that need one more layer of the weights, and which.
        pixels: height and width of its input.
        conventions: names of the conventions it is used with; the first is the default.
        weights: its published weights file.
    """

    title: str
    network: Callable[..., Any]
    layers: Callable[[], Iterator[Layer]]
    taps: dict[str, int]
    default_tap: str
    heads: dict[str, str] = field(default_factory=dict)
    pixels: int
    conventions: tuple[str, ...]
    weights: WeightsFile


EXTRACTORS = {
    "inception": Extractor(
        title="Inception",
        network=inception.inception,
        layers=inception.layers,
        taps=inception.TAPS,
        default_tap="2048",
        heads={"logits": "fc"},
        pixels=inception.PIXELS,
        conventions=("pytorch-fid", "tensorflow", "clean", "torchmetrics"),
        weights=INCEPTION_2015,
    ),
    "inception-torchvision": Extractor(
        title="Inception-torchvision",
        network=inception.inception_torchvision,
        layers=inception.layers,
        taps=inception.TORCHVISION_TAPS,
        default_tap="2048",
        heads={"logits": "fc"},
        pixels=inception.PIXELS,
        conventions=("pytorch-fid", "fastfid"),
        weights=INCEPTION_TORCHVISION,
    ),
    "vgg16": Extractor(
        title="VGG16",
        network=vgg.vgg16,
        layers=vgg.layers,
        taps=vgg.TAPS,
        default_tap="4096",
        pixels=vgg.PIXELS,
        conventions=("tensorflow-imagenet", "imagenet"),
        weights=VGG16,
    ),
    "efficientnet-lite0": Extractor(
        title="EfficientNet-Lite0",
        network=efficientnet_lite.efficientnet_lite0,
        layers=efficientnet_lite.layers,
        taps=efficientnet_lite.TAPS,
        default_tap="1280",
        heads={"logits": "_fc"},
        pixels=efficientnet_lite.PIXELS,
        conventions=("efficientnet-lite0",),
        weights=EFFICIENTNET_LITE0,
    ),
}


@dataclass(frozen=True, kw_only=True)
class LoadedNetwork:
    """A network with its weights, for any backend.

    Attributes:
        network: (ops, images (n, h, w, 3) in 0..255 of `pixels` a side, weights) -> (n, width).
        weights: layer -> its arrays.
        convention: how images enter.
        pixels: height and width of the input.
        dims: d, of the layer that was asked for.
        recipe: what that layer's features must share with others.
        further: taps whose columns follow.
    """

    network: Callable[[Any, Any, Any], Any]
    weights: Folded
    convention: Convention
    pixels: int
    dims: int
    recipe: Recipe
    further: Mapping[str, Tap] = field(default_factory=dict)


def load_network(
    name: str = "inception",
    *,
    dims: int | None = None,
    convention: str | None = None,
    weights: Path | None = None,
    precision: str = "float32",
    progress: Progress | None = None,
    further: Sequence[str] = (),
) -> LoadedNetwork:
    """Check the wishes against the table and load the weights; `further` names taps beside the one of `dims`.

    Raises:
        RequestError: an unknown name, or a combination that does not exist; what exists is named.
        WeightsError: the weights are missing or wrong.
    """
    known = recipe_of(name, dims=dims, convention=convention, precision=precision)
    extractor, tap, chosen = EXTRACTORS[name], str(known.layer), CONVENTIONS[str(known.convention)]
    taps = list(dict.fromkeys([tap, *further]))
    head = next((extractor.heads[name] for name in taps if name in extractor.heads), None)
    found = load_weights(extractor.weights, extractor.layers, weights, head=head, progress=progress)

    recipes = [
        replace(
            known,
            layer=one,
            weights=found.head_digest if one in extractor.heads else found.digest,
            official=found.official,
        )
        for one in taps
    ]
    return LoadedNetwork(
        network=partial(_normalised, extractor.network, chosen.scale, chosen.shift, taps),
        weights=found.layers,
        convention=chosen,
        pixels=extractor.pixels,
        dims=extractor.taps[tap],
        recipe=recipes[0],
        further={one: Tap(extractor.taps[one], recipe) for one, recipe in zip(taps[1:], recipes[1:], strict=True)},
    )


def recipe_of(
    name: str, *, dims: int | None = None, convention: str | None = None, precision: str = "float32"
) -> Recipe:
    """What is known of features before the weights are: of an extractor of the table, with its defaults.

    Raises:
        RequestError: an unknown name, or a combination that does not exist; what exists is named.
    """
    check_choice(name, EXTRACTORS, "extractor")
    extractor = EXTRACTORS[name]
    convention = convention or extractor.conventions[0]
    check_choice(convention, extractor.conventions, f"convention of {name}")
    check_choice(precision, PRECISIONS, "precision")
    return Recipe(extractor=name, layer=tap_of(extractor, dims), convention=convention, precision=precision)


def _normalised(
    network: Callable[..., Any], scale: Scalars, shift: Scalars, taps: Sequence[str], ops: Any, images: Any, layers: Any
) -> Any:
    """A network of the table, from images in 0..255; not a closure, so that what holds it can be pickled."""
    return network(ops, ops.scale_shift(images, scale, shift), layers, taps)


def load_extractor(
    name: Any = "inception", *, backend: str = "auto", device: str = "auto", **wishes: Any
) -> LoadedExtractor:
    """A network of the tables, or a user's own, on a backend's device. Other arguments and errors as in `load_network`."""
    check_choice(backend, ("auto", *BACKENDS), "backend")
    if not isinstance(name, str) or name not in EXTRACTORS:
        return load_encoder(name, backend=backend, device=device, **wishes)
    backend = _backend_for(device) if backend == "auto" else backend
    loaded = load_network(name, **wishes)
    assert loaded.recipe.precision is not None
    runner, used = _RUN[backend](loaded.network, loaded.weights, loaded.pixels, loaded.recipe.precision, device)
    return LoadedExtractor(
        runner=runner,
        device=used,
        convention=loaded.convention,
        pixels=loaded.pixels,
        dims=loaded.dims,
        recipe=loaded.recipe,
        backend=backend,
        further=loaded.further,
    )


def _backend_for(device: str) -> str:
    """OpenVINO on a processor, torch where a device is named or an accelerator may be there."""
    if device not in ("auto", "cpu"):
        return "torch"
    maybe = device == "auto" and (Path("/dev/nvidiactl").exists() or sys.platform == "darwin")
    if maybe and importlib.util.find_spec("torch"):
        from frechet.backends.torch import choose_device

        return "openvino" if choose_device("auto").type == "cpu" else "torch"
    return "openvino"


def _on_openvino(network: Any, layers: Folded, pixels: int, precision: str, device: str) -> tuple[Runner, str]:
    from frechet.backends.openvino import compile_network  # here, so that reading statistics loads no backend

    check_choice(device, ("auto", "cpu"), "device of the openvino backend")
    runner = compile_network(lambda ops, images: network(ops, images, layers), pixels=pixels, precision=precision)
    return runner, "cpu"


def _on_torch(network: Any, layers: Folded, _pixels: int, precision: str, device: str) -> tuple[Runner, str]:
    if importlib.util.find_spec("torch") is None:
        raise RequestError("the torch backend needs PyTorch: pip install 'frechet[torch]'; or use backend openvino")
    from frechet.backends.torch import TorchRunner, choose_device

    chosen = choose_device(device)
    return TorchRunner(network, layers, chosen, precision), str(chosen)


def _on_jax(network: Any, layers: Folded, _pixels: int, precision: str, device: str) -> tuple[Runner, str]:
    if importlib.util.find_spec("jax") is None:
        raise RequestError("the jax backend needs JAX: pip install 'frechet[jax]'; or use backend openvino")
    from frechet.backends.jax import JaxRunner, choose_devices

    chosen = choose_devices(device)
    used = chosen[0].platform if len(chosen) == 1 else f"{len(chosen)} x {chosen[0].platform}"
    return JaxRunner(network, layers, chosen, precision), used


_RUN = {"openvino": _on_openvino, "torch": _on_torch, "jax": _on_jax}


def table_row(name: Any) -> Extractor | Encoder | None:
    """What the tables of extractors and encoders say of a name, or None."""
    return (EXTRACTORS.get(name) or ENCODERS.get(name)) if isinstance(name, str) else None


def tap_of(extractor: Extractor | Encoder, dims: int | None) -> str:
    """The tap with that many features.

    Raises:
        RequestError: there is none; those that exist are named.
    """
    if dims is None:
        return extractor.default_tap
    by_dims = {str(d): tap for tap, d in extractor.taps.items()}
    check_choice(str(dims), by_dims, f"dims of {extractor.title}")
    return by_dims[str(dims)]


def check_choice(name: str, choices: Collection[str], what: str) -> None:
    """Refuse a name that is not among the choices, and name these."""
    if name not in choices:
        raise RequestError(f"no {what} {name!r}; there is {', '.join(choices)}")
