"""Progress bars on stderr: images done, rate and remaining time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.progress


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Provide a callback (stage, done, total) that draws one bar per stage; it does nothing if stderr is not a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda *_: None
        return
    with _create_progress() as bars:
        tasks: dict[str, rich.progress.TaskID] = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done)

        yield update


def _create_progress() -> rich.progress.Progress:
    import rich.progress as progress  # takes 0.1 s to import, and only a terminal needs it
    from rich.console import Console

    class RateColumn(progress.ProgressColumn):
        def render(self, task: progress.Task) -> str:
            speed = task.finished_speed or task.speed
            return f"{speed:,.1f}/s" if speed else ""

    return progress.Progress(
        progress.TextColumn("{task.description:>9}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        RateColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    )
