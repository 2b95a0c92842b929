"""The Fréchet distance of a population in JAX: against an independent calculation and PyTorch."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax_toy import MIX, TOY, noise, toy_features, x64
from population_distance import central_differences, population_distance
from test_torch_fd import DIMS, draw_features, make_distance, weigh_batches

from frechet.distances.gaussian import Gaussian
from frechet.errors import MismatchError, RequestError
from frechet.losses.jax import Reference, fd_loss, make_population, value_and_grad_in_microbatches
from frechet.losses.jax_fd import fd_from_features
from frechet.losses.jax_population import is_made_for

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def double():
    with x64(True):
        yield


@pytest.fixture
def reference():
    gaussian = Gaussian.from_features(jnp.asarray(draw_features(30, 50))).with_factor()
    return Reference(jax.tree_util.Partial(TOY, MIX), gaussian, None)


def make_toy_reference():
    """Return a reference of the toy network, whose features have three dimensions."""
    gaussian = Gaussian.from_features(jnp.asarray(toy_features(noise(20)))).with_factor()
    return Reference(jax.tree_util.Partial(TOY, MIX), gaussian, None)


step = jax.jit(jax.value_and_grad(fd_from_features, has_aux=True))


@pytest.mark.parametrize(("memory", "decay"), [("queue", None), ("ema", None), ("ema", 0.6)])
@pytest.mark.parametrize("sizes", [[4], [4, 4], [4] * 5, [3, 4, 3, 4, 3], [4, 12]], ids=str)
def test_value_and_gradient_equal_those_of_the_whole_population(reference, memory, decay, sizes):
    """Of 12 rows in 7 dimensions: fewer rows than dimensions, part-filled, full, wrapped, and replaced as a whole.

    Another size of a batch is another program to compile.
    """
    batches = [draw_features(n, seed) for seed, n in enumerate(sizes)]
    if memory == "ema" and decay is None and max(sizes) == 12:
        decay = 0.0
    weights = weigh_batches(memory, sizes, decay=decay)
    population = make_population(reference, size=12, memory=memory, decay=decay, refresh=1)
    for batch in batches:
        (value, population), gradient = step(jnp.asarray(batch), reference, population)

    def compute(rows):
        return population_distance(np.concatenate([*batches[:-1], rows]), weights, draw_features(30, 50))

    expected = central_differences(compute, batches[-1])
    assert float(value) == pytest.approx(compute(batches[-1]), rel=1e-9)
    assert np.abs(gradient - expected).max() <= 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize(("memory", "decay"), [("queue", None), ("ema", 0.6)])
@pytest.mark.parametrize("refresh", [1, 3])
def test_torch_and_jax_agree(reference, memory, decay, refresh):
    population = make_population(reference, size=48, memory=memory, decay=decay, refresh=refresh)
    distance = make_distance(memory, size=48, decay=decay, refresh=refresh)
    for seed in range(12):
        batch = draw_features(4, seed)
        leaf = torch.from_numpy(batch).requires_grad_()
        expected = distance(leaf)
        expected.backward()
        (value, population), gradient = step(jnp.asarray(batch), reference, population)
        assert float(value) == pytest.approx(float(expected.detach()), rel=1e-9)
        assert np.linalg.norm(gradient - leaf.grad.numpy()) <= 1e-6 * leaf.grad.norm()
        assert float(population.staleness) == pytest.approx(distance.staleness, abs=1e-9, nan_ok=True)
    assert distance.staleness > 0 or refresh == 1


def test_the_map_is_renewed_if_the_population_approaches_the_reference(reference):
    """The distance falls by half within two steps, and PyTorch renews the map in the same ones."""
    population = make_population(reference, size=48, refresh=3)
    distance = make_distance("queue", size=48, refresh=3)
    for seed in range(25):
        batch = 5 * draw_features(4, seed) if seed < 13 else draw_features(30, 50)[seed : seed + 4]
        (value, population), _ = step(jnp.asarray(batch), reference, population)
        expected = float(distance(torch.from_numpy(batch)))
        assert float(value) == pytest.approx(expected, rel=1e-6)
        assert expected > 0


def test_images_and_microbatches_give_the_same_gradient():
    images = jax.random.uniform(jax.random.key(0), (10, 8, 8, 3))
    reference = make_toy_reference()
    population = make_population(reference, size=8, refresh=1)
    step = jax.jit(jax.value_and_grad(fd_loss, has_aux=True))
    (_, population), _ = step(images[5:], reference, population)
    (value, whole), gradient = step(images[:5], reference, population)
    steps = jax.jit(value_and_grad_in_microbatches(fd_loss, lambda params, rows: params[rows], size=2))
    (other, split), found = steps(images, jnp.arange(5), reference, population)
    assert float(other) == pytest.approx(float(value), rel=1e-9)
    np.testing.assert_allclose(found[:5], gradient, rtol=1e-9, atol=1e-12)
    for one, two in zip(jax.tree.leaves(whole), jax.tree.leaves(split), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6)
    assert int(split.count) == 8


def restore(population, target):
    """Return a population with the arrays of one and the settings of another, as a checkpoint is restored."""
    return jax.tree.unflatten(jax.tree.structure(target), jax.tree.leaves(population))


def fill(reference, count=14, **settings):
    population = make_population(reference, **{"size": 48, **settings})
    for seed in range(count):
        _, population = step(jnp.asarray(draw_features(4, seed)), reference, population)[0]
    return population


def test_a_restart_continues_identically(reference):
    population = fill(reference, refresh=3)
    restored = restore(population, make_population(reference, size=48, refresh=3))
    batch = jnp.asarray(draw_features(4, 14))
    (expected, _), gradient = step(batch, reference, population)
    (value, _), found = step(batch, reference, restored)
    assert float(value) == float(expected)
    np.testing.assert_array_equal(found, gradient)


def test_a_population_may_be_restored_for_another_reference(reference):
    """The next distance is that to the new reference, although the map to the old one would be kept."""
    other = replace(reference, gaussian=Gaussian.from_features(jnp.asarray(draw_features(30, 60))).with_factor())
    restored = restore(fill(reference, refresh=3), make_population(other, size=48, refresh=3))
    batch = draw_features(4, 14)
    (value, following), _ = step(jnp.asarray(batch), other, restored)
    rows = np.concatenate([draw_features(4, seed) for seed in range(3, 14)] + [batch])
    expected = population_distance(rows, np.full(48, 1 / 48), draw_features(30, 60))
    assert float(value) == pytest.approx(expected, rel=1e-9)
    assert np.isnan(following.staleness)
    assert float(following.replaced_share) == 0
    assert float(step(jnp.asarray(batch), other, following)[0][1].replaced_share) > 0  # the new map is kept


@pytest.mark.parametrize(
    ("stored", "target", "message"),
    [
        ({"memory": "ema", "decay": 0.9}, {"memory": "ema", "decay": 0.1}, r"decay 0\.9 instead of 0\.1"),
        ({"memory": "ema", "decay": 0.9}, {"memory": "ema"}, r"decay 0\.9 instead of None"),
        ({"memory": "ema"}, {"memory": "ema", "size": 96}, "size 48 instead of 96"),
        ({}, {"features": "1"}, "other features"),
    ],
    ids=["decay", "no decay", "size", "features"],
)
def test_a_population_that_was_made_for_others_is_rejected(reference, stored, target, message):
    network = replace(TOY, spec=replace(TOY.spec, weights=target.get("features", TOY.spec.weights)))
    other = replace(reference, feature_fn=jax.tree_util.Partial(network, MIX))
    settings = {"size": 48, **target}
    settings.pop("features", None)
    restored = restore(make_population(reference, **{"size": 48, **stored}), make_population(other, **settings))
    with pytest.raises(MismatchError, match=message):
        fd_from_features(jnp.asarray(draw_features(4, 14)), other, restored)
    assert not jax.jit(is_made_for)(restored, other)


def test_a_compiled_program_that_cannot_raise_returns_nan(reference):
    settings = {"size": 48, "memory": "ema"}
    stored, target = (make_population(reference, **settings, decay=decay) for decay in (0.9, 0.1))
    (value, _), gradient = step(jnp.asarray(draw_features(4, 14)), reference, restore(stored, target))
    assert np.isnan(value)
    assert np.isnan(gradient).all()


def test_flax_stores_and_restores_populations(reference):
    serialization = pytest.importorskip("flax.serialization")
    for settings in ({"refresh": 3}, {"memory": "ema", "decay": 0.9}):
        population = fill(reference, **settings)
        target = make_population(reference, **{"size": 48, **settings})
        restored = serialization.from_bytes(target, serialization.to_bytes(population))
        for one, two in zip(jax.tree.leaves(population), jax.tree.leaves(restored), strict=True):
            np.testing.assert_array_equal(one, two)
        assert jax.tree.structure(restored) == jax.tree.structure(population)
    other = make_population(reference, size=48, memory="ema", decay=0.1)
    with pytest.raises(MismatchError, match=r"decay 0\.9 instead of 0\.1"):
        serialization.from_bytes(other, serialization.to_bytes(population))
    with pytest.raises(MismatchError, match="a moving average; expected memory='queue'"):
        serialization.from_bytes(make_population(reference, size=48), serialization.to_bytes(population))


def test_invalid_arguments_are_rejected(reference):
    with pytest.raises(RequestError, match=r"batch has 13 images and the population 12"):
        fd_from_features(jnp.asarray(draw_features(13, 0)), reference, make_population(reference, size=12))
    with x64(False), pytest.raises(RequestError, match=r"x64 is off, .*jax_enable_x64"):
        make_population(reference)
    with pytest.raises(MismatchError, match="population has 7 features and the reference 3"):
        fd_from_features(jnp.asarray(draw_features(4, 0)), make_toy_reference(), make_population(reference))
    with pytest.raises(RequestError, match="memory is 'queue'"):
        make_population(reference, decay=0.9)
    population = make_population(reference, size=12)

    def squared_gradient(x):
        return jnp.sum(jax.grad(fd_from_features, has_aux=True)(x, reference, population)[0] ** 2)

    with pytest.raises(RequestError, match="no second derivative"):
        jax.grad(squared_gradient)(jnp.asarray(draw_features(4, 0)))
    assert reference.gaussian.mean.shape == (DIMS,)
