"""Headers of NumPy's array files, which several threads may parse at the same time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

_MAX_ATTEMPTS = 100  # with fifteen threads that parsed continuously, one attempt in 2,000 failed

Result = TypeVar("Result")


def retry_parsing(read: Callable[[], Result]) -> Result:
    """Call a function that reads an array's header, and retry if the parser fails although the header is valid.

    NumPy parses headers with `ast.literal_eval`. In Python 3.11.0 to 3.11.7 and 3.12.0, the parser counts recursion across threads. It raises a
    SystemError if another thread parses before the first one has finished (python/cpython#106905). This happens if a garbage collection runs
    Python code, e.g. after JAX was imported.

    Args:
        read: reads from the beginning at each call.
    """
    for _ in range(_MAX_ATTEMPTS - 1):
        try:
            return read()
        except SystemError:
            continue
    return read()
