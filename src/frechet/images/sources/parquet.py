"""Images in a column of a Parquet or Arrow table, as Hugging Face stores them; rows are read a few at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

from PIL import Image

from frechet._internal.remote_files import RemoteFile
from frechet.errors import ArchiveError, ImageDecodeError, SourceError
from frechet.images.image import ImageRef
from frechet.images.sources.files import File, get_file_version, open_image

_ROWS_PER_READ = 32  # that are read together
_PREFERRED_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes")


class TableSource:
    """The encoded images of one column: binary, or a struct with `bytes`; a `path` beside them is never followed."""

    location: str | None = None

    def __init__(self, file: File) -> None:
        self.label = str(file)
        self.file = file
        self.row_groups = _ParquetReader(file) if file.suffix.lower() == ".parquet" else _ArrowReader(file)
        self.offsets = [0, *accumulate(self.row_groups.sizes)]
        if not len(self):
            raise SourceError(f"{file} has no rows")

    def __len__(self) -> int:
        return self.offsets[-1]

    def get_label(self, source_index: int) -> str:
        return f"{self.label}[{source_index}]"

    def iter_images(self, source_indices: Sequence[int]) -> Iterator[ImageRef]:
        index = 0
        for group, group_indices in groupby(
            source_indices, lambda source_index: bisect_right(self.offsets, source_index) - 1
        ):
            rows = [source_index - self.offsets[group] for source_index in group_indices]
            for row, data in zip(rows, self._iter_rows(group, rows), strict=True):
                yield ImageRef(index, self.get_label(self.offsets[group] + row), partial(_load, data))
                index += 1

    def _iter_rows(self, group: int, rows: Sequence[int]) -> Iterator[bytes | None]:
        remaining = iter(rows)
        row = next(remaining)
        start = 0
        try:
            for column in self.row_groups.columns(group):
                while start <= row < start + len(column):
                    yield column[row - start].as_py()
                    row = next(remaining, -1)
                start += len(column)
                if row < 0:
                    return
        except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
            raise ArchiveError(
                f"{self.label} is damaged in row group {group} ({error}); nothing after it can be read"
            ) from None

    def fingerprints(self, source_indices: Sequence[int]) -> Iterator[str]:
        version = get_file_version(self.file)
        name = self.file.name if isinstance(self.file, Path) else self.label
        yield from (f"{name} {version} {source_index}" for source_index in source_indices)


class _ParquetReader:
    """Row groups of a Parquet file."""

    def __init__(self, file: File) -> None:
        self.file = file
        with _translate_open_errors(file), self._open() as table:
            self.sizes = [table.metadata.row_group(group).num_rows for group in range(table.metadata.num_row_groups)]
            self.column, self.is_struct_column = _find_image_column(table.schema_arrow, file)

    def _open(self) -> Any:
        from pyarrow import parquet

        where = self.file.open("rb") if isinstance(self.file, RemoteFile) else self.file
        return parquet.ParquetFile(where, buffer_size=1 << 20, pre_buffer=False)

    def columns(self, group: int) -> Iterator[Any]:
        path = f"{self.column}.bytes" if self.is_struct_column else self.column
        with self._open() as table:
            for batch in table.iter_batches(_ROWS_PER_READ, row_groups=[group], columns=[path], use_threads=False):
                column = batch.column(0)
                yield column.field("bytes") if self.is_struct_column else column


class _ArrowReader:
    """Record batches of an Arrow file or stream (`Dataset.save_to_disk` writes streams), mapped into memory."""

    def __init__(self, file: File) -> None:
        if isinstance(file, RemoteFile):
            raise SourceError(f"{file}: Arrow tables are read from a disk; at a URL, Parquet is")
        with _translate_open_errors(file):
            import pyarrow as pa

            memory = pa.memory_map(str(file))
            try:
                reader = pa.ipc.open_file(memory)
                self.batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
            except pa.ArrowInvalid:
                memory.seek(0)
                reader = pa.ipc.open_stream(memory)
                self.batches = list(reader)
            self.column, self.is_struct_column = _find_image_column(reader.schema, file)
        self.sizes = [batch.num_rows for batch in self.batches]

    def columns(self, group: int) -> Iterator[Any]:
        column = self.batches[group].column(self.column)
        yield column.field("bytes") if self.is_struct_column else column


def _find_image_column(schema: Any, file: File) -> tuple[str, bool]:
    """The column with images, and whether they are the field `bytes` of its structs."""
    import pyarrow as pa

    def binary(kind: Any) -> bool:
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    def is_struct_of_bytes(kind: Any) -> bool:
        return pa.types.is_struct(kind) and any(part.name == "bytes" and binary(part.type) for part in kind)

    found = {
        part.name: is_struct_of_bytes(part.type)
        for part in schema
        if is_struct_of_bytes(part.type) or binary(part.type)
    }
    candidates = [name for name, is_struct_column in found.items() if is_struct_column] or list(found)
    preferred = [name for name in _PREFERRED_COLUMNS if name in candidates]
    for names in (candidates, preferred):
        if len(names) == 1:
            return names[0], found[names[0]]
    raise SourceError(
        f"{file} has {'several columns' if found else 'no column'} that may be encoded images; expected one, binary or "
        f"{{bytes, path}}; it has {', '.join(f'{part.name} ({part.type})' for part in schema)}"
    )


@contextmanager
def _translate_open_errors(file: File) -> Iterator[None]:
    """Say of any failure to open a table that it is one, and of a missing package how to get it."""
    try:
        yield
    except ImportError:
        raise SourceError(f"{file} needs pyarrow: pip install 'frechet[tables]'") from None
    except (OSError, ValueError, KeyError) as error:  # what pyarrow raises derives from these
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{file} is not a table that can be read ({error})") from None


def _load(data: bytes | None) -> Image.Image:
    if data is None:
        raise ImageDecodeError("holds no bytes of an image; a path in a table is not followed")
    return open_image(BytesIO(data))
