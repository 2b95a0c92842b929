"""A JAX run copies batches to the device and features back explicitly, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from frechet.backends.jax_runner import DeviceImages, JaxRunner
from frechet.preprocessing.registry import PREPROCESSINGS

SIZE = 8


def mean_color(ops, images, weights):
    return ops.global_average_pool(ops.conv(ops.from_nhwc(images), *weights["mix"]))


@pytest.fixture
def runner():
    weights = {"mix": (np.ones((5, 3, 1, 1), np.float32), np.ones(5, np.float32))}
    return JaxRunner(
        mean_color, weights, DeviceImages(jax.local_devices()[:1], PREPROCESSINGS["clean"], SIZE), "float32"
    )


def make_batches():
    images = [np.zeros((size, size, 3), np.uint8) for size in (9, 9, 20)]
    return [images, images[:1], np.zeros((3, SIZE, SIZE, 3), np.float32)]


def test_no_batch_is_copied_implicitly(runner):
    list(runner.map(make_batches()))  # compiles, and places the constants of the programs
    with jax.transfer_guard_host_to_device("disallow"):
        assert [features.shape for features in runner.map(make_batches())] == [(3, 5), (1, 5), (3, 5)]


def test_an_implicit_copy_inside_the_loop_is_an_error(runner):
    put = runner.images.put
    runner.images.put = lambda batch, rows: put(batch, rows) + np.ones((1, 1, 1, 1), np.float32)
    list(runner.map(make_batches()))
    with jax.transfer_guard_host_to_device("disallow"), pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed"):
        list(runner.map(make_batches()))


def test_the_guard_finds_implicit_copies():
    with jax.transfer_guard_host_to_device("disallow"), pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed"):
        jnp.ones(3) + np.ones(3, np.float32)
