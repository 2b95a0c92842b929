"""The state of the population loss in JAX: a pytree that is stored with a checkpoint and knows what it was made for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from frechet._internal.fields import list_keywords, validate_keywords
from frechet.backends.flax_state import register_with_flax
from frechet.distances.population import PopulationMoments, TransportMap
from frechet.errors import MismatchError, RequestError
from frechet.features.jax_network import is_traced
from frechet.losses.jax_reference import Reference, get_feature_fn
from frechet.losses.population_settings import PopulationSettings


class Origin(NamedTuple):
    """What a population was made for. These are arrays, so that every way to store a pytree keeps them.

    Attributes:
        size: number of images.
        decay: factor of the weights of earlier batches; NaN for that of the size.
        features: digest of what identifies the features, uint32.
        reference: digest of the reference to which the map leads, uint32.
    """

    size: jax.Array
    decay: jax.Array
    features: jax.Array
    reference: jax.Array


@dataclass(frozen=True)
class Population:
    """Features of earlier batches, and the transport map to the reference: a pytree of arrays.

    Attributes:
        moments: mean and covariance of all rows.
        rows: (size, d) float32, the queue; None for a moving average.
        count: number of rows in the queue.
        position: index of the oldest row of a full queue.
        total_weight: sum of the weights of a moving average, below 1 while it fills.
        transport: the map to the reference.
        replaced_share: part of the population that has been replaced since the map was computed.
        exact_distance: the distance when the map was computed.
        staleness: 1 - the cosine between the gradients with the old and the new map when it was last computed; NaN before it is
            computed for the second time.
        origin: what the population was made for.
        settings: size and kind of the population; not an array.
    """

    moments: PopulationMoments
    rows: jax.Array | None
    count: jax.Array
    position: jax.Array
    total_weight: jax.Array
    transport: TransportMap
    replaced_share: jax.Array
    exact_distance: jax.Array
    staleness: jax.Array
    origin: Origin
    settings: PopulationSettings

    def __post_init__(self) -> None:
        register_with_flax(Population, _to_state_dict, _from_state_dict)


_ARRAYS = [each.name for each in fields(Population) if each.name != "settings"]
jax.tree_util.register_dataclass(Population, _ARRAYS, ["settings"])


def make_population(reference: Reference, **settings: Any) -> Population:
    """Return an empty population of generated images for `fd_loss`.

    Args:
        reference: the result of `make_reference`.
        **settings: `size`, the number of images (50,000); `memory`, "queue" for the last `size` images or "ema" for an
            exponential moving average of their moments; `decay`, the factor of the weights of earlier batches in the
            average (1 - n / size); `refresh`, the number of batches after which the transport map is computed again (1, with
            which the gradient is exact).

    Raises:
        RequestError: x64 is off, or a setting is invalid.
    """
    validate_keywords("make_population", settings, list_keywords(PopulationSettings), {"population": "size"})
    if jnp.result_type(float) != jnp.float64 or reference.gaussian.covariance is None:
        raise RequestError(
            "x64 is off, and the moments of a population need float64; expected it to be on. Call "
            "jax.config.update('jax_enable_x64', True) before make_reference."
        )
    own, dims = PopulationSettings(**settings), reference.gaussian.mean.shape[0]
    return Population(
        moments=PopulationMoments(jnp.zeros(dims), jnp.zeros((dims, dims)), jnp.ones(())),
        rows=jnp.zeros((own.size, dims), jnp.float32) if own.memory == "queue" else None,
        count=jnp.zeros((), jnp.int32),
        position=jnp.zeros((), jnp.int32),
        total_weight=jnp.zeros(()),
        transport=TransportMap(jnp.zeros((dims, dims)), jnp.zeros(())),
        replaced_share=jnp.full((), jnp.inf),
        exact_distance=jnp.full((), jnp.nan),
        staleness=jnp.full((), jnp.nan),
        origin=_identify(reference, own),
        settings=own,
    )


def is_made_for(population: Population, reference: Reference) -> jax.Array:
    """Return whether a population was made with its settings for the features of a reference, as a boolean scalar.

    A population that was restored from a checkpoint may not have been.

    Raises:
        MismatchError: it was not, and this is known because the code is not traced, or because their numbers of features differ.
    """
    dims = reference.gaussian.mean.shape[0]
    if population.moments.mean.shape[0] != dims:
        raise MismatchError(
            f"the population has {population.moments.mean.shape[0]} features and the reference {dims}; expected as many. "
            "Create the population with make_population(reference)."
        )
    expected = _identify(reference, population.settings)
    if not is_traced(population.origin.size):
        _validate_origin(population.origin, expected)
    return jnp.stack(list(_compare(population.origin, expected).values())).all()


def adopt_reference(population: Population, reference: Reference) -> Population:
    """Return a population whose map is computed again if it leads to another reference."""
    digest = _digest_reference(reference)
    is_same = population.origin.reference == digest
    return replace(
        population,
        replaced_share=jnp.where(is_same, population.replaced_share, jnp.inf),
        origin=population.origin._replace(reference=digest),
    )


def _identify(reference: Reference, settings: PopulationSettings) -> Origin:
    spec: Any = get_feature_fn(reference).func.spec  # type: ignore[attr-defined]
    return Origin(
        size=jnp.asarray(settings.size, jnp.int32),
        decay=jnp.asarray(jnp.nan if settings.decay is None else settings.decay, jnp.float32),
        features=jnp.asarray(int(hashlib.sha256(repr(spec).encode()).hexdigest()[:8], 16), jnp.uint32),
        reference=_digest_reference(reference),
    )


def _digest_reference(reference: Reference) -> jax.Array:
    """Compute a digest that does not depend on the order of summation, so that it is the same in every program."""
    total = jnp.zeros((), jnp.uint32)
    for array in jax.tree.leaves(reference.gaussian):
        bits = jax.lax.bitcast_convert_type(array.ravel().astype(jnp.float32), jnp.uint32)
        total += jnp.sum(bits * (2 * jnp.arange(bits.size, dtype=jnp.uint32) + 1), dtype=jnp.uint32)
    return total


def _compare(found: Origin, expected: Origin) -> dict[str, jax.Array]:
    """Return for each property, except the reference, whether it is the same."""
    is_default = jnp.isnan(found.decay) & jnp.isnan(expected.decay)
    return {
        "size": found.size == expected.size,
        "decay": (found.decay == expected.decay) | is_default,
        "features": found.features == expected.features,
    }


def _validate_origin(found: Origin, expected: Origin) -> None:
    differences = [
        "other features"
        if name == "features"
        else f"{name} {_format(found, name)} instead of {_format(expected, name)}"
        for name, is_same in _compare(found, expected).items()
        if not bool(is_same)
    ]
    if differences:
        raise MismatchError(
            f"the state is that of another population, with {', '.join(differences)}; expected one of the same features and "
            "settings. Create it by make_population with the extractor, size and decay of the one that was saved."
        )


def _format(origin: Origin, name: str) -> str:
    value = float(getattr(origin, name))
    return "None" if value != value else f"{value:g}"


def _to_state_dict(population: Population) -> dict[str, Any]:
    """Convert to what `flax.serialization` stores."""
    arrays = {name: getattr(population, name) for name in _ARRAYS}
    return {name: each._asdict() if hasattr(each, "_asdict") else each for name, each in arrays.items()}


def _from_state_dict(target: Population, state: dict[str, Any]) -> Population:
    """Restore a population from what `flax.serialization` stored.

    Raises:
        MismatchError: it is that of other features or settings than the target.
    """
    if (state["rows"] is None) != (target.rows is None):
        raise MismatchError(
            f"the state is that of a population with {'a moving average' if state['rows'] is None else 'a queue'}; expected "
            f"memory={target.settings.memory!r} as in the target. Create the target with the memory of the one that was saved."
        )
    origin = Origin(**state["origin"])
    _validate_origin(origin, target.origin)
    types = {"moments": PopulationMoments, "transport": TransportMap, "origin": Origin}
    arrays = {name: types[name](**each) if name in types else each for name, each in state.items()}
    return replace(target, **jax.tree.map(jnp.asarray, arrays))
