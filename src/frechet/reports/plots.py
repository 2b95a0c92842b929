"""Plots for reports and the demo, drawn with matplotlib."""

from __future__ import annotations

import html
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from frechet._internal.terminal import escape_line
from frechet.reports.diagnostics import NEIGHBOURHOOD_METRICS, CurvePoint
from frechet.reports.run_comparison import RunComparison
from frechet.results import Score

_COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951")
_FOREGROUND, _MUTED = "#222222", "#8a8a8a"


def plot_corruptions(
    curves: Mapping[str, Sequence[float]],
    examples: Mapping[str, Sequence[np.ndarray]],
    levels: Sequence[float],
    label: str,
) -> Figure:
    """Plot the distance against the corruption level, next to examples of each corruption and level.

    Args:
        curves: distance at each level, by name of the corruption; the first level is that of uncorrupted images.
        examples: image (h, w, 3) uint8 at each level, by name of the corruption.
        levels: corruption levels in [0, 1], ascending.
        label: display name of the distance.
    """
    figure = Figure(figsize=(8.3, 4.2), layout="constrained", dpi=200)  # 830 pixels wide on a page
    FigureCanvasAgg(figure)
    panels: Any = figure.subfigures(1, 2, width_ratios=(1.2, 1))
    _plot_curves(panels[0].subplots(), curves, levels, label)
    _show_examples(panels[1].subplots(len(examples), 1), examples)
    return figure


def _plot_curves(axis: Any, curves: Mapping[str, Sequence[float]], levels: Sequence[float], label: str) -> None:
    for (name, values), colour in zip(curves.items(), _COLOURS, strict=False):
        axis.plot(levels, values, color=colour, linewidth=2, marker="o", markersize=5, label=name)
    bias = next(iter(curves.values()))[0]
    axis.axhline(bias, color=_MUTED, linewidth=1, linestyle="--")
    axis.annotate(
        f"small-sample bias: {bias:.3g}",
        (levels[-1], bias),
        (0, -10),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=_MUTED,
    )
    axis.set_ylim(0, None)
    axis.set_xlabel("corruption level", color=_FOREGROUND)
    axis.set_ylabel(label, color=_FOREGROUND)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(colors=_FOREGROUND, labelsize=8)
    axis.legend(frameon=False, labelcolor=_FOREGROUND, fontsize=9)


