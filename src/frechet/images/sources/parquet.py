"""Images in a column of a Parquet or Arrow table, as Hugging Face stores them; a few rows are read at a time.

It is read in a process of its own, see `native_process`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, groupby
from typing import Any

from frechet._internal.remote_files import RemoteFile
from frechet.errors import ArchiveError, SourceError
from frechet.images.sources.files import File
from frechet.images.sources.native_process import NativeSource
from frechet.images.sources.native_reader import ImageData

_ROWS_PER_READ = 32
_PREFERRED_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes")


class TableSource(NativeSource):
    """The encoded images in one column: binary, or structs with a field `bytes`; their field `path` is never followed."""

    def __init__(self, file: File) -> None:
        super().__init__(f"{__name__}:TableReader", file)


class TableReader:
    """Reads the column of `TableSource`."""

    label_suffix = ""
    names = None

    def __init__(self, file: File) -> None:
        self.file = file
        self.row_groups = _ParquetReader(file) if file.suffix.lower() == ".parquet" else _ArrowReader(file)
        self.offsets = [0, *accumulate(self.row_groups.sizes)]
        if not len(self):
            raise SourceError(f"{file} has no rows")

    def __len__(self) -> int:
        return self.offsets[-1]

    def iter_data(self, source_indices: Sequence[int]) -> Iterator[ImageData]:
        """Yield the bytes of these images."""
        for group, group_indices in groupby(source_indices, lambda index: bisect_right(self.offsets, index) - 1):
            yield from self._iter_rows(group, [source_index - self.offsets[group] for source_index in group_indices])

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
                f"{self.file} is damaged in row group {group} ({error}); nothing after it can be read"
            ) from None


class _ParquetReader:
    """Row groups of a Parquet file."""

    def __init__(self, file: File) -> None:
        self.file = file
        with _translate_open_errors(file), self._open() as table:
            self.sizes = [table.metadata.row_group(group).num_rows for group in range(table.metadata.num_row_groups)]
            self.column, self.is_struct_column = _find_image_column(table.schema_arrow, file)

    def _open(self) -> Any:
        from pyarrow import parquet

        stream = self.file.open("rb") if isinstance(self.file, RemoteFile) else self.file
        return parquet.ParquetFile(stream, buffer_size=1 << 20, pre_buffer=False)

    def columns(self, group: int) -> Iterator[Any]:
        """Yield the image column of a row group in pieces."""
        path = f"{self.column}.bytes" if self.is_struct_column else self.column
        with self._open() as table:
            for batch in table.iter_batches(_ROWS_PER_READ, row_groups=[group], columns=[path], use_threads=False):
                column = batch.column(0)
                yield column.field("bytes") if self.is_struct_column else column


class _ArrowReader:
    """Record batches of a memory-mapped Arrow file or stream (`Dataset.save_to_disk` writes streams)."""

    def __init__(self, file: File) -> None:
        if isinstance(file, RemoteFile):
            raise SourceError(
                f"{file}: Arrow tables are only read from a local disk; download it, or use a Parquet file"
            )
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
        """Yield the image column of a record batch."""
        column = self.batches[group].column(self.column)
        column.validate(full=True)
        yield column.field("bytes") if self.is_struct_column else column


def _find_image_column(schema: Any, file: File) -> tuple[str, bool]:
    """Return the name of the column with images, and whether they are in the field `bytes` of its structs."""
    import pyarrow as pa

    def is_binary(dtype: Any) -> bool:
        return bool(pa.types.is_binary(dtype) or pa.types.is_large_binary(dtype))

    def is_struct_of_bytes(dtype: Any) -> bool:
        return pa.types.is_struct(dtype) and any(field.name == "bytes" and is_binary(field.type) for field in dtype)

    found = {
        field.name: is_struct_of_bytes(field.type)
        for field in schema
        if is_struct_of_bytes(field.type) or is_binary(field.type)
    }
    candidates = [name for name, is_struct_column in found.items() if is_struct_column] or list(found)
    preferred = [name for name in _PREFERRED_COLUMNS if name in candidates]
    for names in (candidates, preferred):
        if len(names) == 1:
            return names[0], found[names[0]]
    raise SourceError(
        f"{file} has {'several columns' if found else 'no column'} that may be encoded images; expected one, binary or "
        f"{{bytes, path}}; its columns are {', '.join(f'{field.name} ({field.type})' for field in schema)}"
    )


@contextmanager
def _translate_open_errors(file: File) -> Iterator[None]:
    """Turn any error in opening a table into a SourceError; if pyarrow is missing, explain how to install it."""
    try:
        yield
    except ImportError:
        raise SourceError(f"{file} needs pyarrow, which is not installed; run pip install 'frechet[tables]'") from None
    except (OSError, ValueError, KeyError) as error:  # base classes of pyarrow's errors
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{file} cannot be read as a table ({error})") from None
