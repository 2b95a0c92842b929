"""The scores of a plan, computed from statistics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from frechet.distances.prdc_jackknife import JackknifeVariance
from frechet.distances.sampling_error import Z_95
from frechet.errors import RequestError, StatisticsError
from frechet.evaluation.layers import LayerStatistics, as_layers, images_key
from frechet.evaluation.plan import MetricPlan, MetricRequest, plan_request
from frechet.evaluation.provenance import build_provenance, iter_warnings, resolve_spec
from frechet.evaluation.request import ScoreRequest
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
from frechet.metrics.frechet import compute_frechet, get_reference_kind
from frechet.results import INTERVAL_NOT_REQUESTED, ImageInfluence, Score, Scores
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
        >>> x, y = np.random.default_rng(0).normal(size=(2, 500, 8)).astype("float32")
        >>> generated, reference = (frechet.collect(each, features=True) for each in (x, y + 1))
        >>> round(frechet.score_statistics(generated, reference)["fd"].value)
        8
    """
    given = {"generated": generated, "reference": reference, "held-out": held_out}
    inputs = {name: as_layers(statistics) for name, statistics in given.items() if statistics is not None}
    precomputed = {name: layers["features"] for name, layers in inputs.items()}
    request = ScoreRequest(
        precomputed["generated"],
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
    seed: int | None = None,
) -> Scores:
    """Compute the scores of a plan. A metric that fails is reported as unavailable, unless all of them fail.

    Args:
        plan: what to compute.
        inputs: statistics by layer of "generated", and of "reference" and "held-out" if they are given.
        interval, reference_is, explain, progress: see `ScoreRequest`.
        backend, device: what computed the features; None if they were read.
        seed: seed of what metrics draw; None for that of the generated images.

    Raises:
        MismatchError: the statistics were computed with different extractors, layers, weights, preprocessing or precision.
        RequestError: no metric could be computed; the reason for the first one.
    """
    statistics = {name: layers["features"] for name, layers in inputs.items()}
    spec = resolve_spec(*statistics.values())
    provenance = build_provenance(*_generated_and_reference(statistics), spec, backend, device)
    provenance["seed"] = statistics["generated"].seed if seed is None else seed
    common = _build_common_fields(plan, statistics, spec, explain, provenance)
    listed = _list_influential_images(*_generated_and_reference(statistics), explain) if explain else None
    settings = tuple(request.settings for request in plan.requests)
    # metrics of the same layers share what they have in common
    metric_inputs: dict[tuple[tuple[str, str], ...], MetricInputs] = {}
    scores: dict[str, Score] = {}
    failed = dict(plan.unavailable)
    for request in _report_each(plan.requests, progress):
        layers = _select_layers(request, inputs)
        same = tuple(layers.items())
        try:
            if same not in metric_inputs:
                found = {name: _get_layer(inputs[name], layer, request.key) for name, layer in same}
                metric_inputs[same] = MetricInputs.from_statistics(found, device or "cpu", settings, seed)
            score = _compute_score(request, metric_inputs[same], spec, interval, reference_is, progress, common)
        except RequestError as error:
            failed[request.key] = error
        else:
            notes = tuple(
                _images_note(request.key, inputs[name], layer)
                for name, layer in layers.items()
                if layer == images_key(request.metric.layer)
            )
            listing = listed if request.metric.compute is compute_frechet else None
            scores[request.key] = replace(score, influence=listing, warnings=(*score.warnings, *notes))
    if not scores:
        raise next(iter(failed.values()))
    result = Scores(
        scores, common["provenance"], {key: str(error) for key, error in failed.items()}, renamed=plan.renamed
    )
    has_drawn = any(each.has_drawn for each in metric_inputs.values())
    return result if has_drawn else result.with_warnings(_iter_seed_notes(statistics, seed))


