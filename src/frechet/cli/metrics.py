"""`frechet metrics`."""

from __future__ import annotations

import click

from frechet.metrics import METRICS, Metric


@click.command()
@click.option("--markdown", is_flag=True, help="Print a Markdown table with papers and presets.")
def command(markdown: bool) -> None:
    """List the metrics: name, better direction and summary.

    NAME@TOOL, with a TOOL from the brackets, computes a metric with the settings of that tool, e.g. kid@torch-fidelity.
    """
    if markdown:
        print("| metric | better | needs | summary | paper | presets |\n|---|---|---|---|---|---|")
    for name, metric in METRICS.items():
        tools = ", ".join(metric.presets)
        if markdown:
            cells = (
                f"`{name}`",
                _format_direction(metric),
                _format_requirements(metric),
                metric.summary,
                metric.paper,
                tools,
            )
            print(f"| {' | '.join(cells)} |")
        else:
            print(f"{name:<13} {_format_direction(metric):<7} {metric.summary}{f' [{tools}]' if tools else ''}")


def _format_direction(metric: Metric) -> str:
    return {True: "lower", False: "higher", None: "near 0"}[metric.lower_is_better]


def _format_requirements(metric: Metric) -> str:
    if metric.uses_latents:
        return "generator"
    needs = [] if metric.uses_reference else ["generated images only"]
    needs += ["held-out images"] if metric.uses_held_out else []
    needs += [] if metric.layer == "features" else [metric.layer]
    return ", ".join(needs)
