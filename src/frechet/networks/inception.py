"""Inception-2015: the network that FID is defined on, once, over any backend's ops; and torchvision's Inception v3.

The graph is TensorFlow's `inception-2015-12-05` (Heusel et al. 2017, Salimans et al. 2016) in the layer names of the
PyTorch conversion. Torchvision's differs in the pool branches: its average pools count the padding, and that of
`Mixed_7c` averages where FID's takes maxima. Its weights are others, so its distances are not FID.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from frechet.networks.ops import Activation, Array, Ops

# tap -> features (d): pytorch-fid's four, ADM's spatial tap for sFID, and the class scores behind the Inception Score
TAPS = {"64": 64, "192": 192, "768": 768, "2048": 2048, "spatial": 17 * 17 * 7, "logits": 1008}
TORCHVISION_TAPS = {"64": 64, "192": 192, "768": 768, "2048": 2048, "logits": 1000}
PIXELS = 299

Conv = Any  # (x, layer, stride, padding, activation) -> x
PoolBranch = Callable[[Ops, Any, Array, str], Array]  # (ops, conv, x, layer) -> x


class Pools(NamedTuple):
    """What the pool branches of the mixed blocks do: of all of them, and of the last block."""

    all: PoolBranch
    last: PoolBranch


def inception(ops: Ops, images: Array, weights: Mapping[str, Any], taps: Sequence[str]) -> Array:
    """Run the network up to the last of `taps` and average each over positions.

    "spatial" is the 1x1 branch of `Mixed_6d` (TensorFlow's `mixed_6/conv`), its first 7 channels at every position, in the
    order height, width, channel; "logits" is without bias, as Salimans et al. 2016 and ADM have it.

    Args:
        ops: a backend's operations.
        images: (n, 299, 299, 3), already normalised to about [-1, 1].
        weights: layer name -> (kernel OIHW, bias O), batch norm folded in; "fc" -> ((2048, 1008),) for the logits.
        taps: keys of `TAPS`.

    Returns:
        (n, d) features, the columns of each tap after those of the one before.
    """
    return _tapped(ops, images, weights, taps, FID)


def inception_torchvision(ops: Ops, images: Array, weights: Mapping[str, Any], taps: Sequence[str]) -> Array:
    """The same of torchvision's `inception_v3`; its "logits" have a bias, as everybody who used them had it."""
    return _tapped(ops, images, weights, taps, TORCHVISION)


def _tapped(ops: Ops, images: Array, weights: Mapping[str, Any], taps: Sequence[str], pools: Pools) -> Array:
    conv = convolution(ops, weights)
    found: dict[str, Array] = {}
    for stage, x in stages(ops, conv, ops.enter(images), pools):
        if stage in taps or stage == "2048":
            found[stage] = ops.global_mean(x)
        if stage == "mixed_6" and "spatial" in taps:
            found["spatial"] = ops.positions(ops.channels(conv(x, "Mixed_6d.branch1x1"), 0, 7))
        if found.keys() >= set(taps):
            break
    if "logits" in taps:
        found["logits"] = class_scores(ops, found["2048"], weights["fc"])
    return side_by_side(ops, found, taps)


def class_scores(ops: Ops, features: Array, head: Sequence[Any]) -> Array:
    """(n, classes) by a head of a matrix, or of a matrix and a bias."""
    scores = ops.matmul(features, head[0])
    return ops.add(scores, head[1]) if len(head) > 1 else scores


def side_by_side(ops: Ops, found: Mapping[str, Array], taps: Sequence[str]) -> Array:
    """The columns of each tap after those of the one before."""
    return found[taps[0]] if len(taps) == 1 else ops.concat([found[tap] for tap in taps])


def stages(ops: Ops, conv: Any, x: Array, pools: Pools) -> Iterator[tuple[str, Array]]:
    """(name, feature map) of every place where features are taken, each computed when it is asked for."""

    def shrink(x: Array) -> Array:
        return ops.max_pool(x, size=3, stride=2)

    def to_64(x: Array) -> Array:
        x = conv(x, "Conv2d_1a_3x3", stride=2)
        x = conv(x, "Conv2d_2a_3x3")
        return shrink(conv(x, "Conv2d_2b_3x3", padding=(1, 1)))

    def to_192(x: Array) -> Array:
        x = conv(x, "Conv2d_3b_1x1")
        return shrink(conv(x, "Conv2d_4a_3x3"))

    x = ops.segment(to_64, x)
    yield "64", x
    x = ops.segment(to_192, x)
    yield "192", x
    for block in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        x = ops.segment(partial(_block_35, ops, conv, pools, block), x)
    x = ops.segment(partial(_reduction_17, ops, conv, shrink), x)
    for block in ("Mixed_6b", "Mixed_6c"):
        x = ops.segment(partial(_block_17, ops, conv, pools, block), x)
    yield "mixed_6", x
    for block in ("Mixed_6d", "Mixed_6e"):
        x = ops.segment(partial(_block_17, ops, conv, pools, block), x)
    yield "768", x
    x = ops.segment(partial(_reduction_8, ops, conv, shrink), x)
    x = ops.segment(partial(_block_8, ops, conv, "Mixed_7b", pools.all), x)
    x = ops.segment(partial(_block_8, ops, conv, "Mixed_7c", pools.last), x)
    yield "2048", x


def convolution(ops: Ops, weights: Mapping[str, Any]) -> Conv:
    """A function that runs a named layer, by default with its ReLU."""

    def conv(
        x: Array, name: str, stride: int = 1, padding: tuple[int, int] = (0, 0), activation: Activation = "relu"
    ) -> Array:
        kernel, bias = weights[name]
        rows, columns = padding
        sides = ((rows, rows), (columns, columns))
        return ops.conv(x, kernel, bias, stride=stride, padding=sides, activation=activation)

    return conv


def layers() -> Iterator[tuple[str, str, str]]:
    """(layer, key of its kernel, prefix of its batch norm) of every convolution in a state dict."""
    blocks = (f"{block}.branch{branch}" for block, branches in _BRANCHES.items() for branch in branches.split())
    for name in (*_STEM, *blocks):
        yield name, f"{name}.conv.weight", f"{name}.bn"


_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
_AT_35 = "1x1 5x5_1 5x5_2 3x3dbl_1 3x3dbl_2 3x3dbl_3 _pool"
_AT_17 = "1x1 7x7_1 7x7_2 7x7_3 7x7dbl_1 7x7dbl_2 7x7dbl_3 7x7dbl_4 7x7dbl_5 _pool"
_AT_8 = "1x1 3x3_1 3x3_2a 3x3_2b 3x3dbl_1 3x3dbl_2 3x3dbl_3a 3x3dbl_3b _pool"
_BRANCHES = {
    **dict.fromkeys(("Mixed_5b", "Mixed_5c", "Mixed_5d"), _AT_35),
    "Mixed_6a": "3x3 3x3dbl_1 3x3dbl_2 3x3dbl_3",
    **dict.fromkeys(("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"), _AT_17),
    "Mixed_7a": "3x3_1 3x3_2 7x7x3_1 7x7x3_2 7x7x3_3 7x7x3_4",
    **dict.fromkeys(("Mixed_7b", "Mixed_7c"), _AT_8),
}


def _averaged(ops: Ops, conv: Any, x: Array, name: str) -> Array:
    """Average, then 1x1 convolution and ReLU; in the order that is cheaper, since means and 1x1 convolutions commute.

    They do so because the padding is not counted: the mean of a constant bias is the bias.
    """
    return ops.relu(ops.average_pool(conv(x, name, activation="none"), size=3, stride=1, padding=1))


def _averaged_with_padding(ops: Ops, conv: Any, x: Array, name: str) -> Array:
    """Torchvision's: zeros beyond the edge count, so the order matters."""
    return conv(ops.average_pool(x, size=3, stride=1, padding=1, counted=True), name)


def _maxima(ops: Ops, conv: Any, x: Array, name: str) -> Array:
    return conv(ops.max_pool(x, size=3, stride=1, padding=1), name)


FID = Pools(_averaged, _maxima)
TORCHVISION = Pools(_averaged_with_padding, _averaged_with_padding)


def _block_35(ops: Ops, conv: Any, pools: Pools, block: str, x: Array) -> Array:
    narrow = conv(x, f"{block}.branch1x1")
    wide = conv(x, f"{block}.branch5x5_1")
    wide = conv(wide, f"{block}.branch5x5_2", padding=(2, 2))
    double = conv(x, f"{block}.branch3x3dbl_1")
    double = conv(double, f"{block}.branch3x3dbl_2", padding=(1, 1))
    double = conv(double, f"{block}.branch3x3dbl_3", padding=(1, 1))
    pooled = pools.all(ops, conv, x, f"{block}.branch_pool")
    return ops.concat([narrow, wide, double, pooled])


def _reduction_17(ops: Ops, conv: Any, shrink: Any, x: Array) -> Array:
    block = "Mixed_6a"
    single = conv(x, f"{block}.branch3x3", stride=2)
    double = conv(x, f"{block}.branch3x3dbl_1")
    double = conv(double, f"{block}.branch3x3dbl_2", padding=(1, 1))
    double = conv(double, f"{block}.branch3x3dbl_3", stride=2)
    return ops.concat([single, double, shrink(x)])


def _block_17(ops: Ops, conv: Any, pools: Pools, block: str, x: Array) -> Array:
    narrow = conv(x, f"{block}.branch1x1")
    single = conv(x, f"{block}.branch7x7_1")
    single = conv(single, f"{block}.branch7x7_2", padding=(0, 3))
    single = conv(single, f"{block}.branch7x7_3", padding=(3, 0))
    double = conv(x, f"{block}.branch7x7dbl_1")
    double = conv(double, f"{block}.branch7x7dbl_2", padding=(3, 0))
    double = conv(double, f"{block}.branch7x7dbl_3", padding=(0, 3))
    double = conv(double, f"{block}.branch7x7dbl_4", padding=(3, 0))
    double = conv(double, f"{block}.branch7x7dbl_5", padding=(0, 3))
    pooled = pools.all(ops, conv, x, f"{block}.branch_pool")
    return ops.concat([narrow, single, double, pooled])


def _reduction_8(ops: Ops, conv: Any, shrink: Any, x: Array) -> Array:
    block = "Mixed_7a"
    single = conv(x, f"{block}.branch3x3_1")
    single = conv(single, f"{block}.branch3x3_2", stride=2)
    crossed = conv(x, f"{block}.branch7x7x3_1")
    crossed = conv(crossed, f"{block}.branch7x7x3_2", padding=(0, 3))
    crossed = conv(crossed, f"{block}.branch7x7x3_3", padding=(3, 0))
    crossed = conv(crossed, f"{block}.branch7x7x3_4", stride=2)
    return ops.concat([single, crossed, shrink(x)])


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
