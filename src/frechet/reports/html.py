"""One page for people that needs nothing but a browser: scores, curve, directions, images, provenance."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from frechet._internal.atomic_write import check_output, written_aside
from frechet._internal.remote_files import is_url, shown
from frechet._internal.terminal import one_line
from frechet.errors import RequestError
from frechet.evaluation.run import Measured, measure
from frechet.execution.collect import Progress
from frechet.execution.settings import Settings
from frechet.metrics import METRICS
from frechet.reports.comparison_formats import tables_of
from frechet.reports.diagnostics import SHARES, Findings, Point, findings_of
from frechet.reports.run_comparison import Comparison
from frechet.reports.text import warnings_of
from frechet.reports.thumbnails import Album
from frechet.results import Score, Scores
from frechet.statistics.feature_statistics import Statistics

_HERE = Path(__file__).parent


def require_packages() -> None:
    """Raises: RequestError: a package that draws the page is not installed."""
    for package in ("jinja2", "matplotlib"):
        if importlib.util.find_spec(package) is None:
            raise RequestError(f"a page needs {package}: pip install 'frechet[report]'")


def write_report(
    generated: Any,
    reference: Any,
    path: Path,
    *,
    force: bool = False,
    explain: int = 0,
    repeat: int = 1,
    progress: Progress | None = None,
    **wishes: Any,
) -> Scores:
    """Score as `frechet.score` does, and write a page about it.

    Args:
        generated, reference: as in `frechet.score`.
        path: of the page, ending in .html.
        force: whether a file of that name is replaced.
        explain: as in `frechet.score`; the page lists its own number.
        repeat: 1.
        progress: as in `frechet.score`.
        **wishes: the other arguments of `frechet.score`.

    Raises:
        RequestError: no reference, repeated runs, or a package that draws the page is missing; and as in `frechet.score`.
        OutputError: the page cannot be written there.
    """
    require_packages()
    check_output(path, suffix=".html", force=force)
    if reference is None:
        raise RequestError("a page shows what lies between two sides, and one is given; give reference images as well")
    if repeat != 1:
        raise RequestError(f"a page is about one run, and repeat is {repeat}; leave one of them out")
    options = {name: wishes.pop(name) for name in tuple(wishes) if name in _SETTINGS}
    settings = Settings(**options)
    measured = measure(generated, reference, settings, explain=explain, progress=progress, **wishes)
    command = _command(generated, reference, path, {**options, **wishes, "explain": explain})
    page = report_page(measured, settings, command, progress or (lambda *_: None))
    with written_aside(path, suffix=".html", force=force) as aside:
        aside.write_text(page, encoding="utf-8", errors="backslashreplace")  # names of files need not be Unicode
    return measured.scores


_SETTINGS = {field.name for field in fields(Settings)}
_DEFAULTS = {field.name: field.default for field in fields(Settings)} | {"interval": "auto", "explain": 0}


def _command(generated: Any, reference: Any, path: Path, wishes: Mapping[str, Any]) -> str:
    """The command line that does the same; what is no path or address is named by its kind."""
    words = ["frechet", "score", *(_named(side) for side in (generated, reference))]
    for name, value in wishes.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value not in (None, False, _DEFAULTS.get(name)):
            words += [flag, ",".join(map(str, value)) if isinstance(value, (list, tuple)) else _named(value)]
    return shlex.join([*words, "--report", path.name])


def _named(value: Any) -> str:
    if is_url(value):
        return shown(value)
    return str(value) if isinstance(value, (str, os.PathLike, int)) else f"<{type(value).__name__}>"


def report_page(measured: Measured, settings: Settings, command: str, progress: Progress) -> str:
    """The page about one run.

    Args:
        measured: scores of a reference and generated images or statistics.
        settings: with which they were measured.
        command: what computes the same again.
        progress: called with (what, done, in all).
    """
    from frechet.reports.plots import curve_svg, shares_svg  # matplotlib is an extra

    generated, reference = (measured.statistics[side] for side in ("generated", "reference"))
    scores = list(measured.scores.values())
    distance = next((score for score in scores if _is_of(score, generated)), None)
    sure = distance is not None and distance.interval_95 is not None
    known = (
        Point(generated.n, distance.value, distance.corrected_value, distance.interval_95)
        if distance and generated.n
        else None
    )
    found = findings_of(generated, reference, seed=settings.seed, intervals=sure, known=known, progress=progress)
    albums = {side: Album(s, measured.sources.get(side), settings) for side, s in measured.statistics.items()}
    _fill(albums, found)
    shares = [score for score in scores if score.metric.partition("@")[0] in SHARES]
    return _rendered(
        "report.html",
        title=scores[0].label,
        scores=[(score, meaning(score)) for score in scores],
        warnings=warnings_of(measured.scores),
        unavailable=measured.scores.unavailable,
        distance=distance,
        found=found,
        curve=curve_svg(found.curve, distance) if found.curve and distance else None,
        shares=[(score, SHARES[score.metric.partition("@")[0]][1].format(score.value)) for score in shares],
        shares_picture=shares_svg(shares) if shares else None,
        generated=albums["generated"],
        reference=albums["reference"],
        classes=_by_class(scores),
        provenance=json.dumps(measured.scores.to_dict(), indent=2, allow_nan=False, ensure_ascii=False),
        command=command,
    )


def _is_of(score: Score, side: Statistics) -> bool:
    """Whether it is the distance that the curve is of: neither that of another layer nor one that is extrapolated."""
    row = METRICS[score.metric.partition("@")[0]]
    return row.interval is not None and row.layer in ("features", side.recipe.layer)


def comparison_page(comparisons: Sequence[Comparison]) -> str:
    """The page about many runs."""
    require_packages()
    from frechet.reports.plots import runs_svg

    tables = tables_of(comparisons)
    return _rendered(
        "comparison.html",
        title="Runs side by side",
        found=[(table, runs_svg(one), one.corrected) for table, one in zip(tables, comparisons, strict=True)],
    )


def meaning(score: Score) -> str:
    """A score in a sentence or two."""
    sizes = f"{_count(score.n_generated)} generated" + (
        f" and {_count(score.n_reference)} reference images" if score.compares else " images"
    )
    told = f"{score.value:.4g} with {sizes}"
    if score.interval_95 is None or score.corrected_value is None:
        return f"{told}. How far that is from the truth is not known: {score.interval_reason}."
    low, high = score.interval_95
    told += (
        f"; without the bias of few images it is {score.corrected_value:.4g}, and the distance between what both sides were "
        f"drawn from lies between {low:.4g} and {high:.4g} (95 %)."
    )
    if score.p_equal is not None and score.p_equal > 0.05:
        told += " These images do not tell the two apart."
    return told


def _fill(albums: dict[str, Album], found: Findings) -> None:
    """Decode every picture that the page shows, once."""
    generated, reference = set(), set()
    for one in (*found.raising, *found.lowering):
        generated.add(one.row)
        reference |= {neighbour.row for neighbour in one.nearest}
    for row, neighbour in found.lonely:
        reference.add(row)
        generated.add(neighbour.row)
    for direction in found.directions:
        generated |= {row for end in direction.generated for row in end}
        reference |= {row for end in direction.reference for row in end}
    albums["generated"].fill(sorted(generated))
    albums["reference"].fill(sorted(reference))


def _by_class(scores: Sequence[Score]) -> list[tuple[str, list[float | None]]]:
    """(class, its value by each score)."""
    names = sorted({name for score in scores for name in score.per_class})
    return [(name, [score.per_class.get(name) for score in scores]) for name in names]


def _rendered(template: str, **context: Any) -> str:
    """Everything that is no `Markup` is escaped, and the page runs no script but its own."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"line": one_line, "safe_svg": Markup, "count": _count, "signed": "{:+.3g}".format}
    script = (_HERE / "templates" / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    style = (_HERE / "templates" / "page.css").read_text(encoding="utf-8")
    page = environment.get_template(template)
    return page.render(script=Markup(script), script_digest=digest, style=Markup(style), **context)  # noqa: S704, our own files


def _count(n: int | None) -> str:
    return "an unknown number of" if n is None else f"{n:,}"
