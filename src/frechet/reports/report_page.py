"""The page about one run: what `templates/report.html` shows."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from frechet._internal.remote_files import is_url, redact_url
from frechet.evaluation.plan import is_pair_metric
from frechet.evaluation.request import ScoreRequest
from frechet.evaluation.run import Evaluation
from frechet.metrics import METRICS, has_small_sample_bias
from frechet.reports.diagnostics import NEIGHBOURHOOD_METRICS, CurvePoint, Diagnostics, compute_diagnostics
from frechet.reports.page_template import format_count, render_template
from frechet.reports.protocol_facts import iter_protocol_facts
from frechet.reports.score_table import build_score_rows, describe_scores
from frechet.reports.text import collect_warnings
from frechet.reports.thumbnails import ThumbnailCache, describe_missing_images, find_shown_rows, open_shown_images
from frechet.reports.worst_pairs import DIFFERENCE_GAIN, show_worst_pairs
from frechet.results import Score, Scores
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.group_moments import MIN_IMAGES_PER_DIM


def render_report_page(evaluation: Evaluation, request: ScoreRequest, command: str) -> str:
    """Render the report of one run.

    Args:
        evaluation: scores and statistics of generated and reference images.
        request: what was scored.
        command: the command line that computes the same scores.
    """
    from frechet.reports.plots import plot_curve, plot_prdc  # imports matplotlib, an optional dependency

    scores = list(evaluation.scores.values())
    sources = open_shown_images(evaluation, request)
    distance = next((s for s in scores if _is_curve_metric(s, evaluation.statistics["generated"])), None)
    diagnostics = _diagnose(evaluation, distance, request, find_shown_rows(evaluation.statistics["reference"], sources))
    thumbnails = _load_thumbnails(evaluation, sources, request, diagnostics)
    prdc = [(score, row) for score in scores if (row := NEIGHBOURHOOD_METRICS.get(score.metric.partition("@")[0]))]
    classes = _tabulate_classes(scores, diagnostics)
    worst_pairs = show_worst_pairs(scores, sources, request)
    few_images = None if diagnostics.has_enough_images else _explain_few_images(evaluation, diagnostics)
    warnings = [*collect_warnings(evaluation.scores), *diagnostics.notes]
    show_curve = bool(diagnostics.curve and distance)
    sections = {
        "scores": ("Scores", True),
        "few-images": ("Sample size", few_images is not None),
        "sample-size": ("Distance vs. sample size", show_curve),
        "fidelity": ("Fidelity and diversity", bool(prdc)),
        "decomposition": ("Decomposition", distance is not None and few_images is None),
        "influential": ("Influential images", bool(diagnostics.raising or diagnostics.lowering)),
        "nearest": ("Nearest references", bool(diagnostics.neighbours.near)),
        "uncovered": ("Uncovered reference images", bool(diagnostics.neighbours.uncovered)),
        "pairs": ("Worst pairs", bool(worst_pairs)),
        "classes": ("Per class", bool(classes.rows)),
        "warnings": ("Warnings", bool(warnings)),
        "provenance": ("Provenance", True),
    }
    names = [
        _name_input(request.generated, evaluation, "generated"),
        _name_input(request.reference, evaluation, "reference"),
    ]
    return render_template(
        "report.html",
        title=f"{scores[0].label.partition(' (')[0]} of {names[0]} vs {names[1]}",
        facts=_list_facts(evaluation, names),
        sections={key: title for key, (title, is_present) in sections.items() if is_present},
        scores=build_score_rows(scores),
        explanations=describe_scores(scores),
        unavailable=evaluation.scores.unavailable,
        protocol=list(iter_protocol_facts(evaluation.scores)),
        warnings=warnings,
        few_images=few_images,
        distance=distance,
        diagnostics=diagnostics,
        curve=plot_curve(diagnostics.curve, distance) if show_curve and distance else None,
        prdc=[(score, row.sentence.format(score.value).replace("%", " %")) for score, row in prdc],
        prdc_plot=plot_prdc([score for score, _ in prdc]) if prdc else None,
        missing_images=describe_missing_images(evaluation.statistics["reference"], sources),
        generated=thumbnails["generated"],
        reference=thumbnails["reference"],
        worst_pairs=worst_pairs,
        difference_gain=DIFFERENCE_GAIN,
        classes=classes,
        provenance=json.dumps(evaluation.scores.to_dict(), indent=2, allow_nan=False, ensure_ascii=False),
        command=command,
    )


def _name_input(data: object, evaluation: Evaluation, name: str) -> str:
    """Return a short name of an input for the title."""
    if is_url(data):
        return PurePosixPath(redact_url(str(data)).partition("?")[0]).name
    if isinstance(data, (str, os.PathLike)):
        return Path(os.path.normpath(data)).name
    return evaluation.statistics[name].label


def _list_facts(evaluation: Evaluation, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return (name, text) of what was compared, and how."""
    provenance, statistics = _get_shown_provenance(evaluation.scores), evaluation.statistics
    sides = [
        (side.capitalize(), f"{name}, {format_count(statistics[side].n)} images")
        for side, name in zip(("generated", "reference"), names, strict=True)
    ]
    extractor = provenance.get("extractor")
    layer = f", layer {provenance['layer']}" if provenance.get("layer") else ""
    others = _list_other_extractors(evaluation.scores)
    crops = {side: (provenance.get(side) or {}).get("crop") for side in ("generated", "reference")}
    facts = {
        "Extractor": f"{extractor}{layer}" if extractor else None,
        "Other extractors": f"{', '.join(others)} (scores only)" if others else None,
        "Preprocessing": provenance.get("preprocessing"),
        "Crop": ", ".join(f"{crop or 'none'} ({side})" for side, crop in crops.items())
        if any(crops.values())
        else None,
        "Protocol": evaluation.scores.protocol.label if evaluation.scores.protocol else None,
        "Date": dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%d"),
        "Version": f"frechet {provenance.get('frechet')}",
    }
    return [*sides, *((name, str(text)) for name, text in facts.items() if text)]


