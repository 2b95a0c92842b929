"""A JAX run copies batches to the device and features back explicitly, and nothing else.

As a program: print the features of batches on all devices of this process.
"""

import json
import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forks import ForkedProgram

from frechet.backends.jax_runner import DeviceImages, JaxRunner
from frechet.preprocessing.registry import PREPROCESSINGS

SIZE = 8


def mean_color(ops, images, weights):
    return ops.global_average_pool(ops.conv(ops.from_nhwc(images), *weights["mix"]))


def make_runner(devices):
    weights = {"mix": (np.ones((5, 3, 1, 1), np.float32), np.ones(5, np.float32))}
    return JaxRunner(mean_color, weights, DeviceImages(devices, PREPROCESSINGS["clean"], SIZE), "float32")


@pytest.fixture
def runner():
    return make_runner(jax.local_devices()[:1])


def make_batches():
    images = [np.zeros((size, size, 3), np.uint8) for size in (9, 9, 20)]
    return [images, images[:1], np.zeros((3, SIZE, SIZE, 3), np.float32)]


@pytest.mark.slow
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


def make_noise():
    """Return batches of mixed sizes, of one size, and of images that the host has resized."""
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (size, size + 3, 3), np.uint8) for size in (9, 9, 20, 7, 30, 30)]
    return [images[:4], images[4:], images[:1], random.random((2, SIZE, SIZE, 3), np.float32)]


@pytest.mark.slow
@pytest.mark.subprocess
def test_several_devices_resize_as_one(tmp_path, runner):
    environment = {**os.environ, "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=3"}
    program = ForkedProgram(tmp_path / "output.txt", Path(__file__), environment=environment)
    count, features = json.loads(program.finish().splitlines()[-1])
    assert count == 3
    np.testing.assert_allclose(features, np.concatenate(list(runner.map(make_noise()))), rtol=1e-6)


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    devices = jax.local_devices()
    json.dump([len(devices), np.concatenate(list(make_runner(devices).map(make_noise()))).tolist()], sys.stdout)
