"""Figures for people, by matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951")
_INK, _FAINT = "#222222", "#8a8a8a"


def disturbance_figure(
    curves: Mapping[str, Sequence[float]],
    examples: Mapping[str, Sequence[np.ndarray]],
    strengths: Sequence[float],
    label: str,
) -> Figure:
    """One column for each disturbance: the same patches at rising strength above the curve of its distance.

    Args:
        curves: distance at each strength, by name of the disturbance.
        examples: (h, w, 3) uint8 at each strength, by name.
        strengths: 0..1, ascending.
        label: name of the distance.
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
        strip.set_title(name, fontsize=12, color=_INK, fontweight="bold")
        strip.axis("off")
        axis.plot(strengths, values, color=colour, linewidth=2.5, marker="o", markersize=6)
        axis.fill_between(strengths, values, color=colour, alpha=0.12, linewidth=0)
        for strength, value in zip(strengths, values, strict=True):
            axis.annotate(
                f"{value:.3g}",
                (strength, value),
                (0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=_INK,
            )
        axis.set(xlim=(-0.08, 1.12), ylim=(0, highest * 1.15), xticks=strengths)
        axis.set_xticklabels([f"{strength:.2g}" for strength in strengths])
        axis.tick_params(colors=_FAINT, labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(_FAINT)
    axes[0].set_ylabel(label, color=_INK)
    lower.supxlabel("strength of the disturbance", fontsize=10, color=_INK)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG."""
    figure.savefig(path, format="png", facecolor="white")
