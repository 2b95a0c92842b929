"""Stacks of images in .npy files, alone or inside an .npz, read image by image. Object arrays are never unpickled."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from frechet.errors import SourceError

_SKIP = 1 << 22  # bytes read at a time where a stream cannot seek


class ArrayStack:
    """An (n, h, w, c) or (n, h, w) uint8 array in a stream, from which single images are read in ascending order."""

    def __init__(self, what: str, open_stream: Callable[[], BinaryIO]) -> None:
        self.what = what
        self.open_stream = open_stream
        with open_stream() as stream:
            self.shape = _read_header(stream, what)

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, chosen: Sequence[int]) -> Iterator[np.ndarray]:
        """The images at these ascending places."""
        size = math.prod(self.shape[1:])
        with self.open_stream() as stream:
            _read_header(stream, self.what)
            at = 0
            for place in chosen:
                _skip(stream, (place - at) * size)
                data = stream.read(size)
                if len(data) != size:
                    raise SourceError(f"{self.what} ends in image {place} of {len(self)}; the file was cut short")
                yield np.frombuffer(data, np.uint8).reshape(self.shape[1:])
                at = place + 1


def open_npy(path: Path) -> ArrayStack:
    """The array of an .npy file."""
    return ArrayStack(str(path), lambda: open(path, "rb"))


def open_npz(path: Path, key: str) -> ArrayStack:
    """The array `key` of an .npz file, streamed out of the zip (ADM's sample batches are such files)."""
    keys = npz_keys(path)
    if key not in keys:
        raise SourceError(
            f"{path} has no images: expected the key {key} (uint8, n x h x w x 3) or statistics mu and sigma; "
            f"it has {', '.join(keys) or 'no arrays'}"
        )

    def open_stream() -> BinaryIO:
        return zipfile.ZipFile(path).open(f"{key}.npy")  # type: ignore[return-value]

    return ArrayStack(f"{path}:{key}", open_stream)


def npz_keys(path: Path) -> list[str]:
    """Names of the arrays in an .npz file, in order.

    Raises:
        SourceError: no such file, or not a zip.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    except FileNotFoundError:
        raise SourceError(f"no such file: {path}") from None
    except (zipfile.BadZipFile, OSError) as error:
        raise SourceError(
            f"{path} cannot be read as .npz ({error}); it may be cut short or be another kind of file"
        ) from None


def _read_header(stream: BinaryIO, what: str) -> tuple[int, ...]:
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except Exception as error:
        raise SourceError(f"{what} is not a NumPy array file ({error})") from None
    if dtype.hasobject:
        raise SourceError(f"{what} holds Python objects, which could run code when read; expected uint8 (n, h, w, 3)")
    if dtype != np.uint8:
        raise SourceError(
            f"{what} holds {dtype}; expected uint8 in 0..255. "
            "For floats in [0, 1]: (x * 255).round().astype('uint8'); for [-1, 1]: ((x + 1) * 127.5).round().astype('uint8')"
        )
    if len(shape) != 4 or shape[3] not in (1, 3, 4):
        raise SourceError(f"{what} has shape {shape}; expected (n, h, w, 3): channels last, one to four of them")
    if fortran:
        raise SourceError(f"{what} is in Fortran order; save it anew with numpy.ascontiguousarray")
    return tuple(int(size) for size in shape)


def _skip(stream: BinaryIO, count: int) -> None:
    if count and stream.seekable():
        stream.seek(count, 1)
        return
    while count:
        block = stream.read(min(count, _SKIP))
        if not block:
            return
        count -= len(block)
