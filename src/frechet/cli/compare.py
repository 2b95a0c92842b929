"""`frechet compare`."""

from __future__ import annotations

from pathlib import Path

import click

from frechet._internal.atomic_write import atomic_write, check_output_path
from frechet.features.registry import validate_choice
from frechet.reports.comparison_formats import FORMATTERS
from frechet.reports.html import render_comparison_page
from frechet.reports.run_comparison import compare_runs
from frechet.reports.run_files import read_runs

OUTPUT_FORMATS = {**FORMATTERS, "html": render_comparison_page}


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN.json...")
@click.option(
    "--format", "form", default="text", show_default=True, metavar="NAME", help=f"One of {', '.join(OUTPUT_FORMATS)}."
)
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write it there instead of printing it."
)
@click.option("--force", is_flag=True, help="Replace the output file.")
def command(runs: tuple[str, ...], output_format: str, output: Path | None, force: bool) -> None:
    """Put many runs side by side: models, or checkpoints in their order.

    RUN.json is what frechet score --output wrote. Says which differences are within noise, and refuses to rank what was
    made in different ways.

    \b
    frechet score step-1000/ reference.npz --output step-1000.json
    frechet score step-2000/ reference.npz --output step-2000.json
    frechet compare step-*.json
    frechet compare step-*.json --format latex --output table.tex
    """
    validate_choice(output_format, OUTPUT_FORMATS, "format")
    if output:
        check_output_path(output, force=force)
    text = OUTPUT_FORMATS[output_format](compare_runs(read_runs(runs)))
    if not output:
        print(text)
        return
    with atomic_write(output, force=force) as temporary_path:
        temporary_path.write_text(text + "\n", encoding="utf-8")
