"""`frechet score`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from frechet._internal.terminal import escape_line, print_stderr, run_all
from frechet.cli.options import GroupedCommand, GroupedOption, options_of, resolve_engine
from frechet.cli.output_files import check_output_files, write_text
from frechet.cli.parameter_types import HomePath, Source
from frechet.cli.progress import progress_bars, progress_option
from frechet.errors import RequestError, ToleranceNotReachedError
from frechet.evaluation.left_out import describe_left_out_metrics
from frechet.evaluation.plan import ALL
from frechet.evaluation.request import ScoreRequest
from frechet.evaluation.run import run
from frechet.evaluation.until import Until
from frechet.reports.details import format_details
from frechet.reports.html import evaluate_for_report, write_report
from frechet.reports.publication import format_citation, format_model_card
from frechet.reports.text import collect_warnings, format_scores, iter_interval_notes, suggest_next_step
from frechet.results import Scores


@click.command(cls=GroupedCommand)
@click.argument("generated", type=Source())
@click.argument("reference", required=False, type=Source())
@options_of(ScoreRequest)
@click.option(
    "--until-half-width",
    cls=GroupedOption,
    heading="Options",
    metavar="W|P%",
    help="Take images in random order until half the width of the interval is at most W, or P% of the score.",
)
@click.option(
    "--max-images",
    cls=GroupedOption,
    heading="Options",
    type=int,
    metavar="N",
    help="Largest number of images with --until-half-width (default: all).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
@click.option("--output", type=HomePath(), metavar="FILE", help="Also write the results as JSON to FILE.")
@click.option("--report", type=HomePath(), metavar="FILE.html", help="Write an HTML report to FILE.html.")
@click.option(
    "--model-card",
    type=HomePath(),
    metavar="FILE.md",
    help="Write a Hugging Face model card with the scores, and what they depend on, to FILE.md.",
)
@click.option(
    "--cite",
    is_flag=True,
    help="Also print a sentence and a BibTeX entry for a paper (with --json: in the JSON object).",
)
@click.option("--verbose", is_flag=True, help="Also print the terms, settings and interval method of every score.")
@progress_option
@click.option("--force", is_flag=True, help="Overwrite existing output files.")
def command(
    generated: str,
    reference: str | None,
    until_half_width: str | None,
    max_images: int | None,
    as_json: bool,
    output: Path | None,
    report: Path | None,
    model_card: Path | None,
    cite: bool,
    verbose: bool,
    progress_mode: str,
    force: bool,
    **options: Any,
) -> None:
    """Score GENERATED images against REFERENCE images (or alone, with metrics that use no reference).

    An input is a folder or archive of images (.zip, .tar, .parquet, .arrow, .h5, an LMDB database, an .npy, an .npz with
    arr_0), a shard pattern (shards/{000..127}.tar), a statistics file (an .npz from frechet stats, pytorch-fid, TTUR or
    ADM, a .pkl from EDM2, a .pt from torch-fidelity), the URL of any of these, or ref:NAME, where NAME is listed by
    `frechet reference list`.

    \b
    frechet score samples/ reference/
    frechet score samples.zip reference.npz --preprocessing tensorflow --json
    frechet score samples/ photos/ --extractor efficientnet-lite0
    frechet score features.npy reference.npz --features
    frechet score samples/ reference/ --metrics fid,kid,is,precision,recall
    frechet score samples/ --metrics is --splits 5,10,20
    frechet score samples/ reference/ --report page.html
    frechet score samples/ reference.npz --until-half-width 5% --max-images 50000
    """
    check_output_files({"--output": output, "--report": report, "--model-card": model_card}, force=force)
    with resolve_engine(options) as resolved, progress_bars(progress_mode) as progress:
        if resolved is None:
            return
        until = _read_until(until_half_width, max_images)
        request = ScoreRequest(generated, reference, until=until, progress=progress, **resolved)
        if report:
            evaluation = evaluate_for_report(request, report, force=force)
        scores, failure = (evaluation.scores, None) if report else _run(request)
    text = _format_json(scores, cite=cite) if as_json else _format(scores, verbose=verbose)
    steps: list[Callable[[], object]] = [
        lambda: print(text, flush=True),
        lambda: _print_notes(scores, request, as_json=as_json),
    ]
    if cite and not as_json:
        steps.append(lambda: print(f"\n{format_citation(scores)}", flush=True))
    if model_card:
        steps.append(lambda: write_text(format_model_card(scores, request), model_card, force=force))
    if output:
        steps.append(lambda: write_text(scores.to_json() + "\n", output, force=force))
    if report:
        steps.append(lambda: write_report(evaluation, request, report, force=force))
    run_all(steps)
    if failure:
        raise failure
    if scores.unavailable and request.metrics != ALL:
        sys.exit(2)  # a requested metric is missing


def _read_until(half_width: str | None, max_images: int | None) -> Until | None:
    if half_width is not None:
        return Until.from_text(half_width, max_images)
    if max_images is not None:
        raise RequestError(
            f"--max-images is {max_images}, and --until-half-width is missing; pass it, or --num-images for a fixed number"
        )
    return None


def _run(request: ScoreRequest) -> tuple[Scores, ToleranceNotReachedError | None]:
    """Compute the scores; if their interval is too wide, also return the error."""
    try:
        return run(request), None
    except ToleranceNotReachedError as error:
        return error.scores, error


def _format_json(scores: Scores, *, cite: bool) -> str:
    citation = {"citation": format_citation(scores)} if cite else {}
    return json.dumps(scores.to_dict() | citation, indent=2, allow_nan=False)


def _format(scores: Scores, *, verbose: bool) -> str:
    return format_scores(scores) + (f"\n\n{format_details(scores)}" if verbose else "")


def _print_notes(scores: Scores, request: ScoreRequest, *, as_json: bool) -> None:
    for warning in collect_warnings(scores):
        print_stderr(f"warning: {escape_line(warning)}")
    for name, reason in scores.unavailable.items():
        text = f"it {reason.removeprefix(f'{name} ')}" if reason.startswith(f"{name} ") else reason
        print_stderr(f"{name} was not computed: {escape_line(text)}")
    if ALL in (request.metric_names or ()):
        computed = {name.partition("@")[0] for name in (*scores, *scores.unavailable)}
        if left_out := describe_left_out_metrics(computed, has_reference=request.reference is not None):
            print_stderr(f"note: {left_out}")
    if not as_json:
        for note in iter_interval_notes(scores):
            print_stderr(escape_line(note))
        if hint := suggest_next_step(scores):
            print_stderr(escape_line(hint))
