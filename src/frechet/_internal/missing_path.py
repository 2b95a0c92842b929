"""Describe a path that does not exist, and what was probably meant."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from frechet._internal.choices import find_nearest

_MAX_NAMES = 2_000


def describe_missing_path(path: Path, kind: str = "file or folder") -> str:
    """Return a message that says which part of a path does not exist, and names the entry that resembles it.

    Args:
        path: the path that was given.
        kind: what was expected there.
    """
    absolute = path.absolute()
    parent = next((each for each in absolute.parents if each.is_dir()), Path(absolute.anchor))
    missing = absolute.relative_to(parent).parts[0]
    nearest = find_nearest(missing, _list_names(parent))
    if nearest:
        fix = f"Did you mean {parent / nearest}?"
    elif parent != absolute.parent:
        fix = f"The folder {parent} does not contain {missing}; correct the path."
    else:
        fix = "Correct the path." if path.is_absolute() else f"The current folder is {Path.cwd()}; correct the path."
    return f"no such {kind}: {path}. {fix}"


def _list_names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in islice(folder.iterdir(), _MAX_NAMES)]
    except OSError:
        return []
