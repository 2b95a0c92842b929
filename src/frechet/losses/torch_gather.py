"""Rows of all ranks of `torch.distributed`, differentiable."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from frechet.losses.torch_digest import hash_tensors


def is_distributed() -> bool:
    """Return whether this process is one of several ranks."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """Concatenate the rows (n, d) of all ranks in rank order; n may differ between ranks, and be 0.

    Every rank computes the same loss from the result, and the gradients are scaled so that their mean over ranks, which
    DistributedDataParallel takes, is the gradient of this loss.
    """
    gathered: torch.Tensor = _GatherRows.apply(rows)
    return gathered


def gather_counts(count: int, device: torch.device) -> list[int]:
    """Return the number that each rank passes, in rank order."""
    counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([count], device=device))
    return [int(each) for each in counts]


def gather_distinct_rows(rows: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Concatenate the feature rows (n, d) of all ranks, once for ranks that have the same images (n, 3, h, w)."""
    own_digest = torch.tensor([list(hash_tensors(images))], dtype=torch.uint8, device=rows.device)
    digests = [bytes(each.tolist()) for each in gather_rows(own_digest)]
    counts = gather_counts(rows.shape[0], rows.device)
    by_rank = gather_rows(rows).split(counts)
    return torch.cat([each for rank, each in enumerate(by_rank) if digests.index(digests[rank]) == rank])


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        counts = gather_counts(rows.shape[0], rows.device)
        padded = rows.new_zeros((max(counts), rows.shape[1]))
        padded[: rows.shape[0]] = rows
        rank_rows = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(rank_rows, padded)
        start = sum(counts[: dist.get_rank()])
        ctx.own_rows, ctx.world_size = slice(start, start + rows.shape[0]), len(counts)
        return torch.cat([each[:count] for each, count in zip(rank_rows, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return grad_output[ctx.own_rows] * ctx.world_size
