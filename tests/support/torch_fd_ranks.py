"""A generator trained with FDLoss, on one process or on two.

As a program: train as one of two processes with uneven shares of each batch.
"""

import os
import sys

import torch
import torch.distributed as dist
from torch_ranks import make_generator
from toy_extractor import TOY_EXTRACTOR

from frechet.features.registry import register_extractor
from frechet.losses.torch import FDLoss

COUNTS = [5, 2]


def train(weights, rank=None):
    """Return the parameters after five steps, and the mean of the population."""
    torch.manual_seed(0)
    reference, generator = torch.rand(9, 3, 8, 8), make_generator()
    batches = 3 * torch.randn(5, sum(COUNTS), 5)
    loss = FDLoss(reference, extractors="toy-name", weights=weights, population=20, refresh=2, normalise=False)
    model = generator if rank is None else torch.nn.parallel.DistributedDataParallel(generator)
    optimizer = torch.optim.SGD(generator.parameters(), lr=0.01)
    for step, batch in enumerate(batches):
        latents = batch if rank is None else batch.split(COUNTS)[rank]
        optimizer.zero_grad()
        if step % 2:
            loss(model(latents)).backward()
        else:
            make_images = lambda start, stop, z=latents: model(z[start:stop])  # noqa: E731
            loss.backward_in_microbatches(make_images, len(latents), size=2)
        optimizer.step()
    parameters = [parameter.detach() for parameter in generator.parameters()]
    return [*parameters, loss.populations[0].memory.mean, loss.populations[0].memory.covariance]


if __name__ == "__main__":
    rank, store, out, weights = int(sys.argv[1]), *sys.argv[2:]
    torch.set_default_dtype(torch.float64)
    register_extractor("toy-name", TOY_EXTRACTOR)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.save(train(weights, rank), f"{out}{rank}")
    dist.barrier()
    os._exit(0)  # threads of gloo that free tensors while Python exits would abort the process
