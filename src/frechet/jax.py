"""FID inside JAX programs: networks as pure functions, and running statistics that stay on the devices.

    apply, params = frechet.jax.network()
    stats = frechet.jax.empty(apply)
    stats = frechet.jax.update(stats, params, images)       # inside your own jit
    frechet.jax.fid(stats, "reference.npz")                 # once, on the host, in float64

`collect` is this loop for any iterator of batches, over all local devices. `merge_across_hosts` combines the statistics of
several processes after `jax.distributed.initialize()`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from frechet._internal.fields import validate_keywords
from frechet._internal.words import count_of
from frechet.backends.flax_state import register_with_flax
from frechet.backends.jax import Params, copy_host_array, make_shardings, pad_batch, round_up_to_multiple
from frechet.backends.jax_shards import find_sharded_axes
from frechet.errors import MismatchError, NonFiniteFeaturesError, RequestError, TooFewImagesError
from frechet.evaluation.compute import score_statistics
from frechet.features.jax_network import NETWORK_OPTIONS, Network, load_jax_network, validate_images
from frechet.losses.reference import validate_reference
from frechet.protocols.references_address import read_address
from frechet.results import Score
from frechet.statistics.feature_statistics import FeatureStatistics

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

Batch = Any  # (n, h, w, 3), uint8 or floating point, or a list of (h, w, 3) uint8 of mixed sizes


@dataclass(frozen=True)
class Moments:
    """Running mean and scatter matrix of n features: a pytree of arrays on the devices.

    Each sum is a pair of arrays whose second element holds the rounding error of the first (Knuth's two-sum; The Art of
    Computer Programming, vol. 2, section 4.2.2), so that float32 is accurate enough for millions of images.

    Attributes:
        n: number of images, () int32.
        mean: pair of arrays (d,), float64 if x64 is on and float32 otherwise.
        scatter: pair of arrays (d, d), the sum of (x - mean)(x - mean)ᵀ, with the dtype of the mean.
        network: the network of the features; not an array.
    """

    n: jax.Array
    mean: tuple[jax.Array, jax.Array]
    scatter: tuple[jax.Array, jax.Array]
    network: Network

    def __post_init__(self) -> None:
        register_with_flax(Moments, _to_state_dict, _from_state_dict)


jax.tree_util.register_dataclass(Moments, ["n", "mean", "scatter"], ["network"])


def network(extractor: str = "inception", **options: Any) -> tuple[Network, Params]:
    """Load a feature extractor as a pure function and its weights.

    Args:
        extractor: name of the extractor, see `frechet extractors`.
        **options: `dims`, `preprocessing`, `weights` and `precision` as in `frechet.score`; `value_range`, the pixel
            values (black, white) of floating-point images, by default (0, 1); `gradient_checkpointing`, whether
            activations are recomputed in the backward pass.

    Returns:
        apply, params: `apply(params, images)` computes features (n, d) from images (n, h, w, 3), uint8 or floating point
        in `value_range`. Pass params to a jitted function as an argument: an array that a jitted function closes over
        is compiled into the program.

    Raises:
        RequestError: a name is unknown, or `value_range` is not an increasing pair of numbers.
        WeightsError: the weights are missing or damaged.

    Example:
        >>> apply, params = network("efficientnet-lite0")
        >>> apply(params, np.zeros((2, 32, 32, 3), np.uint8)).shape
        (2, 1280)
    """
    validate_keywords("frechet.jax.network", options, ["extractor", *NETWORK_OPTIONS])
    return load_jax_network(extractor, **options)


def empty(apply: Network) -> Moments:
    """Return the statistics of zero images, the identity element of `merge`.

    Args:
        apply: the network, from `network`.
    """
    d = apply.dims

    def zero(*shape: int) -> jax.Array:
        return jnp.zeros(shape, jnp.result_type(float))

    return Moments(jnp.zeros((), jnp.int32), (zero(d), zero(d)), (zero(d, d), zero(d, d)), apply)


def update(stats: Moments, params: Params, images: Any, mask: Any = None) -> Moments:
    """Return statistics to which a batch of images is added. Pure, for use inside `jit` and on sharded arrays.

    Args:
        stats: the result of `empty` or of an earlier `update`.
        params: the weights, from `network`.
        images: (n, h, w, 3), uint8, or floating point in the network's `value_range`. Inside of `jit`, where no error
            can be raised, images out of this range make the statistics NaN, which `fid` rejects.
        mask: (n,) bool, False for rows that are not counted, such as those that pad a batch; None counts all rows.

    Returns:
        The statistics of the earlier and the new images.

    Raises:
        RequestError: `stats` or `mask` has another type or shape; the images have another shape or dtype or, outside of `jit`,
            another range of values; or this is a
            program of `shard_map` with `check_vma=False`. With `check_vma=True`, the images of all shards are counted.

    Example:
        >>> apply, params = network("efficientnet-lite0")
        >>> stats = update(empty(apply), params, np.zeros((2, 32, 32, 3), np.uint8))
        >>> int(stats.n)
        2
    """
    _require_moments(stats, "stats")
    features = stats.network(params, images)
    if mask is not None:
        _validate_mask(mask, features.shape[0])
    axes = find_sharded_axes(features, stats.n)
    return merge(stats, _compute_moments(features, mask, stats.network, axes))


def merge(one: Moments, other: Moments) -> Moments:
    """Combine the statistics of two sets of images. Pure.

    Source: Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance".

    Args:
        one, other: statistics of features of the same network.

    Returns:
        The statistics of both sets together.

    Raises:
        RequestError: the networks differ.
    """
    _require_moments(one, "one")
    _require_moments(other, "other")
    if one.network != other.network:
        raise RequestError(
            f"cannot merge statistics of different networks, {one.network.spec} and {other.network.spec}; use one network "
            "for both"
        )
    n = one.n + other.n
    dtype = one.mean[0].dtype
    weight = other.n.astype(dtype) / jnp.maximum(n, 1).astype(dtype)
    delta = (other.mean[0] - one.mean[0]) + (other.mean[1] - one.mean[1])
    between = delta[:, None] * (delta * (one.n.astype(dtype) * weight))[None, :]
    scatter = _add_compensated(_add_compensated(one.scatter, other.scatter), (between, jnp.zeros_like(between)))
    return Moments(n, _add_compensated(one.mean, (delta * weight, jnp.zeros_like(delta))), scatter, one.network)


def fid(stats: Moments, reference: str | Path | FeatureStatistics | Moments) -> Score:
    """Compute the Fréchet distance between the collected images and a reference; with Inception features this is FID.

    The statistics are copied to the host, where the distance is computed in float64.

    Args:
        stats: statistics of at least two images.
        reference: the path or URL of a statistics file, ref:NAME, `frechet.Statistics`, or `Moments`, of the features of the
            network that `stats` were computed with.

    Returns:
        The score, without an interval; `frechet.score_statistics(to_statistics(stats), reference)` can compute one if
        the statistics hold feature rows.

    Raises:
        MismatchError: the reference has another extractor, layer, preprocessing, precision or other weights.
        TooFewImagesError: there are fewer than two images.
        NonFiniteFeaturesError: a feature is NaN or infinite.
    """
    _require_moments(stats, "stats")
    if isinstance(reference, Moments):
        reference = to_statistics(reference)
    elif not isinstance(reference, FeatureStatistics):
        reference = read_address(reference, stats.network.dims)
    validate_reference(reference, stats.network.spec, stats.network.dims)
    (score,) = score_statistics(to_statistics(stats), reference, interval="none").values()
    return score


def to_statistics(stats: Moments, label: str = "images on devices") -> FeatureStatistics:
    """Convert to `frechet.Statistics`, e.g. to save a reference with `.save("reference.npz")`.

    Args:
        stats: statistics of at least two images.
        label: display name of the images.

    Returns:
        Mean (d,) and unbiased covariance (d, d) in float64, without feature rows.

    Raises:
        TooFewImagesError: there are fewer than two images.
        NonFiniteFeaturesError: a feature is NaN or infinite, because images were out of range or half precision
            overflowed.
    """
    _require_moments(stats, "stats")
    n = int(stats.n)
    if n < 2:
        raise TooFewImagesError(f"got {count_of(n, 'image')}; at least 2 are required for a covariance")
    mean, scatter = (
        np.asarray(pair[0], np.float64) + np.asarray(pair[1], np.float64) for pair in (stats.mean, stats.scatter)
    )
    if not (np.isfinite(mean).all() and np.isfinite(scatter).all()):
        raise NonFiniteFeaturesError(
            "the network returned NaN or infinity for an image; check the images for NaN and for values out of value_range "
            f"{stats.network.value_range}, or use precision='float32' if half precision overflowed"
        )
    covariance = (scatter + scatter.T) / (2 * (n - 1))
    if n <= len(mean) and stats.scatter[0].dtype != np.float64:
        covariance = _truncate_rank(covariance, n - 1)
    return FeatureStatistics(mean=mean, covariance=covariance, n=n, spec=stats.network.spec, label=label)


def make_sharded_update(params: Params, *, batch_size: int | None = None) -> Callable[[Moments, Batch], Moments]:
    """Return a function (stats, images) -> stats that distributes images over all local devices.

    It is compiled once for each size of images: a longer batch runs in several steps and a shorter one is padded with
    rows that are not counted. The call returns before the devices finish. The memory of the statistics passed in is
    reused, so they are not valid after the call.

    Args:
        params: the weights, from `network`.
        batch_size: number of images per step, rounded up to a multiple of the number of devices; by default that of the
            first batch.

    Returns:
        The function, which takes batches as `collect` does. It raises RequestError for images of another shape or dtype.
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
            chunk = copy_host_array(images[start : start + rows])
            mask = np.arange(rows) < chunk.shape[0]
            stats = run(stats, params, *jax.device_put((pad_batch(chunk, rows), mask), sharded))
        return stats

    return step


