"""Memory for the pixels of decoded images that is used again, since new memory takes the system longer than a fast decoder needs."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from threading import RLock

import numpy as np

_MAX_KEPT_BYTES = 1 << 26  # of blocks that are not in use
_MIN_IMAGE_BYTES = 1 << 14  # smaller images need few pages
_MIN_BLOCK_BYTES = 1 << 18  # of a block for one image; finding smaller ones takes as long as new memory
_MAX_BLOCK_BYTES = 1 << 23
_MAX_BLOCK_OVER_NEED = 1.25

Allocate = Callable[[tuple[int, ...]], np.ndarray | None]
"""Returns memory for an image (h, w, 3) uint8, or None if new memory is as good."""


def allocate_nothing(_shape: tuple[int, ...]) -> None:
    """Leave it to the caller to allocate new memory."""


class BlockPool:
    """Blocks of memory, each of which is used again when no array refers to it any more.

    Args:
        max_kept_bytes: largest number of bytes that are kept while they are not in use.

    Attributes:
        last_shape: shape of the image that memory was requested for last.
    """

    def __init__(self, max_kept_bytes: int = _MAX_KEPT_BYTES) -> None:
        self.max_kept_bytes = max_kept_bytes
        self.last_shape: tuple[int, ...] | None = None
        self._free: list[memoryview] = []
        self._lock = RLock()  # an array may be deleted, which frees its block, while this thread holds the lock

    def take(self, n_bytes: int) -> np.ndarray:
        """Return (n_bytes,) uint8 with any content."""
        with self._lock:
            largest = _MAX_BLOCK_OVER_NEED * n_bytes
            latest_first = reversed(range(len(self._free)))  # some of it may still be in the processor's cache
            at = next((at for at in latest_first if n_bytes <= len(self._free[at]) <= largest), None)
            if at is None:
                del self._free[:1]  # free the oldest block, whose size may no longer be needed
            block = np.empty(n_bytes, np.uint8).data if at is None else self._free.pop(at)
        taken = np.frombuffer(block, np.uint8, n_bytes)  # the base of all arrays that are made of it
        weakref.finalize(taken, self._give_back, block).atexit = False
        return taken

    def _give_back(self, block: memoryview) -> None:
        with self._lock:  # removes none: `take` has an index if a garbage collection within it frees an array
            if sum(map(len, self._free)) + len(block) <= self.max_kept_bytes:
                self._free.append(block)


class GroupMemory:
    """Memory for the images of a group: one block for those of the shape of the image before them, and one for each other image.

    Args:
        pool: where the blocks come from.
        n_images: number of images in the group.
    """

    def __init__(self, pool: BlockPool, n_images: int) -> None:
        self.pool, self.n_left = pool, n_images
        self._rest = np.empty(0, np.uint8)

    def allocate(self, shape: tuple[int, ...]) -> np.ndarray | None:
        """Return memory for the next image, (h, w, 3) uint8; None if it is small or very large."""
        n_bytes, count = math.prod(shape), self.n_left
        is_repeated, self.pool.last_shape = shape == self.pool.last_shape, shape
        self.n_left -= 1
        if not is_repeated or n_bytes > _MAX_BLOCK_BYTES // 2:
            is_single = _MIN_BLOCK_BYTES <= n_bytes <= _MAX_BLOCK_BYTES
            return self.pool.take(n_bytes).reshape(shape) if is_single else None
        if n_bytes < _MIN_IMAGE_BYTES:
            return None
        if len(self._rest) < n_bytes:
            self._rest = self.pool.take(n_bytes * max(1, min(count, _MAX_BLOCK_BYTES // n_bytes)))
        taken, self._rest = self._rest[:n_bytes], self._rest[n_bytes:]
        return taken.reshape(shape)
