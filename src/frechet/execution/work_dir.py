"""A folder of finished parts, from which the same run continues after it was stopped."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from frechet._internal.atomic_write import written_aside
from frechet.errors import OutputError, RequestError, RunError
from frechet.execution.chunks import AnyPart, Cut, differences, read_part, write_part

_PLAN = "plan.json"


class WorkDir:
    """The finished parts of one side; a part is finished when its file is there.

    Attributes:
        folder: where they are; nobody else writes there meanwhile.
        cut: the images.
        finished: numbers of the parts that are there whole.
    """

    def __init__(self, folder: Path, cut: Cut) -> None:
        self.folder = folder
        self.cut = cut
        self.finished = {number for number in range(len(cut)) if self._read(number) is not None}

    def completed(
        self, compute: Callable[[Sequence[int]], Generator[AnyPart, None, None]]
    ) -> Generator[AnyPart, None, None]:
        """Every part in order: finished ones as they are, the others by `compute`, which are finished then."""
        with closing(compute([number for number in range(len(self.cut)) if number not in self.finished])) as fresh:
            for number in range(len(self.cut)):
                if number in self.finished:
                    part = self._read(number)
                    if part is None:
                        raise RunError(
                            f"{self._path(number)} was there when this run began, and is damaged or gone now"
                        )
                    yield part
                else:
                    part = next(fresh)
                    self._write(number, part)
                    yield part

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:08d}.npz"

    def _write(self, number: int, part: AnyPart) -> None:
        with written_aside(self._path(number), force=True) as aside, open(aside, "wb") as file:
            write_part(part, file)

    def _read(self, number: int) -> AnyPart | None:
        """The part, or None where it is missing or damaged (a machine that lost power may leave half a file)."""
        try:
            with open(self._path(number), "rb") as file:
                return read_part(file)
        except Exception:  # damage has many names, and the remedy is the same: compute it
            return None


class InUse(RequestError):
    """Another run has the folder."""


@contextmanager
def opened_work_dir(folder: Path, cut: Cut, plan: dict[str, Any]) -> Iterator[WorkDir]:
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
        raise InUse(
            f"another run is using {folder}; wait for its end, or give another --work-dir (work_dir=)"
        ) from None
    except OSError as error:
        raise OutputError(f"the work-dir {folder} cannot be written: {error.strerror or error}") from error
    try:
        _require_ours(folder, plan, cut)
        with _resumable(folder):
            yield WorkDir(folder, cut)
    finally:
        lock.release()


def _require_ours(folder: Path, plan: dict[str, Any], cut: Cut) -> None:
    """Refuse the folder of another run; say in a new one whose it is."""
    advice = "Give another --work-dir (work_dir=), or delete that folder to begin anew"
    for ours in (".part-*.npz.*.partial", f".{_PLAN}.*.partial"):
        for left in folder.glob(ours):  # by a run that was killed while it wrote
            left.unlink()
    path = folder / _PLAN
    if not path.exists():
        if stranger := next((entry for entry in sorted(folder.iterdir()) if entry.name != ".lock"), None):
            raise RequestError(
                f"{folder} is no work-dir of frechet's: it holds {stranger.name} and no {_PLAN}. {advice}"
            )
        with written_aside(path) as aside:
            aside.write_text(json.dumps(plan, indent=0), encoding="utf-8")
        return
    try:
        then = json.loads(path.read_text(encoding="utf-8"))
        differing = differences(then, plan, cut)
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise RequestError(f"{path} cannot be read ({error}). {advice}") from error
    if differing:
        raise RequestError(f"{folder} holds parts of another run: {'; '.join(differing)}. {advice}")


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Say of whatever stops the run that what is finished is kept, where anything is."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if not _any_finished(folder):
            raise KeyboardInterrupt(f"{stop}; no part was finished, so the same command begins anew") from None
        raise KeyboardInterrupt(
            f"{stop}; finished parts are kept in {folder}: the same command continues from there"
        ) from None
    except RunError as error:
        if not _any_finished(folder):
            raise
        full = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOSPC
        remedy = "make room, and the" if full else "the"
        raise type(error)(f"{error} (finished parts are kept in {folder}: {remedy} same command continues)") from error


def _any_finished(folder: Path) -> bool:
    return any(folder.glob("part-*.npz"))
