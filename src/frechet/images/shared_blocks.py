"""Blocks of memory that several processes see; each is used again when no array refers to it any more."""

from __future__ import annotations

import ctypes
import os
import weakref
from mmap import mmap
from typing import NamedTuple

import numpy as np

_CLOSE_ON_EXEC = 1  # MFD_CLOEXEC


class Block(NamedTuple):
    """A block of `SharedBlocks`.

    Attributes:
        position: in the memory, by which the other processes know it.
        memory: (n_bytes,) uint8, the base of all arrays that are made of it.
    """

    position: int
    memory: np.ndarray


class SharedBlocks:
    """Blocks of memory that this process shares with those that it starts, and with those that are forked from it later.

    Args:
        count: number of blocks. The system provides memory for what is written.
        n_bytes: size of a block.

    Attributes:
        file: descriptor of the memory, which `open_blocks` maps in another process.

    Raises:
        OSError: the system has no memory that can be shared without a name (only Linux does), or not enough.
    """

    def __init__(self, count: int, n_bytes: int) -> None:
        self.file = _create_file()
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


def _create_file() -> int:
    """Return a descriptor, above those of the standard streams, of an empty file in memory."""
    try:
        import fcntl

        file = os.memfd_create("frechet") if hasattr(os, "memfd_create") else _call_memfd_create()
    except (ImportError, AttributeError):
        raise OSError("this system has no files without a name in memory") from None
    try:
        return fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(file)


def _call_memfd_create() -> int:
    """Call memfd_create of the C library, which a Python that was built for older systems does not."""
    library = ctypes.CDLL(None, use_errno=True)
    file: int = library.memfd_create(b"frechet", _CLOSE_ON_EXEC)
    if file < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return file


def open_blocks(file: int, n_bytes: int) -> np.ndarray:
    """Return all blocks of a size, (count, n_bytes) uint8, of the memory of a descriptor."""
    return np.frombuffer(mmap(file, 0), np.uint8).reshape(-1, n_bytes)
