"""A folder of finished parts, from which the same run continues after it was stopped."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from frechet._internal.atomic_write import atomic_write
from frechet.errors import OutputError, RequestError, RunError
from frechet.execution.chunks import Chunk, Partition, describe_differences, read_chunk, write_chunk

_PLAN_FILE = "plan.json"


class WorkDir:
    """The finished parts of one side; a part is finished when its file is there.

    Attributes:
        folder: where they are; nobody else writes there meanwhile.
        cut: the images.
        finished: numbers of the parts that are there whole.
    """

    def __init__(self, folder: Path, partition: Partition) -> None:
        self.folder = folder
        self.partition = partition
        self.finished = {
            chunk_index for chunk_index in range(len(partition)) if self._read_chunk(chunk_index) is not None
        }

    def iter_chunks(
        self, compute: Callable[[Sequence[int]], Generator[Chunk, None, None]]
    ) -> Generator[Chunk, None, None]:
        """Every part in order: finished ones as they are, the others by `compute`, which are finished then."""
        with closing(
            compute([chunk_index for chunk_index in range(len(self.partition)) if chunk_index not in self.finished])
        ) as fresh:
            for chunk_index in range(len(self.partition)):
                if chunk_index in self.finished:
                    chunk = self._read_chunk(chunk_index)
                    if chunk is None:
                        raise RunError(
                            f"{self._chunk_path(chunk_index)} was there when this run began, and is damaged or gone now"
                        )
                    yield chunk
                else:
                    chunk = next(fresh)
                    self._write_chunk(chunk_index, chunk)
                    yield chunk

    def _chunk_path(self, chunk_index: int) -> Path:
        return self.folder / f"part-{chunk_index:08d}.npz"

    def _write_chunk(self, chunk_index: int, chunk: Chunk) -> None:
        with (
            atomic_write(self._chunk_path(chunk_index), force=True) as temporary_path,
            open(temporary_path, "wb") as file,
        ):
            write_chunk(chunk, file)

    def _read_chunk(self, chunk_index: int) -> Chunk | None:
        """The part, or None where it is missing or damaged (a machine that lost power may leave half a file)."""
        try:
            with open(self._chunk_path(chunk_index), "rb") as file:
                return read_chunk(file)
        except Exception:  # damage has many names, and the remedy is the same: compute it
            return None


class WorkDirInUseError(RequestError):
    """Another run has the folder."""


@contextmanager
def open_work_dir(folder: Path, partition: Partition, fingerprint: dict[str, Any]) -> Iterator[WorkDir]:
    """The work-dir of a run, locked, and new if there is none.

    Args:
        folder: of one side.
        cut: its images.
        plan: the run's fingerprint.

    Raises:
        RequestError: it belongs to another run (what differs is named), or another format.
        InUse: another run is under way in it.
        OutputError: it cannot be written.
    """
    from filelock import FileLock, Timeout  # here, since most runs need none

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(blocking=False)
    except Timeout:
        raise WorkDirInUseError(
            f"another run is using {folder}; wait for its end, or give another --work-dir (work_dir=)"
        ) from None
    except OSError as error:
        raise OutputError(f"the work-dir {folder} cannot be written: {error.strerror or error}") from error
    try:
        _require_same_run(folder, fingerprint, partition)
        with _add_resume_hint(folder):
            yield WorkDir(folder, partition)
    finally:
        lock.release()


def _require_same_run(folder: Path, fingerprint: dict[str, Any], partition: Partition) -> None:
    """Refuse the folder of another run; say in a new one whose it is."""
    advice = "Give another --work-dir (work_dir=), or delete that folder to begin anew"
    for ours in (".part-*.npz.*.partial", f".{_PLAN_FILE}.*.partial"):
        for left in folder.glob(ours):  # by a run that was killed while it wrote
            left.unlink()
    path = folder / _PLAN_FILE
    if not path.exists():
        if stranger := next((entry for entry in sorted(folder.iterdir()) if entry.name != ".lock"), None):
            raise RequestError(
                f"{folder} is no work-dir of frechet's: it holds {stranger.name} and no {_PLAN_FILE}. {advice}"
            )
        with atomic_write(path) as temporary_path:
            temporary_path.write_text(json.dumps(fingerprint, indent=0), encoding="utf-8")
        return
    try:
        previous = json.loads(path.read_text(encoding="utf-8"))
        differing = describe_differences(previous, fingerprint, partition)
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise RequestError(f"{path} cannot be read ({error}). {advice}") from error
    if differing:
        raise RequestError(f"{folder} holds parts of another run: {'; '.join(differing)}. {advice}")


@contextmanager
def _add_resume_hint(folder: Path) -> Iterator[None]:
    """Say of whatever stops the run that what is finished is kept, where anything is."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if not _has_finished_chunks(folder):
            raise KeyboardInterrupt(f"{stop}; no part was finished, so the same command begins anew") from None
        raise KeyboardInterrupt(
            f"{stop}; finished parts are kept in {folder}: the same command continues from there"
        ) from None
    except RunError as error:
        if not _has_finished_chunks(folder):
            raise
        full = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOSPC
        remedy = "make room, and the" if full else "the"
        raise type(error)(f"{error} (finished parts are kept in {folder}: {remedy} same command continues)") from error


def _has_finished_chunks(folder: Path) -> bool:
    return any(folder.glob("part-*.npz"))
