"""Write a file aside, then rename it: a result is there whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from frechet.errors import OutputError, RunError


def check_output_path(path: Path, *, suffix: str | None = None, force: bool = False) -> None:
    """Refuse an output path before any work is done for it.

    Raises:
        OutputError: a wrong suffix, a folder that is not there or not writable, or an existing file without `force`.
    """
    if suffix and path.suffix.lower() != suffix:
        raise OutputError(f"output {path} should end in {suffix}")
    if path.exists() and not path.is_file():
        raise OutputError(f"output {path} is a {'folder' if path.is_dir() else 'device or pipe'}; name a file")
    if path.exists() and not force:
        raise OutputError(f"output {path} exists; choose another name or replace it with --force (force=True)")
    if not path.parent.is_dir():
        raise OutputError(f"output folder {path.parent} does not exist; make it first")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"output folder {path.parent} is not writable")


@contextmanager
def atomic_write(path: Path, *, suffix: str | None = None, force: bool = False) -> Iterator[Path]:
    """A path to write to; renamed to `path` at the end, removed if anything fails.

    Raises:
        OutputError: see `check_output`.
        RunError: the disk is full, or the file cannot be written for another reason.
    """
    check_output_path(path, suffix=suffix, force=force)
    path = path.resolve()  # a link stays a link
    temporary_path = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary_path
        os.replace(temporary_path, path)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else str(error)
        raise RunError(f"{path} was not written: {reason}. An earlier file of that name is untouched.") from error
    finally:
        temporary_path.unlink(missing_ok=True)
