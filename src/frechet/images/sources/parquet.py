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
from frechet.errors import BadArchive, BadImage, SourceError
from frechet.images.image import Picture
from frechet.images.sources.files import File, open_image, version_of

_ROWS = 32  # that are read together
_USUAL = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes")


class TableSource:
    """The encoded images of one column: binary, or a struct with `bytes`; a `path` beside them is never followed."""

    address: str | None = None

    def __init__(self, file: File) -> None:
        self.name = str(file)
        self.file = file
        self.groups = _ParquetGroups(file) if file.suffix.lower() == ".parquet" else _ArrowGroups(file)
        self.starts = [0, *accumulate(self.groups.sizes)]
        if not len(self):
            raise SourceError(f"{file} has no rows")

    def __len__(self) -> int:
        return self.starts[-1]

    def name_of(self, place: int) -> str:
        return f"{self.name}[{place}]"

    def pictures(self, chosen: Sequence[int]) -> Iterator[Picture]:
        index = 0
        for group, places in groupby(chosen, lambda place: bisect_right(self.starts, place) - 1):
            rows = [place - self.starts[group] for place in places]
            for row, data in zip(rows, self._rows(group, rows), strict=True):
                yield Picture(index, self.name_of(self.starts[group] + row), partial(_load, data))
                index += 1

    def _rows(self, group: int, rows: Sequence[int]) -> Iterator[bytes | None]:
        wanted = iter(rows)
        row = next(wanted)
        start = 0
        try:
            for column in self.groups.columns(group):
                while start <= row < start + len(column):
                    yield column[row - start].as_py()
                    row = next(wanted, -1)
                start += len(column)
                if row < 0:
                    return
        except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
            raise BadArchive(
                f"{self.name} is damaged in row group {group} ({error}); nothing after it can be read"
            ) from None

    def marks(self, chosen: Sequence[int]) -> Iterator[str]:
        version = version_of(self.file)
        name = self.file.name if isinstance(self.file, Path) else self.name
        yield from (f"{name} {version} {place}" for place in chosen)


class _ParquetGroups:
    """Row groups of a Parquet file."""

    def __init__(self, file: File) -> None:
        self.file = file
        with _readable(file), self._opened() as table:
            self.sizes = [table.metadata.row_group(group).num_rows for group in range(table.metadata.num_row_groups)]
            self.column, self.inside = _image_column(table.schema_arrow, file)

    def _opened(self) -> Any:
        from pyarrow import parquet

        where = self.file.open("rb") if isinstance(self.file, RemoteFile) else self.file
        return parquet.ParquetFile(where, buffer_size=1 << 20, pre_buffer=False)

    def columns(self, group: int) -> Iterator[Any]:
        path = f"{self.column}.bytes" if self.inside else self.column
        with self._opened() as table:
            for batch in table.iter_batches(_ROWS, row_groups=[group], columns=[path], use_threads=False):
                column = batch.column(0)
                yield column.field("bytes") if self.inside else column


class _ArrowGroups:
    """Record batches of an Arrow file or stream (`Dataset.save_to_disk` writes streams), mapped into memory."""

    def __init__(self, file: File) -> None:
        if isinstance(file, RemoteFile):
            raise SourceError(f"{file}: Arrow tables are read from a disk; at a URL, Parquet is")
        with _readable(file):
            import pyarrow as pa

            memory = pa.memory_map(str(file))
            try:
                reader = pa.ipc.open_file(memory)
                self.batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
            except pa.ArrowInvalid:
                memory.seek(0)
                reader = pa.ipc.open_stream(memory)
                self.batches = list(reader)
            self.column, self.inside = _image_column(reader.schema, file)
        self.sizes = [batch.num_rows for batch in self.batches]

    def columns(self, group: int) -> Iterator[Any]:
        column = self.batches[group].column(self.column)
        yield column.field("bytes") if self.inside else column


def _image_column(schema: Any, file: File) -> tuple[str, bool]:
    """The column with images, and whether they are the field `bytes` of its structs."""
    import pyarrow as pa

    def binary(kind: Any) -> bool:
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    def of_structs(kind: Any) -> bool:
        return pa.types.is_struct(kind) and any(part.name == "bytes" and binary(part.type) for part in kind)

    found = {part.name: of_structs(part.type) for part in schema if of_structs(part.type) or binary(part.type)}
    likely = [name for name, inside in found.items() if inside] or list(found)
    usual = [name for name in _USUAL if name in likely]
    for names in (likely, usual):
        if len(names) == 1:
            return names[0], found[names[0]]
    raise SourceError(
        f"{file} has {'several columns' if found else 'no column'} that may be encoded images; expected one, binary or "
        f"{{bytes, path}}; it has {', '.join(f'{part.name} ({part.type})' for part in schema)}"
    )


@contextmanager
def _readable(file: File) -> Iterator[None]:
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
        raise BadImage("holds no bytes of an image; a path in a table is not followed")
    return open_image(BytesIO(data))
