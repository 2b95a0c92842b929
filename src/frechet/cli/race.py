"""`frechet race`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import click

from frechet._internal.remote_files import is_url, redact_url
from frechet._internal.terminal import escape_line, print_stderr, run_all
from frechet.cli.options import GroupedCommand, options_of, resolve_engine
from frechet.cli.output_files import check_output_files, write_text
from frechet.cli.parameter_types import HomePath, Source
from frechet.cli.progress import progress_bars, progress_option
from frechet.errors import RequestError
from frechet.evaluation.race import run_race
from frechet.evaluation.race_request import RaceRequest
from frechet.reports.page_template import require_packages
from frechet.reports.race_formats import format_race, render_race_page


@click.command(cls=GroupedCommand)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=Source())
@click.option("--reference", required=True, metavar="REFERENCE", type=Source(), help="Reference of all models.")
@options_of(RaceRequest, without=("num_images",))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
@click.option("--output", type=HomePath(), metavar="FILE", help="Also write the result as JSON to FILE.")
@click.option("--report", type=HomePath(), metavar="FILE.html", help="Write an HTML page to FILE.html.")
@progress_option
@click.option("--force", is_flag=True, help="Overwrite existing output files.")
def command(
    runs: tuple[str, ...],
    reference: str,
    as_json: bool,
    output: Path | None,
    report: Path | None,
    progress_mode: str,
    force: bool,
    **options: Any,
) -> None:
    """Find the best of several models with as few images as possible.

    Each RUN is the images of one model: a folder, an archive or an array file. All models are sampled in steps, and a model that
    is significantly worse than another one is not sampled any further. The intervals of all differences hold at every step.

    \b
    frechet race step-1000/ step-2000/ step-3000/ --reference reference.npz
    frechet race a.npz b.npz --reference reference.npz --find all-pairs --report race.html
    frechet race a/ b/ --reference reference.npz --work-dir race/
    """
    check_output_files({"--output": output, "--report": report}, force=force)
    if report:
        require_packages()
    with resolve_engine(options) as resolved, progress_bars(progress_mode) as progress:
        if resolved is None:
            return
        race = run_race(RaceRequest(_name_models(runs), reference, progress=progress, **resolved))
    steps: list[Callable[[], object]] = [
        lambda: print(race.to_json() if as_json else format_race(race), flush=True),
        *(lambda note=note: print_stderr(f"warning: {escape_line(note)}") for note in race.notes),
    ]
    if output:
        steps.append(lambda: write_text(race.to_json() + "\n", output, force=force))
    if report:
        steps.append(lambda: write_text(render_race_page(race), report, force=force))
    run_all(steps)


def _name_models(runs: Sequence[str]) -> dict[str, str]:
    """Return the runs by name: those of their folders or files without suffixes if these differ, and otherwise the whole paths.

    Raises:
        RequestError: a run is given twice.
    """
    whole = [redact_url(run) if is_url(run) else run for run in runs]  # the query of a URL may be a signature
    repeated = next((name for name, run in zip(whole, runs, strict=True) if runs.count(run) > 1), None)
    if repeated is not None:
        raise RequestError(
            f"{escape_line(repeated)} is given twice; expected different models. Pass each of them once."
        )
    numbered = [f"{number}: {name}" for number, name in enumerate(whole, 1)]
    names = next(each for each in ([*map(_shorten, whole)], whole, numbered) if len(set(each)) == len(runs))
    return dict(zip(names, runs, strict=True))


def _shorten(name: str) -> str:
    """Return the name of a folder, or that of a file without its suffix."""
    path = PurePosixPath((name.partition("?")[0] if is_url(name) else name).replace("\\", "/"))
    return (path.name if name.endswith("/") else path.stem) or name
