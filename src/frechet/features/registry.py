"""The table of extractors, and a row of it made ready to run."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from frechet._internal.download import ProgressCallback
from frechet.errors import RequestError
from frechet.features.encoders import ENCODERS, EncoderConfig, load_encoder
from frechet.features.extractor import Layer, LoadedExtractor, Runner
from frechet.features.spec import FeatureSpec
from frechet.networks import efficientnet_lite, inception, vgg
from frechet.networks.weights import (
    EFFICIENTNET_LITE0,
    INCEPTION_2015,
    INCEPTION_TORCHVISION,
    VGG16,
    ConvLayer,
    FoldedWeights,
    WeightsFile,
    load_weights,
)
from frechet.preprocessing.registry import PREPROCESSINGS, Preprocessing, Scalars

PRECISIONS = ("float32", "bfloat16", "float16")
BACKENDS = ("openvino", "torch", "jax")


@dataclass(frozen=True, kw_only=True)
class ExtractorConfig:
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
    conv_layers: Callable[[], Iterator[ConvLayer]]
    layers: dict[str, int]
    default_layer: str
    heads: dict[str, str] = field(default_factory=dict)
    input_size: int
    preprocessings: tuple[str, ...]
    weights: WeightsFile


EXTRACTORS = {
    "inception": ExtractorConfig(
        title="Inception",
        network=inception.inception,
        conv_layers=inception.conv_layers,
        layers=inception.LAYERS,
        default_layer="2048",
        heads={"logits": "fc"},
        input_size=inception.INPUT_SIZE,
        preprocessings=("pytorch-fid", "tensorflow", "clean", "torchmetrics"),
        weights=INCEPTION_2015,
    ),
    "inception-torchvision": ExtractorConfig(
        title="Inception-torchvision",
        network=inception.inception_torchvision,
        conv_layers=inception.conv_layers,
        layers=inception.TORCHVISION_LAYERS,
        default_layer="2048",
        heads={"logits": "fc"},
        input_size=inception.INPUT_SIZE,
        preprocessings=("pytorch-fid", "fastfid"),
        weights=INCEPTION_TORCHVISION,
    ),
    "vgg16": ExtractorConfig(
        title="VGG16",
        network=vgg.vgg16,
        conv_layers=vgg.conv_layers,
        layers=vgg.LAYERS,
        default_layer="4096",
        input_size=vgg.INPUT_SIZE,
        preprocessings=("tensorflow-imagenet", "imagenet"),
        weights=VGG16,
    ),
    "efficientnet-lite0": ExtractorConfig(
        title="EfficientNet-Lite0",
        network=efficientnet_lite.efficientnet_lite0,
        conv_layers=efficientnet_lite.conv_layers,
        layers=efficientnet_lite.LAYERS,
        default_layer="1280",
        heads={"logits": "_fc"},
        input_size=efficientnet_lite.INPUT_SIZE,
        preprocessings=("efficientnet-lite0",),
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
    weights: FoldedWeights
    preprocessing: Preprocessing
    input_size: int
    dims: int
    spec: FeatureSpec
    extra_layers: Mapping[str, Layer] = field(default_factory=dict)


def load_network(
    name: str = "inception",
    *,
    dims: int | None = None,
    preprocessing: str | None = None,
    weights: Path | None = None,
    precision: str = "float32",
    progress: ProgressCallback | None = None,
    extra_layers: Sequence[str] = (),
) -> LoadedNetwork:
    """Check the wishes against the table and load the weights; `further` names taps beside the one of `dims`.

    Raises:
        RequestError: an unknown name, or a combination that does not exist; what exists is named.
        WeightsError: the weights are missing or wrong.
    """
    base_spec = build_spec(name, dims=dims, preprocessing=preprocessing, precision=precision)
    extractor, layer, chosen = EXTRACTORS[name], str(base_spec.layer), PREPROCESSINGS[str(base_spec.preprocessing)]
    layers = list(dict.fromkeys([layer, *extra_layers]))
    head = next((extractor.heads[name] for name in layers if name in extractor.heads), None)
    found = load_weights(extractor.weights, extractor.conv_layers, weights, head=head, progress=progress)

    specs = [
        replace(
            base_spec,
            layer=one,
            weights=found.head_digest if one in extractor.heads else found.digest,
            is_official=found.is_official,
        )
        for one in layers
    ]
    return LoadedNetwork(
        network=partial(_run_normalised, extractor.network, chosen.scale, chosen.shift, layers),
        weights=found.conv_layers,
        preprocessing=chosen,
        input_size=extractor.input_size,
        dims=extractor.layers[layer],
        spec=specs[0],
        extra_layers={one: Layer(extractor.layers[one], spec) for one, spec in zip(layers[1:], specs[1:], strict=True)},
    )


def build_spec(
    name: str, *, dims: int | None = None, preprocessing: str | None = None, precision: str = "float32"
) -> FeatureSpec:
    """What is known of features before the weights are: of an extractor of the table, with its defaults.

    Raises:
        RequestError: an unknown name, or a combination that does not exist; what exists is named.
    """
    validate_choice(name, EXTRACTORS, "extractor")
    extractor = EXTRACTORS[name]
    preprocessing = preprocessing or extractor.preprocessings[0]
    validate_choice(preprocessing, extractor.preprocessings, f"convention of {name}")
    validate_choice(precision, PRECISIONS, "precision")
    return FeatureSpec(
        extractor=name, layer=resolve_layer(extractor, dims), preprocessing=preprocessing, precision=precision
    )


def _run_normalised(
    network: Callable[..., Any],
    scale: Scalars,
    shift: Scalars,
    layers: Sequence[str],
    ops: Any,
    images: Any,
    conv_layers: Any,
) -> Any:
    """A network of the table, from images in 0..255; not a closure, so that what holds it can be pickled."""
    return network(ops, ops.scale_shift(images, scale, shift), conv_layers, layers)


def load_extractor(
    name: Any = "inception", *, backend: str = "auto", device: str = "auto", **options: Any
) -> LoadedExtractor:
    """A network of the tables, or a user's own, on a backend's device. Other arguments and errors as in `load_network`."""
    validate_choice(backend, ("auto", *BACKENDS), "backend")
    if not isinstance(name, str) or name not in EXTRACTORS:
        return load_encoder(name, backend=backend, device=device, **options)
    backend = _choose_backend(device) if backend == "auto" else backend
    loaded = load_network(name, **options)
    assert loaded.spec.precision is not None
    runner, used_device = _RUNNER_FACTORIES[backend](
        loaded.network, loaded.weights, loaded.input_size, loaded.spec.precision, device
    )
    return LoadedExtractor(
        runner=runner,
        device=used_device,
        preprocessing=loaded.preprocessing,
        input_size=loaded.input_size,
        dims=loaded.dims,
        spec=loaded.spec,
        backend=backend,
        extra_layers=loaded.extra_layers,
    )


def _choose_backend(device: str) -> str:
    """OpenVINO on a processor, torch where a device is named or an accelerator may be there."""
    if device not in ("auto", "cpu"):
        return "torch"
    maybe = device == "auto" and (Path("/dev/nvidiactl").exists() or sys.platform == "darwin")
    if maybe and importlib.util.find_spec("torch"):
        from frechet.backends.torch import choose_device

        return "openvino" if choose_device("auto").type == "cpu" else "torch"
    return "openvino"


def _make_openvino_runner(
    network: Any, conv_layers: FoldedWeights, input_size: int, precision: str, device: str
) -> tuple[Runner, str]:
    from frechet.backends.openvino import compile_network  # here, so that reading statistics loads no backend

    validate_choice(device, ("auto", "cpu"), "device of the openvino backend")
    runner = compile_network(
        lambda ops, images: network(ops, images, conv_layers), input_size=input_size, precision=precision
    )
    return runner, "cpu"


def _make_torch_runner(
    network: Any, conv_layers: FoldedWeights, _pixels: int, precision: str, device: str
) -> tuple[Runner, str]:
    if importlib.util.find_spec("torch") is None:
        raise RequestError("the torch backend needs PyTorch: pip install 'frechet[torch]'; or use backend openvino")
    from frechet.backends.torch import TorchRunner, choose_device

    chosen = choose_device(device)
    return TorchRunner(network, conv_layers, chosen, precision), str(chosen)


def _make_jax_runner(
    network: Any, conv_layers: FoldedWeights, _pixels: int, precision: str, device: str
) -> tuple[Runner, str]:
    if importlib.util.find_spec("jax") is None:
        raise RequestError("the jax backend needs JAX: pip install 'frechet[jax]'; or use backend openvino")
    from frechet.backends.jax import JaxRunner, choose_devices

    chosen = choose_devices(device)
    used_device = chosen[0].platform if len(chosen) == 1 else f"{len(chosen)} x {chosen[0].platform}"
    return JaxRunner(network, conv_layers, chosen, precision), used_device


_RUNNER_FACTORIES = {"openvino": _make_openvino_runner, "torch": _make_torch_runner, "jax": _make_jax_runner}


def find_extractor(name: Any) -> ExtractorConfig | EncoderConfig | None:
    """What the tables of extractors and encoders say of a name, or None."""
    return (EXTRACTORS.get(name) or ENCODERS.get(name)) if isinstance(name, str) else None


def resolve_layer(extractor: ExtractorConfig | EncoderConfig, dims: int | None) -> str:
    """The tap with that many features.

    Raises:
        RequestError: there is none; those that exist are named.
    """
    if dims is None:
        return extractor.default_layer
    by_dims = {str(d): layer for layer, d in extractor.layers.items()}
    validate_choice(str(dims), by_dims, f"dims of {extractor.title}")
    return by_dims[str(dims)]


def validate_choice(name: str, choices: Collection[str], kind: str) -> None:
    """Refuse a name that is not among the choices, and name these."""
    if name not in choices:
        raise RequestError(f"no {kind} {name!r}; there is {', '.join(choices)}")
