"""Run networks on JAX devices, which also resize the images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from frechet.backends.jax import (
    HALF_DTYPES,
    JaxOps,
    Params,
    make_shardings,
    pad_batch,
    round_up_to_multiple,
    to_jax_params,
)
from frechet.preprocessing.matrix_resize import (
    NUM_CACHED_LENGTHS,
    Pixels,
    ResizeMatrices,
    make_axis_matrices,
    resize_by_size,
    resize_with_matrices,
)
from frechet.preprocessing.registry import Preprocessing


class DeviceImages:
    """Copies batches to devices, each of which gets a part of every batch, and resizes there what the host has not.

    Args:
        devices: devices of one kind.
        preprocessing: how images become the input of the network.
        size: height and width of that input in pixels.

    Attributes:
        sharded: the first axis split across the devices.
        replicated: the whole array on each device.
    """

    def __init__(self, devices: Sequence[jax.Device], preprocessing: Preprocessing, size: int) -> None:
        self.preprocessing, self.size = preprocessing, size
        self.sharded, self.replicated = make_shardings(devices)
        self._get_matrices = lru_cache(maxsize=NUM_CACHED_LENGTHS)(self._make_matrices)

    def put(self, batch: Pixels, rows: int) -> jax.Array:
        """Return a batch on the devices, with black images appended until there are `rows`.

        Args:
            batch: (n, size, size, 3) float32 in 0..255; or images, (h, w, 3) uint8 or (size, size, 3) float32.
            rows: a multiple of the number of devices, at least n.

        Returns:
            (rows, size, size, 3) float32 in 0..255.
        """
        if isinstance(batch, np.ndarray):
            return jax.device_put(pad_batch(batch, rows), self.sharded)
        images = resize_by_size(batch, self._resize_group, self._put_array)
        missing = np.zeros((rows - len(batch), self.size, self.size, 3), np.float32)
        return jax.device_put(jnp.concatenate([images, self._put_array(missing)]), self.sharded)

    def _resize_group(self, images: Sequence[np.ndarray]) -> jax.Array:
        """Resize images of one size.

        Programs are compiled for a few counts and sizes only: images are padded to them with zeros, which have no weight.
        """
        if images[0].dtype != np.uint8:
            return self._put_array(np.stack(images))
        height, width = images[0].shape[:2]
        rows = round_up_to_multiple(_round_up(len(images)), len(self.sharded.device_set))
        padded = np.zeros((rows, _round_up(height), _round_up(width), 3), np.uint8)
        np.stack(images, out=padded[: len(images), :height, :width])
        matrices = ResizeMatrices(columns=self._get_matrices(width), rows=self._get_matrices(height))
        resized = _resize(jax.device_put(padded, self.sharded), matrices, is_clipped=self.preprocessing.is_clipped)
        return resized[: len(images)]

    def _make_matrices(self, length: int) -> tuple[jax.Array, ...]:
        parts = make_axis_matrices(self.preprocessing, length, self.size)
        return tuple(self._put_array(np.pad(part, ((0, 0), (0, _round_up(length) - length)))) for part in parts)

    def _put_array(self, array: np.ndarray) -> jax.Array:
        return jax.device_put(array, self.replicated)


class JaxRunner:
    """Run a network on one or more devices, with the images of each batch sharded across them.

    Args:
        network: (ops, images (n, h, w, 3), weights) -> features (n, d).
        weights: layer -> its arrays.
        images: copies images to the devices and resizes them there.
        precision: "float32", "bfloat16" or "float16".
    """

    can_resize = True

    def __init__(
        self,
        network: Callable[[JaxOps, Any, Mapping[str, Any]], Any],
        weights: Mapping[str, Sequence[np.ndarray]],
        images: DeviceImages,
        precision: str,
    ) -> None:
        self.images, self.n_devices = images, len(images.sharded.device_set)
        self.batch_size = min(256, 32 * self.n_devices)
        self.params = jax.device_put(to_jax_params(weights), images.replicated)
        ops = JaxOps(half_dtype=HALF_DTYPES[precision])

        def run(params: Params, images: jax.Array) -> Any:
            return network(ops, images, params).astype(jnp.float32)

        self.run = jax.jit(run)
        self.rows = self.n_devices

    def map(self, batches: Iterable[Pixels]) -> Iterator[np.ndarray]:
        """Yield the features (n, d) float32 of batches in order (see `frechet.features.extractor.Runner`).

        One batch runs while the next is prepared. A batch shorter than an earlier one is padded with black images, whose
        features are discarded, so that nothing is compiled again.
        """
        pending: tuple[jax.Array, int] | None = None
        for batch in batches:
            self.rows = max(self.rows, round_up_to_multiple(len(batch), self.n_devices))
            started = self.run(self.params, self.images.put(batch, self.rows)), len(batch)
            if pending is not None:
                yield np.asarray(pending[0])[: pending[1]]
            pending = started
        if pending is not None:
            yield np.asarray(pending[0])[: pending[1]]


@partial(jax.jit, static_argnames="is_clipped")
def _resize(images: jax.Array, matrices: ResizeMatrices, *, is_clipped: bool) -> Any:
    with jax.default_matmul_precision("highest"):
        return resize_with_matrices(images, matrices, is_clipped=is_clipped)


def _round_up(n: int) -> int:
    """Return the next number with at most three significant bits: at most a quarter more."""
    return round_up_to_multiple(n, 1 << max(0, n.bit_length() - 3))
