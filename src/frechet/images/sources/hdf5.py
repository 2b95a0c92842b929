"""Images in an HDF5 file: one dataset of pixels or of encoded files. Links to other files are not followed.

It is read in a process of its own, see `native_process`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from frechet.errors import ArchiveError, SourceError
from frechet.images.pixels import MAX_IMAGE_BYTES, find_pixel_error
from frechet.images.sources.files import File
from frechet.images.sources.native_process import NativeSource
from frechet.images.sources.native_reader import ImageData

_ROWS_PER_READ = 32  # unless they are stored in larger chunks
_MAX_READ_BYTES = 1 << 26  # of rows that are read together


class Hdf5Source(NativeSource):
    """The images of the only dataset that is uint8 (n, h, w, c), or n encoded images of variable length."""

    def __init__(self, file: File) -> None:
        super().__init__(f"{__name__}:Hdf5Reader", file)


class Hdf5Reader:
    """Reads the dataset of `Hdf5Source`."""

    names = None

    def __init__(self, file: File) -> None:
        self.file = file
        with self._open() as archive:
            data = _find_image_dataset(archive, file)
            self.key, self.count = data.name, len(data)
            rows = max(_ROWS_PER_READ, data.chunks[0] if data.chunks else 0)
            size = int(np.prod(data.shape[1:], dtype=np.int64))
            self.rows_per_read = 1 if data.ndim == 1 else max(1, min(rows, _MAX_READ_BYTES // size))
        self.label_suffix = f":{self.key}"

    def __len__(self) -> int:
        return int(self.count)

    def iter_data(self, source_indices: Sequence[int]) -> Iterator[ImageData]:
        """Yield the pixels or the bytes of these images."""
        with self._open() as archive:
            data = archive[self.key]
            for block_index, block_indices in groupby(source_indices, lambda index: index // self.rows_per_read):
                start = block_index * self.rows_per_read
                try:
                    rows = data[start : start + self.rows_per_read]
                except (OSError, ValueError) as error:
                    raise ArchiveError(f"{self.file} is damaged near image {start} ({error})") from None
                for source_index in block_indices:
                    row = rows[source_index - start]
                    yield row if row.ndim == 3 else row.tobytes()

    def _open(self) -> Any:
        try:
            import h5py
        except ImportError:
            raise SourceError(
                f"{self.file} needs h5py, which is not installed; run pip install 'frechet[hdf5]'"
            ) from None
        try:
            return h5py.File(self.file if isinstance(self.file, Path) else self.file.open(), "r")
        except OSError as error:
            raise SourceError(f"{self.file} cannot be read as HDF5 ({error})") from None


def _find_image_dataset(archive: Any, file: File) -> Any:
    """Return the only dataset that may contain images."""
    import h5py

    found: list[Any] = []
    others: list[str] = []

    def visit(name: str, node: Any) -> None:  # h5py follows neither soft nor external links here
        if not isinstance(node, h5py.Dataset):
            return
        error = find_pixel_error(node.dtype, node.shape, "nhwc") if node.ndim == 4 else None
        is_encoded = node.ndim == 1 and h5py.check_vlen_dtype(node.dtype) == np.uint8
        if len(node.shape) and len(node) and (is_encoded or (node.ndim == 4 and error is None)):
            found.append(node)
        else:
            others.append(f"{name} {error or f'is {node.dtype} of shape {node.shape}'}")

    archive.visititems(visit)
    if len(found) > 1:
        names = ", ".join(node.name for node in found)
        raise SourceError(f"{file} has {len(found)} datasets that may be images ({names}); expected one")
    if not found:
        raise SourceError(
            f"{file} has no dataset of images; expected one, uint8 (n, h, w, 3) or n encoded images of variable length. "
            f"Its datasets: {'; '.join(others) or 'none'}"
        )
    (data,) = found
    if data.external or data.is_virtual:
        raise SourceError(f"{file}: the images of {data.name} are stored in other files, which are not read")
    if data.chunks and np.prod(data.chunks, dtype=object) * data.dtype.itemsize > MAX_IMAGE_BYTES:
        raise SourceError(
            f"{file}: {data.name} is stored in chunks of {data.chunks}, which are read whole; expected at most "
            f"{MAX_IMAGE_BYTES} bytes per chunk. Write it again with smaller chunks."
        )
    return data
