"""A network of the table as a pure JAX function of its weights and of images of any one size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from frechet.backends.jax import HALF_DTYPES, JaxOps, Params, to_jax_params
from frechet.errors import RequestError
from frechet.features.registry import load_network
from frechet.features.spec import FeatureSpec
from frechet.preprocessing.registry import Preprocessing, validate_value_range


@dataclass(frozen=True, kw_only=True)
class Network:
    """(params, images) -> features: pure, under `jit`, `grad`, `vmap` and on sharded arrays.

    It is hashable and holds no array, so it may be a static argument; its weights are the pytree that it is given.

    Attributes:
        convention: how images become the network's input.
        pixels: height and width of that input.
        dims: d.
        recipe: what its features must share with others.
        value_range: the values that stand for black and white in floating-point images.
        checkpoint: gradient checkpointing: about a third more time, a fraction of the memory.
    """

    run: Callable[[Any, Any, Any], Any] = field(repr=False, compare=False)  # equal recipes run alike
    preprocessing: Preprocessing = field(repr=False)
    input_size: int
    dims: int
    spec: FeatureSpec
    value_range: tuple[float, float] = (0.0, 1.0)
    gradient_checkpointing: bool = False

    def __call__(self, params: Params, images: Any) -> jax.Array:
        """Features of images.

        Args:
            params: as `load_jax_network` gave them.
            images: (n, h, w, 3), uint8, or floating point in `value_range`. Any height and width; each pair of them is
                compiled for anew.

        Returns:
            (n, d) float32 (float64 for float64 images). Images outside `value_range` have NaN features where they are
            traced, since nothing can be raised there.

        Raises:
            RequestError: images of another shape or dtype, or, outside of `jit`, of another range.
        """
        validate_images(images)
        low, high = self.value_range
        if images.dtype == jnp.uint8:
            work: Any = jnp.float32
            x, out_of_range = images.astype(work), None
        else:
            work = jnp.promote_types(images.dtype, jnp.float32)
            out_of_range = _find_out_of_range(images, low, high)
            x = (images.astype(work) - low) * (255 / (high - low))
        features = _apply_network(self, params, x)
        return features if out_of_range is None else jnp.where(out_of_range[:, None], jnp.nan, features)

    def _resize(self, x: jax.Array) -> jax.Array:
        """By the convention's resize, as two matrix products."""
        for axis, product in ((1, "ih,nhwc->niwc"), (2, "jw,nhwc->nhjc")):
            if x.shape[axis] != self.input_size:
                resize_matrix = jnp.asarray(self.preprocessing.resize_matrix(x.shape[axis], self.input_size), x.dtype)
                x = jnp.einsum(product, resize_matrix, x, precision=lax.Precision.HIGHEST)
        return jnp.clip(x, 0.0, 255.0) if self.preprocessing.is_clipped else x


@partial(jax.jit, static_argnums=0)
def _apply_network(network: Network, params: Params, x: jax.Array) -> jax.Array:
    """Features of images in 0..255; compiled as one also where the caller is not."""
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
    """A network of the table and its weights. Other arguments and errors as in `extractors.load_network`."""
    validated_range = validate_value_range(value_range)  # first: what is mistyped should not cost a download
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
    """Refuse what cannot be a batch of images.

    Raises:
        RequestError: another shape, or neither uint8 nor floating point; says how to mend it.
    """
    if images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape[1:3]:
        hint = ""
        if images.ndim == 4 and images.shape[1] == 3:
            hint = ": move the channels last, images.transpose(0, 2, 3, 1)"
        elif images.ndim == 4 and images.shape[-1] == 1:
            hint = ": repeat the grey channel, images.repeat(3, axis=-1)"
        raise RequestError(f"images have shape {images.shape}; expected (n, h, w, 3){hint}")
    if images.dtype != jnp.uint8 and not jnp.issubdtype(images.dtype, jnp.floating):
        raise RequestError(f"images are {images.dtype}; expected uint8 in 0..255, or floating point in value_range")


def is_traced(array: Any) -> bool:
    """Whether the values of an array cannot be looked at, inside of `jit` or `grad`."""
    return isinstance(array, jax.core.Tracer)


def _find_out_of_range(images: Any, low: float, high: float) -> jax.Array:
    """(n,) which images leave the range of values by more than a hundredth of it.

    Raises:
        RequestError: some do, and can be looked at.
    """
    slack = 0.01 * (high - low)
    least, most = images.min(axis=(1, 2, 3)), images.max(axis=(1, 2, 3))
    out_of_range = (least < low - slack) | (most > high + slack)
    if not is_traced(out_of_range) and bool(out_of_range.any()):
        raise RequestError(
            f"images range from {float(least.min()):.4g} to {float(most.max()):.4g}; expected {low:g} to {high:g}. Clamp "
            "them, or say value_range=(black, white), for instance (-1, 1)"
        )
    return out_of_range
