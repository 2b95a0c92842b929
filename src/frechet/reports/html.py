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

from frechet._internal.atomic_write import atomic_write, check_output_path
from frechet._internal.remote_files import is_url, redact_url
from frechet._internal.terminal import escape_line
from frechet.distances.interval import SIGNIFICANCE_LEVEL
from frechet.errors import RequestError
from frechet.evaluation.run import Evaluation, evaluate
from frechet.execution.collect import ProgressCallback
from frechet.execution.settings import Settings
from frechet.metrics import METRICS
from frechet.reports.comparison_formats import build_tables
from frechet.reports.diagnostics import NEIGHBOURHOOD_METRICS, CurvePoint, Diagnostics, compute_diagnostics
from frechet.reports.run_comparison import RunComparison
from frechet.reports.text import collect_warnings
from frechet.reports.thumbnails import ThumbnailCache
from frechet.results import Score, Scores
from frechet.statistics.feature_statistics import FeatureStatistics

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
    progress: ProgressCallback | None = None,
    **score_options: Any,
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
    check_output_path(path, suffix=".html", force=force)
    if reference is None:
        raise RequestError("a page shows what lies between two sides, and one is given; give reference images as well")
    if repeat != 1:
        raise RequestError(f"a page is about one run, and repeat is {repeat}; leave one of them out")
    options = {name: score_options.pop(name) for name in tuple(score_options) if name in _SETTINGS_FIELDS}
    settings = Settings(**options)
    evaluation = evaluate(generated, reference, settings, explain=explain, progress=progress, **score_options)
    command = _format_command(generated, reference, path, {**options, **score_options, "explain": explain})
    page = render_report_page(evaluation, settings, command, progress or (lambda *_: None))
    with atomic_write(path, suffix=".html", force=force) as temporary_path:
        temporary_path.write_text(
            page, encoding="utf-8", errors="backslashreplace"
        )  # names of files need not be Unicode
    return evaluation.scores


_SETTINGS_FIELDS = {field.name for field in fields(Settings)}
_DEFAULTS = {field.name: field.default for field in fields(Settings)} | {"interval": "auto", "explain": 0}


def _format_command(generated: Any, reference: Any, path: Path, score_options: Mapping[str, Any]) -> str:
    """The command line that does the same; what is no path or address is named by its kind."""
    words = ["frechet", "score", *(_format_argument(side) for side in (generated, reference))]
    for name, value in score_options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value not in (None, False, _DEFAULTS.get(name)):
            words += [flag, ",".join(map(str, value)) if isinstance(value, (list, tuple)) else _format_argument(value)]
    return shlex.join([*words, "--report", path.name])


def _format_argument(value: Any) -> str:
    if is_url(value):
        return redact_url(value)
    return str(value) if isinstance(value, (str, os.PathLike, int)) else f"<{type(value).__name__}>"


def render_report_page(evaluation: Evaluation, settings: Settings, command: str, progress: ProgressCallback) -> str:
    """The page about one run.

    Args:
        measured: scores of a reference and generated images or statistics.
        settings: with which they were measured.
        command: what computes the same again.
        progress: called with (what, done, in all).
    """
    from frechet.reports.plots import render_curve, render_prdc  # matplotlib is an extra

    generated, reference = (evaluation.statistics[side] for side in ("generated", "reference"))
    scores = list(evaluation.scores.values())
    distance = next((score for score in scores if _is_curve_metric(score, generated)), None)
    has_interval = distance is not None and distance.interval_95 is not None
    full_point = (
        CurvePoint(generated.n, distance.value, distance.corrected_value, distance.interval_95)
        if distance and generated.n
        else None
    )
    diagnostics = compute_diagnostics(
        generated,
        reference,
        seed=settings.seed,
        compute_intervals=has_interval,
        full_point=full_point,
        progress=progress,
    )
    thumbnails = {
        side: ThumbnailCache(s, evaluation.sources.get(side), settings) for side, s in evaluation.statistics.items()
    }
    _load_thumbnails(thumbnails, diagnostics)
    prdc = [score for score in scores if score.metric.partition("@")[0] in NEIGHBOURHOOD_METRICS]
    return _render_template(
        "report.html",
        title=scores[0].label,
        scores=[(score, describe_score(score)) for score in scores],
        warnings=collect_warnings(evaluation.scores),
        unavailable=evaluation.scores.unavailable,
        distance=distance,
        diagnostics=diagnostics,
        curve=render_curve(diagnostics.curve, distance) if diagnostics.curve and distance else None,
        prdc=[(score, NEIGHBOURHOOD_METRICS[score.metric.partition("@")[0]][1].format(score.value)) for score in prdc],
        prdc_plot=render_prdc(prdc) if prdc else None,
        generated=thumbnails["generated"],
        reference=thumbnails["reference"],
        classes=_tabulate_classes(scores),
        provenance=json.dumps(evaluation.scores.to_dict(), indent=2, allow_nan=False, ensure_ascii=False),
        command=command,
    )


