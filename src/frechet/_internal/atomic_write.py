"""Write to a temporary file and rename it, so that an output file is complete or absent."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from frechet.errors import OutputError, RunError

_TEMPORARY_NAME = ".frechet-{}.partial"  # of fixed length, since the name of the output may have the maximum length


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
        raise OutputError(f"output {path} does not end in {suffix}; pass a name such as {path.with_suffix(suffix)}")
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

    Several processes, even of different machines or containers, may write the same file: it is that of one of them. An
    existing file keeps its permissions.

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
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
    temporary_path = None
    try:
        temporary_path = _create_temporary_file(path.parent, 0o666 if mode is None else 0o600)
        yield temporary_path
        _sync(temporary_path)
        if mode is not None:
            temporary_path.chmod(mode)
        _move(temporary_path, path, force=force)
        _sync(path.parent)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else str(error)
        raise RunError(f"{path} was not written: {reason}. An existing file of that name is unchanged.") from error
    finally:
        if temporary_path:
            temporary_path.unlink(missing_ok=True)


def delete_partial_files(folder: Path) -> None:
    """Delete the temporary files of killed processes from a folder that no other process writes to."""
    for path in folder.glob(_TEMPORARY_NAME.format("*")):
        path.unlink(missing_ok=True)


def _create_temporary_file(folder: Path, mode: int) -> Path:
    """Create an empty file of a new name; the umask narrows its permissions `mode`."""
    while True:
        path = folder / _TEMPORARY_NAME.format(secrets.token_hex(8))
        try:  # O_EXCL: neither an existing file nor a symbolic link is opened
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
        except FileExistsError:
            continue
        return path


def _move(temporary_path: Path, path: Path, *, force: bool) -> None:
    """Rename a file. Without `force`, a file that another process wrote in the meantime is kept (FileExistsError)."""
    if force:
        os.replace(temporary_path, path)
        return
    try:
        os.link(temporary_path, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        os.replace(temporary_path, path)


def _sync(path: Path) -> None:
    """Write a file or folder to the disk, so that a power failure leaves the whole file or the previous one."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that do not support it
            raise
    finally:
        os.close(descriptor)
