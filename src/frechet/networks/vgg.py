"""VGG16 up to its second fully connected layer, whose features precision and recall were defined on, over any backend's ops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from frechet.networks.ops import Array, Ops

LAYERS = {"4096": 4096}  # tap -> features (d)
INPUT_SIZE = 224
_STAGES = (2, 2, 3, 3, 3)  # convolutions before each max pool


def vgg16(ops: Ops, images: Array, weights: Mapping[str, Any], layers: Sequence[str]) -> Array:  # noqa: ARG001
    """Run the network to its second fully connected layer, with its ReLU.

    Args:
        ops: a backend's operations.
        images: (n, 224, 224, 3), standardised by ImageNet's mean and deviation.
        weights: layer name -> (kernel OIHW, bias O); the fully connected layers are kernels over the whole map.
        taps: the key of `TAPS`; there is one.

    Returns:
        (n, 4096) features.
    """

    def conv(x: Array, name: str, padding: int = 1) -> Array:
        kernel, bias = weights[name]
        return ops.conv(x, kernel, bias, padding=((padding, padding), (padding, padding)), activation="relu")

    def stage(names: Sequence[str], x: Array) -> Array:
        for name in names:
            x = conv(x, name)
        return ops.max_pool(x, size=2, stride=2)

    x = ops.from_nhwc(images)
    for names in _iter_stages():
        x = ops.run_segment(partial(stage, names), x)
    return ops.global_average_pool(conv(conv(x, "classifier.0", padding=0), "classifier.3", padding=0))


def conv_layers() -> Iterator[tuple[str, str, str]]:
    """(layer, key of its kernel, "": a bias in place of a batch norm) of every layer in torchvision's state dict."""
    for name in (*(name for names in _iter_stages() for name in names), "classifier.0", "classifier.3"):
        yield name, f"{name}.weight", ""


def _iter_stages() -> Iterator[list[str]]:
    """The names of the convolutions before each pool; torchvision counts their ReLUs and the pools too."""
    index = 0
    for count in _STAGES:
        yield [f"features.{index + 2 * i}" for i in range(count)]
        index += 2 * count + 1