def _get_shown_provenance(scores: Scores) -> Mapping[str, Any]:
    """Return the provenance of the first score of features, which the sections below the scores describe."""
    return next((each.provenance for each in scores.values() if not is_pair_metric(each.metric)), scores.provenance)


def _list_other_extractors(scores: Scores) -> list[str]:
    """Return the extractors of features that only the scores use."""
    names = [str(each.provenance.get("extractor")) for each in scores.values() if not is_pair_metric(each.metric)]
    return [name for name in dict.fromkeys(names) if name != names[0]]


def _explain_few_images(evaluation: Evaluation, diagnostics: Diagnostics) -> str:
    statistics = evaluation.statistics
    dims = statistics["generated"].dims
    counts = " and ".join(f"{format_count(statistics[side].n)} {side}" for side in ("generated", "reference"))
    shown = "Only the images are shown, as requested." if diagnostics.raising else "They are omitted."
    return (
        f"This run has {counts} images for {dims:,} feature dimensions. With {dims:,} or fewer images, a covariance is "
        "singular, and small-sample bias dominates the Fréchet distance. The plot of the distance against the sample size, the "
        f"decomposition into mean and covariance terms, and the influential images are unreliable then. {shown} "
        f"A confidence interval of the Fréchet distance requires at least {int(MIN_IMAGES_PER_DIM * dims):,} images per input."
    )


def _is_curve_metric(score: Score, generated: FeatureStatistics) -> bool:
    """Return whether the curve shows this score: not one of another extractor or layer, and not extrapolated."""
    row = METRICS[score.metric.partition("@")[0]]
    is_of_shown_extractor = generated.spec.extractor in (None, score.provenance.get("extractor"))
    return is_of_shown_extractor and row.interval is not None and row.layer in ("features", generated.spec.layer)


def _diagnose(
    evaluation: Evaluation, distance: Score | None, request: ScoreRequest, shown_rows: np.ndarray | None
) -> Diagnostics:
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
        shown_reference_rows=shown_rows,
        influence_is_requested=request.explain > 0,
        progress=request.progress or (lambda *_: None),
    )


def _load_thumbnails(
    evaluation: Evaluation, sources: dict[str, Any], request: ScoreRequest, diagnostics: Diagnostics
) -> dict[str, ThumbnailCache]:
    """Decode every image that the page shows, once."""
    rows = list(_iter_shown_rows(diagnostics))
    thumbnails = {}
    for name, statistics in evaluation.statistics.items():
        thumbnails[name] = ThumbnailCache(statistics, sources.get(name), request.settings)
        thumbnails[name].load(sorted({row for input_name, row in rows if input_name == name}))
    return thumbnails


def _iter_shown_rows(diagnostics: Diagnostics) -> Iterator[tuple[str, int]]:
    for image in (*diagnostics.raising, *diagnostics.lowering):
        yield "generated", image.row
    for near in diagnostics.neighbours.near:
        yield "generated", near.row
        yield from (("reference", neighbour.row) for neighbour in near.nearest)
    for row, neighbour in diagnostics.neighbours.uncovered:
        yield "reference", row
        yield "generated", neighbour.row
    for direction in diagnostics.directions:
        yield from (("generated", row) for end in direction.generated for row in end)
        yield from (("reference", row) for end in direction.reference for row in end)


@dataclass(frozen=True, kw_only=True)
class ClassTable:
    """Values per class.

    Attributes:
        header: labels of the scores.
        rows: (class, its value by each score; None if it has none).
    """

    header: Sequence[str]
    rows: Sequence[tuple[str, Sequence[float | None]]]


def _tabulate_classes(scores: Sequence[Score], diagnostics: Diagnostics) -> ClassTable:
    """Return the values of each class; without distances if even all classes together have too few images for them."""
    shown = [
        score
        for score in scores
        if score.per_class
        and (diagnostics.has_enough_images or not has_small_sample_bias(METRICS[score.metric.partition("@")[0]]))
    ]
    names = sorted({name for score in shown for name in score.per_class})
    return ClassTable(
        header=[score.label for score in shown],
        rows=[(name, [score.per_class.get(name) for score in shown]) for name in names],
    )
