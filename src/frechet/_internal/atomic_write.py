"""Write to a temporary file and rename it, so that an output file is complete or absent."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from frechet.errors import OutputError, RunError


def check_output_path(path: Path, *, suffix: str | None = None, force: bool = False) -> None:
    """Validate an output path before any work is done for it.

    Args:
        path: the file to be written.
        suffix: required file name suffix, e.g. ".npz".
        force: allow an existing file, which will be replaced.

    Raises:
        OutputError: the suffix is wrong, the folder does not exist or is not writable, or the file exists.
    """
    if suffix and path.suffix.lower() != suffix:
        raise OutputError(f"output {path} should end in {suffix}")
    if path.exists() and not path.is_file():
        raise OutputError(f"output {path} is a {'folder' if path.is_dir() else 'device or pipe'}; name a file")
    if path.exists() and not force:
        raise OutputError(f"output {path} already exists; choose another name or replace it with --force (force=True)")
    if not path.parent.is_dir():
        raise OutputError(f"output folder {path.parent} does not exist; create it first")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"output folder {path.parent} is not writable; change its permissions or choose another")


@contextmanager
def atomic_write(path: Path, *, suffix: str | None = None, force: bool = False) -> Iterator[Path]:
    """Give a temporary path to write to; rename it to `path` on success, remove it on failure.

    Args:
        path: the file to be written.
        suffix: required file name suffix, e.g. ".npz".
        force: allow an existing file, which will be replaced.

    Raises:
        OutputError: `path` is not a valid output path (see `check_output_path`).
        RunError: the disk is full, or the file cannot be written for another reason.
    """
    check_output_path(path, suffix=suffix, force=force)
    path = path.resolve()  # write to the target of a symbolic link, so that the link stays
    temporary_path = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary_path
        os.replace(temporary_path, path)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else str(error)
        raise RunError(f"{path} was not written: {reason}. An existing file of that name is unchanged") from error
    finally:
        temporary_path.unlink(missing_ok=True)
