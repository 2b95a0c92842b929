"""The Fréchet distance of a large population of generated images as a loss of small batches, in JAX.

population = make_population(reference, size=50_000)
step = jax.jit(jax.value_and_grad(fd_loss, has_aux=True))
(distance, population), gradient = step(images, reference, population)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from frechet.distances.gaussian import Gaussian
from frechet.distances.population import (
    MIN_RELATIVE_ROOT,
    PopulationMoments,
    TransportMap,
    compute_moments,
    is_outdated,
    linearised_distance,
    make_transport_map,
    mix,
    population_gradient,
    remove,
)
from frechet.losses.jax_distance import attach_gradient, compute_coupling
from frechet.losses.jax_population import Population, adopt_reference, is_made_for
from frechet.losses.jax_reference import Reference, as_sample


class _Step(NamedTuple):
    """Moments of what a batch is added to, and the weight of the batch in the sum."""

    rest: PopulationMoments
    share: Any


def fd_from_features(features: jax.Array, reference: Reference, population: Population) -> tuple[jax.Array, Population]:
    """Compute the distance of a population with a batch in it, differentiable in the batch, and the next population.

    Args:
        features: (n, d) features of the batch.
        reference: the result of `make_reference`.
        population: the population before this batch.

    Raises:
        RequestError: the batch is larger than the population.
        TooFewImagesError: n < 2.
        MismatchError: the population was made for other features or settings; in traced code, the distance is NaN instead.
    """
    population.settings.validate_batch(features.shape[0])
    is_valid = is_made_for(population, reference)
    population = adopt_reference(population, reference)
    rows, q = jax.lax.stop_gradient(as_sample(features)), reference.gaussian
    with jax.default_matmul_precision("highest"):
        step = _prepare(population, rows.shape[0])
        moments = mix(step.rest, compute_moments(rows), step.share)
        p, weight = moments.to_gaussian(), step.share / rows.shape[0]

        def compute_gradient(transport: TransportMap) -> jax.Array:
            weights = weight / (1 - moments.weight_squares), weight
            return population_gradient(rows, p, q, transport, weights)

        transport, staleness, is_due = _renew_map(population, p, q, step.share, compute_gradient)
        value = jnp.where(is_valid, linearised_distance(p, q, transport), jnp.nan)
        gradient = jnp.where(is_valid, compute_gradient(transport), jnp.nan)
        following = replace(
            _add(population, rows, step),
            transport=transport,
            staleness=staleness,
            replaced_share=jnp.where(is_due, 0.0, population.replaced_share + step.share),
            exact_distance=jnp.where(is_due, value, population.exact_distance),
        )
    return attach_gradient(features, value.astype(features.dtype), gradient.astype(features.dtype)), following


def _prepare(population: Population, n: int) -> _Step:
    """Return what a batch of n rows is added to."""
    moments, settings = population.moments, population.settings
    if population.rows is None:
        new = settings.steady_share(n)
        return _Step(moments, new / ((1 - new) * population.total_weight + new))
    indices = _next_indices(population, n)
    is_replaced = indices < population.count
    n_replaced = is_replaced.sum()
    kept = population.count - n_replaced
    share = jnp.where(kept > 0, n_replaced / jnp.maximum(population.count, 1), 0.0)
    oldest = compute_moments(population.rows[indices].astype(jnp.float64), is_replaced)
    return _Step(remove(moments, oldest, share), n / (kept + n))


def _renew_map(
    population: Population, p: Gaussian, q: Gaussian, share: Any, compute_gradient: Any
) -> tuple[TransportMap, jax.Array, jax.Array]:
    """Return the map to use, the staleness of the last one, and whether the map is new."""
    earlier = population.transport
    n_rows = jax.eval_shape(compute_gradient, earlier).shape[0]
    is_due = population.settings.is_due(population.replaced_share, share, n_rows)
    is_due |= is_outdated(linearised_distance(p, q, earlier), population.exact_distance)

    def renew() -> tuple[TransportMap, jax.Array]:
        transport = make_transport_map(q, compute_coupling(p, q, min_relative_root=MIN_RELATIVE_ROOT))
        stale, exact = compute_gradient(earlier).ravel(), compute_gradient(transport).ravel()
        cosine = stale @ exact / (jnp.linalg.norm(stale) * jnp.linalg.norm(exact))
        return transport, jnp.where(jnp.isinf(population.replaced_share), jnp.nan, 1 - cosine)

    transport, staleness = jax.lax.cond(is_due, renew, lambda: (earlier, population.staleness))
    return transport, staleness, is_due


def _add(population: Population, rows: jax.Array, step: _Step) -> Population:
    """Return the population with a batch, of which a queue stores the rows in float32."""
    n, settings = rows.shape[0], population.settings
    if population.rows is None:
        new = settings.steady_share(n)
        moments = mix(step.rest, compute_moments(rows), step.share)
        return replace(population, moments=moments, total_weight=(1 - new) * population.total_weight + new)
    stored = rows.astype(jnp.float32)
    return replace(
        population,
        moments=mix(step.rest, compute_moments(stored.astype(jnp.float64)), step.share),
        rows=population.rows.at[_next_indices(population, n)].set(stored),
        count=jnp.minimum(population.count + n, settings.size),
        position=(population.position + n) % settings.size,
    )


def _next_indices(population: Population, n: int) -> jax.Array:
    return (population.position + jnp.arange(n, dtype=jnp.int32)) % population.settings.size
