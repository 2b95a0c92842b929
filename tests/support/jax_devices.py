"""Statistics, scores and losses in JAX, on all devices of this process or of two processes.

As a program: compute them and print them as JSON.
"""

import json
import sys
from itertools import pairwise

import jax
import numpy as np
from golden_images import make_tiles
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax_toy import MIX, TOY, noise
from small_networks import make_thin_rows

import frechet.jax as fj
from frechet.errors import RequestError
from frechet.features.registry import EXTRACTORS
from frechet.losses.jax import fid_loss, make_reference

DIMS = 4  # of the first layer of the thin network


def load_tiles():
    """Return 13 and 16 tiles: eight devices share only the latter evenly."""
    return make_tiles("skimage/data/astronaut.png", 13), make_tiles("sklearn/datasets/images/china.jpg", 16)


def shard_by_image():
    return NamedSharding(Mesh(np.asarray(jax.devices()), ("data",)), PartitionSpec("data"))


def compute_on_local_devices(weights):
    """Return the number of devices, and what they compute."""
    one, other = load_tiles()
    apply, params = fj.network(dims=DIMS, weights=weights)
    dividing = fj.collect([other[:8], other[8:]], apply, params)
    ends = [0, 9, 13]
    not_dividing = fj.collect([one[a:b] for a, b in pairwise(ends)], apply, params, batch_size=8)
    reference = make_reference(fj.to_statistics(dividing), dims=DIMS, weights=weights)
    images = jax.device_put(one[:8].astype(np.float32) / 255, shard_by_image())
    loss, gradient = jax.jit(jax.value_and_grad(fid_loss))(images, reference)
    return {
        "devices": jax.local_device_count(),
        "n": [int(dividing.n), int(not_dividing.n)],
        "fid": float(fj.fid(not_dividing, dividing)),
        "loss": float(loss),
        "gradient": [float(x) for x in np.asarray(gradient).sum((1, 2, 3))],
    }


def count_in_shard_map(**options):
    """Return the number and the mean of 24 images that shard_map splits over all devices, and of 24 that each device has."""
    mesh, images = Mesh(np.asarray(jax.devices()), ("data",)), noise(24)
    found = []
    for specs in (PartitionSpec("data"), PartitionSpec()):
        run = jax.shard_map(
            lambda stats, images: fj.update(stats, MIX, images),
            mesh=mesh,
            in_specs=(PartitionSpec(), specs),
            out_specs=PartitionSpec(),
            **options,
        )
        stats = fj.to_statistics(jax.jit(run)(fj.update(fj.empty(TOY), MIX, noise(5, seed=1)), images))
        found.append([stats.n, stats.mean.tolist(), stats.covariance.tolist()])
    return found


def compute_in_two_processes(weights, rank, port):
    """Return what this process and the other one compute together."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", 2, rank)
    one, other = load_tiles()
    apply, params = fj.network(dims=DIMS, weights=weights)
    mine = [one[:7], one[7:9]] if rank == 0 else [one[9:]]  # uneven images and uneven batches
    theirs = [other[:3]] if rank == 0 else [other[3:11], other[11:]]
    stats, reference = (
        fj.merge_across_hosts(fj.collect(share, apply, params, batch_size=6)) for share in (mine, theirs)
    )
    partly_empty = fj.merge_across_hosts(fj.collect([one[:5]] if rank else [], apply, params, batch_size=6))
    images = jax.make_array_from_process_local_data(shard_by_image(), one[4 * rank : 4 * (rank + 1)])
    over_both = fj.to_statistics(jax.jit(fj.update)(fj.empty(apply), params, images))  # one program over both processes
    return {
        "all": [int(stats.n), float(fj.fid(stats, reference))],
        "n where one process has no images": int(partly_empty.n),
        "one array over both": [over_both.n, float(over_both.mean.sum()), float(over_both.covariance.trace())],
    }


if __name__ == "__main__":
    weights, *rank_and_port = sys.argv[1:]
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", False)
    EXTRACTORS._entries.update(make_thin_rows())
    if weights == "shard_map":
        found = count_in_shard_map()
        try:
            count_in_shard_map(check_vma=False)
        except RequestError as error:
            found.append(str(error))
    elif rank_and_port:
        found = compute_in_two_processes(weights, *map(int, rank_and_port))
    else:
        found = compute_on_local_devices(weights)
    print(json.dumps(found), flush=True)  # noqa: T201
    if rank_and_port:
        jax.distributed.shutdown()
