"""FID inside JAX: a network as a pure function, and a running statistic that never leaves the devices.

    apply, params = frechet.jax.network()
    stats = frechet.jax.empty(apply)
    stats = frechet.jax.update(stats, params, images)       # inside your own jit
    frechet.jax.fid(stats, "reference.npz")                 # once, on the host, in float64

`collect` does the loop for any iterator of batches, over all local devices; `over_hosts` joins what several processes
gathered after `jax.distributed.initialize()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from frechet.backends.jax import Params, make_shardings, pad_batch, round_up_to_multiple
from frechet.errors import NonFiniteFeaturesError, RequestError, TooFewImagesError
from frechet.evaluation.compute import score_statistics
from frechet.features.jax_network import Network, load_jax_network, validate_images
from frechet.results import Score
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.npz_format import read_statistics

__all__ = [
    "Moments",
    "Network",
    "collect",
    "empty",
    "fid",
    "make_sharded_update",
    "merge",
    "merge_across_hosts",
    "network",
    "to_statistics",
    "update",
]

Batch = Any  # (n, h, w, 3) uint8 or floating point; or a list of (h, w, 3) uint8 of mixed sizes


@dataclass(frozen=True)
class Moments:
    """What is kept of n features: a pytree of arrays on devices, each number as the sum of two.

    The second of each pair holds what rounding took from the first (Knuth's two-sum), so that sums of millions are as
    exact in float32 as one.

    Attributes:
        n: () int32, how many.
        mean: 2 x (d,), float64 where x64 is on, else float32.
        scatter: 2 x (d, d), the sum of (x - mean)(x - mean)ᵀ.
        network: how the features were made; not an array.
    """

    n: jax.Array
    mean: tuple[jax.Array, jax.Array]
    scatter: tuple[jax.Array, jax.Array]
    network: Network


jax.tree_util.register_dataclass(Moments, ["n", "mean", "scatter"], ["network"])


def network(extractor: str = "inception", **options: Any) -> tuple[Network, Params]:
    """A network of the table as a pure function, and its weights.

    Args:
        extractor: name in the table of extractors.
        **options: `dims`, `convention`, `weights` and `precision` as in `frechet.score`; `value_range`, the values that
            stand for black and white in floating-point images; `checkpoint`, gradient checkpointing.

    Returns:
        apply, params: `apply(params, images)` gives (n, d) features of (n, h, w, 3) images, uint8 or floating point, of any
        one size. Give params to a jitted function as an argument; what it closes over is compiled into it.

    Raises:
        RequestError: an unknown name; what exists is named.
        WeightsError: the weights cannot be had.
    """
    return load_jax_network(extractor, **options)


def empty(apply: Network) -> Moments:
    """The statistic of no images; the identity of `merge`."""
    d = apply.dims

    def zero(*shape: int) -> jax.Array:
        return jnp.zeros(shape, jnp.result_type(float))

    return Moments(jnp.zeros((), jnp.int32), (zero(d), zero(d)), (zero(d, d), zero(d, d)), apply)


def update(stats: Moments, params: Params, images: Any, mask: Any = None) -> Moments:
    """The statistic with more images. Pure, for use inside `jit`, on sharded arrays too.

    Args:
        stats: from `empty`, or an earlier `update`.
        params: the network's weights.
        images: (n, h, w, 3), as `Network.__call__` takes them.
        counted: (n,) bool, which of them count; None: all. For batches that were filled up.

    Raises:
        RequestError: images of another shape or dtype.
    """
    features = stats.network(params, images)
    return merge(stats, _compute_moments(features, mask, stats.network))


def merge(one: Moments, other: Moments) -> Moments:
    """The statistic of both sets of images (Chan, Golub & LeVeque 1983). Pure.

    Raises:
        RequestError: their features were made differently.
    """
    if one.network != other.network:
        raise RequestError(f"two statistics of different networks: {one.network.spec} and {other.network.spec}")
    n = one.n + other.n
    dtype = one.mean[0].dtype
    weight = other.n.astype(dtype) / jnp.maximum(n, 1).astype(dtype)
    delta = (other.mean[0] - one.mean[0]) + (other.mean[1] - one.mean[1])
    between = delta[:, None] * (delta * (one.n.astype(dtype) * weight))[None, :]
    scatter = _add_compensated(_add_compensated(one.scatter, other.scatter), (between, jnp.zeros_like(between)))
    return Moments(n, _add_compensated(one.mean, (delta * weight, jnp.zeros_like(delta))), scatter, one.network)


def fid(stats: Moments, reference: str | Path | FeatureStatistics | Moments) -> Score:
    """The Fréchet distance of what was gathered to a reference: FID with Inception features.

    Everything is fetched to the host, once, and computed there in float64.

    Args:
        stats: of at least two images.
        reference: a statistics file, `Statistics`, or another `Moments`.

    Raises:
        Mismatch: the reference was made with another extractor, layer, convention, precision or weights.
        TooFewImages, BadFeatures: as in `to_statistics`.
    """
    if isinstance(reference, Moments):
        reference = to_statistics(reference)
    elif not isinstance(reference, FeatureStatistics):
        reference = read_statistics(Path(reference), stats.network.dims)
    (score,) = score_statistics(to_statistics(stats), reference, interval="none").values()
    return score


def to_statistics(stats: Moments, label: str = "images on devices") -> FeatureStatistics:
    """`frechet.Statistics` of what was gathered: to save as a reference (`.save("reference.npz")`) or to compare.

    Args:
        stats: of at least two images.
        source: what they are known by.

    Raises:
        TooFewImages: fewer than two.
        BadFeatures: NaN or infinity among the features: images out of range, or an overflow of half precision.
    """
    n = int(stats.n)
    if n < 2:
        raise TooFewImagesError(f"a covariance needs at least two images; {n} were gathered")
    mean, scatter = (
        np.asarray(pair[0], np.float64) + np.asarray(pair[1], np.float64) for pair in (stats.mean, stats.scatter)
    )
    if not (np.isfinite(mean).all() and np.isfinite(scatter).all()):
        raise NonFiniteFeaturesError(
            "the network gave NaN or infinity for some image; look for NaN in the images, for floating-point images out of "
            f"value_range {stats.network.value_range}, or for an overflow of half precision"
        )
    covariance = (scatter + scatter.T) / (2 * (n - 1))
    return FeatureStatistics(mean=mean, covariance=covariance, n=n, spec=stats.network.spec, label=label)


def make_sharded_update(params: Params, *, batch_size: int | None = None) -> Callable[[Moments, Batch], Moments]:
    """A function (stats, images) -> stats that shares images out among all local devices.

    It is compiled for one number of images of each size: a longer batch runs in several steps, a shorter one is filled
    up, and what it was filled up with is not counted. Nothing waits for the devices. The statistic it is given is used
    up (its memory is the next one's).

    Args:
        params: the network's weights.
        batch_size: images of one step, rounded up to a multiple of the devices; None is that of the first batch.
    """
    sharded, replicated = make_shardings(jax.local_devices())
    params = jax.device_put(params, replicated)
    run = jax.jit(update, donate_argnums=0, out_shardings=replicated)
    rows = 0 if batch_size is None else round_up_to_multiple(batch_size, len(sharded.device_set))

    def step(stats: Moments, images: Batch) -> Moments:
        nonlocal rows
        images = _as_single_array(images, stats.network)
        if not images.shape[0]:
            return stats
        rows = rows or round_up_to_multiple(images.shape[0], len(sharded.device_set))
        stats = jax.device_put(stats, replicated)
        for start in range(0, images.shape[0], rows):
            chunk = images[start : start + rows]
            mask = np.arange(rows) < chunk.shape[0]
            stats = run(stats, params, *jax.device_put((pad_batch(chunk, rows), mask), sharded))
        return stats

    return step


def collect(batches: Iterable[Batch], apply: Network, params: Params, *, batch_size: int | None = None) -> Moments:
    """The statistic of all images that an iterator gives (tfds, grain, a PyTorch loader of arrays ...), on all local devices.

    After `jax.distributed.initialize()` each process gives its own share, however many images and batches that is, and
    `over_hosts` joins them.

    Args:
        batches: (n, h, w, 3) uint8 each (or floating point in the network's `value_range`), of any n; or lists of
            (h, w, 3) uint8 images of mixed sizes, which are resized on the host.
        apply, params: from `network`.
        batch_size: images of one step; None is that of the first batch.

    Raises:
        RequestError: images of another shape or dtype.
    """
    step, stats = make_sharded_update(params, batch_size=batch_size), empty(apply)
    for images in batches:
        stats = step(stats, images)
    return stats


def merge_across_hosts(stats: Moments) -> Moments:
    """The statistic of all processes' images, the same on each of them; every process must call it."""
    if jax.process_count() == 1:
        return stats
    gathered = multihost_utils.process_allgather(jax.tree.map(np.asarray, stats))
    parts = [
        jax.tree.map(lambda array, place=place: jnp.asarray(array[place]), gathered)
        for place in range(jax.process_count())
    ]
    total = parts[0]
    for part in parts[1:]:
        total = merge(total, part)
    return total


def _compute_moments(features: jax.Array, mask: Any, apply: Network) -> Moments:
    """Of (n, d) features: centred first, so that nothing large is subtracted from anything large."""
    rows = features.astype(jnp.result_type(float))
    if mask is None:
        mask = jnp.ones(rows.shape[0], bool)
    n = mask.sum(dtype=jnp.int32)
    rows = jnp.where(mask[:, None], rows, 0)
    mean = rows.sum(axis=0) / jnp.maximum(n, 1).astype(rows.dtype)
    centered = jnp.where(mask[:, None], rows - mean, 0)
    rest = centered.sum(axis=0) / jnp.maximum(n, 1).astype(rows.dtype)  # what rounding left out of the mean
    scatter = jnp.matmul(centered.T, centered, precision=jax.lax.Precision.HIGHEST)
    return Moments(n, (mean, rest), (scatter, jnp.zeros_like(scatter)), apply)


def _add_compensated(
    one: tuple[jax.Array, jax.Array], other: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """The sum of two numbers that are pairs, as a pair: first the rounded sum, then what rounding took from it."""
    a, b = one[0], other[0]
    total = a + b
    shadow = total - a
    rounding_error = (a - (total - shadow)) + (b - shadow)
    rest = rounding_error + (one[1] + other[1])
    first = total + rest
    return first, rest - (first - total)


def _as_single_array(images: Batch, apply: Network) -> Any:
    """A batch as one array; images of mixed sizes are resized here, on the host, and then need no resize on the devices."""
    if not isinstance(images, (list, tuple)):
        images = images if isinstance(images, jax.Array) else np.asarray(images)
        validate_images(images)
        return images
    low, high = apply.value_range
    out = np.empty((len(images), apply.input_size, apply.input_size, 3), np.float32)
    for given, place in zip(images, out, strict=True):
        image = np.asarray(given)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise RequestError(
                f"an image of a list has shape {image.shape} and dtype {image.dtype}; expected (h, w, 3) uint8. Where a loader "
                "gives (images, labels), take the images"
            )
        apply.preprocessing.resize(image, place)
    return out * ((high - low) / 255) + low
