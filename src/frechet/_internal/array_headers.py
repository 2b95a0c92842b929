"""Headers of NumPy's array files, which several threads may parse at the same time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

_MAX_ATTEMPTS = 100  # one in 10,000 failed with fifteen threads that parsed all the time

Result = TypeVar("Result")


def retry_parsing(read: Callable[[], Result]) -> Result:
    """Call a function that lets NumPy parse the header of an array, again if it fails for a reason that is not the header.

    NumPy parses headers with `ast.literal_eval`. Python 3.11.0 to 3.11.7 and 3.12.0 keep the depth of its recursion for all threads together, and
    raise a SystemError if another thread parses before the first one has finished (python/cpython#106905), which happens if a garbage collection
    runs Python code, as it does when JAX is imported.

    Args:
        read: reads from the beginning at each call.
    """
    for _ in range(_MAX_ATTEMPTS - 1):
        try:
            return read()
        except SystemError:
            continue
    return read()
