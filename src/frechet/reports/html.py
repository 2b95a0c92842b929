"""Write a self-contained HTML report: scores, diagnostics, images and provenance."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from frechet._internal.atomic_write import atomic_write, check_output_path
from frechet._internal.fields import option_fields
from frechet._internal.remote_files import is_url, redact_url
from frechet._internal.terminal import escape_line
from frechet.distances.interval import SIGNIFICANCE_LEVEL
from frechet.errors import RequestError
from frechet.evaluation.aggregate import split_by_extractor
from frechet.evaluation.protocol_run import prepare_protocol
from frechet.evaluation.request import ScoreRequest
from frechet.evaluation.run import Evaluation, evaluate
from frechet.execution.settings import Settings
from frechet.metrics import METRICS
from frechet.reports.comparison_formats import build_tables
from frechet.reports.diagnostics import NEIGHBOURHOOD_METRICS, CurvePoint, Diagnostics, compute_diagnostics
from frechet.reports.protocol_facts import iter_protocol_facts
from frechet.reports.run_comparison import RunComparison
from frechet.reports.text import collect_warnings
from frechet.reports.thumbnails import ThumbnailCache
from frechet.results import ESTIMANDS, Score
from frechet.statistics.feature_statistics import FeatureStatistics

_TEMPLATES = Path(__file__).parent / "templates"


def require_packages() -> None:
    """Check that the packages that render a report are installed.

    Raises:
        RequestError: a package is missing.
    """
    for package in ("jinja2", "matplotlib"):
        if importlib.util.find_spec(package) is None:
            raise RequestError(f"an HTML report needs {package}. To fix this, run: pip install 'frechet[report]'")


def evaluate_for_report(request: ScoreRequest, path: Path, *, force: bool = False) -> Evaluation:
    """Compute the scores of a request, after checking that a page about them can be written.

    Args:
        request: what to score. It needs a reference; it may neither be repeated nor use several extractors.
        path: the page to write, ending in .html.
        force: whether an existing file is overwritten.

    Returns:
        The scores, and the statistics with the features of every image if they are available.

    Raises:
        RequestError: the request has no reference or is repeated, or a package that draws the page is missing.
        OutputError: the page cannot be written to `path`.
    """
    require_packages()
    check_output_path(path, suffix=".html", force=force)
    if request.reference is None and request.protocol is None:
        raise RequestError(
            "a report compares generated images with a reference, and no reference is given; pass reference images"
        )
    if request.repeat != 1:
        raise RequestError(
            f"a report describes a single run, but repeat is {request.repeat}; leave out the report or --repeat"
        )
    if request.protocol is not None:
        return _evaluate_protocol(request)
    single = split_by_extractor(request)
    return evaluate(single[0] if len(single) == 1 else request, keep_features=True)


def _evaluate_protocol(request: ScoreRequest) -> Evaluation:
    protocol_run = prepare_protocol(request)
    if len(protocol_run.requests) > 1:
        raise RequestError(
            f"a report describes one extractor, and protocol {protocol_run.name} has {len(protocol_run.requests)}; leave out the "
            "report"
        )
    evaluation = evaluate(protocol_run.requests[0], keep_features=True)
    return evaluation._replace(scores=protocol_run.finish(evaluation.scores))


def write_report(evaluation: Evaluation, request: ScoreRequest, path: Path, *, force: bool = False) -> None:
    """Write an HTML page about the scores of a request.

    Args:
        evaluation: what `evaluate_for_report` returned.
        request: what was scored.
        path: the page to write, ending in .html.
        force: whether an existing file is overwritten.

    Raises:
        OutputError, RunError: the page cannot be written to `path`.
    """
    page = render_report_page(evaluation, request, _format_command(request, path))
    with atomic_write(path, suffix=".html", force=force) as temporary_path:
        temporary_path.write_text(page, encoding="utf-8", errors="backslashreplace")  # file names need not be Unicode


def _format_command(request: ScoreRequest, path: Path) -> str:
    """Return the command line that computes the same; an input that is not a path or URL is shown by its type."""
    words = ["frechet", "score", _format_argument(request.generated)]
    words += [] if request.reference is None else [_format_argument(request.reference)]
    for each in option_fields(type(request)):
        value, flag = getattr(request, each.name), f"--{each.name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value not in (None, False, each.default) and (flag, value) != ("--engine", "local"):  # "auto", resolved
            words += [flag, ",".join(map(str, value)) if isinstance(value, (list, tuple)) else _format_argument(value)]
    return shlex.join([*words, "--report", path.name])


def _format_argument(value: object) -> str:
    if is_url(value):
        return redact_url(str(value))
    return str(value) if isinstance(value, (str, os.PathLike, int)) else f"<{type(value).__name__}>"


def render_report_page(evaluation: Evaluation, request: ScoreRequest, command: str) -> str:
    """Render the report of one run.

    Args:
        evaluation: scores and statistics of generated and reference images.
        request: what was scored.
        command: the command line that computes the same scores.
    """
    from frechet.reports.plots import render_curve, render_prdc  # imports matplotlib, an optional dependency

    scores = list(evaluation.scores.values())
    distance = next((s for s in scores if _is_curve_metric(s, evaluation.statistics["generated"])), None)
    diagnostics = _diagnose(evaluation, distance, request)
    thumbnails = _load_thumbnails(evaluation, request.settings, diagnostics)
    prdc = [(score, row) for score in scores if (row := NEIGHBOURHOOD_METRICS.get(score.metric.partition("@")[0]))]
    return render_template(
        "report.html",
        title=scores[0].label,
        scores=[(score, describe_score(score)) for score in scores],
        warnings=[*collect_warnings(evaluation.scores), *diagnostics.notes],
        unavailable=evaluation.scores.unavailable,
        protocol=list(iter_protocol_facts(evaluation.scores)),
        distance=distance,
        diagnostics=diagnostics,
        curve=render_curve(diagnostics.curve, distance) if diagnostics.curve and distance else None,
        prdc=[(score, row.sentence.format(score.value)) for score, row in prdc],
        prdc_plot=render_prdc([score for score, _ in prdc]) if prdc else None,
        generated=thumbnails["generated"],
        reference=thumbnails["reference"],
        classes=_tabulate_classes(scores),
        provenance=json.dumps(evaluation.scores.to_dict(), indent=2, allow_nan=False, ensure_ascii=False),
        command=command,
    )


def _is_curve_metric(score: Score, generated: FeatureStatistics) -> bool:
    """Return whether the curve shows this score: not one of another layer, and not an extrapolated one."""
    row = METRICS[score.metric.partition("@")[0]]
    return row.interval is not None and row.layer in ("features", generated.spec.layer)


def _diagnose(evaluation: Evaluation, distance: Score | None, request: ScoreRequest) -> Diagnostics:
    generated, reference = evaluation.statistics["generated"], evaluation.statistics["reference"]
    full_point = (
        CurvePoint(generated.n, distance.value, distance.corrected_value, distance.interval_95)
        if distance and generated.n
        else None
    )
    return compute_diagnostics(
        generated,
        reference,
        seed=request.seed,
        compute_intervals=distance is not None and distance.interval_95 is not None,
        reference_is=request.reference_is,
        full_point=full_point,
        progress=request.progress or (lambda *_: None),
    )


def render_comparison_page(comparisons: Sequence[RunComparison]) -> str:
    """Render the page that compares runs, with one table and plot per metric."""
    require_packages()
    from frechet.reports.plots import render_runs

    tables = build_tables(comparisons)
    return render_template(
        "comparison.html",
        title="Comparison of runs",
        comparisons=[
            (table, render_runs(comparison), comparison.has_corrected_values)
            for table, comparison in zip(tables, comparisons, strict=True)
        ],
    )


def describe_score(score: Score) -> str:
    """Describe a score in a few sentences: sample sizes, corrected value, confidence interval, significance."""
    sizes = f"{_format_count(score.n_generated)} generated" + (
        f" and {_format_count(score.n_reference)} reference images" if score.uses_reference else " images"
    )
    text = f"{score.value:.4g} with {sizes}."
    if score.interval_95 is None or score.corrected_value is None:
        return f"{text} No confidence interval: {score.interval_unavailable_reason}."
    low, high = score.interval_95
    estimand = ESTIMANDS.get(score.reference_is or "", "the population value")
    text += f" Bias-corrected: {score.corrected_value:.4g}; 95 % confidence interval {low:.4g} to {high:.4g} for {estimand}."
    if score.sampling_design not in (None, "independent"):
        text += f" Sampling design: {score.sampling_design}."
    if score.permutation_p_value is not None and score.permutation_p_value > SIGNIFICANCE_LEVEL:
        text += " With these sample sizes, the two sets are statistically indistinguishable."
    return text


def _load_thumbnails(evaluation: Evaluation, settings: Settings, diagnostics: Diagnostics) -> dict[str, ThumbnailCache]:
    """Decode every image that the page shows, once."""
    rows = list(_iter_shown_rows(diagnostics))
    thumbnails = {}
    for name, statistics in evaluation.statistics.items():
        thumbnails[name] = ThumbnailCache(statistics, evaluation.sources.get(name), settings)
        thumbnails[name].load(sorted({row for input_name, row in rows if input_name == name}))
    return thumbnails


def _iter_shown_rows(diagnostics: Diagnostics) -> Iterator[tuple[str, int]]:
    for image in (*diagnostics.raising, *diagnostics.lowering):
        yield "generated", image.row
        yield from (("reference", neighbour.row) for neighbour in image.nearest)
    for row, neighbour in diagnostics.uncovered:
        yield "reference", row
        yield "generated", neighbour.row
    for direction in diagnostics.directions:
        yield from (("generated", row) for end in direction.generated for row in end)
        yield from (("reference", row) for end in direction.reference for row in end)


def _tabulate_classes(scores: Sequence[Score]) -> list[tuple[str, list[float | None]]]:
    """Return (class, its value by each score)."""
    names = sorted({name for score in scores for name in score.per_class})
    return [(name, [score.per_class.get(name) for score in scores]) for name in names]


def render_template(template: str, **context: Any) -> str:
    """Render a template; everything except `Markup` is escaped, and the page executes only its own script."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"line": escape_line, "safe_svg": Markup, "count": _format_count, "signed": "{:+.3g}".format}
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    style = (_TEMPLATES / "page.css").read_text(encoding="utf-8")
    page = environment.get_template(template)
    return page.render(script=Markup(script), script_digest=digest, style=Markup(style), **context)  # noqa: S704, our own files


def _format_count(n: int | None) -> str:
    return "an unknown number of" if n is None else f"{n:,}"
