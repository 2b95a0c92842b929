"""Paths that begin with ~."""

from __future__ import annotations

import os
from typing import Any


def expand_home(path: Any) -> Any:
    """Replace a leading ~ of a path with the home folder; return anything that is not a path unchanged.

    Example:
        >>> expand_home("images/~")
        'images/~'
    """
    if isinstance(path, (str, os.PathLike)) and os.fspath(path)[:1] == "~":
        return os.path.expanduser(os.fspath(path))  # noqa: PTH111, Path raises for users that do not exist
    return path
