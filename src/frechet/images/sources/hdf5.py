"""Images in an HDF5 file: one dataset of pixels, or of encoded files. What it links to outside is not read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from frechet.errors import BadArchive, SourceError
from frechet.images.image import Picture, Pixels
from frechet.images.sources.files import LARGEST, File, open_image, version_of

_ROWS = 32  # that are read together, unless they are stored in larger chunks
_MOST_BYTES = 1 << 26  # of rows that are read together


class Hdf5Source:
    """The images of the one dataset that is uint8 (n, h, w, c), or n encoded images of variable length."""

    address: str | None = None

    def __init__(self, file: File) -> None:
        self.name = str(file)
        self.file = file
        with self._opened() as archive:
            data = _images_in(archive, file)
            self.key = data.name
            self.count = len(data)
            self.encoded = data.ndim == 1
            rows = max(_ROWS, data.chunks[0] if data.chunks else 0)
            size = 1 if self.encoded else int(np.prod(data.shape[1:], dtype=np.int64))
            self.rows = max(1, min(rows, _MOST_BYTES // size))

    def _opened(self) -> Any:
        try:
            import h5py
        except ImportError:
            raise SourceError(f"{self.name} needs h5py: pip install 'frechet[hdf5]'") from None
        try:
            return h5py.File(self.file if isinstance(self.file, Path) else self.file.open(), "r")
        except OSError as error:
            raise SourceError(f"{self.name} cannot be read as HDF5 ({error})") from None

    def __len__(self) -> int:
        return self.count

    def name_of(self, place: int) -> str:
        return f"{self.name}:{self.key}[{place}]"

    def pictures(self, chosen: Sequence[int]) -> Iterator[Picture]:
        index = 0
        with self._opened() as archive:
            data = archive[self.key]
            for block, places in groupby(chosen, lambda place: place // self.rows):
                start = block * self.rows
                try:
                    rows = data[start : start + self.rows]
                except (OSError, ValueError) as error:
                    raise BadArchive(f"{self.name} is damaged near image {start} ({error})") from None
                for place in places:
                    yield Picture(index, self.name_of(place), partial(_pixels, rows[place - start]))
                    index += 1

    def marks(self, chosen: Sequence[int]) -> Iterator[str]:
        version = version_of(self.file)
        name = self.file.name if isinstance(self.file, Path) else self.name
        yield from (f"{name} {version} {place}" for place in chosen)


def _images_in(archive: Any, file: File) -> Any:
    """The one dataset that may be images."""
    import h5py

    found: list[Any] = []
    seen: list[str] = []

    def visit(name: str, thing: Any) -> None:  # follows neither soft nor external links
        if isinstance(thing, h5py.Dataset):
            seen.append(f"{name} ({thing.dtype}, {thing.shape})")
            pixels = thing.ndim == 4 and thing.dtype == np.uint8 and thing.shape[3] in (1, 3, 4)
            encoded = thing.ndim == 1 and h5py.check_vlen_dtype(thing.dtype) == np.uint8
            if (pixels or encoded) and len(thing):
                found.append(thing)

    archive.visititems(visit)
    if len(found) != 1:
        raise SourceError(
            f"{file} has {len(found) or 'no'} datasets that may be images; expected one, uint8 (n, h, w, 3) or n encoded "
            f"images of variable length; it has {', '.join(seen) or 'none'}"
        )
    (data,) = found
    if data.external or data.is_virtual:
        raise SourceError(f"{file}: the images of {data.name} are stored in other files, which are not read")
    if data.ndim == 4 and int(np.prod(data.shape[1:], dtype=np.int64)) > LARGEST:
        raise SourceError(f"{file} has images of more than {LARGEST} bytes; larger images are not read")
    return data


def _pixels(row: np.ndarray) -> Pixels:
    return row if row.ndim == 3 else open_image(BytesIO(row.tobytes()))
