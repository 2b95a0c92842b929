"""Eight devices, and two processes with any share of the images, compute the value of one device."""

import json
import os
import socket
import uuid
from pathlib import Path

import jax
import jax_devices
import numpy as np
import pytest
from forks import ForkedProgram
from jax_toy import noise, toy_features, x64

import frechet

pytestmark = [pytest.mark.slow, pytest.mark.subprocess]


def start(folder, devices, *arguments):
    environment = {
        **os.environ,
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
    }
    output = folder / f"output-{uuid.uuid4()}.txt"
    return ForkedProgram(output, Path(jax_devices.__file__), *arguments, environment=environment)


def result(program):
    return json.loads(program.finish().splitlines()[-1])


def test_eight_devices_compute_the_value_of_one(tmp_path, thin_weights):
    eight = result(start(tmp_path, 8, thin_weights))
    with x64(False):
        one = jax_devices.compute_on_local_devices(thin_weights)
    assert (one["devices"], eight["devices"]) == (1, 8)
    assert eight["n"] == one["n"] == [16, 13]
    assert eight["fid"] == pytest.approx(one["fid"], rel=1e-6)
    assert eight["loss"] == pytest.approx(one["loss"], rel=1e-4)
    np.testing.assert_allclose(eight["gradient"], one["gradient"], rtol=0, atol=1e-3 * np.abs(one["gradient"]).max())


@pytest.mark.skipif(not hasattr(jax, "shard_map"), reason="older versions of JAX do not track what shard_map splits")
def test_shard_map_counts_every_image_once_or_raises(tmp_path):
    split, replicated, error = result(start(tmp_path, 2, "shard_map"))
    features = toy_features(np.concatenate([noise(5, seed=1), noise(24)]))
    for n, mean, covariance in (split, replicated):
        assert n == 29
        np.testing.assert_allclose(mean, features.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(covariance, np.cov(features, rowvar=False), rtol=1e-4)
    assert "check_vma=False" in error
    assert "Use check_vma=True" in error


def test_two_processes_compute_the_value_of_one(tmp_path, thin_weights):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    found = [result(process) for process in [start(tmp_path, 2, thin_weights, rank, port) for rank in range(2)]]
    assert found[0] == found[1]
    assert found[0]["n where one process has no images"] == 5
    one, other = jax_devices.load_tiles()
    n, fid = found[0]["all"]
    assert n == 13
    assert fid == pytest.approx(float(frechet.fid(one, other, dims=jax_devices.DIMS, weights=thin_weights)), rel=1e-6)
    expected = frechet.collect(one[:8], dims=jax_devices.DIMS, weights=thin_weights)
    n, mean, trace = found[0]["one array over both"]
    assert n == 8
    assert mean == pytest.approx(expected.mean.sum(), rel=1e-5)
    assert trace == pytest.approx(expected.covariance.trace(), rel=1e-5)
