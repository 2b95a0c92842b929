"""VGG16 (Simonyan & Zisserman 2014) up to its second fully connected layer, over the ops of any backend.

Precision and recall (Kynkäänniemi et al. 2019) are defined on the features of this layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from frechet.networks.ops import Array, Ops
from frechet.networks.weights_file import WeightsFile

LAYERS = {"4096": 4096}  # layer -> d
INPUT_SIZE = 224
WEIGHTS = WeightsFile(
    name="vgg16-397923af.pth",
    sha256="397923af",
    urls=("https://download.pytorch.org/models/vgg16-397923af.pth",),
    n_kernel_values=134_248_128,
)
_STAGES = (2, 2, 3, 3, 3)  # convolutions before each max pool


def vgg16(ops: Ops, images: Array, weights: Mapping[str, Any], layers: Sequence[str]) -> Array:  # noqa: ARG001
    """Run the network up to and including the ReLU of its second fully connected layer.

    Args:
        ops: a backend's operations.
        images: (n, 224, 224, 3), standardised with ImageNet's mean and standard deviation.
        weights: layer name -> (kernel OIHW, bias O); the fully connected layers are kernels as large as the feature map.
        layers: the key of `LAYERS`; the network has only one layer.

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
    for names in iter_stages():
        x = ops.run_segment(partial(stage, names), x)
    return ops.global_average_pool(conv(conv(x, "classifier.0", padding=0), "classifier.3", padding=0))


def conv_layers() -> Iterator[tuple[str, str, str]]:
    """Yield (layer, key of its kernel, "") of every layer in torchvision's state dict; the layers have no batch norm."""
    for name in (*(name for names in iter_stages() for name in names), "classifier.0", "classifier.3"):
        yield name, f"{name}.weight", ""


def iter_stages() -> Iterator[list[str]]:
    """Yield the names of the convolutions before each pool; torchvision's numbers also count ReLUs and pools."""
    index = 0
    for count in _STAGES:
        yield [f"features.{index + 2 * i}" for i in range(count)]
        index += 2 * count + 1
