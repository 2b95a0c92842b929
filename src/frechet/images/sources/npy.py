"""Arrays of images in .npy files, alone or inside an .npz, read image by image. Object arrays are never unpickled."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from frechet._internal.array_headers import retry_parsing
from frechet._internal.words import join_words
from frechet.errors import ArchiveError, RequestError, SourceError, UnreachableError
from frechet.images.pixels import find_pixel_error
from frechet.images.sources.files import File, FileSource, get_file_size, open_zip, read_range
from frechet.images.sources.stored_array import StoredArray, find_stored_member, rows_per_read, split_runs

_MAX_HEADER_BYTES = 10_000  # NumPy reads no longer header from files that it does not trust
_IMAGES_KEY, _CLASSES_KEY = "arr_0", "arr_1"  # in an .npz file, as ADM's sample batches have them


class ArraySource(FileSource):
    """The images of an array file: .npy, or the array `arr_0` of an .npz, with optional class labels in `arr_1`."""

    def __init__(self, file: File) -> None:
        super().__init__(file)
        self.reader = open_npz(file, _IMAGES_KEY) if file.suffix.lower() == ".npz" else open_npy(file)

    def __len__(self) -> int:
        return len(self.reader)

    def iter_loaders(self, source_indices: Sequence[int]) -> Iterator[Callable[[], np.ndarray]]:
        if self.reader.stored:
            return self.reader.stored.iter_loaders(source_indices)
        return (partial(_identity, image) for image in self.reader.read(source_indices))

    def get_class_names(self, source_indices: Sequence[int]) -> list[str]:
        """Return the entries of `arr_1` for these images.

        Raises:
            RequestError: the file has no `arr_1`, or it is not one integer per image.
        """
        classes = self._read_classes()
        return [str(classes[source_index]) for source_index in source_indices]

    def _read_classes(self) -> np.ndarray:
        if self.file.suffix.lower() != ".npz" or _CLASSES_KEY not in npz_keys(self.file):
            raise RequestError(
                f"{self.label} has no classes. Pass an .npz file with one integer label per image in {_CLASSES_KEY}, "
                f"or a folder or archive with one folder per class."
            )
        try:
            with open_zip(self.file) as archive, archive.open(f"{_CLASSES_KEY}.npy") as member:
                shape, _, dtype = read_npy_header(member)  # type: ignore[arg-type]
                if shape == (len(self),) and dtype.kind in "iu":
                    return np.frombuffer(member.read(len(self) * dtype.itemsize), dtype)
        except Exception as error:  # damage has many names
            raise RequestError(f"{self.label}: its class labels {_CLASSES_KEY} cannot be read ({error})") from error
        raise RequestError(
            f"{self.label}: its class labels {_CLASSES_KEY} have shape {shape} and type {dtype}; expected ({len(self)},), one "
            "integer per image. Save them again as integers, e.g. labels.astype(numpy.int64)"
        )


class NpyReader:
    """A uint8 array (n, h, w, c) in a stream, from which single images are read in ascending order.

    Args:
        label: its name in messages.
        open_stream: open the stream at its beginning.
        size: length of the stream in bytes.
        find: return the array, given its shape and its position in the stream, if a local file contains it uncompressed.

    Attributes:
        stored: what `find` returned.
    """

    def __init__(
        self,
        label: str,
        open_stream: Callable[[], BinaryIO],
        size: int,
        find: Callable[[tuple[int, ...], int], StoredArray | None] = lambda *_: None,
    ) -> None:
        self.label = label
        self.open_stream = open_stream
        with _translate_header_errors(label), open_stream() as stream:
            self.shape = _read_header(stream, label)
            position = stream.tell()
            self.stored = find(self.shape, position)
        expected = position + math.prod(self.shape)
        if size != expected:
            raise SourceError(
                f"{label} has {size} bytes, but an array of shape {self.shape} needs {expected}; it is truncated or damaged"
            )

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, source_indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield the images with these indices (in ascending order), each (h, w, c) uint8.

        Raises:
            ArchiveError: the stream is damaged behind its header.
        """
        n_rows, n_read = rows_per_read(self.shape), 0
        try:
            for images in self._read_blocks(source_indices, n_rows):
                yield from images
                n_read += len(images)
        except ArchiveError:
            if n_rows == 1:
                raise
            for images in self._read_blocks(source_indices[n_read:], 1):  # finds the image at which the damage starts
                yield from images

    def _read_blocks(self, source_indices: Sequence[int], n_rows: int) -> Iterator[np.ndarray]:
        """Yield arrays (k, h, w, c) of consecutive images that lie one after another in memory."""
        size, position = math.prod(self.shape[1:]), 0
        with closing(self.open_stream()) as stream:
            _read_header(stream, self.label)
            for start, count in split_runs(source_indices, n_rows):
                with _translate_read_errors(self.label, start):
                    _skip(stream, (start - position) * size)
                    images = np.frombuffer(stream.read(count * size), np.uint8).reshape(count, *self.shape[1:])
                yield images
                position = start + count


