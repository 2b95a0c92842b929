"""`frechet score`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from frechet._internal.atomic_write import check_output, written_aside
from frechet._internal.terminal import one_line
from frechet.cli.options import engine_of, features_option, image_options
from frechet.cli.progress import progress_bars
from frechet.errors import RequestError
from frechet.evaluation import run
from frechet.evaluation.request import ALL, names_of
from frechet.reports.html import write_report
from frechet.reports.text import table, warnings_of


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
@click.option("--reference-convention", metavar="NAME", help="Of a statistics file that does not say.")
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
    **settings: Any,
) -> None:
    """Score GENERATED images against REFERENCE images (or alone, by metrics of one side).

    Each side is a folder, a .zip, an .npz with arr_0, an .npy, or a statistics .npz (of frechet stats, pytorch-fid
    or TTUR) or its URL (https://.../reference.npz, with #sha256=... if you know it).

    \b
    frechet score samples/ reference/
    frechet score samples.zip reference.npz --convention tensorflow --json
    frechet score samples/ photos/ --extractor efficientnet-lite0
    frechet score features.npy reference.npz --features
    frechet score samples/ reference/ --metrics fid,kid,is,precision,recall
    frechet score samples/ --metrics is --splits 5,10,20
    frechet score samples/ reference/ --report page.html
    """
    if output:
        check_output(output, force=force)
    if output and report and output.resolve() == report.resolve():
        raise RequestError(f"--output and --report name the same file, {output}; give each its own")
    if report and reference is None:
        raise RequestError("a page shows what lies between two sides, and one is given; give reference images as well")
    names = names_of(metrics)
    numbers = _numbers(splits) if splits else None
    with engine_of(settings) as chosen, progress_bars() as progress:
        if chosen is None:
            return
        computed = partial(write_report, path=report, force=force) if report else run.score
        scores = computed(generated, reference, metrics=names, splits=numbers, progress=progress, **chosen)
    for warning in warnings_of(scores):
        print(f"warning: {one_line(warning)}", file=sys.stderr)
    for name, reason in scores.unavailable.items():
        print(f"no {name}: {one_line(reason)}", file=sys.stderr)
    if output:
        with written_aside(output, force=force) as aside:
            aside.write_text(scores.to_json() + "\n", encoding="utf-8")
    print(scores.to_json() if as_json else table(scores))
    if scores.unavailable and metrics != ALL:
        sys.exit(2)  # some of what was asked for is missing


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise RequestError(f"--splits is {text!r}; expected whole numbers, e.g. 5,10,20") from None
