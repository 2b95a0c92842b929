"""Open .npz files that are not trusted: no pickles, and no arrays that would take far more memory than their file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np

from frechet._internal.array_headers import retry_parsing
from frechet.errors import UnsafeFileError
from frechet.images.sources.npy import read_npy_header

_MAX_UNCHECKED_BYTES = 1 << 28  # arrays of up to this size together may be compressed by any factor
_MAX_COMPRESSION = 100  # measured values compress far less


class NpzArrays(Mapping[str, np.ndarray]):
    """The arrays of an open .npz file by name, each of which is read when it is used.

    Args:
        archive: the file as `numpy.load` opens it.
    """

    def __init__(self, archive: Any) -> None:
        self._archive = archive

    def __getitem__(self, name: str) -> np.ndarray:
        return retry_parsing(lambda: self._archive[name])

    def __contains__(self, name: object) -> bool:
        return name in self._archive.files

    def __iter__(self) -> Iterator[str]:
        return iter(self._archive.files)

    def __len__(self) -> int:
        return len(self._archive.files)


@contextmanager
def open_npz_safely(path: Path) -> Iterator[NpzArrays]:
    """Open an .npz file for reading, without pickles and without arrays that would unpack to an absurd size.

    Args:
        path: the file.

    Yields:
        Its arrays.

    Raises:
        UnsafeFileError: arrays are compressed more than a hundredfold, as in a decompression bomb, or an array is declared
            larger than its file in the archive.
    """
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
        members = [member for member in archive.zip.infolist() if member.filename.endswith(".npy")]
        suspicious = [member for member in members if member.file_size > _MAX_COMPRESSION * member.compress_size]
        if sum(member.file_size for member in suspicious) > _MAX_UNCHECKED_BYTES:
            largest = max(suspicious, key=lambda member: member.file_size)
            raise UnsafeFileError(
                f"its array {largest.filename} has {largest.compress_size} bytes and would unpack to "
                f"{largest.file_size}; expected measured values, which compress far less. Save it with numpy.savez."
            )
        for member in members:
            _validate_declared_size(archive.zip, member)
        yield NpzArrays(archive)


def _validate_declared_size(archive: ZipFile, member: ZipInfo) -> None:
    """Compare the size that an array declares with that of its file; NumPy allocates it before it reads the data."""
    with archive.open(member) as stream:
        shape, _, dtype = read_npy_header(stream)  # type: ignore[arg-type]
        if dtype.hasobject:
            return  # NumPy refuses to read it
        expected = stream.tell() + math.prod(shape) * dtype.itemsize
    if member.file_size != expected:
        raise UnsafeFileError(
            f"its array {member.filename} has {member.file_size} bytes, but an array of type {dtype} and shape {shape} needs "
            f"{expected}; the file is damaged"
        )
