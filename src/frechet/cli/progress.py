"""Progress on stderr: a bar on a terminal, otherwise a line every 30 seconds, with rate and remaining time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

import click

from frechet._internal.choices import validate_choice
from frechet._internal.download import DOWNLOAD, ProgressCallback
from frechet._internal.terminal import escape_line, print_stderr
from frechet.cli.parameter_types import Text

if TYPE_CHECKING:
    import rich.progress

MODES = ("auto", "bar", "plain", "off")
LINE_INTERVAL = 30.0  # seconds between lines
_SMALLEST_RATE = 0.1  # that is shown, per second
_START_UP = 5.0  # seconds that the imports may have taken, by which the first line is earlier

progress_option = click.option(
    "--progress",
    "progress_mode",
    type=Text(),
    default="auto",
    show_default=True,
    metavar="|".join(MODES),
    help="Show progress as a bar, as a line every 30 seconds (plain), or not at all; auto shows a bar on a terminal.",
)


@contextmanager
def progress_bars(mode: str = "auto") -> Iterator[ProgressCallback]:
    """Provide a callback (stage, done, total) that shows progress on stderr.

    Args:
        mode: "bar" for one bar per stage, "plain" for a line every 30 seconds, "off", or "auto": a bar if stderr is a
            terminal, otherwise lines.

    Raises:
        RequestError: another mode.
    """
    validate_choice(mode, MODES, "progress")
    if mode == "auto":
        mode = "bar" if sys.stderr is not None and sys.stderr.isatty() else "plain"
    if mode == "off" or sys.stderr is None:
        yield lambda *_: None
        return
    with _show_bars() if mode == "bar" else _print_lines() as update:
        yield update


class LineProgress:
    """What the lines report: the stage that was updated last, since when, and from which count.

    Args:
        clock: returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.lock = Lock()
        self.begin = {"": (clock(), 0)}  # time and count at the first update of each stage
        self.stage, self.done, self.total = "", 0, 0

    def update(self, stage: str, done: int, total: int) -> None:
        """Take the numbers of a stage, as images are processed."""
        with self.lock:
            self.begin.setdefault(stage, (self.clock(), done))
            self.stage, self.done, self.total = stage, done, total

    def describe(self) -> str:
        """Return one line: stage, counts, rate and remaining time, or the elapsed time."""
        with self.lock:
            start, first = self.begin[self.stage]
            stage, done, total = self.stage, self.done, self.total
        elapsed = self.clock() - start
        if not stage:
            return f"starting, {_format_duration(elapsed)} elapsed"
        text = f"{escape_line(stage)}: {_format_count(stage, done)} of {_format_count(stage, total)}"
        if done <= first or done >= total or elapsed <= 0:
            return f"{text}, {_format_duration(elapsed)} elapsed"
        rate = (done - first) / elapsed
        shown = [text, _format_rate(stage, rate), f"about {_format_duration((total - done) / rate)} remaining"]
        return ", ".join(filter(None, shown))


@contextmanager
def _print_lines() -> Iterator[ProgressCallback]:
    progress, stopped = LineProgress(), Event()

    def print_lines() -> None:
        interval = max(LINE_INTERVAL - _START_UP, LINE_INTERVAL / 2)
        while not stopped.wait(interval):
            print_stderr(progress.describe())
            interval = LINE_INTERVAL

    thread = Thread(target=print_lines, daemon=True, name="progress")
    thread.start()
    try:
        yield progress.update
    finally:
        stopped.set()
        thread.join()


@contextmanager
def _show_bars() -> Iterator[ProgressCallback]:
    with _create_bars() as bars:
        tasks: dict[str, rich.progress.TaskID] = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(escape_line(stage), total=total, stage=stage)
            bars.update(tasks[stage], completed=done, total=total)

        yield update


def _create_bars() -> rich.progress.Progress:
    import rich.progress as progress  # takes 0.1 s to import, and only a bar needs it
    from rich.console import Console

    class CountColumn(progress.ProgressColumn):
        def render(self, task: progress.Task) -> str:
            stage = task.fields["stage"]
            return f"{_format_count(stage, task.completed)}/{_format_count(stage, task.total or 0)}"

    class RateColumn(progress.ProgressColumn):
        def render(self, task: progress.Task) -> str:
            speed = task.finished_speed or task.speed
            return _format_rate(task.fields["stage"], speed) if speed else ""

    return progress.Progress(
        progress.TextColumn("{task.description:>9}", markup=False),
        progress.BarColumn(),
        CountColumn(),
        RateColumn(),
        progress.TimeRemainingColumn(),
        console=Console(file=sys.stderr, force_terminal=True),
    )


def _format_count(stage: str, count: float) -> str:
    return f"{count / 1e6:.1f} MB" if stage.startswith(DOWNLOAD) else f"{count:,.0f}"


def _format_rate(stage: str, rate: float) -> str:
    """Return the rate, or nothing if it is too small to be shown."""
    shown, unit = (rate / 1e6, " MB/s") if stage.startswith(DOWNLOAD) else (rate, "/s")
    return f"{shown:,.1f}{unit}" if shown >= _SMALLEST_RATE else ""


def _format_duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.0f} s" if minutes < 1.5 else f"{minutes:.0f} min" if hours < 1.5 else f"{hours:.1f} h"
