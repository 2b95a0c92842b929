"""Encoded images in an LMDB database, as LSUN has them: each value is one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from frechet.errors import ImageDecodeError, SourceError
from frechet.images.image import ImageSource
from frechet.images.sources.files import File, get_file_version, open_image

_METADATA_KEYS = frozenset({b"length", b"__len__", b"__keys__", b"num-samples", b"num_samples"})


class LmdbSource(ImageSource):
    """All values of the main database, sorted by key."""

    path: Path

    def __init__(self, path: File) -> None:
        if not isinstance(path, Path):
            raise SourceError(
                f"{path}: LMDB databases are only read from a local disk; download it, and pass its folder"
            )
        super().__init__(str(path), path=path)
        self.environment = _open_environment(path.resolve())
        with self.environment.begin() as transaction, transaction.cursor() as cursor:
            self.keys = [key for key in cursor.iternext(values=False) if key not in _METADATA_KEYS]
        if not self.keys:
            raise SourceError(f"{path} contains no images: it has no keys")

    def __len__(self) -> int:
        return len(self.keys)

    def load(self, source_index: int) -> Image.Image:
        with self.environment.begin() as transaction:
            data = transaction.get(self.keys[source_index])
        if data is None:
            raise ImageDecodeError("was deleted since the run started")
        return open_image(BytesIO(data))

    def get_label(self, source_index: int) -> str:
        return f"{self.label}:{self.get_member_name(source_index)}"

    def get_member_name(self, source_index: int) -> str:
        name: str = self.keys[source_index].decode(errors="backslashreplace")
        return name

    def fingerprints(self, source_indices: Sequence[int]) -> Iterator[str]:
        version = get_file_version(self.path / "data.mdb" if self.path.is_dir() else self.path)
        yield from (f"{version} {self.keys[source_index]!r}" for source_index in source_indices)


@cache  # a process must not open an LMDB twice
def _open_environment(path: Path) -> Any:
    try:
        import lmdb
    except ImportError:
        raise SourceError(f"{path} needs lmdb: pip install 'frechet[lmdb]'") from None
    try:
        return lmdb.open(str(path), readonly=True, lock=False, subdir=path.is_dir(), create=False)
    except lmdb.Error as error:
        raise SourceError(f"{path} cannot be read as an LMDB ({error})") from None
