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

_PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class CacheEntry:
    """The features of one side in one run's settings.

    Attributes:
        folder: where they are.
        plan: what the run was.
        size: bytes.
        used: when they were last made or read, in seconds since the epoch.
    """

    folder: Path
    fingerprint: dict[str, Any]
    n_bytes: int
    last_used: float


def get_feature_cache_dir() -> Path:
    """The user's cache folder for features."""
    import platformdirs  # here, since most runs need none

    return Path(platformdirs.user_cache_dir("frechet"), "features")


def open_cache_entry(fingerprint: dict[str, Any]) -> Path:
    """The folder of a run with this fingerprint; it counts as used now. One that no longer says what it is begins anew."""
    folder = get_feature_cache_dir() / hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()[:32]
    try:
        json.loads((folder / _PLAN_FILE).read_text(encoding="utf-8"))
        (folder / _PLAN_FILE).touch()
    except (OSError, ValueError):
        if (folder / _PLAN_FILE).exists() or any(folder.glob("part-*.npz")):  # a plan is whole before the first part is
            shutil.rmtree(folder, ignore_errors=True)
    return folder


def list_cache_entries() -> Iterator[CacheEntry]:
    """What the cache holds, the last used first; folders that are none of its own are left out."""
    found = []
    for path in get_feature_cache_dir().glob(f"*/{_PLAN_FILE}"):
        try:
            recorded, last_used = json.loads(path.read_text(encoding="utf-8")), path.stat().st_mtime
            n_bytes = sum(file.stat().st_size for file in path.parent.iterdir())
        except (OSError, ValueError):  # another run prunes it, or it was cut short
            continue
        found.append(CacheEntry(path.parent, recorded, n_bytes, last_used))
    yield from sorted(found, key=lambda entry: -entry.last_used)


def prune_cache(days: float) -> tuple[int, int]:
    """Delete what was not used for so many days, nor is by a run under way: (entries, bytes).

    Raises:
        OutputError: something cannot be deleted.
    """
    from filelock import FileLock, Timeout  # here, since most runs need none

    sizes = []
    for entry in list_cache_entries():
        if entry.last_used > time.time() - days * 86_400:
            continue
        try:
            with FileLock(entry.folder / ".lock", blocking=False):
                pass
            shutil.rmtree(entry.folder)
        except Timeout:
            continue
        except OSError as error:
            raise OutputError(f"{entry.folder} cannot be deleted: {error.strerror or error}") from error
        sizes.append(entry.n_bytes)
    return len(sizes), sum(sizes)
