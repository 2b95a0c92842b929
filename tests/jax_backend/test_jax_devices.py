"""Eight devices, and two processes with any share of the images, compute the value of one device."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from golden_images import make_tiles

import frechet

pytestmark = [pytest.mark.slow, pytest.mark.subprocess]

SCRIPT = """
import json, os, sys
rank, world, port, weights, tests = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5]
sys.path.insert(0, tests)
import jax
jax.config.update("jax_enable_x64", False)
if world > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", world, rank)
import numpy as np
import frechet, frechet.jax as fj
from golden_images import make_tiles
from frechet.losses.jax import fid_loss, make_reference
one, other = make_tiles("skimage/data/astronaut.png", 133), make_tiles("sklearn/datasets/images/china.jpg", 128)
apply, params = fj.network(dims=64, weights=weights)
found = {"devices": jax.local_device_count()}
if world == 1:
    dividing = fj.collect([other[:64], other[64:]], apply, params)
    ends = [0, 37, 69, 72, 112, 133]
    not_dividing = fj.collect([one[a:b] for a, b in zip(ends, ends[1:])], apply, params, batch_size=32)
    found["n"] = [int(dividing.n), int(not_dividing.n)]
    found["fid"] = float(fj.fid(not_dividing, dividing))
    host = fj.to_statistics(dividing)
    images = jax.device_put(one[:16].astype(np.float32) / 255, jax.sharding.NamedSharding(
        jax.sharding.Mesh(np.asarray(jax.devices()), ("data",)), jax.sharding.PartitionSpec("data")))
    loss, gradient = jax.jit(jax.value_and_grad(fid_loss))(images, make_reference(host, dims=64, weights=weights))
    found["loss"], found["gradient"] = float(loss), [float(x) for x in np.asarray(gradient).sum((1, 2, 3))]
    print(json.dumps(found))
else:
    mine = [one[:100], one[100:111]] if rank == 0 else [one[111:]]         # uneven images and uneven batches
    theirs = [other[:20]] if rank == 0 else [other[20:90], other[90:]]
    stats, reference = (fj.merge_across_hosts(fj.collect(share, apply, params, batch_size=40)) for share in (mine, theirs))
    partly_empty = fj.merge_across_hosts(fj.collect([one[:9]] if rank else [], apply, params, batch_size=40))
    found["all"] = [int(stats.n), float(fj.fid(stats, reference))]
    found["n where one process has no images"] = int(partly_empty.n)
    by_image = jax.sharding.NamedSharding(
        jax.sharding.Mesh(np.asarray(jax.devices()), ("data",)), jax.sharding.PartitionSpec("data"))
    images = jax.make_array_from_process_local_data(by_image, one[20 * rank : 20 * (rank + 1)])
    stats = jax.jit(fj.update)(fj.empty(apply), params, images)            # one program over both processes
    host = fj.to_statistics(stats)
    found["one array over both"] = [host.n, float(host.mean.sum()), float(host.covariance.trace())]
    print(json.dumps(found), flush=True)
    jax.distributed.shutdown()
"""


def start(weights, devices, rank=0, world=1, port=0):
    tests = str(Path(__file__).parents[1] / "support")
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
    }
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(rank), str(world), str(port), str(weights), tests],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def result(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def one_device(weights):
    return result(start(weights, 1))


def test_eight_devices_compute_the_value_of_one(weights, one_device):
    eight = result(start(weights, 8))
    assert (one_device["devices"], eight["devices"]) == (1, 8)
    assert eight["n"] == one_device["n"] == [128, 133]
    assert eight["fid"] == pytest.approx(one_device["fid"], rel=1e-6)
    assert eight["loss"] == pytest.approx(one_device["loss"], rel=1e-4)
    np.testing.assert_allclose(
        eight["gradient"], one_device["gradient"], rtol=0, atol=1e-3 * np.abs(one_device["gradient"]).max()
    )


def test_two_processes_compute_the_value_of_one(weights):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [start(weights, 2, rank, 2, port) for rank in range(2)]
    found = [result(process) for process in processes]
    assert found[0] == found[1]
    assert found[0]["n where one process has no images"] == 9
    one, other = make_tiles("skimage/data/astronaut.png", 133), make_tiles("sklearn/datasets/images/china.jpg", 128)
    n, fid = found[0]["all"]
    assert n == 133
    assert fid == pytest.approx(float(frechet.fid(one, other, dims=64, weights=weights)), rel=1e-6)
    expected = frechet.collect(one[:40], dims=64, weights=weights)
    n, mean, trace = found[0]["one array over both"]
    assert n == 40
    assert mean == pytest.approx(expected.mean.sum(), rel=1e-5)
    assert trace == pytest.approx(expected.covariance.trace(), rel=1e-5)
