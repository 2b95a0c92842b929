"""Ranks that torchrun started: all of them compute, and the first one collects and prints.

Chunks are in host memory when they are sent, so they travel by gloo on every device; NCCL would not help.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from threading import Timer

import torch
import torch.distributed as dist
from torch.distributed import rendezvous  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import PrefixStore

from frechet._internal.cpu import set_cpu_affinity
from frechet.errors import RequestError, UnreachableError
from frechet.execution.liveness import watch_ranks
from frechet.execution.workers import END, Channel, serve

_TIMEOUT = timedelta(days=30)  # of a message; a rank is lost if its connection is closed, or by its heartbeat
_SECONDS_UNTIL_NOTICE = 5


@dataclass(frozen=True)
class _RankChannel:
    """A `Channel` to another rank."""

    rank: int

    @property
    def name(self) -> str:
        return f"rank {self.rank}"

    def send(self, kind: int, data: bytes) -> None:
        dist.send(torch.tensor([kind, len(data)]), self.rank)
        if data:
            dist.send(torch.frombuffer(bytearray(data), dtype=torch.uint8), self.rank)

    def receive(self) -> tuple[int, bytes]:
        header = torch.zeros(2, dtype=torch.int64)
        dist.recv(header, self.rank)
        kind, size = header.tolist()
        data = torch.empty(size, dtype=torch.uint8)
        if size:
            dist.recv(data, self.rank)
        return kind, data.numpy().tobytes()


@cache
def connect_worker_ranks() -> tuple[Channel, ...]:
    """Return a connection to each rank but the first.

    Raises:
        RequestError: this process was not started by torchrun.
    """
    if not dist.is_initialized():
        raise RequestError(
            "--engine torchrun needs processes that torchrun started. "
            "Run `torchrun --nproc-per-node N -m frechet ...`, or use --engine local (engine=)."
        )
    return tuple(_RankChannel(rank) for rank in range(1, dist.get_world_size()))


@contextmanager
def join_ranks(rendezvous_timeout: int) -> Iterator[bool]:
    """Join the other ranks, with a share of the machine's cores each.

    Yields True in the first rank. In the others it serves until the first rank is done, and then yields False.

    Args:
        rendezvous_timeout: seconds to wait for the other ranks.

    Raises:
        UnreachableError: not all ranks joined in time.
    """
    set_cpu_affinity(int(os.environ["LOCAL_RANK"]), int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    store, rank, world_size = _wait_for_ranks(rendezvous_timeout)
    with watch_ranks(store, rank, world_size):
        dist.init_process_group(
            "gloo", store=PrefixStore("gloo", store), rank=rank, world_size=world_size, timeout=_TIMEOUT
        )
        try:
            if rank:
                serve(_RankChannel(0), lambda settings: replace(settings, device=select_local_device(settings.device)))
                yield False
            else:
                yield True
                for channel in connect_worker_ranks():
                    channel.send(END, b"")
        finally:
            connect_worker_ranks.cache_clear()
            dist.destroy_process_group()


def _wait_for_ranks(rendezvous_timeout: int) -> tuple[PrefixStore, int, int]:
    """Wait until all ranks have joined. Return their common store, the rank of this process and the number of ranks.

    Raises:
        UnreachableError: not all ranks joined in time.
    """
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    waiting = f"rank {rank} waits for all {world_size} ranks of torchrun to join at {address}"
    timeout = timedelta(seconds=rendezvous_timeout)
    notice = Timer(_SECONDS_UNTIL_NOTICE, print, [f"{waiting}, for up to {rendezvous_timeout} s"], {"file": sys.stderr})
    notice.daemon = True
    notice.start()
    try:
        own_store, _, _ = next(rendezvous("env://", rank, world_size, timeout=timeout))
        store = PrefixStore(f"frechet/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", own_store)
        store.set(f"joined/{rank}", "yes")
        store.wait([f"joined/{other}" for other in range(world_size)], timeout)
    except RuntimeError as error:  # DistStoreError, DistNetworkError
        raise UnreachableError(
            f"{waiting}, but not all of them did within {rendezvous_timeout} s. Start one process per rank with torchrun, raise "
            "--rendezvous-timeout, or use --engine local to compute in this process alone."
        ) from error
    finally:
        notice.cancel()
    return store, rank, world_size


def select_local_device(device: str) -> str:
    """Return this rank's accelerator for "auto" and "cuda", and any other device unchanged."""
    if device in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    return device
