"""Whatever yields images: the table of kinds, and the plain ones: a folder, a zip, an array file."""

from __future__ import annotations

import importlib
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from frechet._internal.remote_files import RemoteFile, is_url, shown
from frechet.errors import SourceError
from frechet.images.image import Picture, Source
from frechet.images.sources.files import (
    EXTENSIONS,
    File,
    is_hidden,
    is_image,
    open_image,
    open_image_file,
    open_zip,
    seen,
    unread_in,
    version_of,
)
from frechet.images.sources.memory import objects_source
from frechet.images.sources.npy import ArrayStack, open_npy, open_npz
from frechet.images.sources.sharded import ShardedSource, is_pattern, shards_of


def open_source(images: Any) -> Source:
    """A source for anything images can come from.

    Args:
        images: a path or URL of a folder, an archive, an array file or a table; a pattern of several such files
            (shards/{000..127}.tar, data/*.parquet); or Python objects, see `frechet.images.sources.memory`.

    Raises:
        SourceError: nothing there, or nothing that is an image; the message names what was seen.
    """
    if isinstance(images, (str, os.PathLike)):
        text = os.fspath(images)
        if not text:
            raise SourceError(
                "an empty path is given (an unset variable?); expected a folder or file, or . for this folder"
            )
        opener = _sharded if is_pattern(text) else _open_url if is_url(text) else _open_path
        source = opener(text)
        is_whole = is_url(text) or re.match(r"\{(?:[^{}]*[,:])?/", text)  # or braces around whole paths or URLs
        source.address = text if is_whole else os.path.abspath(text)  # noqa: PTH100, links in it stay
        return source
    return images if hasattr(images, "pictures") and hasattr(images, "marks") else objects_source(images)


def _open_path(text: str) -> Source:
    path = Path(text)
    try:
        if path.is_dir():
            return _opener("lmdb", "LmdbSource")(path) if (path / "data.mdb").is_file() else FolderSource(path)
        path.stat()
    except FileNotFoundError:
        raise SourceError(f"no such file or folder: {path}") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    opener = _FILES.get(path.suffix.lower())
    if opener is None:
        kind = path.suffix or "(none)"
        raise SourceError(f"{path} is a file of type {kind}; expected a folder, {', '.join(_FILES)}{_remedy(path)}")
    return opener(path)


def _remedy(path: Path) -> str:
    """What to do with a file that is no source of images."""
    if path.suffix.lower() in EXTENSIONS:
        return ". One image has no distribution: give the folder that holds many."
    if re.search(r"\.(tar\.\w+|t[bgx]z)$", path.name, re.IGNORECASE):
        return ". A compressed tar cannot be read in place: unpack it to a .tar or a folder."
    return ""


def _open_url(url: str) -> Source:
    """A file where the name says so, else a folder."""
    suffix = PurePosixPath(shown(url).removesuffix("?...")).suffix.lower()
    if suffix in _FILES:
        return _FILES[suffix](RemoteFile(url))
    if suffix in EXTENSIONS:
        raise SourceError(f"{shown(url)} is one image; one image has no distribution: give the folder that holds many")
    return _opener("remote_folder", "RemoteFolderSource")(url)


def _sharded(pattern: str) -> Source:
    names = shards_of(pattern)
    with ThreadPoolExecutor(_OPENED_AT_ONCE) as pool:
        return ShardedSource(shown(pattern) if is_url(pattern) else pattern, list(pool.map(open_source, names)))


def _opener(module: str, name: str) -> Callable[[Any], Source]:
    """A kind of source whose module is loaded when one is opened."""
    return lambda where: getattr(importlib.import_module(f"frechet.images.sources.{module}"), name)(where)


