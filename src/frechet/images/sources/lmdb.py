"""Encoded images in an LMDB database, as LSUN has them: each value is one.

It is read in a process of its own, see `native_process`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from frechet.errors import ArchiveError, SourceError
from frechet.images.sources.files import File
from frechet.images.sources.native_process import NativeSource
from frechet.images.sources.native_reader import ImageData

_METADATA_KEYS = frozenset({b"length", b"__len__", b"__keys__", b"num-samples", b"num_samples"})


class LmdbSource(NativeSource):
    """All values of the main database, sorted by key."""

    def __init__(self, file: File) -> None:
        if not isinstance(file, Path):
            raise SourceError(
                f"{file}: LMDB databases are only read from a local disk; download it, and pass its folder"
            )
        super().__init__(f"{__name__}:LmdbReader", file)


class LmdbReader:
    """Reads the database of `LmdbSource`."""

    label_suffix = ""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = _open_environment(path)
        with self.environment.begin() as transaction, transaction.cursor() as cursor:
            self.keys = [key for key in cursor.iternext(values=False) if key not in _METADATA_KEYS]
        if not self.keys:
            raise SourceError(f"{path} contains no images: it has no keys")
        self.names = [key.decode(errors="backslashreplace") for key in self.keys]

    def __len__(self) -> int:
        return len(self.keys)

    def iter_data(self, source_indices: Sequence[int]) -> Iterator[ImageData]:
        """Yield the values of these keys."""
        for source_index in source_indices:
            with self.environment.begin() as transaction:
                data = transaction.get(self.keys[source_index])
            if data is None:
                raise ArchiveError(f"{self.path}: {self.names[source_index]} was deleted since the run started")
            yield data


def _open_environment(path: Path) -> Any:
    try:
        import lmdb
    except ImportError:
        raise SourceError(f"{path} needs lmdb, which is not installed; run pip install 'frechet[lmdb]'") from None
    try:
        return lmdb.open(str(path), readonly=True, lock=False, subdir=path.is_dir(), create=False)
    except lmdb.Error as error:
        raise SourceError(f"{path} cannot be read as an LMDB ({error})") from None
