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


def make_generator():
    """Return a generator with a buffer, which DistributedDataParallel broadcasts in every forward pass."""
    hidden = 3 * 8 * 8
    norm = torch.nn.BatchNorm1d(hidden).eval()
    return torch.nn.Sequential(
        torch.nn.Linear(5, hidden), norm, torch.nn.Sigmoid(), torch.nn.Unflatten(1, (3, 8, 8))
    ).eval()


def collect_gradients(model):
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def compute_loss_and_gradients(weights, counts, rank=None, *, shares_reference=False):
    """Return the value, its gradient, and the gradient in microbatches, with float64 as the default dtype.

    `counts` are the numbers of images of the ranks; rank None is one process with all of them.
    """
    torch.manual_seed(0)
    latents, reference = 3 * torch.randn(sum(counts), 5), torch.rand(6, 3, 32, 32)
    generator = make_generator()
    if rank is not None:
        latents = latents.split(counts)[rank]
        reference = reference.split(3)[rank] if shares_reference else reference
        generator = torch.nn.parallel.DistributedDataParallel(generator)
    loss = FIDLoss(reference, extractor="toy-name", weights=weights)
    value = loss(generator(latents))
    value.backward()
    grads = collect_gradients(generator)
    generator.zero_grad()
    loss.backward_in_microbatches(lambda start, stop: generator(latents[start:stop]), len(latents), size=3)
    return {"value": value.detach(), "grads": grads, "microbatch": collect_gradients(generator)}


if __name__ == "__main__":
    rank, store, out, weights, counts, shares_reference = int(sys.argv[1]), *sys.argv[2:]
    torch.set_default_dtype(torch.float64)
    register_extractor("toy-name", TOY_EXTRACTOR)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    found = compute_loss_and_gradients(
        weights, list(map(int, counts.split(","))), rank, shares_reference=shares_reference == "True"
    )
    torch.save(found, f"{out}{rank}")
    dist.barrier()
    os._exit(0)  # threads of gloo that free tensors while Python exits would abort the process
