"""The operations a network may use. A backend supplies them; a network names no axis and no memory layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from frechet.preprocessing.registry import Scalars

Array = Any  # a backend's own tensor: a graph node for OpenVINO, an array for torch and JAX
Padding = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right)) in pixels
Activation = Literal["none", "relu", "relu6"]
NO_PADDING: Padding = ((0, 0), (0, 0))


class Ops(Protocol):
    """What every backend can do. Kernels are OIHW, biases O; everything between `enter` and the exits is opaque."""

    def from_nhwc(self, images: Array) -> Array:
        """(n, h, w, c) images into the backend's own layout."""

    def conv(
        self,
        x: Array,
        kernel: Array,
        bias: Array,
        *,
        stride: int = 1,
        padding: Padding = NO_PADDING,
        groups: int = 1,
        activation: Activation = "none",
    ) -> Array:
        """Cross-correlation plus bias, then the activation."""

    def run_segment(self, function: Callable[[Array], Array], x: Array) -> Array:
        """part(x); a differentiating backend may forget what is inside and compute it again when gradients come."""

    def max_pool(self, x: Array, *, size: int, stride: int, padding: int = 0) -> Array:
        """Maximum over square windows; the padding never wins."""

    def avg_pool(self, x: Array, *, size: int, stride: int, padding: int = 0, count_include_pad: bool = False) -> Array:
        """Mean over square windows; the padding is zeros that are `counted`, or not."""

    def add(self, x: Array, y: Array) -> Array:
        """x + y."""

    def relu(self, x: Array) -> Array:
        """max(x, 0)."""

    def concat(self, tensors: Sequence[Array]) -> Array:
        """Join along channels."""

    def scale_shift(self, images: Array, scale: Scalars, shift: Scalars) -> Array:
        """images * scale + shift, before they enter: (n, h, w, c), by one number or one for each channel."""

    def slice_channels(self, x: Array, start: int, stop: int) -> Array:
        """Channels start to stop - 1."""

    def global_average_pool(self, x: Array) -> Array:
        """Mean over positions: (n, c), an exit."""

    def flatten(self, x: Array) -> Array:
        """Every position's channels, in the order height, width, channel: (n, h * w * c), an exit."""

    def matmul(self, x: Array, matrix: Array) -> Array:
        """(n, c) features times a (c, k) matrix."""
