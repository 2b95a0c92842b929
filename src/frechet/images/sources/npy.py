"""Stacks of images in .npy files, alone or inside an .npz, read image by image. Object arrays are never unpickled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import BinaryIO

import numpy as np

from frechet.errors import ArchiveError, SourceError, UnreachableError
from frechet.images.sources.files import MAX_IMAGE_BYTES, File, get_file_size, open_zip


class NpyReader:
    """An (n, h, w, c) uint8 array in a stream, from which single images are read in ascending order.

    Args:
        what: its name in messages.
        open_stream: opens the stream at its beginning.
        size: bytes of the whole stream.
    """

    def __init__(self, label: str, open_stream: Callable[[], BinaryIO], size: int) -> None:
        self.label = label
        self.open_stream = open_stream
        with _translate_header_errors(label), open_stream() as stream:
            self.shape = _read_header(stream, label)
            expected = stream.tell() + math.prod(self.shape)
        if size != expected:
            raise SourceError(
                f"{label} has {size} bytes where an array {self.shape} needs {expected}; it was cut short or is damaged"
            )

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, source_indices: Sequence[int]) -> Iterator[np.ndarray]:
        """The images at these ascending places.

        Raises:
            BadArchive: the stream is damaged further on.
        """
        size = math.prod(self.shape[1:])
        stream = self.open_stream()
        with closing(stream):
            _read_header(stream, self.label)
            position = 0
            for index in source_indices:
                with _translate_read_errors(self.label, index):
                    _skip(stream, (index - position) * size)
                    image = np.frombuffer(stream.read(size), np.uint8).reshape(self.shape[1:])
                yield image
                position = index + 1


def open_npy(path: File) -> NpyReader:
    """The array of an .npy file."""
    with _translate_header_errors(str(path)):
        return NpyReader(str(path), lambda: path.open("rb"), get_file_size(path))


def open_npz(path: File, key: str) -> NpyReader:
    """The array `key` of an .npz file, streamed out of the zip (ADM's sample batches are such files)."""
    keys = npz_keys(path)
    if key not in keys:
        raise SourceError(
            f"{path} has no images: expected the key {key} (uint8, n x h x w x 3) or statistics mu and sigma "
            f"(or features, with --features or features=True); it has {', '.join(keys) or 'no arrays'}"
        )
    with open_zip(path) as archive:
        size = archive.getinfo(f"{key}.npy").file_size

    def open_stream() -> BinaryIO:
        with open_zip(path) as archive:  # the member keeps the file open for itself
            return archive.open(f"{key}.npy")  # type: ignore[return-value]

    return NpyReader(f"{path}:{key}", open_stream, size)


def npz_keys(path: File) -> list[str]:
    """Names of the arrays in an .npz file, in order.

    Raises:
        SourceError: no such file, or not a zip.
    """
    with open_zip(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


@contextmanager
def _translate_header_errors(label: str) -> Iterator[None]:
    """Say of any failure to read a header that it is one: NumPy's and zipfile's errors have many names."""
    try:
        yield
    except SourceError:
        raise
    except UnreachableError as error:
        raise SourceError(str(error)) from error
    except Exception as error:
        raise SourceError(f"{label} is not a NumPy array file that can be read ({error})") from None


@contextmanager
def _translate_read_errors(label: str, index: int) -> Iterator[None]:
    """The same for damage that shows only when the run is under way."""
    try:
        yield
    except UnreachableError:
        raise
    except Exception as error:
        raise ArchiveError(f"{label} is damaged at image {index} ({error}); nothing after it can be read") from None


def _read_header(stream: BinaryIO, label: str) -> tuple[int, ...]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise SourceError(f"{label} holds Python objects, which could run code when read; expected uint8 (n, h, w, 3)")
    if dtype.kind == "f" and len(shape) == 2:
        raise SourceError(
            f"{label} holds {dtype} of shape {shape}; expected uint8 images. Are they features? --features (features=True)"
        )
    if dtype != np.uint8:
        raise SourceError(
            f"{label} holds {dtype}; expected uint8 in 0..255. "
            "For floats in [0, 1]: (x * 255).round().astype('uint8'); for [-1, 1]: ((x + 1) * 127.5).round().astype('uint8')"
        )
    if len(shape) != 4 or shape[3] not in (1, 3, 4) or min(shape) < 1:
        raise SourceError(f"{label} has shape {shape}; expected (n, h, w, 3): channels last, and none of them zero")
    if math.prod(shape[1:]) > MAX_IMAGE_BYTES:
        raise SourceError(f"{label} has images of {math.prod(shape[1:])} bytes; at most {MAX_IMAGE_BYTES} are read")
    if fortran:
        raise SourceError(f"{label} is in Fortran order; save it anew with numpy.ascontiguousarray")
    return tuple(int(size) for size in shape)


def _skip(stream: BinaryIO, count: int) -> None:
    if count and stream.seekable():
        stream.seek(count, 1)
