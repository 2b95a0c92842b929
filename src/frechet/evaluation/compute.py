"""Two statistics side by side: what the metrics of a plan say of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from frechet.distances.interval import Z_95
from frechet.errors import RequestError, StatisticsError
from frechet.evaluation.provenance import build_provenance, guess_spec, iter_warnings, resolve_spec
from frechet.evaluation.request import MetricPlan, MetricRequest, parse_metric_names, plan_metrics
from frechet.execution.collect import ProgressCallback
from frechet.features.spec import FeatureSpec
from frechet.metrics import (
    Metric,
    MetricInputs,
    MetricResult,
    compute_leave_one_out_changes,
    get_default_metric,
    has_small_sample_bias,
    make_label,
    require_all_features,
)
from frechet.metrics.frechet import compute_frechet
from frechet.results import ImageInfluence, Score, Scores
from frechet.statistics.feature_statistics import FeatureStatistics

LayerStatistics = Mapping[
    str, FeatureStatistics
]  # "features" is the layer that was asked for, others bear their tap's name
EMBEDDED_IMAGES = "samples"  # the layer that was asked for, of images that lie beside statistics of others


def score_statistics(
    generated: FeatureStatistics | LayerStatistics,
    reference: FeatureStatistics | LayerStatistics | None = None,
    *,
    held_out: FeatureStatistics | LayerStatistics | None = None,
    metrics: Sequence[str] | str | None = None,
    splits: Sequence[int] | None = None,
    interval: str = "auto",
    explain: int = 0,
    progress: ProgressCallback | None = None,
) -> Scores:
    """Scores from statistics. Arguments as in `frechet.score`.

    Raises:
        Mismatch: they were made differently.
        RequestError: an unknown metric, or nothing that can be computed.
    """
    validate_options(interval, explain)
    given = {"generated": generated, "reference": reference, "held-out": held_out}
    inputs = {name: as_layers(side) for name, side in given.items() if side is not None}
    precomputed = {name: side["features"] for name, side in inputs.items()}
    spec = resolve_spec(*precomputed.values())
    plan = plan_metrics(
        parse_metric_names(metrics), spec, reference="reference" in inputs, held_out="held-out" in inputs, splits=splits
    )
    return compute_scores(plan.restrict_to(precomputed), inputs, interval=interval, explain=explain, progress=progress)


def as_layers(side: FeatureStatistics | LayerStatistics) -> LayerStatistics:
    """A side's statistics by layer: alone, they are those of the layer that was asked for, whatever it is."""
    if not isinstance(side, FeatureStatistics):
        return side
    layer = side.spec.fill_missing(guess_spec(side.dims)).layer
    return {"features": side, **({layer: side} if layer else {})}


def compute_scores(
    plan: MetricPlan,
    inputs: Mapping[str, LayerStatistics],
    *,
    interval: str = "auto",
    explain: int = 0,
    progress: ProgressCallback | None = None,
    backend: str | None = None,
    device: str | None = None,
) -> Scores:
    """The scores of a plan; metrics that fail are told with the reason, unless all do.

    Args:
        plan: what to compute.
        sides: "generated", and "reference" and "held-out" where they are given.
        interval, explain, progress: as in `frechet.score`.
        backend, device: what computed the features, if they were not read.

    Raises:
        Mismatch: the sides were made differently.
        RequestError: no metric could be computed; why the first could not.
    """
    statistics = {name: side["features"] for name, side in inputs.items()}
    spec = resolve_spec(*statistics.values())
    common = _build_common_fields(
        plan, statistics, spec, explain, build_provenance(*_generated_and_reference(statistics), spec, backend, device)
    )
    listed = _list_influential_images(*_generated_and_reference(statistics), explain) if explain else None
    settings = tuple(request.settings for request in plan.requests)
    metric_inputs: dict[
        tuple[tuple[str, str], ...], MetricInputs
    ] = {}  # metrics of the same layers share what they have in common
    scores: dict[str, Score] = {}
    failed = dict(plan.unavailable)
    for request in plan.requests:
        layers = _select_layers(request, inputs)
        same = tuple(layers.items())
        try:
            if same not in metric_inputs:
                found = {name: _get_layer(inputs[name], layer, request.key) for name, layer in same}
                metric_inputs[same] = MetricInputs.from_statistics(found, device or "cpu", settings)
            score = _compute_score(request, metric_inputs[same], spec, interval, progress, common)
        except RequestError as error:
            failed[request.key] = error
        else:
            notes = tuple(
                _embedded_images_note(request.key, inputs[name][EMBEDDED_IMAGES])
                for name in layers
                if layers[name] == EMBEDDED_IMAGES
            )
            listing = listed if request.metric.compute is compute_frechet else None
            scores[request.key] = replace(score, influence=listing, warnings=(*score.warnings, *notes))
    if not scores:
        raise next(iter(failed.values()))
    return Scores(scores, common["provenance"], {key: str(error) for key, error in failed.items()})


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
    """The fields that all scores of a plan have in common.

    Raises:
        RequestError: images are to be listed by a distance that is not among the metrics.
    """
    frechet = any(request.metric.compute is compute_frechet for request in plan.requests)
    if explain and not frechet:
        raise RequestError(
            "explain lists what images do to the Fréchet distance, which is not among the metrics; ask for "
            f"{get_default_metric(spec)} as well"
        )
    biased = any(has_small_sample_bias(request.metric) for request in plan.requests)
    return {
        "skipped_images": tuple(bad for side in statistics.values() for bad in side.skipped_images),
        "warnings": tuple(iter_warnings(*_generated_and_reference(statistics), spec, frechet=biased)),
        "provenance": provenance,
    }


