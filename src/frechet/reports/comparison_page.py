"""The page that compares runs: what `templates/comparison.html` shows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from frechet.reports.comparison_formats import build_tables
from frechet.reports.page_template import render_template, require_packages, typeset_minus
from frechet.reports.run_comparison import RunComparison
from frechet.reports.tables import Table

_DIFFERENCE = "Difference to the best run"
_HEADINGS = {  # position in the table: (heading of a group of columns, heading of the column)
    0: ("", "Run"),
    1: ("", "Images"),
    2: ("Score", "Value"),
    3: ("Score", "Bias-corrected"),
    4: ("Score", "95 % CI"),
    5: (_DIFFERENCE, "Difference"),
    6: (_DIFFERENCE, "95 % CI"),
    7: (_DIFFERENCE, "Adjusted p"),
    8: ("", "Verdict"),
    9: ("", "Letters"),
}
_EMPTY_CELLS = ("", "-")


@dataclass(frozen=True, kw_only=True)
class PageTable:
    """A table with two header rows.

    Attributes:
        groups: (heading of a group, position of its first column, headings of its columns); the heading is empty for a column
            that belongs to no group.
        rows: cells; the first is the name of the run.
        notes: sentences below the table.
    """

    groups: Sequence[tuple[str, int, Sequence[str]]]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]


def render_comparison_page(comparisons: Sequence[RunComparison]) -> str:
    """Render the page that compares runs, with one table and plot per metric."""
    require_packages()
    from frechet.reports.plots import plot_runs  # imports matplotlib, an optional dependency

    tables = zip(comparisons, build_tables(comparisons), strict=True)
    what = comparisons[0].label.partition(" (")[0] if len(comparisons) == 1 else "Scores"
    n_runs = len(comparisons[0].rows)
    references = list(dict.fromkeys(each.reference for each in comparisons if each.reference))
    against = f" vs {references[0]}" if len(references) == 1 else ""
    return render_template(
        "comparison.html",
        title=f"{what} of {n_runs} runs{against}, {dt.datetime.now(dt.timezone.utc):%Y-%m-%d}",
        comparisons=[
            (
                each.label,
                build_page_table(table),
                plot_runs(each),
                any(row.interval_95 for row in each.rows),
                any(row.verdict for row in each.rows),
            )
            for each, table in tables
        ],
    )


def build_page_table(table: Table) -> PageTable:
    """Drop the columns without any number, and put the remaining ones into groups."""
    kept = [i for i in range(len(table.header)) if any(row[i] not in _EMPTY_CELLS for row in table.rows)]
    headings = [(_HEADINGS[column][0] or str(column), position, column) for position, column in enumerate(kept)]
    groups = []
    for _, members in groupby(headings, key=lambda each: each[0]):
        columns = list(members)
        names = [_HEADINGS[column][1] for _, _, column in columns]
        groups.append((_HEADINGS[columns[0][2]][0], columns[0][1], names))
    return PageTable(
        groups=groups,
        rows=[[row[0], *(typeset_minus(row[i]) if i < 8 else row[i] for i in kept[1:])] for row in table.rows],
        notes=table.notes,
    )
