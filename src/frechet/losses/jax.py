"""FID, KID and the Inception Score as losses in JAX: pure functions with exact gradients with respect to images.

    reference = reference_of("reference.npz")                                  # a pytree: statistics and weights
    loss, gradient = jax.jit(jax.value_and_grad(fid_loss))(images, reference)  # images (n, h, w, 3) in [0, 1]

The distance is computed in float64 where x64 is on (`jax.config.update("jax_enable_x64", True)`), else in float32 and
then without squaring anything: from singular values. Give the reference to a jitted function as an argument: what a
function closes over is compiled into it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from frechet.backends.jax import pad_batch
from frechet.distances.gaussian import Gaussian
from frechet.distances.inception_score import inception_score
from frechet.distances.kernel import polynomial_mmd
from frechet.distances.transport import (
    Coupling,
    feature_gradient,
    is_well_conditioned,
    optimal_coupling,
    optimal_coupling_from_factors,
    squared_frechet_distance,
)
from frechet.errors import NonFiniteFeaturesError, RequestError, TooFewImagesError
from frechet.features.jax_network import Network, is_traced, load_jax_network
from frechet.losses.reference import load_reference, validate_count, validate_reference
from frechet.metrics import fit_gaussian
from frechet.statistics.feature_statistics import FeatureStatistics

FeatureFn = jax.tree_util.Partial  # of a Network and its params: images -> features

jax.tree_util.register_dataclass(Gaussian, ["mean", "covariance", "factor"], ["covariance_eps"])


@dataclass(frozen=True)
class Reference:
    """What images are measured against, and the network that sees them: a pytree.

    Attributes:
        extract: images (n, h, w, 3) -> (n, d) features.
        normal: their Gaussian, with its factor.
        rows: (k, d) features, or None: what KID needs.
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
    """Make a reference for the losses.

    Args:
        source: a statistics file, `Statistics`, or images (m, h, w, 3), uint8 or floating point in `value_range`.
        extractor: name in the table of extractors.
        batch_size: reference images that run together.
        **options: `dims`, `convention`, `weights` and `precision` as in `frechet.score`; `value_range`, the values that
            stand for black and white in floating-point images; `checkpoint`, gradient checkpointing in the network.

    Raises:
        RequestError: an unknown name; what exists is named.
        Mismatch: the reference was made with another extractor, layer, convention, precision or weights.
        WeightsError: the weights cannot be had.
    """
    source = load_reference(source, extractor=extractor, batch_size=batch_size, **options)
    if not isinstance(source, (FeatureStatistics, np.ndarray, jax.Array)):
        raise RequestError(
            f"the reference is a {type(source).__name__}; expected a statistics file, Statistics "
            "(frechet.collect(images)) or an array of images (m, h, w, 3)"
        )
    feature_fn = FeatureFn(*load_jax_network(extractor, **options))
    found = _collect_reference_statistics(source, feature_fn, batch_size)
    gaussian = fit_gaussian(found).with_factor()
    mean, covariance, factor = (
        _as_widest_float(array) for array in (gaussian.mean, gaussian.covariance, gaussian.factor)
    )
    is_double = mean.dtype == jnp.float64
    return Reference(
        feature_fn,
        Gaussian(
            mean, covariance=covariance if is_double else None, factor=factor, covariance_eps=gaussian.covariance_eps
        ),
        _as_widest_float(found.rows),
    )


def fid_loss(images: jax.Array, reference: Reference) -> jax.Array:
    """The Fréchet distance of a batch to a reference: FID with Inception features.

    Args:
        images: (n, h, w, 3), floating point in the reference's `value_range`. Any height and width; n of at least two.
        reference: as `reference_of` made it.

    Returns:
        A scalar; float64 for float64 images, else float32. NaN where images out of range or features that are not finite
        are met inside of `jit`, where nothing can be raised.

    Raises:
        RequestError: images of another shape or dtype or, outside of `jit`, range.
        TooFewImages: fewer than two.
        BadFeatures: outside of `jit`, NaN or infinity came out of the network; the image is named by its index.
    """
    return _compute_loss(_fid_from_features, images, reference)


