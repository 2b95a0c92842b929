"""`frechet compare`."""

from __future__ import annotations

from pathlib import Path

import click

from frechet._internal.choices import validate_choice
from frechet.cli.output_files import check_output_files, write_text
from frechet.cli.parameter_types import HomePath
from frechet.reports.comparison_formats import FORMATTERS
from frechet.reports.comparison_page import render_comparison_page
from frechet.reports.run_comparison import compare_runs

OUTPUT_FORMATS = {**FORMATTERS, "html": render_comparison_page}


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN.json...", type=HomePath())
@click.option(
    "--format",
    "output_format",
    default="text",
    show_default=True,
    metavar="NAME",
    help=f"Output format: {', '.join(OUTPUT_FORMATS)}.",
)
@click.option("--output", type=HomePath(), metavar="FILE", help="Write the comparison to FILE instead of stdout.")
@click.option("--force", is_flag=True, help="Overwrite FILE if it exists.")
@click.option(
    "--paired-runs", is_flag=True, help="Treat image i of all runs as generated from the same latent or prompt."
)
def command(runs: tuple[str, ...], output_format: str, output: Path | None, force: bool, paired_runs: bool) -> None:
    """Rank runs (models or checkpoints) and test which differences are significant.

    RUN.json is a file written by frechet score --output. Runs that were computed with different settings are rejected.

    \b
    frechet score step-1000/ reference.npz --output step-1000.json
    frechet score step-2000/ reference.npz --output step-2000.json
    frechet compare step-*.json
    frechet compare step-*.json --format latex --output table.tex
    """
    validate_choice(output_format, OUTPUT_FORMATS, "format")
    check_output_files({"--output": output}, force=force)
    text = OUTPUT_FORMATS[output_format](compare_runs(runs, paired_runs=paired_runs))
    if output:
        write_text(text + "\n", output, force=force)
    else:
        print(text)
