"""An array of images that a local file contains uncompressed; the threads that need its images read them, in any order."""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np

from frechet.errors import SourceError
from frechet.images.fast_decoders import load_crc32
from frechet.images.sources.checksum import join_crc32
from frechet.images.sources.files import read_range

_MAX_ROWS_PER_READ, _MAX_BYTES_PER_READ = 32, 1 << 23  # of images that are read together
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a member of a zip: mark, and lengths of its name and extra field
_MARK = b"PK\3\4"


class StoredArray:
    """A uint8 array (n, h, w, c) in a local file.

    Args:
        path: the file.
        start: position of the array in the file.
        shape: (n, h, w, c).
        checksum: CRC-32 of what lies before the array in its member of an archive, and of the whole member; None if it is not known.
    """

    def __init__(self, path: Path, start: int, shape: tuple[int, ...], checksum: tuple[int, int] | None = None) -> None:
        self.path, self.start, self.shape, self.checksum = path, start, shape, checksum

    def iter_loaders(self, indices: Sequence[int]) -> Iterator[Callable[[], np.ndarray]]:
        """Yield, for each of these images (in ascending order), a function that returns it; safe to call from several threads.

        Raises:
            ImageDecodeError: by such a function, if the file is shorter than it was.
            SourceError: by such a function, if all images have been read, and their checksum is not that of the archive.
        """
        runs = list(split_runs(indices, rows_per_read(self.shape)))
        is_complete = self.checksum is not None and len(indices) == self.shape[0]
        parts = _Parts(self, runs) if is_complete else None
        for start, count in runs:
            rows = _Rows(self, start, count, parts)
            yield from (partial(rows.load, index) for index in range(count))


class _Rows:
    """Consecutive images, which the thread that needs one of them first reads.

    Args:
        array: contains the images.
        start, count: index of the first one, and their number.
        parts: receives the checksum of the images, if there is one to compare with.
    """

    def __init__(self, array: StoredArray, start: int, count: int, parts: _Parts | None) -> None:
        self.array, self.start, self.count, self.parts = array, start, count, parts
        self._lock = Lock()
        self._images: np.ndarray | None = None

    def load(self, index: int) -> np.ndarray:
        """Return an image, (h, w, c) uint8."""
        with self._lock:
            if self._images is None:
                self._images = self._read()
        image: np.ndarray = self._images[index]
        return image

    def _read(self) -> np.ndarray:
        size = math.prod(self.array.shape[1:])
        data = read_range(self.array.path, self.array.start + self.start * size, self.count * size)
        if self.parts:
            self.parts.add(self.start, load_crc32()(data, 0))
        return np.frombuffer(data, np.uint8).reshape(self.count, *self.array.shape[1:])


class _Parts:
    """The checksums of all parts of an array, which are compared with that of the archive when the last one is known.

    Args:
        array: the array, whose checksum is known.
        runs: (index of the first image, number of images) of each part, in order.
    """

    def __init__(self, array: StoredArray, runs: Sequence[tuple[int, int]]) -> None:
        self.array, self.runs = array, runs
        self._lock = Lock()
        self._found: dict[int, int] = {}  # by the index of the first image

    def add(self, start: int, crc: int) -> None:
        """Add the CRC-32 of the part that starts with an image."""
        with self._lock:
            self._found[start] = crc
            if len(self._found) < len(self.runs):
                return
        assert self.array.checksum is not None
        whole, expected = self.array.checksum
        for first, count in self.runs:
            whole = join_crc32(whole, self._found[first], count * math.prod(self.array.shape[1:]))
        if whole != expected:
            raise SourceError(
                f"{self.array.path} is damaged: the CRC-32 of its images is not the one that the archive states. Copy, download or create "
                "the file again."
            )


def rows_per_read(shape: tuple[int, ...]) -> int:
    """Return how many images of an array (n, h, w, c) are read together."""
    return max(1, min(_MAX_ROWS_PER_READ, _MAX_BYTES_PER_READ // math.prod(shape[1:])))


def split_runs(indices: Sequence[int], max_count: int) -> Iterator[tuple[int, int]]:
    """Yield (first, count) of runs of consecutive indices (ascending), each of at most `max_count`."""
    start = count = 0
    for index in indices:
        if count and index == start + count and count < max_count:
            count += 1
            continue
        if count:
            yield start, count
        start, count = index, 1
    if count:
        yield start, count


def find_stored_member(path: Path, info: zipfile.ZipInfo) -> int | None:
    """Return where the content of a member of a zip archive starts in the file; None if it is compressed or damaged."""
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        return None
    mark, name_length, extra_length = _LOCAL_HEADER.unpack(read_range(path, info.header_offset, _LOCAL_HEADER.size))
    return info.header_offset + _LOCAL_HEADER.size + name_length + extra_length if mark == _MARK else None
