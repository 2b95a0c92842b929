"""`frechet verify`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from frechet._internal.terminal import escape_line, print_stderr
from frechet.cli.options import GroupedCommand, options_of, resolve_engine
from frechet.cli.parameter_types import HomePath, Source
from frechet.cli.progress import progress_bars, progress_option
from frechet.reports.complete_verification import TOLERANCE
from frechet.reports.run_verification import Verification, verify_run
from frechet.reports.verification_inputs import Check, VerificationRequest


@click.command(cls=GroupedCommand)
@click.argument("run", type=HomePath(), metavar="RUN.json")
@click.argument("samples", type=Source())
@click.argument("reference", type=Source())
@options_of(VerificationRequest)
@progress_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array with one object per checked value.")
def command(run: Path, samples: str, reference: str, progress_mode: str, as_json: bool, **options: Any) -> None:
    """Check that the Fréchet distance in RUN.json is consistent with SAMPLES and REFERENCE, without scoring all samples.

    RUN.json is a file written by frechet score --output. A random subset of SAMPLES is scored (--num-images; by default five
    images per feature dimension, and at least 1,000), and the recorded value and interval are compared with the values expected from the
    subset. If the run scored no more images, all of them are scored, and the numbers must agree up to rounding. Exits with status 2 if one of them is inconsistent.

    \b
    frechet score samples/ reference.npz --output run.json
    frechet verify run.json samples/ reference.npz
    """
    with resolve_engine(options) as resolved, progress_bars(progress_mode) as progress:
        if resolved is None:
            return
        found = verify_run(run, samples, reference, progress=progress, **resolved)
    if as_json:
        click.echo(json.dumps([asdict(check) for check in found.checks], indent=2))
    else:
        for check in found.checks:
            click.echo(_format_check(check))
        click.echo(_format_sensitivity(found))
    for note in found.notes:
        print_stderr(f"warning: {escape_line(note)}")
    if not all(check.is_consistent for check in found.checks):
        sys.exit(2)


def _format_check(check: Check) -> str:
    verdict = "consistent" if check.is_consistent else "INCONSISTENT"
    error = "" if check.standard_error is None else f" ± {check.standard_error:.4g}"
    p_value = "" if check.p_value is None else f", p = {check.p_value:.2g}"
    claim = check.claim.replace("_", " ")
    return (
        f"{check.metric} {claim}: claimed {check.claimed:.6g}, expected {check.expected:.6g}{error}{p_value}: {verdict}"
    )


def _format_sensitivity(found: Verification) -> str:
    """Return how many images were scored, and which errors this detects."""
    count = f"{found.checks[0].n_images:,} images"
    if found.is_complete:
        return f"All {count} of the run were scored, so that numbers must agree up to rounding ({TOLERANCE:.1%})."
    errors = [
        f"an error of {check.detectable_difference:.3g} in {check.metric}"
        for check in found.checks
        if check.claim == "value" and check.detectable_difference is not None
    ]
    return (
        f"With this subset of {count}, {' and '.join(errors)} is detected with a probability of 80 %. A larger "
        "subset (--num-images) detects smaller errors."
    )
