"""The ops as JAX calls, for every device and transformation of JAX, with x64 enabled or disabled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from frechet._internal.words import join_words
from frechet.errors import RequestError
from frechet.networks.ops import NO_PADDING, Activation, Array, Padding
from frechet.preprocessing.registry import Scalars

HALF_DTYPES = {"float32": None, "bfloat16": jnp.bfloat16, "float16": jnp.float16}  # by precision
Params = dict[str, tuple[jax.Array, ...]]  # layer -> (kernel OIHW, bias O); a head -> (matrix,)

_LAYOUT = ("NHWC", "OIHW", "NHWC")


class JaxOps:
    """The operations of a network in JAX. Feature maps are NHWC; weights are cast to the dtype of the features.

    Args:
        half_dtype: bfloat16 or float16, the dtype in which the network computes; None keeps the dtype of the images.
        precision: precision of products of float32 arrays. JAX's default is bfloat16 on a TPU and TF32 on a GPU, which
            change the third digit of a Fréchet distance.
        gradient_checkpointing: whether to recompute the activations of each segment in the backward pass, which saves
            memory.
    """

    def __init__(
        self,
        *,
        half_dtype: Any = None,
        precision: lax.PrecisionLike = lax.Precision.HIGHEST,
        gradient_checkpointing: bool = False,
    ) -> None:
        self.half_dtype = half_dtype
        self.precision = precision
        self.gradient_checkpointing = gradient_checkpointing

    def from_nhwc(self, images: Array) -> Array:
        return images if self.half_dtype is None else images.astype(self.half_dtype)

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
        x = lax.conv_general_dilated(
            x,
            kernel.astype(x.dtype),
            (stride, stride),
            padding,
            dimension_numbers=_LAYOUT,
            feature_group_count=groups,
            precision=self.precision,
        ) + bias.astype(x.dtype)
        if activation == "relu":
            return self.relu(x)
        return jnp.minimum(self.relu(x), 6) if activation == "relu6" else x

    def run_segment(self, function: Callable[[Array], Array], x: Array) -> Array:
        return jax.checkpoint(function)(x) if self.gradient_checkpointing else function(x)

    def max_pool(self, x: Array, *, size: int, stride: int, padding: int = 0) -> Array:
        return lax.reduce_window(x, -jnp.inf, lax.max, *_window_arguments(size, stride, padding))

    def avg_pool(self, x: Array, *, size: int, stride: int, padding: int = 0, count_include_pad: bool = False) -> Array:
        wide = jnp.promote_types(x.dtype, jnp.float32)  # a sum of nine values loses digits in half precision
        sums = lax.reduce_window(x.astype(wide), 0.0, lax.add, *_window_arguments(size, stride, padding))
        if count_include_pad:
            return (sums / size**2).astype(x.dtype)
        rows, columns = (_count_valid_pixels(length, size, stride, padding) for length in x.shape[1:3])
        return (sums / jnp.asarray(np.outer(rows, columns)[:, :, None], wide)).astype(x.dtype)

    def add(self, x: Array, y: Array) -> Array:
        return x + y

    def relu(self, x: Array) -> Array:
        return jax.nn.relu(x)

    def concat(self, tensors: Sequence[Array]) -> Array:
        return jnp.concatenate(tensors, axis=-1)

    def scale_shift(self, images: Array, scale: Scalars, shift: Scalars) -> Array:
        return images * jnp.asarray(scale, images.dtype) + jnp.asarray(shift, images.dtype)

    def slice_channels(self, x: Array, start: int, stop: int) -> Array:
        return x[..., start:stop]

    def global_average_pool(self, x: Array) -> Array:
        return x.mean(axis=(1, 2), dtype=jnp.promote_types(x.dtype, jnp.float32))

    def flatten(self, x: Array) -> Array:
        return x.reshape(x.shape[0], -1)

    def matmul(self, x: Array, matrix: Array) -> Array:
        return jnp.matmul(x, matrix.astype(x.dtype), precision=self.precision)


def to_jax_params(weights: Mapping[str, Sequence[np.ndarray]]) -> Params:
    """Convert weights to a pytree of float32 arrays."""
    return {name: tuple(jnp.asarray(array, jnp.float32) for array in arrays) for name, arrays in weights.items()}


def make_shardings(devices: Sequence[jax.Device]) -> tuple[NamedSharding, NamedSharding]:
    """Return two shardings: the first axis split across the devices, and the array replicated on each of them."""
    mesh = Mesh(np.asarray(devices), ("images",))
    return NamedSharding(mesh, PartitionSpec("images")), NamedSharding(mesh, PartitionSpec())


def round_up_to_multiple(n: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that is at least n."""
    return -(-n // multiple) * multiple


def copy_host_array(array: Any) -> Any:
    """Return a copy of a NumPy array, whose memory a device may use until long after a call has returned."""
    return array.copy() if isinstance(array, np.ndarray) else array


def pad_batch(batch: Any, rows: int) -> Any:
    """Append zeros to a batch until it has `rows` rows; an array on devices stays there."""
    missing = rows - batch.shape[0]
    if not missing:
        return batch
    xp = jnp if isinstance(batch, jax.Array) else np
    return xp.concatenate([batch, xp.zeros((missing, *batch.shape[1:]), batch.dtype)])


def choose_devices(name: str) -> list[jax.Device]:
    """Return the devices with a name.

    Args:
        name: a platform ("cpu", "cuda", "tpu") for its first device, a platform with an index ("cuda:1"), or "auto" for
            all devices of JAX's default platform that are local to this process.

    Raises:
        RequestError: this machine has no such device; the message lists the available ones.
    """
    if name == "auto":
        return jax.local_devices()
    kind, _, number = name.partition(":")
    try:
        devices = jax.local_devices(backend=kind)
        return devices[:1] if not number else [devices[int(number)]]
    except (RuntimeError, ValueError, IndexError):
        available = join_words(["auto", *sorted({device.platform for device in jax.local_devices()})], "or")
        raise RequestError(
            f"device {name!r} is not available to JAX {jax.__version__}; expected {available}. "
            "Use device auto, or install JAX for the device (pip install 'jax[cuda]')."
        ) from None


def _window_arguments(size: int, stride: int, padding: int) -> tuple[Any, Any, Any]:
    """Return window sizes, strides and padding of square windows over the middle two axes."""
    pads = (padding, padding)
    return (1, size, size, 1), (1, stride, stride, 1), ((0, 0), pads, pads, (0, 0))


def _count_valid_pixels(length: int, size: int, stride: int, padding: int) -> np.ndarray:
    """Return the number of pixels of each window that are inside the image, along one axis."""
    first = np.arange(-padding, length + padding - size + 1, stride)
    return np.minimum(first + size, length) - np.maximum(first, 0)
