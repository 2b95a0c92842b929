"""The user's cache of features: a work-dir for every run, found by what the run is."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frechet.errors import OutputError

_PLAN = "plan.json"


@dataclass(frozen=True)
class Entry:
    """The features of one side in one run's settings.

    Attributes:
        folder: where they are.
        plan: what the run was.
        size: bytes.
        used: when they were last made or read, in seconds since the epoch.
    """

    folder: Path
    plan: dict[str, Any]
    size: int
    used: float


def features_cache() -> Path:
    """The user's cache folder for features."""
    import platformdirs  # here, since most runs need none

    return Path(platformdirs.user_cache_dir("frechet"), "features")


def cached_at(plan: dict[str, Any]) -> Path:
    """The folder of a run with this fingerprint; it counts as used now. One that no longer says what it is begins anew."""
    folder = features_cache() / hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:32]
    try:
        json.loads((folder / _PLAN).read_text(encoding="utf-8"))
        (folder / _PLAN).touch()
    except (OSError, ValueError):
        if (folder / _PLAN).exists() or any(folder.glob("part-*.npz")):  # a plan is whole before the first part is
            shutil.rmtree(folder, ignore_errors=True)
    return folder


def entries() -> Iterator[Entry]:
    """What the cache holds, the last used first; folders that are none of its own are left out."""
    found = []
    for plan in features_cache().glob(f"*/{_PLAN}"):
        try:
            told, used = json.loads(plan.read_text(encoding="utf-8")), plan.stat().st_mtime
            size = sum(file.stat().st_size for file in plan.parent.iterdir())
        except (OSError, ValueError):  # another run prunes it, or it was cut short
            continue
        found.append(Entry(plan.parent, told, size, used))
    yield from sorted(found, key=lambda entry: -entry.used)


def prune(days: float) -> tuple[int, int]:
    """Delete what was not used for so many days, nor is by a run under way: (entries, bytes).

    Raises:
        OutputError: something cannot be deleted.
    """
    from filelock import FileLock, Timeout  # here, since most runs need none

    sizes = []
    for entry in entries():
        if entry.used > time.time() - days * 86_400:
            continue
        try:
            with FileLock(entry.folder / ".lock", blocking=False):
                pass
            shutil.rmtree(entry.folder)
        except Timeout:
            continue
        except OSError as error:
            raise OutputError(f"{entry.folder} cannot be deleted: {error.strerror or error}") from error
        sizes.append(entry.size)
    return len(sizes), sum(sizes)
