"""The lock file: what is known about references that were downloaded or added, so that a changed file is detected.

A JSON object in the user's data folder: {"format": 1, "references": {NAME: the fields of `Reference`}}. It is replaced by
renaming a complete file, so a crash leaves the old or the new one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from frechet._internal.atomic_write import atomic_write
from frechet.errors import OutputError, StatisticsError
from frechet.protocols.references_table import Fingerprint, Reference

_FORMAT_VERSION = 1
_TEXT_FIELDS = ("title", "url", "sha256", "note")


def lock_path() -> Path:
    """Return the path of the lock file."""
    import platformdirs  # here, because only references need it and it slows every start

    return Path(platformdirs.user_data_dir("frechet"), "references.json")


def read_lock() -> dict[str, Reference]:
    """Return the recorded references by name.

    Raises:
        StatisticsError: the lock file is damaged, or of a newer format.
    """
    path = lock_path()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT_VERSION:
            raise ValueError(f"its format is {content['format']}, and this version reads {_FORMAT_VERSION}")
        return {name: _parse_reference(values) for name, values in content["references"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StatisticsError(
            f"{path} cannot be read ({type(error).__name__}: {error}); expected the references that frechet recorded there. "
            "Restore or delete it; what was downloaded is then recorded again, without a comparison with the past."
        ) from error


def record_reference(name: str, reference: Reference, *, force: bool = False) -> None:
    """Add a reference to the lock file.

    Args:
        name: its name.
        reference: what is known about it; its `sha256` is known.
        force: whether an entry of this name with another sha256 is replaced.

    Raises:
        StatisticsError: another process has recorded another sha256 under this name.
        OutputError: the lock file cannot be written.
    """
    from filelock import FileLock

    path = lock_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            recorded = read_lock()
            if not force and name in recorded and recorded[name].sha256 != reference.sha256:
                raise StatisticsError(
                    f"{name} was recorded with the sha256 {recorded[name].sha256}, and now has {reference.sha256}. If that is "
                    f"intended, replace it with --force."
                )
            _write_lock(path, {**recorded, name: reference})
    except PermissionError as error:
        raise OutputError(f"{path} cannot be written ({error}); set XDG_DATA_HOME to a writable folder") from error


def _parse_reference(values: Mapping[str, Any]) -> Reference:
    known = {each.name for each in fields(Reference)}
    reference = Reference(**{name: value for name, value in values.items() if name in known})
    if not all(isinstance(getattr(reference, name), str) for name in _TEXT_FIELDS):
        raise ValueError("a title, url, sha256 or note is not a text")
    return replace(reference, fingerprint=Fingerprint(**values["fingerprint"]))


def _write_lock(path: Path, references: Mapping[str, Reference]) -> None:
    content = {
        "format": _FORMAT_VERSION,
        "references": {name: asdict(references[name]) for name in sorted(references)},
    }
    with atomic_write(path, force=True) as temporary_path, open(temporary_path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())  # the name of the file must not reach the disk before its content
