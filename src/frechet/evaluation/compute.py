"""The scores of a plan, computed from statistics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from frechet._internal.fields import name_option
from frechet.errors import RequestError, StatisticsError
from frechet.evaluation.influence import iter_influence_notes, list_influential_images
from frechet.evaluation.layers import LayerStatistics, as_layers
from frechet.evaluation.metric_layers import SharedMetricInputs
from frechet.evaluation.pair_checks import iter_sample_size_notes
from frechet.evaluation.plan import MetricPlan, MetricRequest, plan_request
from frechet.evaluation.provenance import build_provenance, iter_size_warnings, iter_warnings, resolve_spec
from frechet.evaluation.request import ScoreRequest
from frechet.evaluation.score_interval import compute_interval_fields
from frechet.execution.collect import ProgressCallback
from frechet.features.spec import FeatureSpec
from frechet.metrics import (
    MetricInputs,
    get_default_metric,
    has_small_sample_bias,
    make_label,
)
from frechet.metrics.frechet import compute_frechet, compute_rfid
from frechet.results import Score, Scores
from frechet.statistics.feature_statistics import FeatureStatistics


def score_statistics(
    generated: FeatureStatistics | LayerStatistics,
    reference: FeatureStatistics | LayerStatistics | None = None,
    *,
    held_out: FeatureStatistics | LayerStatistics | None = None,
    metrics: Sequence[str] | str | None = None,
    splits: Sequence[int] | None = None,
    interval: str = "auto",
    reference_is: str | None = None,
    explain: int = 0,
    progress: ProgressCallback | None = None,
) -> Scores:
    """Compute scores from statistics, without any image.

    Args:
        generated, reference, held_out: statistics of the requested layer, or a mapping of layer names to statistics in which
            "features" is the requested layer.
        metrics, splits, interval, reference_is, explain, progress: see `frechet.score`.

    Returns:
        Scores keyed by metric.

    Raises:
        MismatchError: the statistics were computed with different extractors, layers, weights, preprocessing or precision.
        RequestError: an unknown metric, or none that can be computed.

    Examples:
        >>> import numpy as np, frechet
        >>> x = np.random.default_rng(0).normal(size=(500, 8)).astype("float32")
        >>> generated, reference = (frechet.collect(each, features=True) for each in (x, x + 1))
        >>> round(frechet.score_statistics(generated, reference)["fd"].value)
        8
    """
    given = {"generated": generated, "reference": reference, "held-out": held_out}
    inputs = {name: as_layers(statistics) for name, statistics in given.items() if statistics is not None}
    precomputed = {name: layers["features"] for name, layers in inputs.items()}
    request = ScoreRequest(
        precomputed["generated"],
        precomputed.get("reference"),
        held_out=precomputed.get("held-out"),
        metrics=metrics,
        splits=splits,
        interval=interval,
        reference_is=reference_is,
        explain=explain,
        progress=progress,
    )
    plan = plan_request(request, resolve_spec(*precomputed.values()), inputs, n_explained=0).restrict_to(inputs)
    return compute_scores(
        plan, inputs, interval=interval, reference_is=reference_is, explain=explain, progress=progress
    )


def compute_scores(
    plan: MetricPlan,
    inputs: Mapping[str, LayerStatistics],
    *,
    interval: str = "auto",
    reference_is: str | None = None,
    explain: int = 0,
    progress: ProgressCallback | None = None,
    backend: str | None = None,
    device: str | None = None,
    image_processing: Mapping[str, str] | None = None,
    seed: int | None = None,
    is_sequential: bool = False,
) -> Scores:
    """Compute the scores of a plan. A metric that fails is reported as unavailable, unless all of them fail.

    Args:
        plan: what to compute.
        inputs: statistics by layer of "generated", and of "reference" and "held-out" if they are given.
        interval, reference_is, explain, progress: see `ScoreRequest`.
        backend, device: what computed the features; None if they were read.
        image_processing: see `describe_image_processing`; None if no images were read.
        seed: seed of what metrics draw; None for that of the generated images.
        is_sequential: whether generated images were added until the question was answered.

    Raises:
        MismatchError: the statistics were computed with different extractors, layers, weights, preprocessing or precision.
        RequestError: no metric could be computed; the reason for the first one.
    """
    statistics = {name: layers["features"] for name, layers in inputs.items()}
    generated, reference = _generated_and_reference(statistics)
    spec = resolve_spec(*statistics.values())
    provenance = build_provenance(generated, reference, spec, backend, device)
    provenance |= image_processing or {}
    provenance["seed"] = generated.seed if seed is None else seed
    common = _build_common_fields(plan, statistics, spec, explain, provenance)
    influential = list_influential_images(generated, reference, explain) if explain else None
    shared_inputs = SharedMetricInputs(
        inputs, tuple(request.settings for request in plan.requests), device or "cpu", seed
    )
    scores: dict[str, Score] = {}
    failed = dict(plan.unavailable)
    for request in _report_each(_select_requests(plan, generated, reference), progress):
        try:
            metric_inputs = shared_inputs.get(request)
            score = _compute_score(request, metric_inputs, spec, interval, reference_is, progress, common)
        except RequestError as error:
            failed[request.key] = error
        else:
            listing = influential if request.metric.compute is compute_frechet else None
            notes = [*score.warnings, *shared_inputs.iter_notes(request)]
            if listing and reference:
                notes += iter_influence_notes(generated, reference)
            scores[request.key] = replace(score, influence=listing, warnings=tuple(notes))
    if not scores:
        raise next(iter(failed.values()))
    unavailable = {key: str(error) for key, error in failed.items()}
    result = Scores(scores, provenance, unavailable, renamed=plan.renamed)
    if reference is not None:
        result = result.with_warnings(iter_sample_size_notes(generated, reference, is_sequential=is_sequential))
    return result if shared_inputs.has_drawn else result.with_warnings(_iter_seed_notes(statistics, seed))


def _select_requests(
    plan: MetricPlan, generated: FeatureStatistics, reference: FeatureStatistics | None
) -> list[MetricRequest]:
    """Return the metrics of a plan; if it is for all that apply, without rFID of images that are not pairs, which is FID again."""
    are_pairs = reference is not None and (generated.grouped_by, reference.grouped_by) == ("pair", "pair")
    if not plan.is_all or are_pairs:
        return plan.requests
    return [request for request in plan.requests if request.metric.compute is not compute_rfid]


def _iter_seed_notes(statistics: Mapping[str, FeatureStatistics], seed: int | None) -> Iterator[str]:
    """Yield a note if a seed was passed that chose nothing, since images were chosen before, with the seeds of statistics."""
    if seed and all(each.seed != seed for each in statistics.values()):
        labels = ", ".join(f"{each.label} (seed {each.seed})" for each in statistics.values())
        yield (
            f"the seed {seed} has no effect: the images of {labels} were chosen when these statistics were computed, and no metric "
            "draws from them. Pass images, or leave --seed (seed=) out."
        )


def _report_each(requests: Sequence[MetricRequest], progress: ProgressCallback | None) -> Iterator[MetricRequest]:
    """Yield the metrics one by one, and report how many are computed."""
    for index, request in enumerate(requests):
        if progress:
            progress("metrics", index, len(requests))
        yield request
    if progress:
        progress("metrics", len(requests), len(requests))


def _generated_and_reference(
    statistics: Mapping[str, FeatureStatistics],
) -> tuple[FeatureStatistics, FeatureStatistics | None]:
    return statistics["generated"], statistics.get("reference")


def _build_common_fields(
    plan: MetricPlan,
    statistics: Mapping[str, FeatureStatistics],
    spec: FeatureSpec,
    explain: int,
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Build the fields that all scores of a plan share.

    Raises:
        RequestError: influential images are requested, but no metric is the Fréchet distance that defines them.
    """
    has_frechet = any(request.metric.compute is compute_frechet for request in plan.requests)
    if explain and not has_frechet:
        raise RequestError(
            f"{name_option('explain')} is {explain}, but none of the metrics is a Fréchet distance, to which it applies; add "
            f"{get_default_metric(spec)} to the metrics"
        )
    return {
        "skipped_images": tuple(skipped for each in statistics.values() for skipped in each.skipped_images),
        "warnings": (
            *_iter_name_notes(plan, spec, statistics["generated"].dims),
            *iter_warnings(*_generated_and_reference(statistics), spec),
        ),
        "provenance": provenance,
    }


