"""Rows of all ranks of `torch.distributed`, differentiable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
import torch.distributed as dist

from frechet.errors import RunError
from frechet.losses.torch_digest import hash_tensors

_FAILED = -1  # in place of a number of rows


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
    """Return the number that each rank passes, in rank order.

    Raises:
        RunError: another rank has failed (see `report_failure`).
    """
    gathered = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, torch.tensor([count], device=device))
    counts = [int(each) for each in gathered]
    if _FAILED in counts and count != _FAILED:
        raise RunError(
            f"rank {counts.index(_FAILED)} failed while it computed images or features; see the error message of that rank"
        )
    return counts


@contextmanager
def report_failure(device: torch.device, *, gather: bool) -> Iterator[None]:
    """If this rank fails, let the other ranks fail as well, which would wait for it otherwise.

    Args:
        device: device of the tensors that ranks exchange.
        gather: whether the ranks are about to call `gather_counts`, which `gather_rows` does first.
    """
    try:
        yield
    except Exception:
        if gather and is_distributed():
            with suppress(RuntimeError):  # of the communication, which may be what has failed
                gather_counts(_FAILED, device)
        raise


@contextmanager
def fail_together(device: torch.device, *, gather: bool) -> Iterator[None]:
    """Let all ranks leave a block with an error if one of them does. All ranks have to run the block equally often.

    Args:
        device: device of the tensors that ranks exchange.
        gather: whether ranks work together.

    Raises:
        RunError: another rank has failed.
    """
    with report_failure(device, gather=gather):
        yield
    if gather and is_distributed():
        gather_counts(0, device)


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
