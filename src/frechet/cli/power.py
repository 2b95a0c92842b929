"""`frechet power`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from frechet._internal.fields import name_option
from frechet._internal.terminal import escape_line, print_stderr
from frechet._internal.words import join_words
from frechet.cli.options import GroupedCommand, options_of, resolve_engine
from frechet.cli.parameter_types import Source
from frechet.cli.progress import progress_bars, progress_option
from frechet.errors import RequestError
from frechet.evaluation.plan import ALL
from frechet.evaluation.request import ScoreRequest
from frechet.evaluation.run import run
from frechet.evaluation.sample_size import SampleSizes, plan_sample_size, require_frechet_distance, require_valid_test
from frechet.reports.text import collect_warnings


@click.command(cls=GroupedCommand)
@click.argument("generated", metavar="SAMPLES", type=Source())
@click.argument("reference", type=Source())
@click.option(
    "--detect",
    required=True,
    metavar="D|P%",
    help="Difference to detect, such as 0.5, or 5% of the bias-corrected score.",
)
@click.option("--alpha", type=float, default=0.05, show_default=True, metavar="A", help="Significance level.")
@options_of(ScoreRequest, without=("per_class", "repeat", "explain", "splits", "held_out", "interval"))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the text.")
@progress_option
def command(
    generated: str, reference: str, detect: str, alpha: float, as_json: bool, progress_mode: str, **options: Any
) -> None:
    """Report how many images per model are needed to detect a difference.

    SAMPLES is a pilot sample from one model, with at least 1.5 images per feature dimension. REFERENCE is the reference
    of both models. The result is the number of images per model with which frechet compare detects a difference of
    --detect with 80 % and with 95 % power. The metric is a Fréchet distance (FID, or FD of other extractors).

    \b
    frechet power samples/ reference.npz --detect 0.5
    frechet power samples/ reference.npz --detect 5% --extractor dinov2-vitl14
    """
    with resolve_engine(options) as resolved, progress_bars(progress_mode) as progress:
        if resolved is None:
            return
        request = ScoreRequest(generated, reference, progress=progress, **resolved)
        _require_one_distance(request.metric_names)
        require_valid_test(detect, alpha)
        scores = run(request)
    pilot, *others = scores.values()
    sizes = plan_sample_size(pilot, detect, alpha=alpha)
    result = {**asdict(sizes), "skipped_images": pilot.skipped_images}
    click.echo(json.dumps(result, indent=2) if as_json else _format_sizes(sizes))
    for warning in collect_warnings(scores):
        print_stderr(f"warning: {escape_line(warning)}")
    if others:
        print_stderr(f"note: only {pilot.label} is planned, not {join_words([each.label for each in others])}")


def _require_one_distance(names: Sequence[str] | None) -> None:
    """Require one metric whose number of images can be planned; None is the default, which is one."""
    if names is None:
        return
    if len(names) > 1 or ALL in names:
        raise RequestError(
            f"{name_option('metrics')} is {', '.join(names)}; expected one Fréchet distance, such as fid, or fd for features of other "
            "extractors. Leave it out for the default."
        )
    require_frechet_distance(names[0])


def _format_sizes(sizes: SampleSizes) -> str:
    lines = [
        f"To detect a difference of {sizes.difference:.4g} in {sizes.metric} between two models (two-sided test at "
        f"{100 * sizes.alpha:g} %), score",
        *(
            f"{n:>12,} images per model, for a probability of {100 * power:g} %"
            for power, n in sorted(sizes.n_by_power.items())
        ),
        f"The pilot of {sizes.n_pilot:,} images has a standard error of {sizes.standard_error:.4g} from its own images.",
    ]
    return "\n".join(lines)
