"""`frechet diagnose`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from frechet._internal.terminal import escape_line, print_stderr, run_all
from frechet.cli.options import GroupedCommand, options_of
from frechet.cli.output_files import check_output_files, write_text
from frechet.cli.parameter_types import HomePath, Source
from frechet.cli.progress import progress_bars, progress_option
from frechet.evaluation.diagnosis.request import DiagnoseRequest
from frechet.evaluation.diagnosis.run import diagnose
from frechet.evaluation.provenance import describe_skipped
from frechet.reports.diagnosis import format_diagnosis, render_diagnosis_page
from frechet.reports.page_template import require_packages


@click.command(cls=GroupedCommand)
@click.argument("samples", type=Source())
@click.argument("reference", required=False, type=Source())
@options_of(DiagnoseRequest)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with every combination.")
@click.option("--output", type=HomePath(), metavar="FILE", help="Also write the results as JSON to FILE.")
@click.option(
    "--report",
    type=HomePath(),
    metavar="FILE.html",
    help="Also write an HTML page with every combination to FILE.html.",
)
@progress_option
@click.option("--force", is_flag=True, help="Overwrite existing output files.")
def command(
    samples: str,
    reference: str | None,
    as_json: bool,
    output: Path | None,
    report: Path | None,
    progress_mode: str,
    force: bool,
    **options: Any,
) -> None:
    """Find the preprocessing, crop, rounding, order and number of images that give a reported value.

    SAMPLES is scored against REFERENCE with every applicable combination of these settings. Each image is decoded once,
    and the network runs once per distinct preprocessed image. If you computed your own value with non-default settings,
    pass them with --preprocessing, --crop and --size. The differences are then explained relative to your value.

    \b
    frechet diagnose samples/ photos/ --claimed 2.07
    frechet diagnose samples.npz reference.npz --claimed 2.07 --quick --report page.html
    frechet diagnose samples/ photos/ --claimed 2.07 --crop adm --size 256
    """
    check_output_files({"--output": output, "--report": report}, force=force)
    if report:
        require_packages()
    with progress_bars(progress_mode) as progress:
        diagnosis = diagnose(samples, reference, progress=progress, **options)
    steps: list[Callable[[], object]] = [
        lambda: print(diagnosis.to_json() if as_json else format_diagnosis(diagnosis), flush=True)
    ]
    if diagnosis.skipped_images:
        steps.append(lambda: print_stderr(f"warning: {escape_line(describe_skipped(diagnosis.skipped_images))}"))
    if output:
        steps.append(lambda: write_text(diagnosis.to_json() + "\n", output, force=force))
    if report:
        steps.append(lambda: write_text(render_diagnosis_page(diagnosis), report, force=force))
    run_all(steps)
