"""Memory of the C library's allocator."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def return_free_memory() -> None:
    """Return memory that was freed to the system; glibc otherwise keeps that of large images, for each thread its own."""
    with suppress(AttributeError, OSError, TypeError):  # other C libraries have no such function, nor keep as much
        ctypes.CDLL(None).malloc_trim(0)
