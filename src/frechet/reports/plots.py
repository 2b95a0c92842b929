"""Plots for reports and the demo, drawn with matplotlib."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from frechet._internal.terminal import escape_line
from frechet.evaluation.race_result import Race
from frechet.reports.diagnostics import NEIGHBOURHOOD_METRICS, CurvePoint
from frechet.reports.run_comparison import RunComparison
from frechet.results import Score

_COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951")
_FOREGROUND, _MUTED = "#222222", "#8a8a8a"
_BLUE, _ORANGE = "#1f5fa8", "#b85c00"
_PAGE_COLOURS = {  # colours of an exported figure: what the page, which may be dark, shows instead
    _FOREGROUND: "currentColor",
    _MUTED: "var(--faint)",
    _BLUE: "var(--series-1)",
    _ORANGE: "var(--series-2)",
}
_WIDTH = 4.8  # inches; text of 10 points is then legible on a page of 400 pixels
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # TrueType, which journals require
    "axes.edgecolor": _FOREGROUND,
    "axes.labelcolor": _FOREGROUND,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": _FOREGROUND,
    "xtick.color": _FOREGROUND,
    "ytick.color": _FOREGROUND,
}
_MAX_TICKS = 5
_LABEL_POINTS = 9


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


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A figure of a page.

    Attributes:
        svg: <svg> element in the colours of the page.
        svg_url, pdf_url: the figure in fixed colours, as files for papers (data: URLs).
    """

    svg: str
    svg_url: str
    pdf_url: str


def plot_curve(points: Sequence[CurvePoint], score: Score) -> Plot:
    """Plot the distance against the number of generated images, with corrected values and intervals if available.

    Args:
        points: the points by increasing number of images.
        score: the score that the curve belongs to.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.1), layout="constrained")
        axis = figure.subplots()
        sizes = [point.n_generated for point in points]
        axis.plot(
            sizes, [point.value for point in points], color=_BLUE, marker="o", markersize=4.5, label="plain value"
        )
        _plot_corrected_values(axis, points)
        axis.set(xscale="log", xlabel="generated images (log scale)", ylabel=_short_label(score.label))
        axis.minorticks_off()
        ticks = sorted({sizes[round(i)] for i in np.linspace(0, len(sizes) - 1, min(_MAX_TICKS, len(sizes)))})
        axis.set_xticks(ticks, [f"{size:,}" for size in ticks])
        figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=9, columnspacing=1.2)
        return _export(
            figure,
            f"{len(points)} distances for {sizes[0]:,} to {sizes[-1]:,} generated images; the values are in the table below",
        )


def _plot_corrected_values(axis: Any, points: Sequence[CurvePoint]) -> None:
    rows = [(p.n_generated, p.corrected_value, *p.interval_95) for p in points if p.interval_95 is not None]
    if rows:
        sizes, values, low, high = zip(*rows, strict=True)
        axis.vlines(sizes, low, high, color=_ORANGE, linewidth=1.5, label="95 % CI")
        axis.plot(sizes, values, color=_ORANGE, marker="s", markersize=4.5, label="bias-corrected value")


def plot_prdc(scores: Sequence[Score]) -> Plot:
    """Plot precision, recall, density and coverage with their intervals, by which images they count."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.8 + 0.5 * len(scores)), layout="constrained")
        axis = figure.subplots()
        names = []
        for i, score in enumerate(scores):
            counted = NEIGHBOURHOOD_METRICS[score.metric.partition("@")[0]].counted
            names.append(f"{_short_label(score.label)}\n({counted} images)")
            low, high = score.interval_95 or (score.value, score.value)
            axis.plot([low, high], [i, i], color=_BLUE if counted == "generated" else _ORANGE, linewidth=1.5)
            axis.plot(score.value, i, color=_BLUE if counted == "generated" else _ORANGE, marker="o", markersize=7)
            axis.annotate(
                f"{score.value:.3g}", (score.value, i), (0, 7), textcoords="offset points", ha="left", fontsize=9
            )
        axis.axvline(1, color=_MUTED, linewidth=1, linestyle="--")
        axis.set_yticks(range(len(scores)), names)
        axis.set(ylim=(len(scores) - 0.5, -0.7), xlabel="value and 95 % CI")
        axis.set_xlim(
            0, 1.05 * max(1.0, *(end for score in scores for end in (score.value, *(score.interval_95 or ()))))
        )
        described = ", ".join(f"{score.label} {score.value:.3g}" for score in scores)
        return _export(figure, f"Values: {described}; the list below explains them")