def collect(batches: Iterable[Batch], apply: Network, params: Params, *, batch_size: int | None = None) -> Moments:
    """Compute the statistics of all images of an iterator (tfds, grain, a PyTorch loader of arrays) on all local devices.

    After `jax.distributed.initialize()` each process passes its own share of the images, of any size, and
    `merge_across_hosts` combines the results.

    Args:
        batches: iterable of arrays (n, h, w, 3), uint8 or floating point in the network's `value_range`, n may vary; or
            of lists of (h, w, 3) uint8 images of mixed sizes, which are resized on the host.
        apply, params: the network and its weights, from `network`.
        batch_size: number of images per step; by default that of the first batch.

    Returns:
        The statistics of all images of this process.

    Raises:
        RequestError: images have another shape or dtype.

    Example:
        >>> apply, params = network("efficientnet-lite0")
        >>> images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
        >>> stats = collect([images[:4], images[4:]], apply, params)
        >>> to_statistics(stats).n
        6
    """
    step, stats = make_sharded_update(params, batch_size=batch_size), empty(apply)
    for images in batches:
        stats = step(stats, images)
    return stats


def merge_across_hosts(stats: Moments) -> Moments:
    """Combine the statistics of all processes of `jax.distributed`. Every process must call it.

    Args:
        stats: the statistics of this process.

    Returns:
        The statistics of the images of all processes, the same on each of them.
    """
    if jax.process_count() == 1:
        return stats
    gathered = multihost_utils.process_allgather(jax.tree.map(np.asarray, stats))
    by_process = [
        jax.tree.map(lambda array, rank=rank: jnp.asarray(array[rank]), gathered) for rank in range(jax.process_count())
    ]
    return functools.reduce(merge, by_process)


