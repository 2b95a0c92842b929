"""Whatever yields images: a folder, a zip, an array file, or Python objects.

A source knows its images before any is decoded, in a stable order, and hands each out as a `Picture`: a name and the
means to get its pixels later, in another thread.
"""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any, Protocol

import numpy as np
from PIL import Image

from frechet.errors import RequestError, SourceError
from frechet.images.arrays import ArrayStack, open_npy, open_npz
from frechet.images.files import EXTENSIONS, open_image, open_image_file, open_zip

Pixels = Image.Image | np.ndarray


@dataclass(frozen=True)
class Picture:
    """One image, not yet decoded.

    Attributes:
        index: its place among the images that are scored, from 0.
        name: what the user knows it by.
        load: gets its pixels; safe to call from another thread.
    """

    index: int
    name: str
    load: Callable[[], Pixels]


class Source(Protocol):
    """A sized, repeatable collection of images."""

    name: str

    def __len__(self) -> int: ...

    def pictures(self, chosen: Sequence[int]) -> Iterator[Picture]:
        """The pictures at these places (ascending), numbered anew from 0."""

    def marks(self, chosen: Sequence[int]) -> Iterator[str]:
        """For each of these images, what tells it from another that may take its place: name, size, time.

        Raises:
            RequestError: nothing does.
        """


def open_source(images: Any) -> Source:
    """A source for anything images can come from.

    Args:
        images: a path (folder, .zip, .npz with `arr_0`, .npy), or an iterable of PIL images or uint8 arrays
            (h, w), (h, w, 1), (h, w, 3) or (h, w, 4); an array (n, h, w, c) is such an iterable. An iterable without
            length and index is gathered in memory first.

    Raises:
        SourceError: nothing there, or nothing that is an image; the message names what was seen.
    """
    if isinstance(images, (FolderSource, ZipSource, ArraySource, ObjectSource)):
        return images
    if not isinstance(images, (str, os.PathLike)):
        return _objects(images)
    path = Path(images)
    try:
        if path.is_dir():
            return FolderSource(path)
        path.stat()
    except FileNotFoundError:
        raise SourceError(f"no such file or folder: {path}") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    opener = _FILES.get(path.suffix.lower())
    if opener is None:
        raise SourceError(
            f"{path} is a file of type {path.suffix or '(none)'}; expected a folder, {', '.join(_FILES)}"
            + (
                ". One image has no distribution: give the folder that holds many."
                if path.suffix.lower() in EXTENSIONS
                else ""
            )
        )
    return opener(path)


class FolderSource:
    """Every image under a folder, in order of path; hidden files and folders are skipped, links are followed once."""

    folder: Path | None  # that all of them are in

    def __init__(self, folder: Path) -> None:
        names = sorted(_walk(folder))
        self.name, self.folder = str(folder), folder
        self.files = [folder / name for name in names if _is_image(name)]
        if not self.files:
            raise SourceError(f"{folder} holds no images: {_seen(names)}")

    @classmethod
    def of_files(cls, files: Sequence[Path], name: str = "files") -> FolderSource:
        """Exactly these files, in this order."""
        source = cls.__new__(cls)
        source.name, source.folder, source.files = name, None, list(files)
        return source

    def __len__(self) -> int:
        return len(self.files)

    def pictures(self, chosen: Sequence[int]) -> Iterator[Picture]:
        for index, place in enumerate(chosen):
            path = self.files[place]
            yield Picture(index, str(path), partial(open_image_file, path))

    def marks(self, chosen: Sequence[int]) -> Iterator[str]:
        for place in chosen:
            path = self.files[place]
            yield f"{path.name if self.folder is None else path.relative_to(self.folder)} {version_of(path)}"