def open_npy(path: File) -> NpyReader:
    """Open the array in an .npy file.

    Raises:
        SourceError: it is not an array of images, or cannot be read.
    """

    def find(shape: tuple[int, ...], position: int) -> StoredArray | None:
        return StoredArray(path, position, shape) if isinstance(path, Path) else None

    with _translate_header_errors(str(path)):
        return NpyReader(str(path), lambda: path.open("rb"), get_file_size(path), find)


def open_npz(path: File, key: str) -> NpyReader:
    """Open the array `key` in an .npz file without unpacking it.

    Raises:
        SourceError: there is no such array, it is not an array of images, or it cannot be read.
    """
    keys = npz_keys(path)
    if key not in keys:
        raise SourceError(
            f"{path} contains {_describe_keys(keys)}; expected {key} (uint8 images of shape (n, h, w, 3)), or mu and sigma "
            "(statistics). If it contains features, pass --features (features=True)."
        )
    with open_zip(path) as archive:
        info = archive.getinfo(f"{key}.npy")

    def open_stream() -> BinaryIO:
        with open_zip(path) as archive:  # the member keeps the file open for itself
            return archive.open(f"{key}.npy")  # type: ignore[return-value]

    def find(shape: tuple[int, ...], position: int) -> StoredArray | None:
        if not isinstance(path, Path) or (start := find_stored_member(path, info)) is None:
            return None
        header = read_range(path, start, position)
        return StoredArray(path, start + position, shape, (zlib.crc32(header), info.CRC))

    return NpyReader(f"{path}:{key}", open_stream, info.file_size, find)


def _describe_keys(keys: Sequence[str]) -> str:
    return f"the key{'' if len(keys) == 1 else 's'} {join_words(keys)}" if keys else "no arrays"


def npz_keys(path: File) -> list[str]:
    """Return the names of the arrays in an .npz file, in order.

    Raises:
        SourceError: the file does not exist, or is not a zip.
    """
    with open_zip(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


@contextmanager
def _translate_header_errors(label: str) -> Iterator[None]:
    """Turn any error in reading a header (those of NumPy and zipfile have many types) into a SourceError."""
    try:
        yield
    except SourceError:
        raise
    except UnreachableError as error:
        raise SourceError(str(error)) from error
    except Exception as error:
        raise SourceError(f"{label} cannot be read as a NumPy array file ({error})") from None


@contextmanager
def _translate_read_errors(label: str, index: int) -> Iterator[None]:
    """Turn any error in reading an image into an ArchiveError."""
    try:
        yield
    except UnreachableError:
        raise
    except Exception as error:
        raise ArchiveError(f"{label} is damaged at image {index} ({error}); nothing after it can be read") from None


def read_npy_header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an .npy file without allocating what it declares.

    Returns:
        Shape, whether the array is in Fortran order, and dtype, as NumPy returns them; the stream is then at the data.

    Raises:
        ValueError: it is not the header of an .npy file.
    """
    start = stream.read(np.lib.format.MAGIC_LEN)
    version = np.lib.format.read_magic(BytesIO(start))
    length = stream.read(2 if version == (1, 0) else 4)
    size = int.from_bytes(length, "little")
    if size > _MAX_HEADER_BYTES:
        raise ValueError(f"its header declares {size} bytes; expected at most {_MAX_HEADER_BYTES}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    header = length + stream.read(size)
    return retry_parsing(lambda: read(BytesIO(header)))


def _read_header(stream: BinaryIO, label: str) -> tuple[int, ...]:
    shape, fortran, dtype = read_npy_header(stream)
    if dtype.hasobject:
        raise SourceError(
            f"{label} contains Python objects, which could run code when read; expected uint8 (n, h, w, 3)"
        )
    if error := find_pixel_error(dtype, shape, "nhwc"):
        raise SourceError(f"{label} {error}")
    if fortran:
        raise SourceError(f"{label} is stored in Fortran order; save numpy.ascontiguousarray(x) instead")
    return tuple(int(size) for size in shape)


def _skip(stream: BinaryIO, count: int) -> None:
    if count and stream.seekable():
        stream.seek(count, 1)


def _identity(image: np.ndarray) -> np.ndarray:
    return image
