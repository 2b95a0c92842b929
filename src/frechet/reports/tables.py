"""A table of text and numbers as a terminal, Markdown, LaTeX and spreadsheets want it; everything in it is escaped."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from frechet._internal.terminal import escape_line


@dataclass(frozen=True, kw_only=True)
class Table:
    """Text only, not yet escaped.

    Attributes:
        title: above it.
        head: names of the columns.
        rows: their cells; the first of each is a name, all others are made by us.
        notes: sentences below it.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def format_text(tables: Sequence[Table]) -> str:
    """Columns in line, names to the left, all else to the right."""
    return "\n\n".join("\n".join(_align_columns(table)) for table in tables)


def format_markdown(tables: Sequence[Table]) -> str:
    """Tables of GitHub's and most other Markdown."""

    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(_escape_markdown, cells)) + " |"

    def format_table(table: Table) -> str:
        rule = "|---|" + "---:|" * (len(table.header) - 1)
        notes = "".join(f"\n\n{_escape_markdown(note)}" for note in table.notes)
        return (
            "\n".join([f"**{_escape_markdown(table.title)}**", "", row(table.header), rule, *map(row, table.rows)])
            + notes
        )

    return "\n\n".join(map(format_table, tables))


def format_latex(tables: Sequence[Table]) -> str:
    """`tabular`s with the rules of booktabs."""

    def row(cells: Sequence[str]) -> str:
        return (
            "  "
            + " & ".join(
                [_escape_latex(cells[0]), *(_MINUS_SIGN.sub("$-$", _escape_latex(cell)) for cell in cells[1:])]
            )
            + r" \\"
        )

    def format_table(table: Table) -> str:
        columns = "l" + "r" * (len(table.header) - 1)
        comments = [f"% {escape_line(text)}" for text in (table.title, *table.notes)]
        body = [r"  \toprule", row(table.header), r"  \midrule", *map(row, table.rows), r"  \bottomrule"]
        return "\n".join([*comments, rf"\begin{{tabular}}{{{columns}}}", *body, r"\end{tabular}"])

    return "\n\n".join(map(format_table, tables))


def format_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """Records of like keys; numbers stay whole, and text that a spreadsheet would run becomes text.

    A formula starts with = + - @ (OWASP, CSV injection), and an apostrophe before it makes it text; tabs and line ends are
    made visible.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(records[0])
    writer.writerows([_escape_formula(value) for value in record.values()] for record in records)
    return out.getvalue().rstrip("\n")


def _align_columns(table: Table) -> list[str]:
    from rich.cells import cell_len  # knows how wide a character is

    lines = [[escape_line(cell) for cell in row] for row in (table.header, *table.rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]

    def pad_row(row: Sequence[str]) -> str:
        gaps = [" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = [row[0] + gaps[0], *(gap + cell for gap, cell in zip(gaps[1:], row[1:], strict=True))]
        return "  ".join(cells).rstrip()

    return [
        escape_line(table.title),
        *(f"  {pad_row(row)}" for row in lines),
        *(f"  {escape_line(n)}" for n in table.notes),
    ]


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]#!|<>~&$@])", r"\\\1", escape_line(text))


_LATEX_ESCAPES = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "∞": r"$\infty$",
}
_MINUS_SIGN = re.compile(r"(?<![\w.])-(?=\d)")


def _escape_latex(text: str) -> str:
    return "".join(_LATEX_ESCAPES.get(character, character) for character in escape_line(text))


def _escape_formula(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = escape_line(value)
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") else text
