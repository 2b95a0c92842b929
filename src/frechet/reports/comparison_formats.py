"""A comparison of runs as tables for people and as records for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from frechet.reports.run_comparison import Comparison, Row
from frechet.reports.tables import Table, comma_separated, latex, markdown, terminal

_HEAD = ("run", "images", "value", "corrected", "95 %", "to the best", "95 %", "p", "verdict", "alike")
_LEGEND = (
    "corrected: without the bias of few images. p: that a run equals the best, adjusted for all pairs of runs (Holm). "
    "Runs that share a letter are not told apart."
)


def tables_of(comparisons: Sequence[Comparison]) -> list[Table]:
    """One table a metric, numbers cut to what their errors let mean something."""
    return [
        Table(
            title=found.label,
            head=_HEAD,
            rows=[_cells(row) for row in found.rows],
            notes=[*([_LEGEND] if any(row.p is not None for row in found.rows) else []), *found.notes],
        )
        for found in comparisons
    ]


def records_of(comparisons: Sequence[Comparison]) -> Iterator[dict[str, Any]]:
    """One record for each run and metric, intervals as two numbers."""
    for found in comparisons:
        for row in found.rows:
            record = {"metric": found.metric, "label": found.label, **asdict(row)}
            for name in ("interval_95", "difference_95"):
                low, high = record.pop(name) or (None, None)
                record |= {f"{name}_low": low, f"{name}_high": high}
            yield record


def as_json(comparisons: Sequence[Comparison]) -> str:
    """{metric: comparison}."""
    return json.dumps({found.metric: asdict(found) for found in comparisons}, indent=2, allow_nan=False)


WRITTEN: dict[str, Callable[[Sequence[Comparison]], str]] = {
    "text": lambda found: terminal(tables_of(found)),
    "markdown": lambda found: markdown(tables_of(found)),
    "latex": lambda found: latex(tables_of(found)),
    "csv": lambda found: comma_separated(list(records_of(found))),
    "json": as_json,
}


def _cells(row: Row) -> list[str]:
    if row.value is None:
        return [row.run, *["-"] * (len(_HEAD) - 1)]
    error = row.standard_error
    margin = None if row.difference_95 is None else (row.difference_95[1] - row.difference_95[0]) / 4
    return [
        row.run,
        "unknown" if row.n_generated is None else f"{row.n_generated:,}",
        _cut(row.value, error),
        _cut(row.corrected_value, error),
        _range(row.interval_95, error),
        "" if not row.difference else f"{_cut(row.difference, margin)}",
        _range(row.difference_95, margin),
        "" if row.p is None else "< 0.001" if row.p < 0.001 else f"{row.p:.3f}",
        row.verdict or "",
        row.letters,
    ]


def _range(ends: tuple[float, float] | None, error: float | None) -> str:
    return "" if ends is None else f"{_cut(ends[0], error)} to {_cut(ends[1], error)}"


def _cut(value: float | None, error: float | None) -> str:
    """To two figures of the standard error."""
    if value is None:
        return ""
    if not error:
        return f"{value:.6g}"
    return f"{value:.{max(0, 1 - math.floor(math.log10(error)))}f}"
