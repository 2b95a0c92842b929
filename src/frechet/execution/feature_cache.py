"""The user's cache of features: one work directory per run, found by a hash of the run's plan."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frechet._internal.cache_dir import user_cache_dir
from frechet.errors import OutputError
from frechet.execution.chunks import compute_plan_digest
from frechet.execution.work_dir import CHUNK_FILES, PLAN_FILE


@dataclass(frozen=True)
class CacheEntry:
    """The features of one input, computed with one run's settings.

    Attributes:
        folder: the work directory.
        plan: what determines its contents (see `frechet.execution.chunks.make_plan`), possibly of an older format.
        n_bytes: size of all files.
        last_used: when the entry was last read or written, in seconds since the epoch.
    """

    folder: Path
    plan: dict[str, Any]
    n_bytes: int
    last_used: float


def get_feature_cache_dir() -> Path:
    """Return the user's cache folder for features."""
    return user_cache_dir("features")


def _get_folder(plan: dict[str, Any]) -> Path:
    return get_feature_cache_dir() / compute_plan_digest(plan)[:32]


def find_cache_entry(plan: dict[str, Any]) -> Path | None:
    """Return the folder of the run with this plan and mark it as used now; None if there is none."""
    return open_cache_entry(plan) if (_get_folder(plan) / PLAN_FILE).exists() else None


def open_cache_entry(plan: dict[str, Any]) -> Path:
    """Return the folder of the run with this plan and mark it as used now; clear it if its own plan is damaged."""
    folder = _get_folder(plan)
    try:
        json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
        (folder / PLAN_FILE).touch()
    except (OSError, ValueError):
        # the plan is written before the first chunk, so chunks without a plan cannot be trusted either
        if (folder / PLAN_FILE).exists() or any(folder.glob(CHUNK_FILES)):
            shutil.rmtree(folder, ignore_errors=True)
    return folder


def list_cache_entries() -> Iterator[CacheEntry]:
    """Yield the entries of the cache, most recently used first; other folders are ignored."""
    entries = []
    for path in get_feature_cache_dir().glob(f"*/{PLAN_FILE}"):
        try:
            plan, last_used = json.loads(path.read_text(encoding="utf-8")), path.stat().st_mtime
            n_bytes = sum(file.stat().st_size for file in path.parent.iterdir())
        except (OSError, ValueError):  # deleted by another process, or truncated
            continue
        if isinstance(plan, dict):
            entries.append(CacheEntry(path.parent, plan, n_bytes, last_used))
    yield from sorted(entries, key=lambda entry: -entry.last_used)


def prune_cache(days: float) -> tuple[int, int]:
    """Delete the entries that were not used for a number of days and that no run is using.

    Returns:
        Number of deleted entries, and their size in bytes.

    Raises:
        OutputError: an entry cannot be deleted.
    """
    from filelock import FileLock, Timeout  # most runs do not need it

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
            raise OutputError(
                f"{entry.folder} cannot be deleted ({error.strerror or error}); delete it by hand"
            ) from error
        sizes.append(entry.n_bytes)
    return len(sizes), sum(sizes)
