"""Ranks report that they are alive; a rank that stopped without closing its connections ends the others."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Protocol

_HEARTBEAT_SECONDS = 5.0
_SILENCE_SECONDS = 40.0  # after which a rank counts as stopped
_FINISHED = 1 << 32  # added to the number of heartbeats of a rank that ends
_EXIT_CODE = 3  # failed run


class Store(Protocol):
    """The part of `torch.distributed.Store` that heartbeats need."""

    def add(self, key: str, amount: int, /) -> int:
        """Add to a counter, and return its new value."""


@contextmanager
def watch_ranks(store: Store, rank: int, world_size: int) -> Iterator[None]:
    """Send heartbeats of this rank, and end this process if a rank that it depends on stops sending them.

    The first rank depends on all others, and they depend on the first. A process that waits for a message of gloo cannot be
    interrupted, so it is ended at once; finished chunks in a work directory are complete files and stay.

    Args:
        store: the store that all ranks share.
        rank: the rank of this process.
        world_size: number of ranks.
    """
    finished = Event()
    peers = range(1, world_size) if rank == 0 else (0,)
    threads = [
        Thread(target=_send_heartbeats, args=(store, rank, finished), daemon=True),
        Thread(target=_watch_heartbeats, args=(store, peers, finished), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        finished.set()
        for thread in threads:
            thread.join(timeout=2 * _HEARTBEAT_SECONDS)


def _send_heartbeats(store: Store, rank: int, finished: Event) -> None:
    with suppress(RuntimeError):  # the store is gone, so torchrun is ending the ranks
        while not finished.wait(_HEARTBEAT_SECONDS):
            store.add(f"heartbeats/{rank}", 1)
        store.add(f"heartbeats/{rank}", _FINISHED)


def _watch_heartbeats(store: Store, peers: Iterable[int], finished: Event) -> None:
    last_beats = {peer: (0, time.monotonic()) for peer in peers}
    with suppress(RuntimeError):
        while not finished.wait(_HEARTBEAT_SECONDS):
            for peer, (last_count, since) in last_beats.items():
                count, now = store.add(f"heartbeats/{peer}", 0), time.monotonic()
                if count != last_count:
                    last_beats[peer] = count, now
                elif count < _FINISHED and now - since > _SILENCE_SECONDS:
                    _end_process(peer)


def _end_process(peer: int) -> None:
    sys.stderr.write(
        f"error: rank {peer} has not responded for {_SILENCE_SECONDS:.0f} s; it is stopped, or its machine is gone. Run the "
        "command again; with --work-dir it continues from the chunks that are finished.\n"
    )
    sys.stderr.flush()
    os._exit(_EXIT_CODE)
