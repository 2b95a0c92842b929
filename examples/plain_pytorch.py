"""Compute FID of a generator, with its confidence interval, in a plain PyTorch loop.

python plain_pytorch.py reference.npz            # statistics by frechet stats or pytorch-fid
torchrun --nproc-per-node 2 plain_pytorch.py reference.npz
"""

import sys

import torch
import torch.distributed as dist

from frechet.integrations.torchmetrics import FID

rank, world_size = 0, 1
if dist.is_torchelastic_launched():
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()

options = {"extractor": "efficientnet-lite0"} if "--offline" in sys.argv else {}
torch.manual_seed(0)  # the same weights and latents in every process
generator = torch.nn.Sequential(torch.nn.Linear(8, 3 * 32 * 32), torch.nn.Sigmoid(), torch.nn.Unflatten(1, (3, 32, 32)))

fid = FID(sys.argv[1], **options)
for latents in torch.randn(64, 8)[rank::world_size].split(16):  # the share of this process
    with torch.no_grad():
        fid.update(generator(latents))
score = fid.score()  # in every process
if rank == 0:
    print(score, score.interval_95 or score.interval_unavailable_reason)