def _iter_seed_notes(statistics: Mapping[str, FeatureStatistics], seed: int | None) -> Iterator[str]:
    """Yield a note if a seed was passed that chose nothing, since images were chosen before, with the seeds of statistics."""
    if seed and all(each.seed != seed for each in statistics.values()):
        labels = ", ".join(f"{each.label} (seed {each.seed})" for each in statistics.values())
        yield (
            f"the seed {seed} has no effect: the images of {labels} were chosen when these statistics were computed, and no metric "
            "draws from them. Pass images, or leave --seed (seed=) out"
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
            f"explain is {explain}, but none of the metrics is a Fréchet distance, to which it applies; add "
            f"{get_default_metric(spec)} to the metrics"
        )
    is_biased = any(has_small_sample_bias(request.metric) for request in plan.requests)
    return {
        "skipped_images": tuple(skipped for each in statistics.values() for skipped in each.skipped_images),
        "warnings": (
            *_iter_name_notes(plan, spec, statistics["generated"].dims),
            *iter_warnings(*_generated_and_reference(statistics), spec, is_biased=is_biased),
        ),
        "provenance": provenance,
    }


def _iter_name_notes(plan: MetricPlan, spec: FeatureSpec, dims: int) -> Iterator[str]:
    """Yield a note for each score that is not the FID that was requested."""
    for requested, used in plan.renamed.items():
        if requested.startswith("fid"):
            yield (
                f"{requested} is defined on Inception features, and these come from {spec.extractor or 'an unknown extractor'}; "
                f"the score is {make_label(used, spec, dims)}"
            )


def _select_layers(request: MetricRequest, inputs: Mapping[str, LayerStatistics]) -> dict[str, str]:
    """Return the layer of each input that a metric uses."""
    return {
        name: _select_layer(name, layers, request.metric)
        for name, layers in inputs.items()
        if request.metric.uses(name)
    }


def _select_layer(name: str, layers: LayerStatistics, metric: Metric) -> str:
    """Return the layer of one input that a metric uses: that of images if the statistics do not suffice."""
    in_file = layers.get(metric.layer)
    suffices = in_file is not None and not (in_file.features is None and metric.needs_all_features_of(name))
    of_images = images_key(metric.layer)
    return of_images if of_images in layers and not suffices else metric.layer


def _images_note(key: str, layers: LayerStatistics, layer: str) -> str:
    images, statistics = layers[layer], layers["features"]
    if images.label != statistics.label:
        return f"{key} uses the {images.n} images of {images.label}, and not the statistics in {statistics.label}"
    return f"{key} uses the {images.n} images stored in {images.label}; the statistics in that file may come from more images"


def _get_layer(layers: LayerStatistics, layer: str, key: str) -> FeatureStatistics:
    """Return the statistics that a metric uses.

    Raises:
        RequestError: the input is statistics of another layer.
    """
    if layer in layers:
        return layers[layer]
    known = layers["features"]
    raise RequestError(
        f"{key} needs the {layer} layer, but {known.label} holds statistics of "
        f"{known.spec.layer or f'{known.dims} features'} only; pass images instead"
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
            f"{request.key} is {result.value}: the statistics hold values too large for features; recompute the features"
        )
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
        **_compute_interval_fields(metric, result, generated, reference, interval, reference_is, progress),
        n_generated=generated.n,
        n_reference=reference.n if reference is not None else None,
        **{**common, "warnings": (*common["warnings"], *result.notes)},
    )