def _is_curve_metric(score: Score, side: FeatureStatistics) -> bool:
    """Whether it is the distance that the curve is of: neither that of another layer nor one that is extrapolated."""
    row = METRICS[score.metric.partition("@")[0]]
    return row.interval is not None and row.layer in ("features", side.spec.layer)


def render_comparison_page(comparisons: Sequence[RunComparison]) -> str:
    """The page about many runs."""
    require_packages()
    from frechet.reports.plots import render_runs

    tables = build_tables(comparisons)
    return _render_template(
        "comparison.html",
        title="Runs side by side",
        comparisons=[(table, render_runs(one), one.corrected) for table, one in zip(tables, comparisons, strict=True)],
    )


def describe_score(score: Score) -> str:
    """A score in a sentence or two."""
    sizes = f"{_format_count(score.n_generated)} generated" + (
        f" and {_format_count(score.n_reference)} reference images" if score.uses_reference else " images"
    )
    sentence = f"{score.value:.4g} with {sizes}"
    if score.interval_95 is None or score.corrected_value is None:
        return f"{sentence}. How far that is from the truth is not known: {score.interval_unavailable_reason}."
    low, high = score.interval_95
    sentence += (
        f"; without the bias of few images it is {score.corrected_value:.4g}, and the distance between what both sides were "
        f"drawn from lies between {low:.4g} and {high:.4g} (95 %)."
    )
    if score.permutation_p_value is not None and score.permutation_p_value > SIGNIFICANCE_LEVEL:
        sentence += " These images do not tell the two apart."
    return sentence


def _load_thumbnails(thumbnails: dict[str, ThumbnailCache], diagnostics: Diagnostics) -> None:
    """Decode every picture that the page shows, once."""
    generated, reference = set(), set()
    for one in (*diagnostics.raising, *diagnostics.lowering):
        generated.add(one.row)
        reference |= {neighbour.row for neighbour in one.nearest}
    for row, neighbour in diagnostics.uncovered:
        reference.add(row)
        generated.add(neighbour.row)
    for direction in diagnostics.directions:
        generated |= {row for end in direction.generated for row in end}
        reference |= {row for end in direction.reference for row in end}
    thumbnails["generated"].load(sorted(generated))
    thumbnails["reference"].load(sorted(reference))


def _tabulate_classes(scores: Sequence[Score]) -> list[tuple[str, list[float | None]]]:
    """(class, its value by each score)."""
    names = sorted({name for score in scores for name in score.per_class})
    return [(name, [score.per_class.get(name) for score in scores]) for name in names]


def _render_template(template: str, **context: Any) -> str:
    """Everything that is no `Markup` is escaped, and the page runs no script but its own."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"line": escape_line, "safe_svg": Markup, "count": _format_count, "signed": "{:+.3g}".format}
    script = (_HERE / "templates" / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    style = (_HERE / "templates" / "page.css").read_text(encoding="utf-8")
    page = environment.get_template(template)
    return page.render(script=Markup(script), script_digest=digest, style=Markup(style), **context)  # noqa: S704, our own files


def _format_count(n: int | None) -> str:
    return "an unknown number of" if n is None else f"{n:,}"
