"""Blocks of memory that several processes see; each is used again when no array refers to it any more."""

from __future__ import annotations

import os
import weakref
from mmap import mmap
from typing import NamedTuple

import numpy as np


class Block(NamedTuple):
    """A block of `SharedBlocks`.

    Attributes:
        position: in the memory, by which the other processes know it.
        memory: (n_bytes,) uint8, the base of all arrays that are made of it.
    """

    position: int
    memory: np.ndarray


class SharedBlocks:
    """Blocks of memory that this process shares with those that it starts.

    Args:
        count: number of blocks. The system provides memory for what is written.
        n_bytes: size of a block.

    Attributes:
        file: descriptor of the memory, which `open_blocks` maps in another process.

    Raises:
        OSError: the system has no memory that can be shared without a name (only Linux has), or not enough.
    """

    def __init__(self, count: int, n_bytes: int) -> None:
        if not hasattr(os, "memfd_create"):
            raise OSError("memory without a name cannot be shared by processes")
        self.file = os.memfd_create("frechet")
        try:
            os.ftruncate(self.file, count * n_bytes)
            self._blocks = open_blocks(self.file, n_bytes)
        except BaseException:
            self.close_file()
            raise
        self._free = list(reversed(range(count)))

    def take(self) -> Block | None:
        """Return a block with any content, the one that was given back last; None if all are in use."""
        try:
            position = self._free.pop()
        except IndexError:
            return None
        memory = np.frombuffer(self._blocks[position].data, np.uint8)
        weakref.finalize(memory, self._free.append, position).atexit = False
        return Block(position, memory)

    def close_file(self) -> None:
        """Close the descriptor, after the other processes have received it; the blocks stay until nothing refers to them."""
        os.close(self.file)


def open_blocks(file: int, n_bytes: int) -> np.ndarray:
    """Return all blocks of a size, (count, n_bytes) uint8, of the memory of a descriptor."""
    return np.frombuffer(mmap(file, 0), np.uint8).reshape(-1, n_bytes)
