"""`frechet compare`."""

from __future__ import annotations

from pathlib import Path

import click

from frechet._internal.atomic_write import check_output, written_aside
from frechet.features.registry import check_choice
from frechet.reports.comparison_formats import WRITTEN
from frechet.reports.html import comparison_page
from frechet.reports.run_comparison import compare_runs
from frechet.reports.run_files import read_runs

FORMATS = {**WRITTEN, "html": comparison_page}


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN.json...")
@click.option(
    "--format", "form", default="text", show_default=True, metavar="NAME", help=f"One of {', '.join(FORMATS)}."
)
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write it there instead of printing it."
)
@click.option("--force", is_flag=True, help="Replace the output file.")
def command(runs: tuple[str, ...], form: str, output: Path | None, force: bool) -> None:
    """Put many runs side by side: models, or checkpoints in their order.

    RUN.json is what frechet score --output wrote. Says which differences are within noise, and refuses to rank what was
    made in different ways.

    \b
    frechet score step-1000/ reference.npz --output step-1000.json
    frechet score step-2000/ reference.npz --output step-2000.json
    frechet compare step-*.json
    frechet compare step-*.json --format latex --output table.tex
    """
    check_choice(form, FORMATS, "format")
    if output:
        check_output(output, force=force)
    text = FORMATS[form](compare_runs(read_runs(runs)))
    if not output:
        print(text)
        return
    with written_aside(output, force=force) as aside:
        aside.write_text(text + "\n", encoding="utf-8")
