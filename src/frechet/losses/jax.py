"""FID, KID and the Inception Score as losses in JAX: pure functions with exact gradients with respect to the images.

    reference = make_reference("reference.npz")                                # a pytree: statistics and weights
    loss, gradient = jax.jit(jax.value_and_grad(fid_loss))(images, reference)  # images (n, h, w, 3) in [0, 1]

The distance is computed in float64 if x64 is on (`jax.config.update("jax_enable_x64", True)`). Otherwise it is computed
in float32 from singular values, so that nothing is squared. Pass the reference to a jitted function as an argument: an
array that a jitted function closes over is compiled into the program.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from frechet.backends.jax import pad_batch
from frechet.distances.gaussian import Gaussian
from frechet.distances.inception_score import inception_score
from frechet.distances.kernel import polynomial_mmd
from frechet.errors import RequestError
from frechet.features.jax_network import Network, is_traced, load_jax_network, validate_images
from frechet.losses.jax_distance import as_widest_float, frechet_distance
from frechet.losses.reference import load_reference, validate_reference
from frechet.losses.validation import (
    make_nonfinite_error,
    make_rowless_reference_error,
    validate_count,
    validate_sample_size,
)
from frechet.losses.value_range import resembles_other_scale
from frechet.metrics import fit_gaussian
from frechet.preprocessing.value_range import make_range_error
from frechet.statistics.feature_statistics import FeatureStatistics

__all__ = [
    "FeatureFn",
    "Reference",
    "fid_loss",
    "frechet_distance",
    "is_loss",
    "kid_loss",
    "make_reference",
    "value_and_grad_in_microbatches",
]

FeatureFn = jax.tree_util.Partial  # a Network bound to its params: images (n, h, w, 3) -> features (n, d)


@dataclass(frozen=True)
class Reference:
    """A reference and the network whose features it consists of, as a pytree.

    Attributes:
        feature_fn: images (n, h, w, 3) -> features (n, d).
        gaussian: mean and covariance of the reference features, with a factor of the covariance.
        rows: features (k, d) for KID, or None.
    """

    feature_fn: FeatureFn
    gaussian: Gaussian
    rows: jax.Array | None


jax.tree_util.register_dataclass(Reference, ["feature_fn", "gaussian", "rows"], [])


def make_reference(
    source: str | Path | FeatureStatistics | np.ndarray | jax.Array,
    *,
    extractor: str = "inception",
    batch_size: int = 32,
    **options: Any,
) -> Reference:
    """Load a network and the statistics of reference images for the losses of this module.

    Args:
        source: the path of a statistics file, `frechet.Statistics`, or images (m, h, w, 3), uint8 or floating point in
            `value_range`.
        extractor: name of the extractor, see `frechet extractors`.
        batch_size: number of reference images per forward pass.
        **options: `dims`, `preprocessing`, `weights` and `precision` as in `frechet.score`; `value_range`, the pixel
            values (black, white) of floating-point images, by default (0, 1); `gradient_checkpointing`, whether the
            network's activations are recomputed in the backward pass.

    Returns:
        A reference, to be passed to a jitted function as an argument.

    Raises:
        RequestError: a name is unknown, or the source cannot be read.
        MismatchError: the statistics have another extractor, layer, preprocessing, precision or other weights.
        WeightsError: the weights are missing or damaged.

    Example:
        >>> images = jax.random.uniform(jax.random.key(0), (8, 32, 32, 3))
        >>> reference = make_reference(images, extractor="efficientnet-lite0")
        >>> fid_loss(images, reference).shape
        ()
    """
    loaded = load_reference(
        source, image_types=(np.ndarray, jax.Array), extractor=extractor, batch_size=batch_size, **options
    )
    feature_fn = FeatureFn(*load_jax_network(extractor, **options))
    statistics = _collect_reference_statistics(loaded, feature_fn, batch_size)
    gaussian = fit_gaussian(statistics).with_factor()
    mean, covariance, factor = map(as_widest_float, (gaussian.mean, gaussian.covariance, gaussian.factor))
    is_double = mean.dtype == jnp.float64
    return Reference(
        feature_fn,
        Gaussian(
            mean, covariance=covariance if is_double else None, factor=factor, covariance_eps=gaussian.covariance_eps
        ),
        as_widest_float(statistics.rows),
    )


def fid_loss(images: jax.Array, reference: Reference) -> jax.Array:
    """Compute the Fréchet distance between a batch and a reference; with Inception features this is FID.

    Source: Heusel et al. 2017, arXiv:1706.08500.

    Args:
        images: (n, h, w, 3), floating point in the reference's `value_range`; n >= 2, any h and w. Values that training
            moves out of the range are used as they are, with their gradient.
        reference: the result of `make_reference`.

    Returns:
        A scalar, float64 for float64 images and float32 otherwise. Inside of `jit`, where no error can be raised, it is
        NaN if images look as if they had another scale, such as 0 to 255 or -1 to 1, or if features are not finite.

    Raises:
        RequestError: the images have another shape or dtype or, outside of `jit`, another scale.
        TooFewImagesError: there are fewer than two images.
        NonFiniteFeaturesError: outside of `jit`, the network returned NaN or infinity; the message names the image by
            its index.

    Example:
        >>> images = jax.random.uniform(jax.random.key(0), (4, 32, 32, 3))
        >>> reference = make_reference(images, extractor="efficientnet-lite0")
        >>> jax.grad(fid_loss)(images, reference).shape
        (4, 32, 32, 3)
    """
    return _compute_loss(_fid_from_features, images, reference)


def kid_loss(images: jax.Array, reference: Reference) -> jax.Array:
    """Compute the kernel distance between a batch and a reference: the unbiased squared MMD, k(x, y) = (x·y/d + 1)³.

    All pairs of rows are used, not subsets. Source: Bińkowski et al. 2018, arXiv:1801.01401.

    Args:
        images: (n, h, w, 3), floating point in the reference's `value_range`; n >= 2, any h and w.
        reference: the result of `make_reference`, with feature rows.

    Returns:
        A scalar, which may be negative; float64 for float64 images and float32 otherwise, and NaN as in `fid_loss`.

    Raises:
        RequestError: the images are invalid (see `fid_loss`), or the reference holds no feature rows.
        TooFewImagesError: there are fewer than two images.
        NonFiniteFeaturesError: outside of `jit`, the network returned NaN or infinity.

    Example:
        >>> images = jax.random.uniform(jax.random.key(0), (4, 32, 32, 3))
        >>> kid_loss(images, make_reference(images, extractor="efficientnet-lite0")).shape
        ()
    """
    return _compute_loss(_kid_from_features, images, reference)


def is_loss(images: jax.Array, feature_fn: FeatureFn) -> jax.Array:
    """Compute the negative Inception Score of a batch, as one split (Salimans et al. 2016, arXiv:1606.03498).

    With Inception these are the 1008 logits without bias, as in the TensorFlow implementation.

    Args:
        images: (n, h, w, 3), floating point in the network's `value_range`; n >= 2, any h and w.
        feature_fn: a network that returns logits, bound to its weights:
            `jax.tree_util.Partial(*frechet.jax.network(dims=1008))`.

    Returns:
        A scalar in [-c, -1] for c classes; float64 for float64 images and float32 otherwise, and NaN as in `fid_loss`.

    Raises:
        RequestError: the images are invalid (see `fid_loss`), or `feature_fn` is not a network of `frechet.jax`.
        TooFewImagesError: there are fewer than two images.
        NonFiniteFeaturesError: outside of `jit`, the network returned NaN or infinity.

    Example:
        >>> feature_fn = FeatureFn(*load_jax_network("efficientnet-lite0", dims=1000))
        >>> is_loss(jax.random.uniform(jax.random.key(0), (4, 32, 32, 3)), feature_fn).shape
        ()
    """
    return _compute_loss(_is_from_logits, images, feature_fn)


def value_and_grad_in_microbatches(
    loss: Callable[..., jax.Array], make_images: Callable[..., jax.Array], *, size: int = 16
) -> Any:
    """Return a function that computes the loss of many images and its gradient, with the memory that `size` images need.

    The features of all images are computed first, without a graph. The gradient with respect to the features is then
    propagated through each micro-batch, whose images are computed a second time. The result is the gradient of the loss
    of all images, not the average over micro-batches.

    Args:
        loss: `fid_loss`, `kid_loss` or `is_loss`.
        make_images: a pure function (params, latents) -> images (k, h, w, 3), one per row of the latents. Randomness
            enters through the latents, as keys or noise.
        size: number of images per micro-batch.

    Returns:
        A pure function (params, latents, reference) -> (loss, gradient with respect to params), to be jitted. The
        latents are an array, or a pytree of arrays, with one row per image. The function raises RequestError if these
        arrays differ in length or `make_images` returns another number of images.

    Raises:
        RequestError: `loss` is another function, or `size` is not a positive integer.

    Example:
        >>> images = jax.random.uniform(jax.random.key(0), (6, 32, 32, 3))
        >>> reference = make_reference(images, extractor="efficientnet-lite0")
        >>> step = value_and_grad_in_microbatches(fid_loss, lambda scale, images: scale * images, size=2)
        >>> value, gradient = jax.jit(step)(0.9, images, reference)
        >>> gradient.shape
        ()
    """
    if loss not in _LOSSES:
        raise RequestError(f"the loss is {loss!r}; expected fid_loss, kid_loss or is_loss from frechet.losses.jax")
    validate_count("size", size)
    distance = _LOSSES[loss]

    def value_and_grad(params: Any, latents: Any, reference: Any) -> tuple[jax.Array, Any]:
        n = _count_latents(latents)
        steps = -(-n // size)
        batches = jax.tree.map(lambda array: _split_into_steps(array, steps, size), latents)

        def compute_features(params: Any, batch: Any) -> jax.Array:
            images = make_images(params, batch)
            if images.shape[0] != size:
                raise RequestError(
                    f"make_images returned {images.shape[0]} images for {size} rows of latents; expected one per row"
                )
            return _compute_features(_get_feature_fn(reference), images)

        features = jax.lax.map(lambda batch: compute_features(params, batch), batches)
        value, cotangent = jax.value_and_grad(distance)(features.reshape(steps * size, -1)[:n], reference)
        cotangent = _split_into_steps(cotangent, steps, size, pad_with_zeros=True)

        def add(total: Any, step: tuple[Any, jax.Array]) -> tuple[Any, None]:
            _, vjp_fn = jax.vjp(lambda params: compute_features(params, step[0]), params)
            return jax.tree.map(jnp.add, total, vjp_fn(step[1])[0]), None

        zero = jax.tree.map(jnp.zeros_like, params)
        return value, jax.lax.scan(add, zero, (batches, cotangent))[0]

    return value_and_grad


def _compute_loss(distance: Callable[..., jax.Array], images: Any, reference: Any) -> jax.Array:
    features = _compute_features(_get_feature_fn(reference), images)
    if not is_traced(features) and not bool((is_finite := jnp.isfinite(features).all(axis=1)).all()):
        raise make_nonfinite_error(int((~is_finite).argmax()))
    return distance(features, reference)


def _fid_from_features(features: jax.Array, reference: Reference) -> jax.Array:
    return frechet_distance(_as_sample(features), reference.gaussian).astype(features.dtype)


def _kid_from_features(features: jax.Array, reference: Reference) -> jax.Array:
    if reference.rows is None:
        raise make_rowless_reference_error("the reference")
    with jax.default_matmul_precision("highest"):
        return polynomial_mmd(_as_sample(features), reference.rows).astype(features.dtype)


def _is_from_logits(logits: jax.Array, _feature_fn: FeatureFn) -> jax.Array:
    return -inception_score(jax.nn.softmax(_as_sample(logits), axis=1)).astype(logits.dtype)


_LOSSES: dict[Callable[..., jax.Array], Callable[..., jax.Array]] = {
    fid_loss: _fid_from_features,
    kid_loss: _kid_from_features,
    is_loss: _is_from_logits,
}


def _as_sample(features: jax.Array) -> jax.Array:
    """Return features of at least two images in the widest float."""
    validate_sample_size(features.shape[0])
    return features.astype(jnp.result_type(float))


def _get_feature_fn(reference: Any) -> FeatureFn:
    feature_fn = reference.feature_fn if isinstance(reference, Reference) else reference
    if not (isinstance(feature_fn, FeatureFn) and isinstance(feature_fn.func, Network)):
        raise RequestError(
            f"the reference is a {type(reference).__name__}; expected the result of frechet.losses.jax.make_reference, "
            "called once before the training loop (for is_loss: jax.tree_util.Partial(*frechet.jax.network(dims=1008)))"
        )
    return feature_fn


def _compute_features(feature_fn: FeatureFn, images: Any) -> jax.Array:
    """Compute the features of a batch whose values may leave the range but not have another scale.

    Raises:
        RequestError: the images have another shape or dtype or, outside of traced code, another scale.
    """
    network: Any = feature_fn.func
    _validate_float_images(images)
    validate_images(images)
    if not images.size:
        return network.unchecked(*feature_fn.args, images)
    lowest, highest = jnp.min(images), jnp.max(images)
    is_other_scale = resembles_other_scale(lowest, highest, network.value_range)
    if not is_traced(is_other_scale) and bool(is_other_scale):
        raise make_range_error(float(lowest), float(highest), network.value_range)
    return jnp.where(is_other_scale, jnp.nan, network.unchecked(*feature_fn.args, images))


def _validate_float_images(images: Any) -> None:
    if not hasattr(images, "dtype"):
        raise RequestError(f"images are {type(images).__name__}; expected an array (n, h, w, 3)")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise RequestError(
            f"images are {images.dtype}, which has no gradient; pass floating point: images.astype(jnp.float32) / 255"
        )


def _count_latents(latents: Any) -> int:
    """Return the number of images that latents stand for.

    Raises:
        RequestError: the arrays differ in their number of rows, or have no rows.
        TooFewImagesError: there are fewer than two rows.
    """
    lengths = sorted({jnp.shape(array)[:1] for array in jax.tree.leaves(latents)})
    if len(lengths) != 1 or not lengths[0]:
        given = " and ".join(str(*length) or "no" for length in lengths) or "no"
        raise RequestError(
            f"the arrays of the latents have {given} rows; expected one row per image in each of them. Pass what all "
            "images share through params."
        )
    validate_sample_size(lengths[0][0])
    return int(lengths[0][0])


def _split_into_steps(array: jax.Array, steps: int, size: int, *, pad_with_zeros: bool = False) -> jax.Array:
    """Reshape (n, ...) to (steps, size, ...), filling the end with zeros or with the first rows."""
    n = array.shape[0]
    padded = pad_batch(array, steps * size) if pad_with_zeros else array[jnp.arange(steps * size) % n]
    return padded.reshape(steps, size, *array.shape[1:])


def _collect_reference_statistics(
    source: FeatureStatistics | np.ndarray | jax.Array, feature_fn: FeatureFn, batch_size: int
) -> FeatureStatistics:
    """Return statistics of the reference whose weights are known to match, computing them from images if necessary."""
    network: Any = feature_fn.func
    if isinstance(source, FeatureStatistics):
        validate_reference(source, network.spec, network.dims)
        return source
    run = jax.jit(lambda feature_fn, images: feature_fn(images))
    batches = (source[start : start + batch_size] for start in range(0, source.shape[0], batch_size))
    batch_features = [np.asarray(run(feature_fn, pad_batch(batch, batch_size)))[: batch.shape[0]] for batch in batches]
    rows = np.concatenate(batch_features) if batch_features else np.empty((0, network.dims), np.float32)
    return FeatureStatistics.from_features(rows, spec=network.spec, label="images in memory")