def kid_loss(images: jax.Array, reference: Reference) -> jax.Array:
    """The kernel distance of a batch to a reference: the unbiased squared MMD, k(x, y) = (x·y/d + 1)³ (Bińkowski et al. 2018).

    Arguments and errors as in `fid_loss`; unbiased, so it may be negative.

    Raises:
        RequestError: also where the reference's statistics kept no rows of features.
    """
    return _compute_loss(_kid_from_features, images, reference)


def is_loss(images: jax.Array, feature_fn: FeatureFn) -> jax.Array:
    """Minus the Inception Score of a batch, in one split, of the 1008 logits without bias (Salimans et al. 2016).

    Args:
        images: as in `fid_loss`.
        extract: `jax.tree_util.Partial(*frechet.jax.network(dims=1008))`.
    """
    return _compute_loss(_is_from_logits, images, feature_fn)


def value_and_grad_in_microbatches(
    loss: Callable[..., jax.Array], make_images: Callable[..., jax.Array], *, size: int = 16
) -> Any:
    """The loss of many images and its exact gradient, in the memory of `size` of them.

    First the features of all, without a graph; then the gradient in feature space; then micro-batch by micro-batch the
    images again, with a graph, through which that gradient flows. Not an average over batches.

    Args:
        loss: `fid_loss`, `kid_loss` or `is_loss`.
        make_images: pure, (params, latents) -> (k, h, w, 3) images, one for each row of the latents. Randomness enters
            with the latents, as keys or noise.
        size: how many images are made at a time.

    Returns:
        (params, latents, reference) -> (the loss, its gradient with respect to params), pure, to be jitted. Latents are an
        array, or a pytree of arrays, with one row for each image.

    Raises:
        RequestError: another loss; or, when called, arrays of latents of different lengths, or `make_images` gives another
            number of images.
    """
    if loss not in _LOSSES:
        raise RequestError(f"the loss is {loss!r}; expected fid_loss, kid_loss or is_loss of frechet.losses.jax")
    validate_count("size", size)
    distance = _LOSSES[loss]

    def value_and_grad(params: Any, latents: Any, reference: Any) -> tuple[jax.Array, Any]:
        n = _count_latents(latents)
        steps = -(-n // size)
        batches = jax.tree.map(lambda array: _split_into_steps(array, steps, size), latents)

        def features(params: Any, batch: Any) -> jax.Array:
            images = make_images(params, batch)
            if images.shape[0] != size:
                raise RequestError(f"make_images gave {images.shape[0]} images for {size} rows of latents")
            _validate_float_images(images)
            return _get_feature_fn(reference)(images)

        first = jax.lax.map(lambda batch: features(params, batch), batches)
        rows = first.reshape(steps * size, -1)[:n]
        value, cotangent = jax.value_and_grad(distance)(rows, reference)
        cotangent = _split_into_steps(cotangent, steps, size, pad_with_zeros=True)

        def add(total: Any, step: tuple[Any, jax.Array]) -> tuple[Any, None]:
            _, vjp_fn = jax.vjp(lambda params: features(params, step[0]), params)
            return jax.tree.map(jnp.add, total, vjp_fn(step[1])[0]), None

        zero = jax.tree.map(jnp.zeros_like, params)
        return value, jax.lax.scan(add, zero, (batches, cotangent))[0]

    return value_and_grad


@jax.custom_vjp
def frechet_distance(x: jax.Array, y: jax.Array | Gaussian) -> jax.Array:
    """The squared Fréchet distance of (n, d) features to others, differentiable in both.

    Args:
        x: (n, d) features.
        y: (m, d) features, or a Gaussian with its factor.

    Returns:
        A scalar of x's dtype. Its gradient is the closed form of `frechet.distances.transport`; nothing is
        differentiated through a decomposition, so singular covariances (n < d, doubled images) are no trouble.

        Without x64 both are float64's within about 1e-5 where spreads lie within two orders of magnitude of each other. Of
        four orders the smallest directions count as none: the value is within 1e-3, the gradient within 2e-2 of its norm.
        `jax.config.update("jax_enable_x64", True)` mends that.
    """
    return _forward(x, y)[0]


def _forward(x: jax.Array, y: jax.Array | Gaussian) -> tuple[jax.Array, tuple[jax.Array, jax.Array | None]]:
    x, y = jax.tree.map(_as_floating, (x, y))
    features, other = jax.tree.map(_as_widest_float, (x, y))
    with jax.default_matmul_precision("highest"):
        p, q = _as_gaussian(features), _as_gaussian(other)
        coupling = _compute_coupling(p, q)
        gradient_x = feature_gradient(features, q.mean, coupling.onto_q).astype(x.dtype)
        gradient_y = (
            None if isinstance(y, Gaussian) else feature_gradient(other, p.mean, coupling.onto_p).astype(y.dtype)
        )
        return squared_frechet_distance(p, q, coupling).astype(x.dtype), (gradient_x, gradient_y)


def _backward(gradients: tuple[jax.Array, jax.Array | None], cotangent: jax.Array) -> Any:
    gradient_x, gradient_y = gradients
    return tuple(
        None if gradient is None else cotangent.astype(gradient.dtype) * gradient
        for gradient in (gradient_x, gradient_y)
    )


frechet_distance.defvjp(_forward, _backward)


def _compute_coupling(p: Gaussian, q: Gaussian) -> Coupling:
    """By eigenvalues where these suffice, else by singular values: in float64, since float32's factors have no covariances beside them."""
    fast = optimal_coupling(p, q)
    if q.factor is None or (p.covariance is None and q.covariance is None):
        return fast

    def exact() -> Coupling:
        found = optimal_coupling_from_factors(p, q)
        return jax.tree.map(lambda array: pad_batch(array, fast.roots.shape[0]), found)

    return jax.lax.cond(is_well_conditioned(fast), lambda: fast, exact)


def _as_gaussian(features_or_gaussian: jax.Array | Gaussian) -> Gaussian:
    """A side's Gaussian with a factor; in float32 with nothing else, since squaring would halve its seven digits."""
    if isinstance(features_or_gaussian, Gaussian):
        gaussian = features_or_gaussian
    else:
        gaussian = Gaussian.from_features(features_or_gaussian)
        if gaussian.factor is None:
            centered = (features_or_gaussian - gaussian.mean) / (features_or_gaussian.shape[0] - 1) ** 0.5
            gaussian = replace(gaussian, factor=jnp.linalg.qr(centered, mode="r"))
    return (
        gaussian
        if gaussian.factor is None or gaussian.mean.dtype == jnp.float64
        else replace(gaussian, covariance=None)
    )


def _compute_loss(distance: Callable[..., jax.Array], images: Any, reference: Any) -> jax.Array:
    feature_fn = _get_feature_fn(reference)
    _validate_float_images(images)
    features = feature_fn(images)
    if not is_traced(features) and not bool((finite := jnp.isfinite(features).all(axis=1)).all()):
        raise NonFiniteFeaturesError(
            f"the network gave NaN or infinity for image {int((~finite).argmax())} of the batch; look for NaN in the "
            "images, or for an overflow of half precision"
        )
    return distance(features, reference)


def _fid_from_features(features: jax.Array, reference: Reference) -> jax.Array:
    return frechet_distance(_validate_sample_size(features), reference.gaussian).astype(features.dtype)


def _kid_from_features(features: jax.Array, reference: Reference) -> jax.Array:
    if reference.rows is None:
        raise RequestError("the reference holds no features; KID needs some: make it with frechet stats, or of images")
    with jax.default_matmul_precision("highest"):
        return polynomial_mmd(_validate_sample_size(features), reference.rows).astype(features.dtype)


def _is_from_logits(logits: jax.Array, _extract: FeatureFn) -> jax.Array:
    return -inception_score(jax.nn.softmax(_validate_sample_size(logits), axis=1)).astype(logits.dtype)


_LOSSES: dict[Callable[..., jax.Array], Callable[..., jax.Array]] = {
    fid_loss: _fid_from_features,
    kid_loss: _kid_from_features,
    is_loss: _is_from_logits,
}


def _validate_sample_size(features: jax.Array) -> jax.Array:
    """Features of at least two images, in float64 where that is on."""
    if features.shape[0] < 2:
        raise TooFewImagesError(f"a distribution needs at least two images; got {features.shape[0]}")
    return features.astype(jnp.result_type(float))


def _get_feature_fn(reference: Any) -> FeatureFn:
    feature_fn = reference.feature_fn if isinstance(reference, Reference) else reference
    if not (isinstance(feature_fn, FeatureFn) and isinstance(feature_fn.func, Network)):
        raise RequestError(
            f"the reference is a {type(reference).__name__}; make one with frechet.losses.jax.reference_of, outside of "
            "the loop (is_loss takes jax.tree_util.Partial(*frechet.jax.network(dims=1008)))"
        )
    return feature_fn


def _validate_float_images(images: Any) -> None:
    if not hasattr(images, "dtype"):
        raise RequestError(f"images are {type(images).__name__}; expected an array (n, h, w, 3)")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise RequestError(
            f"images are {images.dtype}, through which no gradient flows; give floats: images.astype(jnp.float32) / 255"
        )


def _count_latents(latents: Any) -> int:
    """How many images latents are of.

    Raises:
        RequestError: their arrays have different numbers of rows, or none.
        TooFewImages: fewer than two.
    """
    found = sorted({jnp.shape(array)[:1] for array in jax.tree.leaves(latents)})
    if len(found) != 1 or not found[0]:
        raise RequestError(
            f"the arrays of the latents have {' and '.join(str(*rows) or 'no' for rows in found) or 'no'} rows; expected in "
            "each one row for each image (what is the same for all images belongs to params)"
        )
    if found[0][0] < 2:
        raise TooFewImagesError(f"a distribution needs at least two images; got {found[0][0]}")
    return int(found[0][0])


def _split_into_steps(array: jax.Array, steps: int, size: int, *, pad_with_zeros: bool = False) -> jax.Array:
    """(n, ...) as (steps, size, ...): what is missing at the end is zeros, or the first rows once more."""
    n = array.shape[0]
    whole = pad_batch(array, steps * size) if pad_with_zeros else array[jnp.arange(steps * size) % n]
    return whole.reshape(steps, size, *array.shape[1:])


def _as_floating(array: Any) -> jax.Array:
    array = jnp.asarray(array)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(jnp.result_type(float))


def _as_widest_float(array: np.ndarray | None) -> Any:
    return None if array is None else jnp.asarray(array, jnp.result_type(float))


def _collect_reference_statistics(
    source: FeatureStatistics | np.ndarray | jax.Array, feature_fn: FeatureFn, batch_size: int
) -> FeatureStatistics:
    network: Any = feature_fn.func
    if isinstance(source, FeatureStatistics):
        validate_reference(source, network.spec, network.dims)
        return source
    run = jax.jit(lambda feature_fn, images: feature_fn(images))
    batches = (source[start : start + batch_size] for start in range(0, source.shape[0], batch_size))
    batch_features = [np.asarray(run(feature_fn, pad_batch(batch, batch_size)))[: batch.shape[0]] for batch in batches]
    rows = np.concatenate(batch_features) if batch_features else np.empty((0, network.dims), np.float32)
    return FeatureStatistics.from_features(rows, spec=network.spec, label="images in memory")
