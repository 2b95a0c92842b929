"""FID, KID, the Inception Score and the distance of a population as losses in JAX: pure functions with exact gradients with respect to the images.

    reference = make_reference("reference.npz")                                # a pytree: statistics and weights
    loss, gradient = jax.jit(jax.value_and_grad(fid_loss))(images, reference)  # images (n, h, w, 3) in [0, 1]

The distance is computed in float64 if x64 is on (`jax.config.update("jax_enable_x64", True)`). Otherwise it is computed
in float32 from singular values, so that nothing is squared. Pass the reference to a jitted function as an argument: an
array that a jitted function closes over is compiled into the program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from frechet.backends.jax import pad_batch
from frechet.distances.inception_score import inception_score
from frechet.distances.kernel import polynomial_mmd
from frechet.errors import RequestError
from frechet.features.jax_network import is_traced
from frechet.losses.jax_distance import frechet_distance
from frechet.losses.jax_fd import fd_from_features
from frechet.losses.jax_population import Population, make_population
from frechet.losses.jax_reference import (
    FeatureFn,
    Reference,
    as_sample,
    compute_features,
    get_feature_fn,
    make_reference,
)
from frechet.losses.validation import (
    make_nonfinite_error,
    make_rowless_reference_error,
    validate_count,
    validate_sample_size,
)

__all__ = [
    "FeatureFn",
    "Population",
    "Reference",
    "fd_loss",
    "fid_loss",
    "frechet_distance",
    "is_loss",
    "kid_loss",
    "make_population",
    "make_reference",
    "value_and_grad_in_microbatches",
]


def fid_loss(images: jax.Array, reference: Reference) -> jax.Array:
    """Compute the Fréchet distance between a batch and a reference; with Inception features this is FID.

    Source: Heusel et al. 2017, arXiv:1706.08500.

    Args:
        images: (n, h, w, 3), floating point in the reference's `value_range`; n >= 2, any h and w. Values that training
            moves out of the range are used as they are, with their gradient.
        reference: the result of `make_reference`.

    Returns:
        A scalar, float64 for float64 images and float32 otherwise. Inside of `jit` and `grad`, where no error can be
        raised, it is NaN if images look as if they ranged from 0 to 255 or from -1 (black) to 1, or if features are not
        finite. Images of that range without black pixels are not recognised there; call the loss once outside.

    Raises:
        RequestError: the images have another shape or dtype or, outside of `jit` and `grad`, another scale, such as 0 to
            255 or -1 to 1.
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


