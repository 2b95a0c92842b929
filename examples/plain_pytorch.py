"""Compute FID of a generator, with its confidence interval, in a plain PyTorch loop.

python plain_pytorch.py reference.npz            # statistics by frechet stats or pytorch-fid
"""

import sys

import torch

from frechet.integrations.torchmetrics import FID

options = {"extractor": "efficientnet-lite0"} if "--offline" in sys.argv else {}
generator = torch.nn.Sequential(torch.nn.Linear(8, 3 * 32 * 32), torch.nn.Sigmoid(), torch.nn.Unflatten(1, (3, 32, 32)))

fid = FID(sys.argv[1], **options)
for _ in range(4):
    with torch.no_grad():
        fid.update(generator(torch.randn(16, 8)))
score = fid.score()
print(score, score.interval_95 or score.interval_unavailable_reason)
