"""Images in an HDF5 file: one dataset of pixels or of encoded files. Links to other files are not followed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from frechet.errors import ArchiveError, SourceError
from frechet.images.image import ImageLike
from frechet.images.pixels import find_pixel_error
from frechet.images.sources.files import File, FileSource, open_image

_ROWS_PER_READ = 32  # unless they are stored in larger chunks
_MAX_READ_BYTES = 1 << 26  # of rows that are read together


class Hdf5Source(FileSource):
    """The images of the only dataset that is uint8 (n, h, w, c), or n encoded images of variable length."""

    def __init__(self, file: File) -> None:
        super().__init__(file)
        with self._open() as archive:
            data = _find_image_dataset(archive, file)
            self.key = data.name
            self.count = len(data)
            rows = max(_ROWS_PER_READ, data.chunks[0] if data.chunks else 0)
            size = 1 if data.ndim == 1 else int(np.prod(data.shape[1:], dtype=np.int64))
            self.rows_per_read = max(1, min(rows, _MAX_READ_BYTES // size))

    def _open(self) -> Any:
        try:
            import h5py
        except ImportError:
            raise SourceError(f"{self.label} needs h5py: pip install 'frechet[hdf5]'") from None
        try:
            return h5py.File(self.file if isinstance(self.file, Path) else self.file.open(), "r")
        except OSError as error:
            raise SourceError(f"{self.label} cannot be read as HDF5 ({error})") from None

    def __len__(self) -> int:
        return self.count

    def get_label(self, source_index: int) -> str:
        return f"{self.label}:{self.key}[{source_index}]"

    def iter_loaders(self, source_indices: Sequence[int]) -> Iterator[Callable[[], ImageLike]]:
        with self._open() as archive:
            data = archive[self.key]
            for block_index, block_indices in groupby(source_indices, lambda index: index // self.rows_per_read):
                start = block_index * self.rows_per_read
                try:
                    rows = data[start : start + self.rows_per_read]
                except (OSError, ValueError) as error:
                    raise ArchiveError(f"{self.label} is damaged near image {start} ({error})") from None
                for source_index in block_indices:
                    yield partial(_decode_row, rows[source_index - start])


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
    return data


def _decode_row(row: np.ndarray) -> ImageLike:
    return row if row.ndim == 3 else open_image(BytesIO(row.tobytes()))