def _compute_interval_fields(
    metric: Metric,
    result: MetricResult,
    generated: FeatureStatistics,
    reference: FeatureStatistics | None,
    interval: str,
    reference_is: str | None,
    progress: ProgressCallback | None,
) -> dict[str, Any]:
    """Compute the confidence interval of a score and what belongs to it, or the reason why there is none."""
    if interval == "none":
        return {"interval_unavailable_reason": INTERVAL_NOT_REQUESTED}
    if result.sampling_variance is not None:
        return _describe_sampling_error(result.value, result.sampling_variance, generated, reference, reference_is)
    if result.standard_error is not None:
        design = describe_design(generated, reference)
        if design != "independent" or reference_is == "fixed":
            assumed = "a reference with its own sampling error" if design == "independent" else "independent images"
            return {
                "interval_unavailable_reason": f"the standard error of this metric assumes {assumed}; got "
                f"{'a fixed reference' if design == 'independent' else design}"
            }
        half = Z_95 * result.standard_error
        return {
            "reference_is": "sample",
            "sampling_design": design,
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

    reference_is = reference_is or get_reference_kind(reference)
    found = metric.interval(generated, reference, reference_is, on_step)
    if isinstance(found, str):
        return {"interval_unavailable_reason": found}
    return {
        "corrected_value": found.corrected_value,
        "standard_error": found.standard_error,
        "interval_95": (found.low, found.high),
        "interval_method": found.method,
        "reference_is": reference_is,
        "sampling_design": describe_design(generated, reference if reference_is == "sample" else None),
        "variance_components": found.variance_components,
        "generated_groups": found.generated_groups,
        "reference_groups": found.reference_groups,
        "permutation_p_value": found.permutation_p_value,
        "n_to_halve_interval": found.n_to_halve_interval(generated.n, reference.n),
    }


def _describe_sampling_error(
    value: float,
    variance: JackknifeVariance,
    generated: FeatureStatistics,
    reference: FeatureStatistics | None,
    reference_is: str | None,
) -> dict[str, Any]:
    """Compute the interval of a value whose expectation depends on the sample sizes, for samples of these sizes."""
    reference_is = reference_is or "sample"
    design = describe_design(generated, reference if reference_is == "sample" else None)
    if design != "independent":
        return {
            "interval_unavailable_reason": f"the standard error of this metric assumes independent images; got {design}"
        }
    components = (variance.generated, variance.reference if reference_is == "sample" else 0.0)
    error = math.sqrt(sum(components))
    return {
        "reference_is": reference_is,
        "sampling_design": design,
        "standard_error": error,
        "interval_95": (max(0.0, value - Z_95 * error), min(variance.largest_value, value + Z_95 * error)),
        "interval_method": "delete-one jackknife",
        "variance_components": components,
    }


def describe_design(generated: FeatureStatistics, reference: FeatureStatistics | None) -> str:
    """Describe the sampling design that an interval assumes; the reference is None if it is fixed."""
    if reference is not None and (generated.grouped_by, reference.grouped_by) == ("pair", "pair"):
        return f"{generated.n:,} pairs"
    inputs = [(name, each) for name, each in (("generated", generated), ("reference", reference)) if each is not None]
    parts = [f"stratified {name} images" for name, each in inputs if each.grouped_by == "stratum"]
    parts += [
        f"{'clusters' if each.grouped_by == 'cluster' else 'duplicates'}: {each.n:,} {name} images, as informative as "
        f"{each.n_units:,} independent ones"
        for name, each in inputs
        if each.n_units is not None and each.n is not None and each.n_units < each.n
    ]
    return "; ".join(parts) or "independent"


def compute_image_influence(generated: FeatureStatistics, reference: FeatureStatistics) -> ImageInfluence:
    """Compute how the Fréchet distance changes if one generated image is left out, for every generated image.

    Raises:
        RequestError: the generated statistics do not hold the features of every image.
    """
    require_all_features(generated)
    assert generated.indices is not None
    found = compute_leave_one_out_changes(generated, reference)
    labels = generated.labels or tuple(f"image {index}" for index in generated.indices)
    return ImageInfluence(labels, found.mean, found.covariance)


def _list_influential_images(
    generated: FeatureStatistics, reference: FeatureStatistics | None, count: int
) -> dict[str, Any] | None:
    if reference is None:
        return None
    found = compute_image_influence(generated, reference)
    return {"raise": found.top_raising(count), "lower": found.top_lowering(count)}