def _require_moments(stats: Any, name: str) -> None:
    """Raise RequestError unless an argument is `Moments`."""
    if isinstance(stats, Moments):
        return
    given = type(stats).__name__
    hint = (
        "frechet.Statistics has been converted for the host; keep the Moments, and convert them with to_statistics at the end"
        if isinstance(stats, FeatureStatistics)
        else "the order is update(stats, params, images, mask)"
        if isinstance(stats, dict)
        else "start from empty(apply)"
    )
    raise RequestError(f"{name} is {given}; expected Moments, as returned by frechet.jax.empty and update: {hint}")


def _validate_mask(mask: Any, n: int) -> None:
    """Raise RequestError unless a mask is bool with one entry per image."""
    dtype, shape = getattr(mask, "dtype", type(mask).__name__), getattr(mask, "shape", None)
    if dtype != np.bool_ or shape != (n,):
        raise RequestError(
            f"mask is {dtype} of shape {shape}; expected a bool array of shape ({n},), one entry per image, False for those "
            "that are not counted"
        )


def _compute_moments(features: jax.Array, mask: Any, apply: Network, axes: tuple[str, ...]) -> Moments:
    """Compute moments of features (n, d), centred before squaring so that large means do not cost digits.

    The sums extend over the axes of a mesh over which `shard_map` splits the features.
    """

    def add_shards(total: jax.Array) -> jax.Array:
        return jax.lax.psum(total, axes) if axes else total  # type: ignore[no-untyped-call]

    rows = features.astype(jnp.result_type(float))
    if mask is None:
        mask = jnp.ones_like(rows[:, 0], bool)
    n = add_shards(mask.sum(dtype=jnp.int32))
    divisor = jnp.maximum(n, 1).astype(rows.dtype)
    rows = jnp.where(mask[:, None], rows, 0)
    mean = add_shards(rows.sum(axis=0)) / divisor
    centered = jnp.where(mask[:, None], rows - mean, 0)
    rest = add_shards(centered.sum(axis=0)) / divisor  # the rounding error of the mean
    scatter = add_shards(jnp.matmul(centered.T, centered, precision=jax.lax.Precision.HIGHEST))
    return Moments(n, (mean, rest), (scatter, jnp.zeros_like(scatter)), apply)