def _iter_name_notes(plan: MetricPlan, spec: FeatureSpec, dims: int) -> Iterator[str]:
    """Yield a note for each score that is not the FID that was requested."""
    for requested, used in plan.renamed.items():
        if requested.startswith("fid"):
            yield (
                f"{requested} is defined on Inception features, and these features come from {spec.extractor or 'an unknown extractor'}; "
                f"the score is {make_label(used, spec, dims)}"
            )


def _compute_score(
    request: MetricRequest,
    inputs: MetricInputs,
    spec: FeatureSpec,
    interval: str,
    reference_is: str | None,
    progress: ProgressCallback | None,
    common: Mapping[str, Any],
) -> Score:
    """Compute the score of one metric.

    Raises:
        RequestError: it cannot be computed from these inputs.
    """
    metric, generated = request.metric, inputs.generated
    result = metric.compute(inputs, **request.settings)
    if not math.isfinite(result.value):
        raise StatisticsError(
            f"{request.key} is {result.value}: the statistics contain values that are too large for features; recompute the features"
        )
    reference = inputs.reference if metric.uses_reference else None
    size_warnings = iter_size_warnings(generated, reference) if has_small_sample_bias(metric) else ()
    layer = spec if metric.layer == "features" else replace(spec, layer=metric.layer)
    return Score(
        metric=request.key,
        label=make_label(request.key, layer, generated.dims),
        value=result.value,
        terms=result.terms,
        std=result.std,
        splits=result.splits,
        settings=dict(request.settings),
        lower_is_better=metric.lower_is_better,
        uses_reference=metric.uses_reference,
        **compute_interval_fields(metric, result, generated, reference, interval, reference_is, progress),
        n_generated=generated.n,
        n_reference=reference.n if reference is not None else None,
        **{**common, "warnings": (*common["warnings"], *size_warnings, *result.notes)},
    )
