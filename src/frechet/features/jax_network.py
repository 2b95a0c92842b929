"""An extractor as a pure JAX function of its weights and of images of any size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from frechet._internal.masked_arrays import is_masked
from frechet.backends.jax import HALF_DTYPES, JaxOps, Params, to_jax_params
from frechet.errors import RequestError
from frechet.features.loading import load_network
from frechet.features.spec import FeatureSpec
from frechet.preprocessing.registry import Preprocessing
from frechet.preprocessing.value_range import is_out_of_range, make_range_error, validate_value_range

NETWORK_OPTIONS = ("dims", "preprocessing", "weights", "precision", "value_range", "gradient_checkpointing")


@dataclass(frozen=True, kw_only=True)
class Network:
    """A pure function (params, images) -> features that supports `jit`, `grad`, `vmap` and sharded arrays.

    It is hashable and contains no arrays, so it may be a static argument; the weights are the pytree `params`.

    Attributes:
        run: (ops, resized images in 0..255, params) -> features.
        preprocessing: how images become the network's input.
        input_size: height and width of that input in pixels.
        dims: number of features d.
        spec: what identifies the features.
        value_range: the values of black and white in floating-point images.
        gradient_checkpointing: whether to recompute activations in the backward pass, which takes about a third more time
            and a fraction of the memory.
    """

    run: Callable[[Any, Any, Any], Any] = field(repr=False, compare=False)  # equal specs have equal functions
    preprocessing: Preprocessing = field(repr=False)
    input_size: int
    dims: int
    spec: FeatureSpec
    value_range: tuple[float, float] = (0.0, 1.0)
    gradient_checkpointing: bool = False

    def __call__(self, params: Params, images: Any) -> jax.Array:
        """Compute features of images.

        Args:
            params: the weights that `load_jax_network` returned.
            images: (n, h, w, 3), uint8, or floating point in `value_range`, of any height and width; each new pair of
                height and width triggers a compilation.

        Returns:
            (n, d) float32, or float64 for float64 images. In traced code, which cannot raise, images outside
            `value_range` have NaN features.

        Raises:
            RequestError: images have another shape or dtype, or, outside of `jit`, values outside `value_range`.
        """
        validate_images(images)
        if images.dtype == jnp.uint8:
            return _apply_network(self, params, images.astype(jnp.float32))
        out_of_range = _find_out_of_range(images, *self.value_range)
        return jnp.where(out_of_range[:, None], jnp.nan, self.unchecked(params, images))

    def unchecked(self, params: Params, images: jax.Array) -> jax.Array:
        """Compute features of floating-point images whose values may leave `value_range`, such as those of a training loop.

        Args:
            params: the weights that `load_jax_network` returned.
            images: (n, h, w, 3), floating point.

        Returns:
            (n, d) float32, or float64 for float64 images.
        """
        low, high = self.value_range
        dtype = jnp.promote_types(images.dtype, jnp.float32)
        return _apply_network(self, params, (images.astype(dtype) - low) * (255 / (high - low)))

    def _resize(self, x: jax.Array) -> jax.Array:
        """Resize images to the input size with two matrix products.

        Where the preprocessing rounds to 8 bits after each axis, so does this; the gradient is that without rounding.
        """
        is_rounded, resized = self.preprocessing.is_rounded, x
        for axis, product in ((2, "jw,nhwc->nhjc"), (1, "ih,nhwc->niwc"))[:: 1 if is_rounded else -1]:
            if x.shape[axis] != self.input_size:
                resize_matrix = jnp.asarray(self.preprocessing.resize_matrix(x.shape[axis], self.input_size), x.dtype)
                resized = jnp.einsum(product, resize_matrix, resized, precision=lax.Precision.HIGHEST)
                if is_rounded:
                    resized = _round_straight_through(_clip_overshoot(resized, x))
        return _clip_overshoot(resized, x) if self.preprocessing.is_clipped else resized


@partial(jax.jit, static_argnums=0)
def _apply_network(network: Network, params: Params, x: jax.Array) -> jax.Array:
    """Compute features of images in 0..255, compiled as one program even if the caller is not."""
    ops = JaxOps(
        half_dtype=HALF_DTYPES[str(network.spec.precision)], gradient_checkpointing=network.gradient_checkpointing
    )
    return network.run(ops, network._resize(x), params).astype(x.dtype)


def load_jax_network(
    name: str = "inception",
    *,
    value_range: tuple[float, float] = (0.0, 1.0),
    gradient_checkpointing: bool = False,
    weights: str | Path | None = None,
    **options: Any,
) -> tuple[Network, Params]:
    """Load a network and its weights.

    Args:
        name: name in the table of extractors.
        value_range: the values of black and white in floating-point images.
        gradient_checkpointing: whether to recompute activations in the backward pass.
        weights: path of a weights file that replaces the published one.
        **options: further keyword arguments of `frechet.features.loading.load_network`.

    Returns:
        The network, and its weights as a pytree of float32 arrays.

    Raises:
        RequestError: an unknown name or an unsupported combination.
        WeightsError: the weights are missing or damaged.
    """
    validated_range = validate_value_range(value_range)  # before a possible download
    loaded = load_network(name, weights=Path(weights) if weights is not None else None, **options)
    network = Network(
        run=loaded.network,
        preprocessing=loaded.preprocessing,
        input_size=loaded.input_size,
        dims=loaded.dims,
        spec=loaded.spec,
        value_range=validated_range,
        gradient_checkpointing=gradient_checkpointing,
    )
    return network, to_jax_params(loaded.weights)


def validate_images(images: Any) -> None:
    """Raise an error unless the array is a batch of images (n, h, w, 3), uint8 or floating point.

    Raises:
        RequestError: another shape or dtype; the message contains the fix.
    """
    if images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape[1:3]:
        hint = ""
        if images.ndim == 4 and images.shape[1] == 3:
            hint = ": move the channels last, images.transpose(0, 2, 3, 1)"
        elif images.ndim == 4 and images.shape[-1] == 1:
            hint = ": repeat the grey channel, images.repeat(3, axis=-1)"
        raise RequestError(f"images have shape {images.shape}; expected (n, h, w, 3){hint}")
    if is_masked(images):
        raise RequestError("images have masked pixels; expected none. Pass x.filled(value), or leave out the images.")
    if images.dtype != jnp.uint8 and not jnp.issubdtype(images.dtype, jnp.floating):
        raise RequestError(
            f"images have dtype {images.dtype}; expected uint8 in 0..255, or floating point in value_range"
        )


def is_traced(array: Any) -> bool:
    """Return whether an array is traced by `jit` or `grad`, so that its values are unknown."""
    return isinstance(array, jax.core.Tracer)


def _clip_overshoot(resized: jax.Array, original: jax.Array) -> jax.Array:
    """Clip resized images (n, h, w, c) to 0..255, or to the values of the original image where these exceed it.

    Clipping removes what bicubic interpolation adds; pixels that were out of range before keep their gradient.
    """
    lowest = jnp.minimum(original.min(axis=(1, 2, 3), keepdims=True), 0)
    highest = jnp.maximum(original.max(axis=(1, 2, 3), keepdims=True), 255)
    return jnp.where(resized < lowest, lowest, jnp.where(resized > highest, highest, resized))


def _round_straight_through(x: jax.Array) -> jax.Array:
    """Round to whole numbers, half upwards as Pillow does, with the gradient of the identity (Bengio et al. 2013, arXiv:1308.3432)."""
    fixed = lax.stop_gradient(x)
    return jnp.floor(fixed + 0.5) + (x - fixed)


def _find_out_of_range(images: Any, low: float, high: float) -> jax.Array:
    """Return for each image (n,) whether it exceeds the range of values by more than 1 % of the range.

    Raises:
        RequestError: some images do, and the array is not traced.
    """
    lowest, highest = images.min(axis=(1, 2, 3)), images.max(axis=(1, 2, 3))
    out_of_range: jax.Array = is_out_of_range(lowest, highest, (low, high))
    if not is_traced(out_of_range) and bool(out_of_range.any()):
        raise make_range_error(float(lowest.min()), float(highest.max()), (low, high))
    return out_of_range
