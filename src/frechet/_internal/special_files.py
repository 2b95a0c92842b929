"""Files that are neither regular files nor folders: reading them may block forever or never end."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def describe_special_file(path: str | os.PathLike[str]) -> str | None:
    """Return why a path, or what it links to, cannot be read; None if it is a regular file, a folder, or does not exist."""
    try:
        kind = _KINDS.get(stat.S_IFMT(Path(path).stat().st_mode))
    except (OSError, ValueError):
        return None
    if kind is None:
        return None
    return f"{path} is {kind}; expected a regular file or a folder. Write the data to a file, and pass its path."
