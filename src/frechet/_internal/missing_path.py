"""Describe a path that does not exist, and what was probably meant."""

from __future__ import annotations

import re
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
    nearest = _find_nearest_name(missing, _list_names(parent))
    if any(character in missing for character in "*?[") and parent == absolute.parent:
        fix = f"No name in {parent} matches the pattern {missing}; correct the pattern."
    elif nearest:
        fix = f"Did you mean {parent / nearest}?"
    elif parent != absolute.parent:
        fix = f"The folder {parent} does not contain {missing}; correct the path."
    else:
        fix = "Correct the path." if path.is_absolute() else f"The current folder is {Path.cwd()}; correct the path."
    return f"no such {kind}: {path}. {fix}"


def _find_nearest_name(missing: str, names: list[str]) -> str | None:
    """Return the name whose spelling is closest without the suffix, unless it only has other numbers (another checkpoint)."""
    stems: dict[str, str] = {}
    for name in sorted(names, key=lambda name: Path(name).suffix != Path(missing).suffix):
        if _without_numbers(name) != _without_numbers(missing):
            stems.setdefault(Path(name).stem, name)
    nearest = find_nearest(Path(missing).stem, stems)
    return None if nearest is None else stems[nearest]


def _without_numbers(name: str) -> str:
    return re.sub(r"\d+", "0", name)


def _list_names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in islice(folder.iterdir(), _MAX_NAMES)]
    except OSError:
        return []
