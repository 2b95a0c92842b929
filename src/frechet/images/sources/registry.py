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

from frechet._internal.remote_files import RemoteFile, is_url, redact_url
from frechet.errors import SourceError
from frechet.images.image import ImageRef, ImageSource
from frechet.images.sources.files import (
    EXTENSIONS,
    File,
    count_unsupported,
    describe_contents,
    get_file_version,
    is_hidden,
    is_image,
    open_image,
    open_image_file,
    open_zip,
)
from frechet.images.sources.memory import open_objects
from frechet.images.sources.npy import NpyReader, open_npy, open_npz
from frechet.images.sources.sharded import ShardedSource, expand_pattern, is_pattern


def open_source(images: Any) -> ImageSource:
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
        opener = _open_shards if is_pattern(text) else _open_url if is_url(text) else _open_path
        source = opener(text)
        is_whole = is_url(text) or re.match(r"\{(?:[^{}]*[,:])?/", text)  # or braces around whole paths or URLs
        source.location = text if is_whole else os.path.abspath(text)  # noqa: PTH100, links in it stay
        return source
    return images if hasattr(images, "iter_images") and hasattr(images, "fingerprints") else open_objects(images)


def _open_path(text: str) -> ImageSource:
    path = Path(text)
    try:
        if path.is_dir():
            return _lazy_opener("lmdb", "LmdbSource")(path) if (path / "data.mdb").is_file() else FolderSource(path)
        path.stat()
    except FileNotFoundError:
        raise SourceError(f"no such file or folder: {path}") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None:
        kind = path.suffix or "(none)"
        raise SourceError(
            f"{path} is a file of type {kind}; expected a folder, {', '.join(_OPENERS)}{_suggest_fix(path)}"
        )
    return opener(path)


def _suggest_fix(path: Path) -> str:
    """What to do with a file that is no source of images."""
    if path.suffix.lower() in EXTENSIONS:
        return ". One image has no distribution: give the folder that holds many."
    if re.search(r"\.(tar\.\w+|t[bgx]z)$", path.name, re.IGNORECASE):
        return ". A compressed tar cannot be read in place: unpack it to a .tar or a folder."
    return ""


def _open_url(url: str) -> ImageSource:
    """A file where the name says so, else a folder."""
    suffix = PurePosixPath(redact_url(url).removesuffix("?...")).suffix.lower()
    if suffix in _OPENERS:
        return _OPENERS[suffix](RemoteFile(url))
    if suffix in EXTENSIONS:
        raise SourceError(
            f"{redact_url(url)} is one image; one image has no distribution: give the folder that holds many"
        )
    return _lazy_opener("remote_folder", "RemoteFolderSource")(url)


def _open_shards(pattern: str) -> ImageSource:
    names = expand_pattern(pattern)
    with ThreadPoolExecutor(_MAX_OPEN_THREADS) as pool:
        return ShardedSource(redact_url(pattern) if is_url(pattern) else pattern, list(pool.map(open_source, names)))


def _lazy_opener(module: str, name: str) -> Callable[[Any], ImageSource]:
    """A kind of source whose module is loaded when one is opened."""
    return lambda where: getattr(importlib.import_module(f"frechet.images.sources.{module}"), name)(where)


class FolderSource:
    """Every image under a folder, in order of path; hidden files and folders are skipped, links are followed once."""

    location: str | None = None
    folder: Path | None  # that all of them are in

    def __init__(self, folder: Path) -> None:
        names = sorted(_walk_files(folder))
        self.label, self.folder = str(folder), folder
        self.files = [folder / name for name in names if is_image(name)]
        if not self.files:
            raise SourceError(f"{folder} holds no images: {describe_contents(names)}")
        self.unsupported = count_unsupported(names)

    @classmethod
    def from_files(cls, files: Sequence[Path], label: str = "files") -> FolderSource:
        """Exactly these files, in this order."""
        source = cls.__new__(cls)
        source.label, source.folder, source.files = label, None, list(files)
        return source

    def __len__(self) -> int:
        return len(self.files)

    def get_label(self, source_index: int) -> str:
        return str(self.files[source_index])

    def iter_images(self, source_indices: Sequence[int]) -> Iterator[ImageRef]:
        for index, source_index in enumerate(source_indices):
            yield ImageRef(index, self.get_label(source_index), partial(open_image_file, self.files[source_index]))

    def fingerprints(self, source_indices: Sequence[int]) -> Iterator[str]:
        for source_index in source_indices:
            path = self.files[source_index]
            yield f"{path.name if self.folder is None else path.relative_to(self.folder)} {get_file_version(path)}"


