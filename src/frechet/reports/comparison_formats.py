"""A comparison of runs as tables for people and as records for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from frechet.reports.run_comparison import ComparisonRow, RunComparison
from frechet.reports.tables import Table, format_csv, format_latex, format_markdown, format_text

_HEADER = ("run", "images", "value", "corrected", "95 %", "to the best", "95 %", "p", "verdict", "alike")
_LEGEND = (
    "corrected: without the bias of few images. p: that a run equals the best, adjusted for all pairs of runs (Holm). "
    "Runs that share a letter are not told apart."
)


def build_tables(comparisons: Sequence[RunComparison]) -> list[Table]:
    """One table a metric, numbers cut to what their errors let mean something."""
    return [
        Table(
            title=comparison.label,
            header=_HEADER,
            rows=[_format_row(row) for row in comparison.rows],
            notes=[
                *([_LEGEND] if any(row.adjusted_p_value is not None for row in comparison.rows) else []),
                *comparison.notes,
            ],
        )
        for comparison in comparisons
    ]


def build_records(comparisons: Sequence[RunComparison]) -> Iterator[dict[str, Any]]:
    """One record for each run and metric, intervals as two numbers."""
    for comparison in comparisons:
        for row in comparison.rows:
            record = {"metric": comparison.metric, "label": comparison.label, **asdict(row)}
            for name in ("interval_95", "difference_95"):
                low, high = record.pop(name) or (None, None)
                record |= {f"{name}_low": low, f"{name}_high": high}
            yield record


def format_json(comparisons: Sequence[RunComparison]) -> str:
    """{metric: comparison}."""
    return json.dumps({comparison.metric: asdict(comparison) for comparison in comparisons}, indent=2, allow_nan=False)


FORMATTERS: dict[str, Callable[[Sequence[RunComparison]], str]] = {
    "text": lambda comparisons: format_text(build_tables(comparisons)),
    "markdown": lambda comparisons: format_markdown(build_tables(comparisons)),
    "latex": lambda comparisons: format_latex(build_tables(comparisons)),
    "csv": lambda comparisons: format_csv(list(build_records(comparisons))),
    "json": format_json,
}


def _format_row(row: ComparisonRow) -> list[str]:
    if row.value is None:
        return [row.run, *["-"] * (len(_HEADER) - 1)]
    error = row.standard_error
    margin = None if row.difference_95 is None else (row.difference_95[1] - row.difference_95[0]) / 4
    return [
        row.run,
        "unknown" if row.n_generated is None else f"{row.n_generated:,}",
        _format_value(row.value, error),
        _format_value(row.corrected_value, error),
        _format_interval(row.interval_95, error),
        "" if not row.difference else f"{_format_value(row.difference, margin)}",
        _format_interval(row.difference_95, margin),
        ""
        if row.adjusted_p_value is None
        else "< 0.001"
        if row.adjusted_p_value < 0.001
        else f"{row.adjusted_p_value:.3f}",
        row.verdict or "",
        row.letters,
    ]


def _format_interval(interval: tuple[float, float] | None, error: float | None) -> str:
    return "" if interval is None else f"{_format_value(interval[0], error)} to {_format_value(interval[1], error)}"


def _format_value(value: float | None, error: float | None) -> str:
    """To two figures of the standard error."""
    if value is None:
        return ""
    if not error:
        return f"{value:.6g}"
    return f"{value:.{max(0, 1 - math.floor(math.log10(error)))}f}"