class FolderSource:
    """Every image under a folder, in order of path; hidden files and folders are skipped, links are followed once."""

    address: str | None = None
    folder: Path | None  # that all of them are in

    def __init__(self, folder: Path) -> None:
        names = sorted(_walk(folder))
        self.name, self.folder = str(folder), folder
        self.files = [folder / name for name in names if is_image(name)]
        if not self.files:
            raise SourceError(f"{folder} holds no images: {seen(names)}")
        self.unread = unread_in(names)

    @classmethod
    def of_files(cls, files: Sequence[Path], name: str = "files") -> FolderSource:
        """Exactly these files, in this order."""
        source = cls.__new__(cls)
        source.name, source.folder, source.files = name, None, list(files)
        return source

    def __len__(self) -> int:
        return len(self.files)

    def name_of(self, place: int) -> str:
        return str(self.files[place])

    def pictures(self, chosen: Sequence[int]) -> Iterator[Picture]:
        for index, place in enumerate(chosen):
            yield Picture(index, self.name_of(place), partial(open_image_file, self.files[place]))

    def marks(self, chosen: Sequence[int]) -> Iterator[str]:
        for place in chosen:
            path = self.files[place]
            yield f"{path.name if self.folder is None else path.relative_to(self.folder)} {version_of(path)}"


class ZipSource:
    """Every image in a zip, in order of name, read in place."""

    address: str | None = None

    def __init__(self, path: File) -> None:
        self.name = str(path)
        self.archive = open_zip(path)
        members = sorted(
            (info for info in self.archive.infolist() if not info.is_dir()), key=lambda info: info.filename
        )
        names = [info.filename for info in members if not is_hidden(info.filename)]
        self.members = [info for info in members if not is_hidden(info.filename) and is_image(info.filename)]
        if not self.members:
            raise SourceError(f"{path} holds no images: {seen(names)}")
        self.unread = unread_in(names)

    def __len__(self) -> int:
        return len(self.members)

    def name_of(self, place: int) -> str:
        return f"{self.name}:{self.members[place].filename}"

    def pictures(self, chosen: Sequence[int]) -> Iterator[Picture]:
        for index, place in enumerate(chosen):
            yield Picture(index, self.name_of(place), partial(self._load, self.members[place]))

    def _load(self, info: zipfile.ZipInfo) -> Image.Image:
        with self.archive.open(info) as member:
            return open_image(member)  # type: ignore[arg-type]

    def marks(self, chosen: Sequence[int]) -> Iterator[str]:
        for place in chosen:
            info = self.members[place]
            yield f"{info.filename} {info.file_size} {info.CRC}"


class ArraySource:
    """Images in one uint8 array file (n, h, w, c), streamed."""

    address: str | None = None

    def __init__(self, path: File, stack: ArrayStack) -> None:
        self.name = str(path)
        self.path = path
        self.stack = stack

    def __len__(self) -> int:
        return len(self.stack)

    def name_of(self, place: int) -> str:
        return f"{self.name}[{place}]"

    def pictures(self, chosen: Sequence[int]) -> Iterator[Picture]:
        for index, (place, image) in enumerate(zip(chosen, self.stack.read(chosen), strict=True)):
            yield Picture(index, self.name_of(place), partial(_itself, image))

    def marks(self, chosen: Sequence[int]) -> Iterator[str]:
        version = version_of(self.path)
        yield from (f"{place} {version}" for place in chosen)


_FILES: dict[str, Callable[[Any], Source]] = {
    ".zip": ZipSource,
    ".npz": lambda path: ArraySource(path, open_npz(path, "arr_0")),
    ".npy": lambda path: ArraySource(path, open_npy(path)),
    ".tar": _opener("tar", "TarSource"),
    ".parquet": _opener("parquet", "TableSource"),
    ".arrow": _opener("parquet", "TableSource"),
    ".h5": _opener("hdf5", "Hdf5Source"),
    ".hdf5": _opener("hdf5", "Hdf5Source"),
    ".lmdb": _opener("lmdb", "LmdbSource"),
}
_OPENED_AT_ONCE = 16  # shards


def _itself(image: np.ndarray) -> np.ndarray:
    return image


def _walk(folder: Path) -> Iterator[str]:
    """Relative names (with forward slashes) of all files below a folder that are not hidden."""
    been: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_unreadable):
        real = os.path.realpath(parent)
        if real in been:  # a link back into the tree
            folders.clear()
            continue
        been.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = Path(parent).relative_to(folder)
        yield from ((relative / name).as_posix() for name in files if not name.startswith("."))


def _unreadable(error: OSError) -> None:
    raise SourceError(f"{error.filename} cannot be read ({error.strerror}); its images would be missing from the score")