class ZipSource:
    """Every image in a zip, in order of name, read in place."""

    location: str | None = None

    def __init__(self, path: File) -> None:
        self.label = str(path)
        self.archive = open_zip(path)
        members = sorted(
            (info for info in self.archive.infolist() if not info.is_dir()), key=lambda info: info.filename
        )
        names = [info.filename for info in members if not is_hidden(info.filename)]
        self.members = [info for info in members if not is_hidden(info.filename) and is_image(info.filename)]
        if not self.members:
            raise SourceError(f"{path} holds no images: {describe_contents(names)}")
        self.unsupported = count_unsupported(names)

    def __len__(self) -> int:
        return len(self.members)

    def get_label(self, source_index: int) -> str:
        return f"{self.label}:{self.members[source_index].filename}"

    def iter_images(self, source_indices: Sequence[int]) -> Iterator[ImageRef]:
        for index, source_index in enumerate(source_indices):
            yield ImageRef(index, self.get_label(source_index), partial(self._load, self.members[source_index]))

    def _load(self, info: zipfile.ZipInfo) -> Image.Image:
        with self.archive.open(info) as member:
            return open_image(member)  # type: ignore[arg-type]

    def fingerprints(self, source_indices: Sequence[int]) -> Iterator[str]:
        for source_index in source_indices:
            info = self.members[source_index]
            yield f"{info.filename} {info.file_size} {info.CRC}"


class ArraySource:
    """Images in one uint8 array file (n, h, w, c), streamed."""

    location: str | None = None

    def __init__(self, path: File, reader: NpyReader) -> None:
        self.label = str(path)
        self.path = path
        self.reader = reader

    def __len__(self) -> int:
        return len(self.reader)

    def get_label(self, source_index: int) -> str:
        return f"{self.label}[{source_index}]"

    def iter_images(self, source_indices: Sequence[int]) -> Iterator[ImageRef]:
        for index, (source_index, image) in enumerate(
            zip(source_indices, self.reader.read(source_indices), strict=True)
        ):
            yield ImageRef(index, self.get_label(source_index), partial(_identity, image))

    def fingerprints(self, source_indices: Sequence[int]) -> Iterator[str]:
        version = get_file_version(self.path)
        yield from (f"{source_index} {version}" for source_index in source_indices)


_OPENERS: dict[str, Callable[[Any], ImageSource]] = {
    ".zip": ZipSource,
    ".npz": lambda path: ArraySource(path, open_npz(path, "arr_0")),
    ".npy": lambda path: ArraySource(path, open_npy(path)),
    ".tar": _lazy_opener("tar", "TarSource"),
    ".parquet": _lazy_opener("parquet", "TableSource"),
    ".arrow": _lazy_opener("parquet", "TableSource"),
    ".h5": _lazy_opener("hdf5", "Hdf5Source"),
    ".hdf5": _lazy_opener("hdf5", "Hdf5Source"),
    ".lmdb": _lazy_opener("lmdb", "LmdbSource"),
}
_MAX_OPEN_THREADS = 16  # shards


def _identity(image: np.ndarray) -> np.ndarray:
    return image


def _walk_files(folder: Path) -> Iterator[str]:
    """Relative names (with forward slashes) of all files below a folder that are not hidden."""
    visited: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_raise_unreadable):
        real = os.path.realpath(parent)
        if real in visited:  # a link back into the tree
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = Path(parent).relative_to(folder)
        yield from ((relative / name).as_posix() for name in files if not name.startswith("."))


def _raise_unreadable(error: OSError) -> None:
    raise SourceError(f"{error.filename} cannot be read ({error.strerror}); its images would be missing from the score")
