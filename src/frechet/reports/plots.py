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
    """Plot one column per corruption: the same patches at increasing level above the curve of the distance.

    Args:
        curves: distance at each level, by name of the corruption.
        examples: image (h, w, 3) uint8 at each level, by name of the corruption.
        levels: corruption levels in [0, 1], ascending.
        label: display name of the distance.
    """
    figure = Figure(figsize=(3 * len(curves), 4.4), layout="constrained", dpi=160)
    FigureCanvasAgg(figure)
    panels: Any = figure.subfigures(2, 1, height_ratios=(1, 2.8))
    upper, lower = panels
    strips = upper.subplots(1, len(curves))
    axes = lower.subplots(1, len(curves), sharey=True)
    highest = max(max(values) for values in curves.values())
    for strip, axis, (name, values), colour in zip(strips, axes, curves.items(), _COLOURS, strict=False):
        margin = ((0, 0), (0, examples[name][0].shape[1] // 20), (0, 0))
        strip.imshow(np.concatenate([np.pad(image, margin, constant_values=255) for image in examples[name]], axis=1))
        strip.set_title(name, fontsize=12, color=_FOREGROUND, fontweight="bold")
        strip.axis("off")
        _plot_levels(axis, levels, values, colour)
        axis.set_ylim(0, highest * 1.15)
    axes[0].set_ylabel(label, color=_FOREGROUND)
    lower.supxlabel("corruption level", fontsize=10, color=_FOREGROUND)
    return figure


def _plot_levels(axis: Any, levels: Sequence[float], values: Sequence[float], colour: str) -> None:
    axis.plot(levels, values, color=colour, linewidth=2.5, marker="o", markersize=6)
    axis.fill_between(levels, values, color=colour, alpha=0.12, linewidth=0)
    style = {"textcoords": "offset points", "ha": "center", "fontsize": 8, "color": _FOREGROUND}
    for level, value in zip(levels, values, strict=True):
        axis.annotate(f"{value:.3g}", (level, value), (0, 7), **style)
    axis.set(xlim=(-0.08, 1.12), xticks=levels)
    axis.set_xticklabels([f"{level:.2g}" for level in levels])
    axis.tick_params(colors=_MUTED, labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(_MUTED)


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
