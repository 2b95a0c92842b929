"""`frechet score`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from frechet._internal.atomic_write import atomic_write, check_output_path
from frechet._internal.terminal import escape_line
from frechet.cli.options import features_option, image_options, resolve_engine
from frechet.cli.progress import progress_bars
from frechet.errors import RequestError
from frechet.evaluation import run
from frechet.evaluation.request import ALL, parse_metric_names
from frechet.reports.html import write_report
from frechet.reports.text import collect_warnings, format_scores


@click.command()
@click.argument("generated")
@click.argument("reference", required=False)
@click.option(
    "--metrics",
    metavar="LIST",
    help="Names of `frechet metrics`, or all; by default fid (of inception) or fd (of another extractor).",
)
@click.option(
    "--held-out", metavar="IMAGES", help="Images the generator never saw; REFERENCE is what it was trained on."
)
@click.option("--splits", metavar="LIST", help="Numbers of splits for the Inception Score, e.g. 5,10,20.")
@image_options
@click.option("--reference-preprocessing", metavar="NAME", help="Of a statistics file that does not say.")
@click.option("--reference-size", type=int, metavar="N", help="Images behind a statistics file that does not say.")
@click.option("--interval", default="auto", show_default=True, metavar="auto|none", help="95 % interval of the truth.")
@click.option(
    "--explain", type=int, default=0, metavar="N", help="List the N images that raise the score most, and lower it."
)
@click.option("--per-class", is_flag=True, help="Score each class (sub-folder, or arr_1 of an .npz) alone as well.")
@click.option("--repeat", type=int, default=1, metavar="K", help="Score K times with other seeds: mean and deviation.")
@features_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the JSON object there as well.")
@click.option("--report", type=click.Path(path_type=Path), metavar="FILE.html", help="Write a page about the score.")
@click.option("--force", is_flag=True, help="Replace the output files.")
def command(
    generated: str,
    reference: str | None,
    metrics: str | None,
    splits: str | None,
    as_json: bool,
    output: Path | None,
    report: Path | None,
    force: bool,
    **options: Any,
) -> None:
    """Score GENERATED images against REFERENCE images (or alone, by metrics of one side).

    Each side is a folder, a .zip, an .npz with arr_0, an .npy, or a statistics .npz (of frechet stats, pytorch-fid
    or TTUR) or its URL (https://.../reference.npz, with #sha256=... if you know it).

    \b
    frechet score samples/ reference/
    frechet score samples.zip reference.npz --preprocessing tensorflow --json
    frechet score samples/ photos/ --extractor efficientnet-lite0
    frechet score features.npy reference.npz --features
    frechet score samples/ reference/ --metrics fid,kid,is,precision,recall
    frechet score samples/ --metrics is --splits 5,10,20
    frechet score samples/ reference/ --report page.html
    """
    if output:
        check_output_path(output, force=force)
    if output and report and output.resolve() == report.resolve():
        raise RequestError(f"--output and --report name the same file, {output}; give each its own")
    if report and reference is None:
        raise RequestError("a page shows what lies between two sides, and one is given; give reference images as well")
    names = parse_metric_names(metrics)
    numbers = _parse_splits(splits) if splits else None
    with resolve_engine(options) as resolved_options, progress_bars() as progress:
        if resolved_options is None:
            return
        compute = partial(write_report, path=report, force=force) if report else run.score
        scores = compute(generated, reference, metrics=names, splits=numbers, progress=progress, **resolved_options)
    for warning in collect_warnings(scores):
        print(f"warning: {escape_line(warning)}", file=sys.stderr)
    for name, reason in scores.unavailable.items():
        print(f"no {name}: {escape_line(reason)}", file=sys.stderr)
    if output:
        with atomic_write(output, force=force) as temporary_path:
            temporary_path.write_text(scores.to_json() + "\n", encoding="utf-8")
    print(scores.to_json() if as_json else format_scores(scores))
    if scores.unavailable and metrics != ALL:
        sys.exit(2)  # some of what was asked for is missing


def _parse_splits(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise RequestError(f"--splits is {text!r}; expected whole numbers, e.g. 5,10,20") from None