def _add_compensated(
    one: tuple[jax.Array, jax.Array], other: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Add two numbers given as pairs (rounded value, rounding error), by Knuth's two-sum."""
    a, b = one[0], other[0]
    total = a + b
    shadow = total - a
    rounding_error = (a - (total - shadow)) + (b - shadow)
    rest = rounding_error + (one[1] + other[1])
    first = total + rest
    return first, rest - (first - total)


def _as_single_array(images: Batch, apply: Network) -> Any:
    """Convert a batch to one array; a list of images of mixed sizes is resized to the input size on the host."""
    if not isinstance(images, (list, tuple)):
        images = images if isinstance(images, jax.Array) else np.asanyarray(images)
        validate_images(images)
        return images
    low, high = apply.value_range
    out = np.empty((len(images), apply.input_size, apply.input_size, 3), np.float32)
    for given, resized in zip(images, out, strict=True):
        image = np.asarray(given)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise RequestError(
                f"an image of a list has shape {image.shape} and dtype {image.dtype}; expected (h, w, 3) uint8. If a loader "
                "yields (images, labels), pass only the images."
            )
        apply.preprocessing.resize(image, resized)
    return out * ((high - low) / 255) + low


def _truncate_rank(covariance: np.ndarray, rank: int) -> np.ndarray:
    """Remove the rounding errors of float32 from a covariance (d, d) of at most this rank, less than d.

    They would be eigenvalues of about 1e-8 of the largest one. Their square roots, 1e-4 each, add up in the distance. The
    lowest eigenvalue is one of them and shows their size; a repeated image lowers the rank further.
    """
    values, vectors = np.linalg.eigh(covariance)
    kept = np.where(values > 2 * abs(values[0]), values, 0)[-rank:]
    factor = vectors[:, -rank:] * np.sqrt(kept)
    return factor @ factor.T


def _to_state_dict(stats: Moments) -> dict[str, Any]:
    """Convert to what `flax.serialization` stores."""
    pairs = {"mean": stats.mean, "scatter": stats.scatter}
    return {
        "n": stats.n,
        "network": repr(stats.network.spec),
        **{name: {"value": pair[0], "rounding_error": pair[1]} for name, pair in pairs.items()},
    }


def _from_state_dict(target: Moments, state: dict[str, Any]) -> Moments:
    """Restore statistics from what `flax.serialization` stored.

    Raises:
        MismatchError: they are statistics of another network.
    """
    if state["network"] != repr(target.network.spec):
        raise MismatchError(
            f"the stored statistics are of {state['network']}, and the target of {target.network.spec!r}; expected the same "
            "network. Create the target with frechet.jax.empty(apply) of the network that was saved."
        )
    mean, scatter = ((state[name]["value"], state[name]["rounding_error"]) for name in ("mean", "scatter"))
    return Moments(state["n"], mean, scatter, target.network)
