"""Images in an HDF5 file: one dataset of pixels, or of encoded files. What it links to outside is not read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from frechet.errors import ArchiveError, SourceError
from frechet.images.image import ImageLike, ImageRef
from frechet.images.sources.files import MAX_IMAGE_BYTES, File, get_file_version, open_image

_ROWS_PER_READ = 32  # that are read together, unless they are stored in larger chunks
_MAX_READ_BYTES = 1 << 26  # of rows that are read together


class Hdf5Source:
    """The images of the one dataset that is uint8 (n, h, w, c), or n encoded images of variable length."""

    location: str | None = None

    def __init__(self, file: File) -> None:
        self.label = str(file)
        self.file = file
        with self._open() as archive:
            data = _find_image_dataset(archive, file)
            self.key = data.name
            self.count = len(data)
            self.is_encoded = data.ndim == 1
            rows = max(_ROWS_PER_READ, data.chunks[0] if data.chunks else 0)
            size = 1 if self.is_encoded else int(np.prod(data.shape[1:], dtype=np.int64))
            self.rows = max(1, min(rows, _MAX_READ_BYTES // size))

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

    def iter_images(self, source_indices: Sequence[int]) -> Iterator[ImageRef]:
        index = 0
        with self._open() as archive:
            data = archive[self.key]
            for block_index, block_indices in groupby(source_indices, lambda source_index: source_index // self.rows):
                start = block_index * self.rows
                try:
                    rows = data[start : start + self.rows]
                except (OSError, ValueError) as error:
                    raise ArchiveError(f"{self.label} is damaged near image {start} ({error})") from None
                for source_index in block_indices:
                    yield ImageRef(
                        index, self.get_label(source_index), partial(_decode_row, rows[source_index - start])
                    )
                    index += 1

    def fingerprints(self, source_indices: Sequence[int]) -> Iterator[str]:
        version = get_file_version(self.file)
        name = self.file.name if isinstance(self.file, Path) else self.label
        yield from (f"{name} {version} {source_index}" for source_index in source_indices)


def _find_image_dataset(archive: Any, file: File) -> Any:
    """The one dataset that may be images."""
    import h5py

    found: list[Any] = []
    seen: list[str] = []

    def visit(name: str, node: Any) -> None:  # follows neither soft nor external links
        if isinstance(node, h5py.Dataset):
            seen.append(f"{name} ({node.dtype}, {node.shape})")
            pixels = node.ndim == 4 and node.dtype == np.uint8 and node.shape[3] in (1, 3, 4)
            is_encoded = node.ndim == 1 and h5py.check_vlen_dtype(node.dtype) == np.uint8
            if (pixels or is_encoded) and len(node):
                found.append(node)

    archive.visititems(visit)
    if len(found) != 1:
        raise SourceError(
            f"{file} has {len(found) or 'no'} datasets that may be images; expected one, uint8 (n, h, w, 3) or n encoded "
            f"images of variable length; it has {', '.join(seen) or 'none'}"
        )
    (data,) = found
    if data.external or data.is_virtual:
        raise SourceError(f"{file}: the images of {data.name} are stored in other files, which are not read")
    if data.ndim == 4 and int(np.prod(data.shape[1:], dtype=np.int64)) > MAX_IMAGE_BYTES:
        raise SourceError(f"{file} has images of more than {MAX_IMAGE_BYTES} bytes; larger images are not read")
    return data


def _decode_row(row: np.ndarray) -> ImageLike:
    return row if row.ndim == 3 else open_image(BytesIO(row.tobytes()))
