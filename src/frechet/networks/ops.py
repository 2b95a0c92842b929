"""The operations a network may use. A backend implements them; a network does not depend on axes or memory layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from frechet.preprocessing.registry import Scalars

Array = Any  # a backend's own tensor: a graph node for OpenVINO, an array for torch and JAX
Padding = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right)) in pixels
Activation = Literal["none", "relu", "relu6"]
NO_PADDING: Padding = ((0, 0), (0, 0))


class Ops(Protocol):
    """The operations that every backend implements.

    Kernels have the layout OIHW and biases O. Feature maps, from the result of `from_nhwc` to the argument of
    `global_average_pool` or `flatten`, have a layout that only the backend knows.
    """

    def from_nhwc(self, images: Array) -> Array:
        """Convert images (n, h, w, c) to the backend's own layout."""

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
        """Compute the cross-correlation, add the bias and apply the activation."""

    def run_segment(self, function: Callable[[Array], Array], x: Array) -> Array:
        """Return function(x); with gradient checkpointing, its activations are recomputed in the backward pass."""

    def max_pool(self, x: Array, *, size: int, stride: int, padding: int = 0) -> Array:
        """Compute maxima over square windows, excluding the padding."""

    def avg_pool(self, x: Array, *, size: int, stride: int, padding: int = 0, count_include_pad: bool = False) -> Array:
        """Compute means over square windows; the padding counts as zeros if `count_include_pad` is true."""

    def add(self, x: Array, y: Array) -> Array:
        """Return x + y."""

    def relu(self, x: Array) -> Array:
        """Return max(x, 0)."""

    def concat(self, tensors: Sequence[Array]) -> Array:
        """Concatenate along channels."""

    def scale_shift(self, images: Array, scale: Scalars, shift: Scalars) -> Array:
        """Return images (n, h, w, c) * scale + shift, where both are a number or one number per channel."""

    def slice_channels(self, x: Array, start: int, stop: int) -> Array:
        """Return channels start to stop - 1."""

    def global_average_pool(self, x: Array) -> Array:
        """Compute the mean over positions, (n, c)."""

    def flatten(self, x: Array) -> Array:
        """Flatten to (n, h * w * c), in the order height, width, channel."""

    def matmul(self, x: Array, matrix: Array) -> Array:
        """Multiply features (n, c) by a matrix (c, k)."""
