"""Ranks that torchrun started: the first prints, all of them compute. Bytes go by gloo, whatever the devices are.

Features are on the host when they are gathered, so NCCL would have nothing to carry.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache

import torch
import torch.distributed as dist

from frechet._internal.cpu import take_share
from frechet.errors import RequestError
from frechet.execution.workers import END, Channel, serve

_PATIENCE = timedelta(days=30)  # a rank that is gone is noticed by its closed connection, not by a clock


@dataclass(frozen=True)
class _Rank:
    """Another rank, as a `Channel`."""

    number: int

    @property
    def name(self) -> str:
        return f"rank {self.number}"

    def send(self, kind: int, data: bytes) -> None:
        dist.send(torch.tensor([kind, len(data)]), self.number)
        if data:
            dist.send(torch.frombuffer(bytearray(data), dtype=torch.uint8), self.number)

    def receive(self) -> tuple[int, bytes]:
        head = torch.zeros(2, dtype=torch.int64)
        dist.recv(head, self.number)
        kind, size = head.tolist()
        data = torch.empty(size, dtype=torch.uint8)
        if size:
            dist.recv(data, self.number)
        return kind, data.numpy().tobytes()


@cache
def other_ranks() -> tuple[Channel, ...]:
    """All ranks but the first, connected.

    Raises:
        RequestError: this process is not the first of those that torchrun started.
    """
    if not dist.is_initialized():
        raise RequestError("--engine torchrun is for `torchrun --nproc-per-node N -m frechet ...`")
    return tuple(_Rank(number) for number in range(1, dist.get_world_size()))


@contextmanager
def joined() -> Iterator[bool]:
    """Join the other ranks, with a share of the machine's cores each; gives whether this is the first one.

    The others serve until the first is done, and are done then themselves.
    """
    take_share(int(os.environ["LOCAL_RANK"]), int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        if dist.get_rank():
            serve(_Rank(0), lambda settings: replace(settings, device=own_device(settings.device)))
            yield False
        else:
            yield True
            for channel in other_ranks():
                channel.send(END, b"")
    finally:
        other_ranks.cache_clear()
        dist.destroy_process_group()


def own_device(wish: str) -> str:
    """This rank's accelerator, where any would do."""
    if wish in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    return wish