def plot_runs(comparison: RunComparison) -> Plot:
    """Plot the values of the runs, one per line: corrected values if all runs have them, otherwise plain values."""
    rows = [row for row in comparison.rows if row.value is not None]
    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.8 + 0.36 * len(rows)), layout="constrained")
        axis = figure.subplots()
        for i, row in enumerate(rows):
            value = float((row.corrected_value if comparison.has_corrected_values else row.value) or 0)
            colour = _ORANGE if (row.verdict or "").startswith("best") else _BLUE
            interval = row.interval_95 if comparison.has_corrected_values or row.corrected_value is None else None
            axis.plot(interval or (value, value), (i, i), color=colour, linewidth=1.5)
            axis.plot(value, i, color=colour, marker="o", markersize=6)
        axis.set_yticks(range(len(rows)), [_tick_label(row.run) for row in rows])
        kind = ", bias-corrected" if comparison.has_corrected_values and comparison.has_bias else ""
        axis.set(ylim=(len(rows) - 0.5, -0.5), xlabel=_short_label(comparison.label) + kind)
        axis.grid(axis="x", color=_MUTED, alpha=0.3, linewidth=0.8)
        return _export(figure, f"Values of {len(rows)} runs; the numbers are in the table below")


def plot_race(race: Race) -> Plot:
    """Plot the intervals of the models against the number of images; a cross marks where a model left the race."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.4), layout="constrained")
        axis = figure.subplots()
        for model in reversed(race.models):  # the best one on top
            looks = [look for look in race.looks if model.name in look.values]
            sizes, values = [look.n_images for look in looks], [look.values[model.name] for look in looks]
            low, high = zip(*(look.intervals[model.name] for look in looks), strict=True)
            colour = _ORANGE if model is race.models[0] else _BLUE
            axis.fill_between(sizes, low, high, color=colour, alpha=0.15, linewidth=0)
            marker = "x" if model.verdict == "worse than the best" else "o"
            axis.plot(sizes, values, color=colour, linewidth=1.5, marker=marker, markersize=6, markevery=[-1])
        axis.set(
            xscale="log", xlabel="images per model (log scale)", ylabel=f"{_short_label(race.label)}, bias-corrected"
        )
        axis.minorticks_off()
        sizes = [look.n_images for look in race.looks]
        ticks = sorted({sizes[round(i)] for i in np.linspace(0, len(sizes) - 1, min(_MAX_TICKS, len(sizes)))})
        axis.set_xticks(ticks, [f"{size:,}" for size in ticks])
        axis.set_xlim(ticks[0] / 1.1, 1.1 * ticks[-1] * (ticks[-1] / ticks[0]) ** 0.25)  # room for the names
        _label_lines(figure, axis, race)
        described = (
            f"Intervals of {len(race.models)} models at {len(race.looks)} looks; the results are in the table below"
        )
        return _export(figure, described)


def _label_lines(figure: Figure, axis: Any, race: Race) -> None:
    """Write the name of each model next to the end of its line, at heights that differ by a line of text."""
    ends = {
        name: (look.n_images, value) for look in race.looks for name, value in look.values.items()
    }  # of the last look at each model
    figure.draw_without_rendering()
    points = 72 / figure.dpi
    highest = -np.inf
    for name, end in sorted(ends.items(), key=lambda each: each[1][1]):
        height = float(axis.transData.transform(end)[1]) * points
        highest = max(height, highest + _LABEL_POINTS)
        colour = _ORANGE if name == race.models[0].name else _BLUE
        style: Any = {"textcoords": "offset points", "va": "center", "fontsize": _LABEL_POINTS, "color": colour}
        axis.annotate(_tick_label(name), end, (6, highest - height), **style)


def _short_label(label: str) -> str:
    return _escape_mathtext(label.partition(" (")[0])


def _escape_mathtext(text: str) -> str:
    """Escape text for matplotlib, where a dollar sign starts a formula."""
    return escape_line(text).replace("$", r"\$")


def _tick_label(name: str) -> str:
    text = escape_line(name)
    return _escape_mathtext(text if len(text) <= 30 else f"{text[:29]}…")


def _export(figure: Figure, description: str) -> Plot:
    """Return the figure for a page and for papers; the description is its text alternative."""
    svg, pdf = io.StringIO(), io.BytesIO()
    with rc_context({"svg.hashsalt": description}):
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    figure.savefig(
        pdf, format="pdf", transparent=True, metadata={"CreationDate": None, "Creator": None, "Producer": None}
    )
    text = svg.getvalue()
    element = text[text.index("<svg") :]
    for colour, page_colour in _PAGE_COLOURS.items():
        element = element.replace(colour, page_colour)
    label = html.escape(escape_line(description), quote=True)
    return Plot(
        svg=element.replace("<svg", f'<svg role="img" aria-label="{label}"', 1),
        svg_url=_data_url("image/svg+xml", text.encode()),
        pdf_url=_data_url("application/pdf", pdf.getvalue()),
    )


def _data_url(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
