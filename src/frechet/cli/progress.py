"""A progress bar on stderr: images done, rate, remaining time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rich.progress
from rich.console import Console


class _Rate(rich.progress.ProgressColumn):
    def render(self, task: rich.progress.Task) -> str:
        speed = task.finished_speed or task.speed
        return f"{speed:.1f} images/s" if speed else ""


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """A callback (what, images done, images in all) that draws one bar for each `what`; silent where nobody looks."""
    bars = rich.progress.Progress(
        rich.progress.TextColumn("{task.description:>9}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        _Rate(),
        rich.progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    tasks: dict[str, rich.progress.TaskID] = {}

    def update(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=total)
        bars.update(tasks[what], completed=done)

    with bars:
        yield update
