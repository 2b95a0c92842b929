"""A folder of finished chunks, from which an interrupted run resumes."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from frechet._internal.atomic_write import atomic_write, delete_partial_files
from frechet.errors import OutputError, RequestError, RunError
from frechet.execution.chunk_checks import require_valid_chunk
from frechet.execution.chunks import (
    FORMAT_VERSION,
    Chunk,
    Partition,
    compute_plan_digest,
    describe_differences,
    read_chunk,
    write_chunk,
)

PLAN_FILE = "plan.json"
CHUNK_FILES = "chunk-*.npz"  # glob pattern; a chunk is finished if its file exists and is intact
_FIX = "Pass another --work-dir (work_dir=), or delete this folder to start again"


class WorkDir:
    """The finished chunks of one input of a run.

    Attributes:
        folder: where the chunk files are; locked by this run.
        partition: the images of the run.
        finished: indices of the chunks whose files are intact.
    """

    def __init__(self, folder: Path, partition: Partition, plan: Mapping[str, Any]) -> None:
        self.folder = folder
        self.partition = partition
        self._layer_dims: Mapping[str, int] = plan["layers"]
        self._plan_digest = compute_plan_digest(plan)
        self.finished = {
            chunk_index for chunk_index in range(len(partition)) if self._read_chunk(chunk_index) is not None
        }

    def iter_chunks(
        self, compute: Callable[[Sequence[int]], Generator[Chunk, None, None]]
    ) -> Generator[Chunk, None, None]:
        """Yield all chunks in order: finished ones from their files, the others computed and then written.

        Args:
            compute: yields the chunks with the given indices (ascending).

        Raises:
            RunError: a finished chunk was damaged or deleted during the run, or a chunk cannot be written.
        """
        missing = [chunk_index for chunk_index in range(len(self.partition)) if chunk_index not in self.finished]
        with closing(compute(missing)) as computed:
            for chunk_index in range(len(self.partition)):
                if chunk_index in self.finished:
                    yield self.read_finished(chunk_index)
                else:
                    chunk = next(computed)
                    self._write_chunk(chunk_index, chunk)
                    yield chunk

    def _chunk_path(self, chunk_index: int) -> Path:
        return self.folder / f"chunk-{chunk_index:08d}.npz"

    def _write_chunk(self, chunk_index: int, chunk: Chunk) -> None:
        with (
            atomic_write(self._chunk_path(chunk_index), force=True) as temporary_path,
            open(temporary_path, "wb") as file,
        ):
            write_chunk(chunk, file, self._get_identity(chunk_index))

    def _get_identity(self, chunk_index: int) -> str:
        return f"{self._plan_digest} {chunk_index}"

    def _read_chunk(self, chunk_index: int) -> Chunk | None:
        """Read a chunk, or return None if its file is missing, damaged (e.g. by a power failure) or of another run."""
        try:
            with open(self._chunk_path(chunk_index), "rb") as file:
                chunk = read_chunk(file, self._get_identity(chunk_index))
            require_valid_chunk(chunk, self.partition.chunk_range(chunk_index), self._layer_dims)
            return chunk
        except Exception:  # damaged files raise errors of many types; the chunk is computed again in each case
            return None

    def read_finished(self, chunk_index: int) -> Chunk:
        """Read a finished chunk.

        Raises:
            RunError: it was damaged or deleted during the run.
        """
        chunk = self._read_chunk(chunk_index)
        if chunk is None:
            raise RunError(
                f"{self._chunk_path(chunk_index)} was intact when this run started and is damaged or missing now. "
                "Run the same command again to compute it."
            )
        return chunk


class WorkDirInUseError(RequestError):
    """Another run is using the work directory."""


@contextmanager
def open_work_dir(folder: Path, partition: Partition, plan: dict[str, Any]) -> Iterator[WorkDir]:
    """Lock the work directory of a run; create it if it does not exist.

    Args:
        folder: the folder of one input of the run.
        partition: the images of that input.
        plan: what determines the contents of the chunks (see `make_plan`).

    Raises:
        RequestError: the folder belongs to another run (the message lists the differences), has another format, or
            is not a work directory.
        WorkDirInUseError: another run is using the folder.
        OutputError: the folder cannot be created or written.
    """
    from filelock import FileLock, Timeout  # most runs do not need it

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(blocking=False)
    except Timeout:
        raise WorkDirInUseError(
            f"another run is using {folder}; wait until it ends, or pass another --work-dir (work_dir=)"
        ) from None
    except OSError as error:
        raise OutputError(
            f"the work directory {folder} cannot be written ({error.strerror or error}). "
            "Pass another --work-dir (work_dir=), or change the permissions."
        ) from error
    try:
        delete_partial_files(folder)  # of killed runs; this one has the lock
        _record_or_validate_plan(folder, plan, partition)
        with _add_resume_hint(folder):
            yield WorkDir(folder, partition, plan)
    finally:
        lock.release()


def _record_or_validate_plan(folder: Path, plan: dict[str, Any], partition: Partition) -> None:
    """Write the plan into a new work directory; require that an existing one has the same plan."""
    path = folder / PLAN_FILE
    if not path.exists():
        if other := next((entry for entry in sorted(folder.iterdir()) if entry.name != ".lock"), None):
            raise RequestError(
                f"{folder} is not a frechet work directory: it contains {other.name} but no {PLAN_FILE}. {_FIX}."
            )
        with atomic_write(path) as temporary_path:
            temporary_path.write_text(json.dumps(plan, indent=0), encoding="utf-8")
        return
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        recorded_format = recorded["format"]
        differences = describe_differences(recorded, plan, partition) if recorded_format == FORMAT_VERSION else []
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise RequestError(f"{path} cannot be read ({type(error).__name__}: {error}). {_FIX}.") from error
    if recorded_format != FORMAT_VERSION:
        raise RequestError(
            f"{folder} has work directory format {recorded_format}; this version of frechet requires format "
            f"{FORMAT_VERSION}. {_FIX}."
        )
    if differences:
        raise RequestError(f"{folder} contains the chunks of another run: {'; '.join(differences)}. {_FIX}.")


@contextmanager
def _add_resume_hint(folder: Path) -> Iterator[None]:
    """Add to the error that ends a run whether finished chunks are kept and how to resume."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if not _has_finished_chunks(folder):
            raise KeyboardInterrupt(
                f"{interrupt}; no chunk was finished, so the same command starts from the beginning"
            ) from None
        raise KeyboardInterrupt(
            f"{interrupt}; finished chunks are kept in {folder}, and the same command resumes from there"
        ) from None
    except RunError as error:
        if not _has_finished_chunks(folder):
            raise
        is_disk_full = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOSPC
        fix = "free some space, and the" if is_disk_full else "the"
        raise type(error)(f"{error} (finished chunks are kept in {folder}: {fix} same command resumes)") from error


def _has_finished_chunks(folder: Path) -> bool:
    return any(folder.glob(CHUNK_FILES))