def fd_loss(images: jax.Array, reference: Reference, population: Population) -> tuple[jax.Array, Population]:
    """Compute the Fréchet distance between a population, of which a batch replaces the oldest part, and a reference.

    The features of earlier batches carry no gradient; that of the batch is exact for the distance of the population with this
    batch in it if `refresh` of the population is 1, and otherwise uses the transport map of up to `refresh` - 1 batches ago.
    To combine extractors with features of different scales, divide each distance by `jax.lax.stop_gradient` of itself.

    Args:
        images: (n, h, w, 3), as in `fid_loss`.
        reference: the result of `make_reference`.
        population: the result of `make_population`, or of the previous call.

    Returns:
        distance, population: a scalar with the dtype of the features, and the population with this batch in it. Pass
        `has_aux=True` to `jax.value_and_grad`.

    Raises:
        RequestError: the images are invalid (see `fid_loss`), or more than the population has rows.
        TooFewImagesError: there are fewer than two images.
        NonFiniteFeaturesError: outside of `jit`, the network returned NaN or infinity.
        MismatchError: outside of `jit`, the population was made for other features or settings, such as one restored from a
            checkpoint. Inside, the distance is NaN. If it was made for another reference, the map is computed again.

    Example:
        >>> with jax.enable_x64(True):
        ...     images = jax.random.uniform(jax.random.key(0), (4, 32, 32, 3), "float32")
        ...     reference = make_reference(images, extractor="efficientnet-lite0")
        ...     population = make_population(reference, size=12)
        ...     step = jax.value_and_grad(fd_loss, has_aux=True)
        ...     (distance, population), gradient = step(images, reference, population)
        >>> int(population.count)
        4
    """
    features = _compute_finite_features(images, reference)
    return fd_from_features(features, reference, population)


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
    loss: Callable[..., Any], make_images: Callable[..., jax.Array], *, size: int = 16
) -> Any:
    """Return a function that computes the loss of many images and its gradient, with the memory that `size` images need.

    The features of all images are computed first, without a graph. The gradient with respect to the features is then
    propagated through each micro-batch, whose images are computed a second time. The result is the gradient of the loss
    of all images, not the average over micro-batches.

    Args:
        loss: `fid_loss`, `fd_loss`, `kid_loss` or `is_loss`.
        make_images: a pure function (params, latents) -> images (k, h, w, 3), one per row of the latents. Randomness
            enters through the latents, as keys or noise.
        size: number of images per micro-batch.

    Returns:
        A pure function (params, latents, reference) -> (loss, gradient with respect to params), to be jitted; for
        `fd_loss` it is (params, latents, reference, population) -> ((loss, population), gradient). The
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
        raise RequestError(
            f"the loss is {loss!r}; expected fid_loss, fd_loss, kid_loss or is_loss from frechet.losses.jax"
        )
    validate_count("size", size)
    distance = _LOSSES[loss]

    def value_and_grad(params: Any, latents: Any, reference: Any, *population: Population) -> tuple[Any, Any]:
        n = _count_latents(latents)
        steps = -(-n // size)
        batches = jax.tree.map(lambda array: _split_into_steps(array, steps, size), latents)

        def compute_step(params: Any, batch: Any) -> jax.Array:
            images = make_images(params, batch)
            if images.shape[0] != size:
                raise RequestError(
                    f"make_images returned {images.shape[0]} images for {size} rows of latents; expected one per row"
                )
            return compute_features(get_feature_fn(reference), images)

        features = jax.lax.map(lambda batch: compute_step(params, batch), batches)
        differentiate = jax.value_and_grad(distance, has_aux=loss is fd_loss)
        value, cotangent = differentiate(features.reshape(steps * size, -1)[:n], reference, *population)
        cotangent = _split_into_steps(cotangent, steps, size, pad_with_zeros=True)

        def add(total: Any, step: tuple[Any, jax.Array]) -> tuple[Any, None]:
            _, vjp_fn = jax.vjp(lambda params: compute_step(params, step[0]), params)
            return jax.tree.map(jnp.add, total, vjp_fn(step[1])[0]), None

        zero = jax.tree.map(jnp.zeros_like, params)
        return value, jax.lax.scan(add, zero, (batches, cotangent))[0]

    return value_and_grad


def _compute_loss(distance: Callable[..., jax.Array], images: Any, reference: Any) -> jax.Array:
    return distance(_compute_finite_features(images, reference), reference)


def _compute_finite_features(images: Any, reference: Any) -> jax.Array:
    features = compute_features(get_feature_fn(reference), images)
    if not is_traced(features) and not bool((is_finite := jnp.isfinite(features).all(axis=1)).all()):
        raise make_nonfinite_error(int((~is_finite).argmax()))
    return features


def _fid_from_features(features: jax.Array, reference: Reference) -> jax.Array:
    return frechet_distance(as_sample(features), reference.gaussian).astype(features.dtype)


def _kid_from_features(features: jax.Array, reference: Reference) -> jax.Array:
    if reference.rows is None:
        raise make_rowless_reference_error("the reference")
    with jax.default_matmul_precision("highest"):
        return polynomial_mmd(as_sample(features), reference.rows).astype(features.dtype)


def _is_from_logits(logits: jax.Array, _feature_fn: FeatureFn) -> jax.Array:
    return -inception_score(jax.nn.softmax(as_sample(logits), axis=1)).astype(logits.dtype)


_LOSSES: dict[Callable[..., Any], Callable[..., Any]] = {
    fd_loss: fd_from_features,
    fid_loss: _fid_from_features,
    kid_loss: _kid_from_features,
    is_loss: _is_from_logits,
}


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