def _show_examples(axes: Sequence[Any], examples: Mapping[str, Sequence[np.ndarray]]) -> None:
    for axis, (name, images), colour in zip(axes, examples.items(), _COLOURS, strict=False):
        margin = ((0, 0), (0, images[0].shape[1] // 20), (0, 0))
        axis.imshow(np.concatenate([np.pad(image, margin, constant_values=255) for image in images], axis=1))
        axis.set_ylabel(
            name.replace(" ", "\n"), rotation=0, ha="right", va="center", color=colour, fontweight="bold", fontsize=9
        )
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    figure.savefig(path, format="png", facecolor="white")


def render_curve(points: Sequence[CurvePoint], score: Score) -> str:
    """Plot the distance against the number of generated images, with corrected values and intervals if available.

    Args:
        points: the points by increasing number of images.
        score: the score that the curve belongs to.

    Returns:
        An <svg> element.
    """
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axis = figure.subplots()
    sizes = [point.n_generated for point in points]
    values = [point.value for point in points]
    axis.plot(sizes, values, color=_COLOURS[0], linewidth=2.2, marker="o", markersize=5, label="biased value")
    with_interval = [
        (point.n_generated, point.corrected_value, *point.interval_95)
        for point in points
        if point.interval_95 is not None
    ]
    if with_interval:
        sizes_with_interval, corrected_values, low, high = zip(*with_interval, strict=True)
        axis.vlines(sizes_with_interval, low, high, color=_COLOURS[3], linewidth=5, alpha=0.5, label="95 % CI")
        axis.fill_between(sizes_with_interval, low, high, color=_COLOURS[3], alpha=0.2, linewidth=0)
        axis.plot(
            sizes_with_interval,
            corrected_values,
            color=_COLOURS[4],
            linewidth=1.8,
            marker="s",
            markersize=4.5,
            label="bias-corrected value",
        )
    axis.set(xscale="log", xlabel="generated images", ylabel=_escape_mathtext(score.label.partition(" (")[0]))
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axis.minorticks_off()
    axis.legend(frameon=False, labelcolor=_FOREGROUND)
    return _to_svg(
        figure,
        axis,
        f"{len(points)} distances for {sizes[0]:,} to {sizes[-1]:,} generated images; the values are in the table below",
    )


def render_prdc(scores: Sequence[Score]) -> str:
    """Plot precision, recall, density and coverage as bars, coloured by which images they count."""
    figure = Figure(figsize=(7.2, 0.9 + 0.6 * len(scores)), layout="constrained")
    axis = figure.subplots()
    names = []
    for i, score in enumerate(scores):
        counted = NEIGHBOURHOOD_METRICS[score.metric.partition("@")[0]].counted
        names.append(f"{_escape_mathtext(score.label.partition(' (')[0])}\nof {counted} images")
        axis.barh(i, score.value, height=0.6, color=_COLOURS[0 if counted == "generated" else 1])
        axis.annotate(
            f"{score.value:.3g}", (score.value, i), (4, 0), textcoords="offset points", va="center", color=_FOREGROUND
        )
    axis.axvline(1, color=_MUTED, linewidth=1, linestyle="--")
    axis.set_yticks(range(len(scores)), names)
    axis.invert_yaxis()
    axis.set(xlim=(0, 1.12 * max(1.0, *(score.value for score in scores))), xlabel="value")
    described = ", ".join(f"{score.label} {score.value:.3g}" for score in scores)
    return _to_svg(figure, axis, f"Bars: {described}; the list below explains them")


def render_runs(comparison: RunComparison) -> str:
    """Plot the values of the runs: corrected values with intervals if all runs have them, otherwise classical values."""
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axis = figure.subplots()
    rows = comparison.rows
    values = [row.corrected_value if comparison.has_corrected_values else row.value for row in rows]
    plotted = [math.nan if value is None else value for value in values]  # NaN leaves a gap
    for i, (row, value) in enumerate(zip(rows, plotted, strict=True)):
        low, high = (comparison.has_corrected_values and row.interval_95) or (value, value)
        axis.plot([i, i], [low, high], color=_COLOURS[0], linewidth=5, alpha=0.35, solid_capstyle="round")
    axis.plot(range(len(rows)), plotted, color=_COLOURS[0], linewidth=1.6, marker="o", markersize=5)
    kind = ", bias-corrected" if comparison.has_corrected_values else ""
    axis.set(ylabel=_escape_mathtext(comparison.label.partition(" (")[0]) + kind)
    axis.set_xticks(range(len(rows)), [_tick_label(row.run) for row in rows], rotation=30, ha="right")
    return _to_svg(figure, axis, f"Values of {len(rows)} runs; the numbers are in the table below")


def _escape_mathtext(text: str) -> str:
    """Escape text for matplotlib, where a dollar sign starts a formula."""
    return escape_line(text).replace("$", r"\$")


def _tick_label(name: str) -> str:
    text = escape_line(name)
    return _escape_mathtext(text if len(text) <= 24 else f"{text[:23]}…")


def _to_svg(figure: Figure, axis: Any, description: str) -> str:
    """Return the figure as an <svg> element that takes its text colour from the page."""
    axis.tick_params(colors=_FOREGROUND, labelsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(_FOREGROUND)
    axis.xaxis.label.set_color(_FOREGROUND)
    axis.yaxis.label.set_color(_FOREGROUND)
    axis.set_facecolor("none")
    out = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": description, "font.family": "sans-serif"}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :].replace(_FOREGROUND, "currentColor")
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(escape_line(description), quote=True)}"', 1)
