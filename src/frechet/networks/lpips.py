"""The networks of LPIPS (Zhang et al. 2018, arXiv:1801.03924) up to their last convolution, over the ops of any backend."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from frechet.errors import RequestError, WeightsError
from frechet.networks import vgg
from frechet.networks.checkpoint import read_state_dict
from frechet.networks.ops import Array, Ops
from frechet.networks.weights import ConvLayer, FoldedWeights, hash_tensors, load_weights
from frechet.networks.weights_file import WeightsFile, find_weights, weights_cache

_ENV_VARIABLE = "FRECHET_LPIPS_WEIGHTS"
_ALEXNET_PADDING = {"features.0": 2, "features.3": 2, "features.6": 1, "features.8": 1, "features.10": 1}
_POOL_BEFORE = ("features.3", "features.6")


def alexnet(ops: Ops, images: Array, weights: Mapping[str, Any]) -> list[Array]:
    """Run AlexNet (Krizhevsky 2014, arXiv:1404.5997) and return the feature maps after each of its five convolutions.

    Args:
        ops: a backend's operations.
        images: (n, h, w, 3), standardised, with h and w of at least 31.
        weights: layer name -> (kernel OIHW, bias O).
    """
    x = ops.from_nhwc(images)
    maps: list[Array] = []
    for name, padding in _ALEXNET_PADDING.items():
        if name in _POOL_BEFORE:
            x = ops.max_pool(x, size=3, stride=2)
        stride = 4 if name == "features.0" else 1
        x = ops.conv(x, *weights[name], stride=stride, padding=((padding, padding),) * 2, activation="relu")
        maps.append(x)
    return maps


def vgg16(ops: Ops, images: Array, weights: Mapping[str, Any]) -> list[Array]:
    """Run VGG16 (Simonyan & Zisserman 2014) and return the feature maps before each pool, and the last ones.

    Args:
        ops: a backend's operations.
        images: (n, h, w, 3), standardised, with h and w of at least 16.
        weights: layer name -> (kernel OIHW, bias O).
    """
    x = ops.from_nhwc(images)
    maps: list[Array] = []
    for names in vgg.iter_stages():
        if maps:
            x = ops.max_pool(x, size=2, stride=2)
        for name in names:
            x = ops.conv(x, *weights[name], padding=((1, 1), (1, 1)), activation="relu")
        maps.append(x)
    return maps


def _list_convolutions(names: Callable[[], Iterator[str]]) -> Iterator[ConvLayer]:
    return ((name, f"{name}.weight", "") for name in names())


@dataclass(frozen=True, kw_only=True)
class LpipsNetwork:
    """A network on whose feature maps LPIPS is defined.

    Attributes:
        title: its name in labels and messages.
        run: (ops, images, weights) -> feature maps.
        file: the published weights, trained on ImageNet.
        convolutions: yields the names of its convolutions.
        min_size: smallest height and width of an image, in pixels.
    """

    title: str
    run: Callable[[Ops, Array, Mapping[str, Any]], list[Array]]
    file: WeightsFile
    convolutions: Callable[[], Iterator[str]]
    min_size: int


NETWORKS = {
    "alex": LpipsNetwork(
        title="AlexNet",
        run=alexnet,
        file=WeightsFile(
            name="alexnet-owt-7be5be79.pth",
            sha256="7be5be79",
            urls=("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",),
            n_kernel_values=2_468_544,
            env_variable=_ENV_VARIABLE,
        ),
        convolutions=lambda: iter(_ALEXNET_PADDING),
        min_size=31,
    ),
    "vgg": LpipsNetwork(
        title="VGG16",
        run=vgg16,
        file=replace(vgg.WEIGHTS, n_kernel_values=14_710_464, env_variable=_ENV_VARIABLE),
        convolutions=lambda: (name for names in vgg.iter_stages() for name in names),
        min_size=16,
    ),
}


@dataclass(frozen=True, kw_only=True)
class LpipsWeights:
    """The weights of a network, and those of its channels in LPIPS.

    Attributes:
        conv_layers: layer -> (kernel, bias), float32.
        channels: (c,) float32, weights of the c channels of each feature map.
        digest: sha256 over all tensors.
        is_official: whether the network's file is byte for byte the published one.
    """

    conv_layers: FoldedWeights
    channels: tuple[np.ndarray, ...]
    digest: str
    is_official: bool


def load_lpips_weights(name: str) -> LpipsWeights:
    """Read the weights of LPIPS; nothing is downloaded.

    Args:
        name: a key of `NETWORKS`.

    Raises:
        WeightsError: the weights of the network are not on this machine; the message says where to get and to put them.
        RequestError: torchmetrics, which contains the weights of the channels, is not installed.
    """
    network = NETWORKS[name]
    channels = _read_channel_weights(name)
    found = load_weights(
        network.file, partial(_list_convolutions, network.convolutions), override_path=_find_backbone(network)
    )
    tensors = {f"channels.{i}": values for i, values in enumerate(channels)}
    tensors |= {
        f"{layer}.{i}": values for layer, arrays in found.conv_layers.items() for i, values in enumerate(arrays)
    }
    return LpipsWeights(
        conv_layers=found.conv_layers,
        channels=channels,
        digest=hash_tensors(tensors),
        is_official=found.is_official,
    )


def _find_backbone(network: LpipsNetwork) -> Path:
    try:
        return find_weights(network.file)
    except WeightsError:
        raise WeightsError(
            f"lpips needs the weights {network.file.name} of {network.title}, which are not on this machine and are not downloaded "
            f"unasked. Download {network.file.source} into {weights_cache()}, or set {_ENV_VARIABLE} to the file or its folder."
        ) from None


def _read_channel_weights(name: str) -> tuple[np.ndarray, ...]:
    """Read the weights of the channels (version 0.1) from the package torchmetrics, which is not imported."""
    package = importlib.util.find_spec("torchmetrics")
    if package is None or package.origin is None:
        raise RequestError("lpips needs torchmetrics, which is not installed; run pip install 'frechet[torchmetrics]'")
    state = read_state_dict(Path(package.origin).parent / "functional" / "image" / "lpips_models" / f"{name}.pth")
    return tuple(state[f"lin{index}.model.1.weight"].reshape(-1).astype(np.float32) for index in range(len(state)))