class ZipSource:
    """Every image in a zip, in order of name, read in place."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.archive = open_zip(path)
        members = sorted(
            (info for info in self.archive.infolist() if not info.is_dir()), key=lambda info: info.filename
        )
        names = [info.filename for info in members if not _hidden(info.filename)]
        self.members = [info for info in members if not _hidden(info.filename) and _is_image(info.filename)]
        if not self.members:
            raise SourceError(f"{path} holds no images: {_seen(names)}")

    def __len__(self) -> int:
        return len(self.members)

    def pictures(self, chosen: Sequence[int]) -> Iterator[Picture]:
        for index, place in enumerate(chosen):
            info = self.members[place]
            yield Picture(index, f"{self.name}:{info.filename}", partial(self._load, info))

    def _load(self, info: zipfile.ZipInfo) -> Image.Image:
        with self.archive.open(info) as member:
            return open_image(member)  # type: ignore[arg-type]

    def marks(self, chosen: Sequence[int]) -> Iterator[str]:
        for place in chosen:
            info = self.members[place]
            yield f"{info.filename} {info.file_size} {info.CRC}"


class ArraySource:
    """Images in one uint8 array file (n, h, w, c), streamed."""

    def __init__(self, path: Path, stack: ArrayStack) -> None:
        self.name = str(path)
        self.path = path
        self.stack = stack

    def __len__(self) -> int:
        return len(self.stack)

    def pictures(self, chosen: Sequence[int]) -> Iterator[Picture]:
        for index, (place, image) in enumerate(zip(chosen, self.stack.read(chosen), strict=True)):
            yield Picture(index, f"{self.name}[{place}]", partial(_itself, image))

    def marks(self, chosen: Sequence[int]) -> Iterator[str]:
        version = version_of(self.path)
        yield from (f"{place} {version}" for place in chosen)


class ObjectSource:
    """Images that are Python objects already."""

    name = "images in memory"

    def __init__(self, objects: Sequence[Pixels]) -> None:
        self.objects = objects
        self.lock = Lock()  # what a user hands in need not bear several threads, and a lazy PIL image does not

    def __len__(self) -> int:
        return len(self.objects)

    def pictures(self, chosen: Sequence[int]) -> Iterator[Picture]:
        for index, place in enumerate(chosen):
            yield Picture(index, f"image {place}", partial(self._load, place))

    def _load(self, place: int) -> Pixels:
        with self.lock:
            pixels = self.objects[place]
            if isinstance(pixels, Image.Image):
                pixels.load()
            return pixels

    def marks(self, _chosen: Sequence[int]) -> Iterator[str]:
        raise RequestError(
            "a work-dir needs images that can be told from others when the run continues: give a folder, an archive or a "
            "file; images in memory have no name, size and time"
        )


def _objects(images: Any) -> ObjectSource:
    if isinstance(images, (bytes, dict, Image.Image)) or not isinstance(images, Iterable):
        raise SourceError(
            f"got {type(images).__name__}; expected a path, or an iterable of PIL images or uint8 arrays (h, w, 3)"
        )
    if isinstance(images, np.ndarray) and images.dtype != object and images.ndim != 4:
        raise SourceError(
            f"got an array of shape {images.shape}; expected (n, h, w, c). One image has no distribution; "
            "grey images need a last axis of 1: images[..., None]. Are they features (n, d)? features=True"
        )
    indexable = hasattr(images, "__len__") and hasattr(images, "__getitem__")
    objects: Any = images if indexable else [_kept(image) for image in images]
    if not len(objects):
        raise SourceError("got an empty collection of images")
    return ObjectSource(objects)


_FILES: dict[str, Callable[[Path], Source]] = {
    ".zip": ZipSource,
    ".npz": lambda path: ArraySource(path, open_npz(path, "arr_0")),
    ".npy": lambda path: ArraySource(path, open_npy(path)),
}


def version_of(path: Path) -> str:
    """Size and time of a file, or that it is gone."""
    try:
        state = path.stat()
    except OSError as error:
        return f"is not there: {error.strerror}"
    return f"{state.st_size} {state.st_mtime_ns}"


def _kept(image: Any) -> Any:
    """The image, or a copy where its producer may use the memory again."""
    return image.copy() if isinstance(image, np.ndarray) else image


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


def _hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in EXTENSIONS


def _seen(names: Sequence[str]) -> str:
    expected = " ".join(sorted(extension.removeprefix(".") for extension in EXTENSIONS))
    if not names:
        return f"it is empty (images are {expected}; hidden files are skipped)"
    kinds = Counter(PurePosixPath(name).suffix.lower() or "no extension" for name in names)
    listed = ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common(5))
    return f"among its {len(names)} files ({listed}; the first is {names[0]}) none is {expected}"
