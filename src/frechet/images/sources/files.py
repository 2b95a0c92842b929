"""Read image files and open archives, with limits on their size."""

from __future__ import annotations

import os
import posixpath
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from frechet._internal.missing_path import describe_missing_path
from frechet._internal.remote_files import RemoteFile
from frechet.errors import ImageDecodeError, SourceError, UnreachableError
from frechet.images.image import EncodedImage, ImageSource
from frechet.images.pixels import MAX_IMAGE_BYTES

File = Path | RemoteFile
EXTENSIONS = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
UNSUPPORTED_EXTENSIONS = frozenset(  # image formats that cameras, browsers and generators write and that are not read
    {".apng", ".avif", ".dib", ".exr", ".gif", ".heic", ".heif", ".ico", ".jfif"}
    | {".jp2", ".jpe", ".jxl", ".pbm", ".pnm", ".psd", ".tga"}
)
CONTAINER_EXTENSIONS = frozenset(  # files that may contain images and are read if they are passed themselves
    {".arrow", ".h5", ".hdf5", ".lmdb", ".npy", ".npz", ".parquet", ".tar", ".zip"}
)
_TOO_LARGE = "has more than {} bytes; larger images are not read"
_PIECE_BYTES = 1 << 20  # read at a time; as many are allocated before any are read
_READ_ONLY = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_HIDDEN = re.compile(  # a part of a path, except "." and ".."; previews made by Synology's server, and macOS's metadata
    r"(?:\A|/)(?:\.(?!\.?(?:/|\Z))|(?:@eaDir|__MACOSX)(?:/|\Z))"
)


class FileSource(ImageSource):
    """Base class of sources that read all their images from one local or remote file."""

    def __init__(self, file: File) -> None:
        super().__init__(
            str(file),
            path=file if isinstance(file, Path) else None,
            url=file.url if isinstance(file, RemoteFile) else None,
        )
        self.file = file

    def fingerprints(self, source_indices: Sequence[int]) -> Iterator[str]:
        version = get_file_version(self.file)
        name = self.file.name if isinstance(self.file, Path) else self.label
        yield from (f"{name} {version} {source_index}" for source_index in source_indices)


@dataclass(frozen=True, slots=True)
class FileLoader:
    """Reads an image file when it is called: the `load` of an `ImageRef` that another process can call too.

    Attributes:
        path: the file.
    """

    path: str

    def __call__(self) -> EncodedImage:
        """Return the content of the file."""
        return read_image_file(self.path)


def read_image_file(path: str | Path) -> EncodedImage:
    """Read an image file.

    Raises:
        ImageDecodeError: it is not a regular file, or is too large.
    """
    try:
        state = os.stat(path)  # noqa: PTH116, a Path takes longer than the call
    except FileNotFoundError:
        raise ImageDecodeError("is missing, or is a broken link") from None
    if not stat.S_ISREG(state.st_mode):  # opening a pipe or a device may never return
        raise ImageDecodeError("is not a regular file")
    if state.st_size > MAX_IMAGE_BYTES:
        raise ImageDecodeError(_TOO_LARGE.format(MAX_IMAGE_BYTES))
    if not state.st_size:  # empty, or of a file system that does not know the size of its files
        with open(path, "rb") as file:
            return read_image(file)
    return EncodedImage(_read_from(path, 0, state.st_size))


def read_image(stream: BinaryIO) -> EncodedImage:
    """Read an image from a stream.

    Raises:
        ImageDecodeError: it has more than `MAX_IMAGE_BYTES` bytes.
    """
    pieces = list(_iter_pieces(stream))
    return to_encoded_image(pieces[0] if len(pieces) == 1 else b"".join(pieces))


def to_encoded_image(data: bytes) -> EncodedImage:
    """Return the content of an image file as an image.

    Raises:
        ImageDecodeError: it has more than `MAX_IMAGE_BYTES` bytes.
    """
    if len(data) > MAX_IMAGE_BYTES:
        raise ImageDecodeError(_TOO_LARGE.format(MAX_IMAGE_BYTES))
    return EncodedImage(data)


