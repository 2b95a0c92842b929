"""Encoded images in an LMDB, as LSUN has them: every value is one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from frechet.errors import BadImage, SourceError
from frechet.images.image import Picture
from frechet.images.sources.files import File, open_image, version_of

_NO_IMAGES = frozenset({b"length", b"__len__", b"__keys__", b"num-samples", b"num_samples"})


class LmdbSource:
    """Every value of the main database, in order of key."""

    address: str | None = None

    def __init__(self, path: File) -> None:
        self.name = str(path)
        if not isinstance(path, Path):
            raise SourceError(f"{path}: an LMDB is read from a disk; download it, and give its folder")
        self.path = path
        self.environment = _environment(path.resolve())
        with self.environment.begin() as transaction, transaction.cursor() as cursor:
            self.keys = [key for key in cursor.iternext(values=False) if key not in _NO_IMAGES]
        if not self.keys:
            raise SourceError(f"{path} holds no images: it has no keys")

    def __len__(self) -> int:
        return len(self.keys)

    def name_of(self, place: int) -> str:
        return f"{self.name}:{self.keys[place].decode(errors='backslashreplace')}"

    def pictures(self, chosen: Sequence[int]) -> Iterator[Picture]:
        for index, place in enumerate(chosen):
            yield Picture(index, self.name_of(place), partial(self._load, self.keys[place]))

    def _load(self, key: bytes) -> Image.Image:
        with self.environment.begin() as transaction:
            data = transaction.get(key)
        if data is None:
            raise BadImage("is no longer there")
        return open_image(BytesIO(data))

    def marks(self, chosen: Sequence[int]) -> Iterator[str]:
        version = version_of(self.path / "data.mdb" if self.path.is_dir() else self.path)
        yield from (f"{version} {self.keys[place]!r}" for place in chosen)


@cache  # a process must not open an LMDB twice
def _environment(path: Path) -> Any:
    try:
        import lmdb
    except ImportError:
        raise SourceError(f"{path} needs lmdb: pip install 'frechet[lmdb]'") from None
    try:
        return lmdb.open(str(path), readonly=True, lock=False, subdir=path.is_dir(), create=False)
    except lmdb.Error as error:
        raise SourceError(f"{path} cannot be read as an LMDB ({error})") from None
