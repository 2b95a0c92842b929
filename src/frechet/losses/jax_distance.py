"""The Fréchet distance of feature arrays, differentiable in JAX by its closed-form gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from frechet.backends.jax import pad_batch
from frechet.distances.gaussian import Gaussian
from frechet.distances.transport import (
    Coupling,
    feature_gradient,
    is_well_conditioned,
    optimal_coupling,
    optimal_coupling_from_factors,
    squared_frechet_distance,
)
from frechet.errors import RequestError


def _unflatten_gaussian(covariance_eps: float, arrays: tuple[Any, ...]) -> Gaussian:
    """Rebuild a Gaussian without its constructor, because JAX also unflattens placeholders, which are not arrays."""
    gaussian = object.__new__(Gaussian)
    mean, covariance, factor = arrays
    vars(gaussian).update(mean=mean, covariance=covariance, factor=factor, covariance_eps=covariance_eps)
    return gaussian


jax.tree_util.register_pytree_node(
    Gaussian,
    lambda gaussian: ((gaussian.mean, gaussian.covariance, gaussian.factor), gaussian.covariance_eps),
    _unflatten_gaussian,
)


@jax.custom_vjp
def frechet_distance(x: jax.Array, y: jax.Array | Gaussian) -> jax.Array:
    """Compute the squared Fréchet distance between features, differentiable in both arguments.

    The gradient is the closed form of `frechet.distances.transport`: no decomposition is differentiated, so singular
    covariances (n < d, repeated images) are handled exactly.

    Without x64, value and gradient agree with float64 to about 1e-5 if the standard deviations along all directions lie
    within two orders of magnitude. Over four orders, the smallest directions are treated as zero: the value agrees to
    1e-3, the gradient to 2e-2 of its norm. Use `jax.config.update("jax_enable_x64", True)` in that case.

    Args:
        x: features (n, d), floating point, n >= 2.
        y: features (m, d), m >= 2, or a Gaussian with a factor.

    Returns:
        A scalar with the dtype of x; NaN if a feature is NaN.

    Raises:
        RequestError: features are complex, or not of shape (n, d).
        MismatchError: x and y differ in d.
        TooFewImagesError: x or y has fewer than two rows.

    Example:
        >>> x, y = jax.random.normal(jax.random.key(0), (2, 10, 4))
        >>> jax.grad(frechet_distance)(x, y).shape
        (10, 4)
    """
    return _forward(x, y)[0]


def as_widest_float(array: Any) -> Any:
    """Convert an array to float64 if x64 is on and to float32 otherwise; None stays None."""
    return None if array is None else jnp.asarray(array, jnp.result_type(float))


def _forward(x: jax.Array, y: jax.Array | Gaussian) -> tuple[jax.Array, tuple[jax.Array, jax.Array | None]]:
    for name, array in (("x", x), *([] if isinstance(y, Gaussian) else [("y", y)])):
        if getattr(array, "ndim", None) != 2:
            given = f"of shape {array.shape}" if hasattr(array, "shape") else f"a {type(array).__name__}"
            raise RequestError(f"{name} is {given}; expected an array of features (n, d), one row per image")
    x, y = jax.tree.map(_as_floating, (x, y))
    features, other = jax.tree.map(as_widest_float, (x, y))
    with jax.default_matmul_precision("highest"):
        p, q = _as_gaussian(features), _as_gaussian(other)
        coupling = compute_coupling(p, q)
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


def compute_coupling(p: Gaussian, q: Gaussian, **accuracy: float) -> Coupling:
    """Compute the transport from eigenvalues, and in float64 from singular values if eigenvalues lose too many digits.

    In float32 there are factors but no covariances, so `optimal_coupling` already uses singular values.

    Args:
        p: a Gaussian.
        q: a Gaussian with a factor.
        **accuracy: `min_relative_root` of `is_well_conditioned`.
    """
    fast = optimal_coupling(p, q)
    if q.factor is None or (p.covariance is None and q.covariance is None):
        return fast

    def exact() -> Coupling:
        coupling = optimal_coupling_from_factors(p if p.factor is not None else _add_factor(p), q)
        return jax.tree.map(lambda array: pad_batch(array, fast.roots.shape[0]), coupling)

    return jax.lax.cond(is_well_conditioned(fast, **accuracy), lambda: fast, exact)


def attach_gradient(features: jax.Array, value: jax.Array, gradient: jax.Array) -> jax.Array:
    """Return a value with its gradient with respect to features, which raises if it is differentiated.

    Args:
        features: (n, d) features.
        value: a scalar of the dtype of the features, computed without a derivative.
        gradient: (n, d) its gradient.
    """
    return _with_gradient(features, value, gradient)


@jax.custom_vjp
def _with_gradient(_features: jax.Array, value: jax.Array, _gradient: jax.Array) -> jax.Array:
    return value


def _keep_gradient(features: jax.Array, value: jax.Array, gradient: jax.Array) -> tuple[jax.Array, Any]:
    return value, (features, gradient)


def _multiply_gradient(residuals: Any, cotangent: jax.Array) -> Any:
    return cotangent * _reject_second_derivative(*residuals), None, None


_with_gradient.defvjp(_keep_gradient, _multiply_gradient)


@jax.custom_jvp
def _reject_second_derivative(_features: jax.Array, gradient: jax.Array) -> jax.Array:
    return gradient


@_reject_second_derivative.defjvp
def _raise_second_derivative(_primals: Any, _tangents: Any) -> Any:
    raise RequestError(
        "the distance of a population has no second derivative, so its gradient cannot be part of a loss; differentiate it "
        "once, or penalise the features instead"
    )


def _add_factor(gaussian: Gaussian) -> Gaussian:
    """Add a triangular factor, of any rank, to a Gaussian that is known by its covariance."""
    values, vectors = jnp.linalg.eigh(gaussian.covariance)
    kept = values > gaussian.rank_tolerance * jnp.max(jnp.abs(values))
    roots = jnp.sqrt(jnp.where(kept, values, 0))
    return replace(gaussian, factor=jnp.linalg.qr((vectors * roots).T, mode="r"))


def _as_gaussian(features_or_gaussian: jax.Array | Gaussian) -> Gaussian:
    """Return a Gaussian with a factor; in float32 without a covariance, since squaring loses half of seven digits."""
    if isinstance(features_or_gaussian, Gaussian):
        gaussian = features_or_gaussian
    else:
        gaussian = Gaussian.from_features(features_or_gaussian)
        if gaussian.factor is None:
            centered = (features_or_gaussian - gaussian.mean) / (features_or_gaussian.shape[0] - 1) ** 0.5
            gaussian = replace(gaussian, factor=jnp.linalg.qr(centered, mode="r"))
    if gaussian.factor is None or gaussian.mean.dtype == jnp.float64:
        return gaussian
    return replace(gaussian, covariance=None)


def _as_floating(array: Any) -> jax.Array:
    array = jnp.asarray(array)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise RequestError(f"features are {array.dtype}; expected floating point")
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(jnp.result_type(float))