def _select_layers(request: MetricRequest, inputs: Mapping[str, LayerStatistics]) -> dict[str, str]:
    """The layer of each side that a metric is about."""
    return {
        name: _select_layer(name, side, request.metric)
        for name, side in inputs.items()
        if request.metric.uses_reference or name == "generated"
    }


def _select_layer(name: str, side: LayerStatistics, metric: Metric) -> str:
    """The layer of a side that a metric is about; where it needs every image and the side has some beside, theirs."""
    samples = EMBEDDED_IMAGES in side and metric.layer == "features" and name in metric.full_feature_inputs
    return EMBEDDED_IMAGES if samples else metric.layer


def _embedded_images_note(key: str, side: FeatureStatistics) -> str:
    return f"{key} is of the {side.n} images that {side.label} holds beside its statistics; those may be of more images"


def _get_layer(side: LayerStatistics, layer: str, key: str) -> FeatureStatistics:
    """The statistics that a metric is about.

    Raises:
        RequestError: the side is statistics of another layer.
    """
    if layer in side:
        return side[layer]
    precomputed = side["features"]
    raise RequestError(
        f"{key} needs the {layer} layer, and {precomputed.label} holds statistics of {precomputed.spec.layer or f'{precomputed.dims} features'} "
        "alone; give images"
    )


def _compute_score(
    request: MetricRequest,
    inputs: MetricInputs,
    spec: FeatureSpec,
    interval: str,
    progress: ProgressCallback | None,
    common: Mapping[str, Any],
) -> Score:
    """One metric's score.

    Raises:
        RequestError: it cannot be computed of these sides.
    """
    metric, generated = request.metric, inputs.generated
    result = metric.compute(inputs, **request.settings)
    if not math.isfinite(result.value):
        raise StatisticsError(f"{request.key} is {result.value}: the statistics hold numbers too large to be features")
    reference = inputs.reference if metric.uses_reference else None
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
        **_compute_interval_fields(metric, result, generated, reference, interval, progress),
        n_generated=generated.n,
        n_reference=reference.n if reference is not None else None,
        **common,
    )


def validate_options(interval: str, explain: int) -> None:
    """Refuse wishes that could never be met, before anything is computed."""
    if interval not in ("auto", "none"):
        raise RequestError(f"interval is {interval!r}; expected auto or none")
    if not isinstance(explain, (int, np.integer)) or explain < 0:
        raise RequestError(f"explain is {explain!r}; expected the number of images to list")


def _compute_interval_fields(
    metric: Metric,
    result: MetricResult,
    generated: FeatureStatistics,
    reference: FeatureStatistics | None,
    interval: str,
    progress: ProgressCallback | None,
) -> dict[str, Any]:
    """The fields of a score that say how far it is from the truth, or why that is not known."""
    if interval == "none":
        return {"interval_unavailable_reason": "not asked for"}
    if result.standard_error is not None:
        half = Z_95 * result.standard_error
        return {
            "corrected_value": result.value,
            "standard_error": result.standard_error,
            "interval_95": (result.value - half, result.value + half),
            "interval_method": "unbiased; the U-statistic's variance",
        }
    if metric.interval is None or reference is None:
        return {"interval_unavailable_reason": metric.interval_unavailable_reason}

    def on_step(step: int, steps: int) -> None:
        if progress:
            progress("interval", step, steps)

    found = metric.interval(generated, reference, generated.seed, on_step)
    if isinstance(found, str):
        return {"interval_unavailable_reason": found}
    return {
        "corrected_value": found.corrected_value,
        "standard_error": found.standard_error,
        "interval_95": (found.low, found.high),
        "interval_method": found.method,
        "variance_components": found.variance_components,
        "reference_groups": found.reference_groups,
        "permutation_p_value": found.permutation_p_value,
        "n_to_halve_interval": found.n_to_halve_interval(generated.n, reference.n),
    }


def compute_image_influence(generated: FeatureStatistics, reference: FeatureStatistics) -> ImageInfluence:
    """What every generated image does to the Fréchet distance.

    Raises:
        RequestError: the generated side did not keep every image's features.
    """
    require_all_features(generated)
    assert generated.indices is not None
    found = compute_leave_one_out_changes(generated, reference)
    names = generated.labels or tuple(f"image {place}" for place in generated.indices)
    return ImageInfluence(names, found.mean, found.covariance)


def _list_influential_images(
    generated: FeatureStatistics, reference: FeatureStatistics | None, count: int
) -> dict[str, Any] | None:
    if reference is None:
        return None
    found = compute_image_influence(generated, reference)
    return {"raise": found.top_raising(count), "lower": found.top_lowering(count)}
