"""A loss and its gradient with respect to a generator, whose latents may be split over two processes.

As a program: compute them as one of the processes.
"""

import os
import sys

import torch
import torch.distributed as dist
from toy_extractor import TOY_EXTRACTOR

from frechet.features.registry import register_extractor
from frechet.losses.torch import FIDLoss


def compute_loss_and_gradients(weights, rank=0, world=1):
    """Return the value, its gradient, and the gradient in microbatches, with float64 as the default dtype."""
    torch.manual_seed(0)
    latents, reference = 3 * torch.randn(7, 5), torch.rand(6, 3, 32, 32)
    generator = torch.nn.Sequential(torch.nn.Linear(5, 3 * 8 * 8), torch.nn.Sigmoid(), torch.nn.Unflatten(1, (3, 8, 8)))
    loss = FIDLoss(reference, extractor="toy-name", weights=weights)
    own = latents
    model = generator
    if world > 1:
        own = latents[:4] if rank == 0 else latents[4:]
        generator = torch.nn.parallel.DistributedDataParallel(generator)
    value = loss(generator(own))
    value.backward()
    grads = torch.cat([parameter.grad.flatten() for parameter in generator.parameters()])
    generator.zero_grad()
    loss.backward_in_microbatches(lambda start, stop: model(own[start:stop]), len(own), size=3)
    microbatch = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    if world > 1:
        dist.all_reduce(microbatch)
        microbatch /= world
    return {"value": value.detach(), "grads": grads, "microbatch": microbatch}


if __name__ == "__main__":
    rank, world, store, out, weights = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
    torch.set_default_dtype(torch.float64)
    register_extractor("toy-name", TOY_EXTRACTOR)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    found = compute_loss_and_gradients(weights, rank, world)
    if rank == 0:
        torch.save(found, out)
    dist.barrier()
    os._exit(0)  # threads of gloo that free tensors while Python exits would abort the process
