"""Inception-2015, the network that FID is defined on, and torchvision's Inception v3, over the ops of any backend.

The graph is TensorFlow's `inception-2015-12-05` (Heusel et al. 2017, Salimans et al. 2016) with the layer names of the
PyTorch conversion. Torchvision's graph differs in the pool branches: its average pools include the padding, and the one
in `Mixed_7c` is an average pool, where FID's is a max pool. Its weights differ too, so its distances are not FID.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from frechet.networks.ops import Activation, Array, Ops
from frechet.networks.weights_file import WeightsFile

# layer -> d: pytorch-fid's four layers, ADM's spatial layer for sFID, and the class scores for the Inception Score
LAYERS = {"64": 64, "192": 192, "768": 768, "2048": 2048, "spatial": 17 * 17 * 7, "logits": 1008}
TORCHVISION_LAYERS = {"64": 64, "192": 192, "768": 768, "2048": 2048, "logits": 1000}
INPUT_SIZE = 299
WEIGHTS = WeightsFile(
    name="pt_inception-2015-12-05-6726825d.pth",
    size=95_628_359,
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    urls=(
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "https://github.com/w86763777/pytorch-image-generation-metrics/releases/download/v0.1.0/"
        "pt_inception-2015-12-05-6726825d.pth",
    ),
    n_kernel_values=21_751_136,
    n_classes=1008,
    env_variable="FRECHET_WEIGHTS",
)
TORCHVISION_WEIGHTS = WeightsFile(
    name="inception_v3_google-0cc3c7bd.pth",
    sha256="0cc3c7bd",
    urls=("https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth",),
    n_kernel_values=21_751_136,
    n_classes=1000,
    has_head_bias=True,
)

ConvFunction = Any  # (x, layer, stride, padding, activation) -> x
PoolBranch = Callable[[Ops, Any, Array, str], Array]  # (ops, conv, x, layer) -> x


class PoolBranches(NamedTuple):
    """The pool branch of the mixed blocks (`default`), and the one of the last block (`last`)."""

    default: PoolBranch
    last: PoolBranch


def inception(ops: Ops, images: Array, weights: Mapping[str, Any], layers: Sequence[str]) -> Array:
    """Run the network up to the last of `layers` and average each layer over positions.

    "spatial" consists of the first 7 channels of the 1x1 branch of `Mixed_6d` (TensorFlow's `mixed_6/conv`) at every
    position, in the order height, width, channel. "logits" has no bias, as in Salimans et al. 2016 and ADM.

    Args:
        ops: a backend's operations.
        images: (n, 299, 299, 3), already normalised to about [-1, 1].
        weights: layer name -> (kernel OIHW, bias O), batch norm folded in; "fc" -> ((2048, 1008),) for the logits.
        layers: keys of `LAYERS`.

    Returns:
        (n, d) features: the columns of the requested layers, concatenated in the order of `layers`.
    """
    return _run_inception(ops, images, weights, layers, FID_POOL_BRANCHES)


def inception_torchvision(ops: Ops, images: Array, weights: Mapping[str, Any], layers: Sequence[str]) -> Array:
    """Run torchvision's `inception_v3` up to the last of `layers` and average each layer over positions.

    Args:
        ops: a backend's operations.
        images: (n, 299, 299, 3), already normalised to about [-1, 1].
        weights: layer name -> (kernel OIHW, bias O), batch norm folded in; "fc" -> ((2048, 1000), (1000,)) for the logits,
            which include the bias.
        layers: keys of `TORCHVISION_LAYERS`.

    Returns:
        (n, d) features: the columns of the requested layers, concatenated in the order of `layers`.
    """
    return _run_inception(ops, images, weights, layers, TORCHVISION_POOL_BRANCHES)


def _run_inception(
    ops: Ops, images: Array, weights: Mapping[str, Any], layers: Sequence[str], pool_branches: PoolBranches
) -> Array:
    conv = make_conv(ops, weights)
    features: dict[str, Array] = {}
    for stage, x in iter_stages(ops, conv, ops.from_nhwc(images), pool_branches):
        if stage in layers or stage == "2048":
            features[stage] = ops.global_average_pool(x)
        if stage == "mixed_6" and "spatial" in layers:
            features["spatial"] = ops.flatten(ops.slice_channels(conv(x, "Mixed_6d.branch1x1"), 0, 7))
        if features.keys() >= set(layers):
            break
    if "logits" in layers:
        features["logits"] = compute_logits(ops, features["2048"], weights["fc"])
    return concat_layers(ops, features, layers)


def compute_logits(ops: Ops, features: Array, head: Sequence[Any]) -> Array:
    """Compute class scores (n, k) from features (n, c).

    Args:
        ops: a backend's operations.
        features: (n, c).
        head: the matrix (c, k), and optionally the bias (k,).
    """
    scores = ops.matmul(features, head[0])
    return ops.add(scores, head[1]) if len(head) > 1 else scores


def concat_layers(ops: Ops, features: Mapping[str, Array], layers: Sequence[str]) -> Array:
    """Concatenate the columns of the requested layers in the order of `layers`."""
    return features[layers[0]] if len(layers) == 1 else ops.concat([features[layer] for layer in layers])


def iter_stages(ops: Ops, conv: Any, x: Array, pool_branches: PoolBranches) -> Iterator[tuple[str, Array]]:
    """Yield (name, feature map) of every stage at which features are taken, each computed on demand."""

    def downsample(x: Array) -> Array:
        return ops.max_pool(x, size=3, stride=2)

    def to_64(x: Array) -> Array:
        x = conv(x, "Conv2d_1a_3x3", stride=2)
        x = conv(x, "Conv2d_2a_3x3")
        return downsample(conv(x, "Conv2d_2b_3x3", padding=(1, 1)))

    def to_192(x: Array) -> Array:
        x = conv(x, "Conv2d_3b_1x1")
        return downsample(conv(x, "Conv2d_4a_3x3"))

    x = ops.run_segment(to_64, x)
    yield "64", x
    x = ops.run_segment(to_192, x)
    yield "192", x
    for block in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        x = ops.run_segment(partial(_block_35, ops, conv, pool_branches, block), x)
    x = ops.run_segment(partial(_reduction_17, ops, conv, downsample), x)
    for block in ("Mixed_6b", "Mixed_6c"):
        x = ops.run_segment(partial(_block_17, ops, conv, pool_branches, block), x)
    yield "mixed_6", x
    for block in ("Mixed_6d", "Mixed_6e"):
        x = ops.run_segment(partial(_block_17, ops, conv, pool_branches, block), x)
    yield "768", x
    x = ops.run_segment(partial(_reduction_8, ops, conv, downsample), x)
    x = ops.run_segment(partial(_block_8, ops, conv, "Mixed_7b", pool_branches.default), x)
    x = ops.run_segment(partial(_block_8, ops, conv, "Mixed_7c", pool_branches.last), x)
    yield "2048", x


def make_conv(ops: Ops, weights: Mapping[str, Any]) -> ConvFunction:
    """Return a function that runs the convolution of a named layer, by default followed by a ReLU."""

    def conv(
        x: Array, name: str, stride: int = 1, padding: tuple[int, int] = (0, 0), activation: Activation = "relu"
    ) -> Array:
        kernel, bias = weights[name]
        rows, columns = padding
        pads = ((rows, rows), (columns, columns))
        return ops.conv(x, kernel, bias, stride=stride, padding=pads, activation=activation)

    return conv


def conv_layers() -> Iterator[tuple[str, str, str]]:
    """Yield (layer, key of its kernel, prefix of its batch norm) of every convolution in a state dict."""
    blocks = (f"{block}.branch{branch}" for block, branches in _BRANCHES.items() for branch in branches.split())
    for name in (*_STEM_LAYERS, *blocks):
        yield name, f"{name}.conv.weight", f"{name}.bn"


_STEM_LAYERS = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
_BRANCHES_35 = "1x1 5x5_1 5x5_2 3x3dbl_1 3x3dbl_2 3x3dbl_3 _pool"
_BRANCHES_17 = "1x1 7x7_1 7x7_2 7x7_3 7x7dbl_1 7x7dbl_2 7x7dbl_3 7x7dbl_4 7x7dbl_5 _pool"
_BRANCHES_8 = "1x1 3x3_1 3x3_2a 3x3_2b 3x3dbl_1 3x3dbl_2 3x3dbl_3a 3x3dbl_3b _pool"
_BRANCHES = {
    **dict.fromkeys(("Mixed_5b", "Mixed_5c", "Mixed_5d"), _BRANCHES_35),
    "Mixed_6a": "3x3 3x3dbl_1 3x3dbl_2 3x3dbl_3",
    **dict.fromkeys(("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"), _BRANCHES_17),
    "Mixed_7a": "3x3_1 3x3_2 7x7x3_1 7x7x3_2 7x7x3_3 7x7x3_4",
    **dict.fromkeys(("Mixed_7b", "Mixed_7c"), _BRANCHES_8),
}


def _average_pool_branch(ops: Ops, conv: Any, x: Array, name: str) -> Array:
    """Apply an average pool, a 1x1 convolution and a ReLU.

    The convolution runs first, which is cheaper. The two commute because the pool excludes the padding: the mean of a
    constant bias is the bias.
    """
    return ops.relu(ops.avg_pool(conv(x, name, activation="none"), size=3, stride=1, padding=1))


def _padded_average_pool_branch(ops: Ops, conv: Any, x: Array, name: str) -> Array:
    """Apply an average pool that includes the padding (so the order matters), a 1x1 convolution and a ReLU."""
    return conv(ops.avg_pool(x, size=3, stride=1, padding=1, count_include_pad=True), name)


def _max_pool_branch(ops: Ops, conv: Any, x: Array, name: str) -> Array:
    return conv(ops.max_pool(x, size=3, stride=1, padding=1), name)


FID_POOL_BRANCHES = PoolBranches(_average_pool_branch, _max_pool_branch)
TORCHVISION_POOL_BRANCHES = PoolBranches(_padded_average_pool_branch, _padded_average_pool_branch)


def _block_35(ops: Ops, conv: Any, pool_branches: PoolBranches, block: str, x: Array) -> Array:
    narrow = conv(x, f"{block}.branch1x1")
    wide = conv(x, f"{block}.branch5x5_1")
    wide = conv(wide, f"{block}.branch5x5_2", padding=(2, 2))
    double = conv(x, f"{block}.branch3x3dbl_1")
    double = conv(double, f"{block}.branch3x3dbl_2", padding=(1, 1))
    double = conv(double, f"{block}.branch3x3dbl_3", padding=(1, 1))
    pooled = pool_branches.default(ops, conv, x, f"{block}.branch_pool")
    return ops.concat([narrow, wide, double, pooled])


def _reduction_17(ops: Ops, conv: Any, downsample: Any, x: Array) -> Array:
    block = "Mixed_6a"
    single = conv(x, f"{block}.branch3x3", stride=2)
    double = conv(x, f"{block}.branch3x3dbl_1")
    double = conv(double, f"{block}.branch3x3dbl_2", padding=(1, 1))
    double = conv(double, f"{block}.branch3x3dbl_3", stride=2)
    return ops.concat([single, double, downsample(x)])


def _block_17(ops: Ops, conv: Any, pool_branches: PoolBranches, block: str, x: Array) -> Array:
    narrow = conv(x, f"{block}.branch1x1")
    single = conv(x, f"{block}.branch7x7_1")
    single = conv(single, f"{block}.branch7x7_2", padding=(0, 3))
    single = conv(single, f"{block}.branch7x7_3", padding=(3, 0))
    double = conv(x, f"{block}.branch7x7dbl_1")
    double = conv(double, f"{block}.branch7x7dbl_2", padding=(3, 0))
    double = conv(double, f"{block}.branch7x7dbl_3", padding=(0, 3))
    double = conv(double, f"{block}.branch7x7dbl_4", padding=(3, 0))
    double = conv(double, f"{block}.branch7x7dbl_5", padding=(0, 3))
    pooled = pool_branches.default(ops, conv, x, f"{block}.branch_pool")
    return ops.concat([narrow, single, double, pooled])


def _reduction_8(ops: Ops, conv: Any, downsample: Any, x: Array) -> Array:
    block = "Mixed_7a"
    single = conv(x, f"{block}.branch3x3_1")
    single = conv(single, f"{block}.branch3x3_2", stride=2)
    crossed = conv(x, f"{block}.branch7x7x3_1")
    crossed = conv(crossed, f"{block}.branch7x7x3_2", padding=(0, 3))
    crossed = conv(crossed, f"{block}.branch7x7x3_3", padding=(3, 0))
    crossed = conv(crossed, f"{block}.branch7x7x3_4", stride=2)
    return ops.concat([single, crossed, downsample(x)])


def _block_8(ops: Ops, conv: Any, block: str, pooled: Any, x: Array) -> Array:
    narrow = conv(x, f"{block}.branch1x1")
    fork = conv(x, f"{block}.branch3x3_1")
    fork = _split_3x3(ops, conv, fork, f"{block}.branch3x3_2")
    double = conv(x, f"{block}.branch3x3dbl_1")
    double = conv(double, f"{block}.branch3x3dbl_2", padding=(1, 1))
    double = _split_3x3(ops, conv, double, f"{block}.branch3x3dbl_3")
    return ops.concat([narrow, fork, double, pooled(ops, conv, x, f"{block}.branch_pool")])


def _split_3x3(ops: Ops, conv: Any, x: Array, name: str) -> Array:
    return ops.concat([conv(x, f"{name}a", padding=(0, 1)), conv(x, f"{name}b", padding=(1, 0))])
