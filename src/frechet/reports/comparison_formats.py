"""Format a comparison of runs as text, Markdown, LaTeX, CSV or JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from frechet.reports.run_comparison import ComparisonRow, RunComparison
from frechet.reports.tables import Table, format_csv, format_latex, format_markdown, format_text
from frechet.reports.text import format_number
from frechet.results import JSON_SCHEMA

_HEADER = (
    "run",
    "images",
    "value",
    "bias-corrected",
    "95 % CI",
    "difference to best",
    "95 % CI of difference",
    "adjusted p",
    "verdict",
    "letters",
)
_LEGEND = (
    "The adjusted p is the p-value for equality with the best run, adjusted for all pairs of runs (Holm). "
    "Runs that share a letter do not differ significantly (compact letter display)."
)


def build_tables(comparisons: Sequence[RunComparison]) -> list[Table]:
    """Build one table per metric, with values rounded to two digits of their standard error."""
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
    """Yield one flat record per run and metric, with intervals as separate `_low` and `_high` columns."""
    for comparison in comparisons:
        for row in comparison.rows:
            record = {"metric": comparison.metric, "label": comparison.label, **asdict(row)}
            for name in ("interval_95", "difference_95"):
                low, high = record.pop(name) or (None, None)
                record |= {f"{name}_low": low, f"{name}_high": high}
            yield record


def format_json(comparisons: Sequence[RunComparison]) -> str:
    """Return {"schema": 2, "metrics": {metric: fields of `RunComparison`}} as JSON without NaN or infinity."""
    metrics = {comparison.metric: asdict(comparison) for comparison in comparisons}
    return json.dumps({"schema": JSON_SCHEMA, "metrics": metrics}, indent=2, allow_nan=False)


FORMATTERS: dict[str, Callable[[Sequence[RunComparison]], str]] = {
    "text": lambda comparisons: format_text(_build_printed_tables(comparisons)),
    "markdown": lambda comparisons: format_markdown(_build_printed_tables(comparisons)),
    "latex": lambda comparisons: format_latex(_build_printed_tables(comparisons)),
    "csv": lambda comparisons: format_csv(list(build_records(comparisons))),
    "json": format_json,
}


def _build_printed_tables(comparisons: Sequence[RunComparison]) -> list[Table]:
    return [table.drop_empty_columns() for table in build_tables(comparisons)]


def _format_row(row: ComparisonRow) -> list[str]:
    if row.value is None:
        return [row.run, *["-"] * (len(_HEADER) - 1)]
    error = row.standard_error
    # A quarter of the 95 % interval: about the standard error of the difference.
    margin = None if row.difference_95 is None else (row.difference_95[1] - row.difference_95[0]) / 4
    return [
        row.run,
        "unknown" if row.n_generated is None else f"{row.n_generated:,}",
        round_to_error(row.value, error),
        round_to_error(row.corrected_value, error),
        _format_interval(row.interval_95, error),
        round_to_error(row.difference or None, margin),
        _format_interval(row.difference_95, margin),
        _format_p_value(row.adjusted_p_value),
        row.verdict or "",
        row.compact_letters,
    ]


def _format_p_value(p_value: float | None) -> str:
    if p_value is None:
        return ""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _format_interval(interval: tuple[float, float] | None, error: float | None) -> str:
    return "" if interval is None else f"{round_to_error(interval[0], error)} to {round_to_error(interval[1], error)}"


def round_to_error(value: float | None, error: float | None) -> str:
    """Round to two digits of the standard error, or as `frechet score` does if it is unknown."""
    if value is None:
        return ""
    if not error:
        return format_number(value)
    return f"{value:.{max(0, 1 - math.floor(math.log10(error)))}f}"
