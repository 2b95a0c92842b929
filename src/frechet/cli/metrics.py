"""`frechet metrics`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from frechet.metrics import METRICS, Metric
from frechet.reports.tables import align_left

_GROUPS = ("fidelity and diversity", "fidelity", "diversity", "memorisation")
_LEGEND = """
IMAGES is the number per input that a metric needs, and in parentheses the number that papers use. d is the number of features,
2,048 for FID; the confidence interval of a Fréchet distance needs 1.5 d. NAME@TOOL, with a TOOL from the brackets, computes a
metric with the settings of that tool, e.g. kid@torch-fidelity."""


@click.command()
@click.option("--markdown", is_flag=True, help="Print a Markdown table with papers and presets.")
def command(markdown: bool) -> None:
    """List the metrics by what they measure: name, better direction, number of images needed and summary.

    NAME@TOOL, with a TOOL from the brackets, computes a metric with the settings of that tool, e.g. kid@torch-fidelity.
    """
    lines = _iter_markdown() if markdown else _iter_groups()
    click.echo("\n".join(lines))


def _iter_groups() -> Iterator[str]:
    rows = [
        (name, _format_direction(metric), metric.images, _format_summary(metric)) for name, metric in METRICS.items()
    ]
    header, *lines = align_left([("NAME", "BETTER", "IMAGES", "SUMMARY"), *rows])
    groups = dict.fromkeys((*_GROUPS, *(metric.measures for metric in METRICS.values())))  # packages may add others
    yield header
    for group in groups:
        yield f"\n{group.capitalize()}"
        yield from (line for line, metric in zip(lines, METRICS.values(), strict=True) if metric.measures == group)
    yield _LEGEND


def _iter_markdown() -> Iterator[str]:
    yield "| metric | measures | better | images | needs | summary | paper | presets |\n|---|---|---|---|---|---|---|---|"
    for name, metric in METRICS.items():
        cells = (
            f"`{name}`",
            metric.measures,
            _format_direction(metric),
            metric.images,
            _format_requirements(metric),
            metric.summary,
            metric.paper,
            ", ".join(metric.presets),
        )
        yield f"| {' | '.join(cells)} |"


def _format_summary(metric: Metric) -> str:
    return metric.summary + (f" [{', '.join(metric.presets)}]" if metric.presets else "")


def _format_direction(metric: Metric) -> str:
    return {True: "lower", False: "higher", None: "near 0"}[metric.lower_is_better]


def _format_requirements(metric: Metric) -> str:
    if metric.uses_latents:
        return "generator"
    if metric.load_pair_measure is not None:
        return "pairs of images"
    needs = [] if metric.uses_reference else ["generated images only"]
    needs += ["held-out images"] if metric.uses_held_out else []
    needs += [] if metric.layer == "features" else [metric.layer]
    return ", ".join(needs)