def _iter_pieces(stream: BinaryIO) -> Iterator[bytes]:
    """Yield what is in a stream, up to a byte more than is allowed.

    A damaged archive may claim that a file is larger than the archive, so that the file is not read at once.
    """
    left = MAX_IMAGE_BYTES + 1
    while left:
        wanted = min(left, _PIECE_BYTES)
        piece = stream.read(wanted)
        yield piece
        left -= len(piece)
        if len(piece) < wanted:
            return


def open_zip(path: File) -> zipfile.ZipFile:
    """Open a zip file (an .npz file is one).

    Raises:
        SourceError: the file does not exist, or cannot be read as a zip.
    """
    try:
        return zipfile.ZipFile(path if isinstance(path, Path) else path.open())
    except FileNotFoundError:
        raise SourceError(describe_missing_path(Path(str(path)), "file")) from None
    except UnreachableError as error:
        raise SourceError(str(error)) from error
    except Exception as error:  # BadZipFile, OSError, UnicodeDecodeError, NotImplementedError: damage has many names
        raise SourceError(
            f"{path} is named {path.suffix} but cannot be read as one ({error}); it may be truncated or another kind of file"
        ) from None


def get_file_size(file: File) -> int:
    """Return the size of a file in bytes."""
    return file.size if isinstance(file, RemoteFile) else file.stat().st_size


def get_file_version(file: File) -> str:
    """Return the size and modification time of a file (for a URL: what the store reports), or that it is missing."""
    if isinstance(file, RemoteFile):
        return file.version
    try:
        state = file.stat()
    except OSError as error:
        return f"is not there: {error.strerror}"
    return f"{state.st_size} {state.st_mtime_ns}"


def read_range(file: File, start: int, count: int) -> bytes:
    """Read `count` bytes of a file from `start`; safe to call from several threads.

    Raises:
        ImageDecodeError: the file is shorter than it was when it was opened.
    """
    if isinstance(file, RemoteFile):
        return file.read(start, count)
    data = _read_from(file, start, count)
    if len(data) != count:
        raise ImageDecodeError(f"is truncated: {file} has become shorter since the run started")
    return data


def _read_from(path: str | Path, start: int, count: int) -> bytes:
    """Read up to `count` bytes of a file from `start`, without the buffer and the objects of `open`."""
    descriptor = os.open(path, _READ_ONLY)
    try:
        if start:
            os.lseek(descriptor, start, os.SEEK_SET)
        data = os.read(descriptor, count)
        while len(data) < count and (piece := os.read(descriptor, count - len(data))):
            data += piece
        return data
    finally:
        os.close(descriptor)


def is_hidden(name: str) -> bool:
    """Return whether a file name is hidden, or belongs to the metadata that macOS and Synology's servers add."""
    return _HIDDEN.search(name) is not None


def is_image(name: str) -> bool:
    """Return whether a file name has the extension of a supported image format."""
    return _get_extension(name) in EXTENSIONS


def _get_extension(name: str) -> str:
    return posixpath.splitext(name)[1].lower()


def count_unsupported(names: Iterable[str]) -> Counter[str]:
    """Return the number of image files in unsupported formats, by extension."""
    extensions = map(_get_extension, names)
    return Counter(extension for extension in extensions if extension in UNSUPPORTED_EXTENSIONS)


def list_containers(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of archives, array files and tables, which are not opened when they lie among images."""
    return tuple(name for name in names if _get_extension(name) in CONTAINER_EXTENSIONS)


def describe_contents(names: Sequence[str]) -> str:
    """Describe, for an error message that ends with "contains no images", the files of a source."""
    supported = ", ".join(sorted(extension.removeprefix(".") for extension in EXTENSIONS))
    if not names:
        return f": it is empty (hidden files are skipped); supported: {supported}"
    if len(names) == 1:
        found = f"1 file, {names[0]}"
    else:
        counts = Counter(_get_extension(name) or "without extension" for name in names)
        listed = ", ".join(f"{count:,} {extension}" for extension, count in counts.most_common(5))
        found = f"{len(names):,} files ({listed}; the first is {names[0]})"
    containers = list_containers(names)
    fix = f". To read {containers[0]}, pass it itself, or a pattern of such files." if containers else ""
    return f" in a supported format: found {found}; supported: {supported}{fix}"
