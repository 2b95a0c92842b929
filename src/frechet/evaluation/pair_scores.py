"""The scores of metrics that compare image i of one input with image i of the other, pixel by pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from frechet._internal.fields import name_option
from frechet.distances.mean_of_pairs import mean_of_pairs
from frechet.errors import RequestError
from frechet.evaluation.inputs import open_inputs
from frechet.evaluation.layers import find_embedded_images
from frechet.evaluation.plan import MetricRequest, request_metric
from frechet.evaluation.provenance import build_provenance, describe_decoding, iter_warnings
from frechet.evaluation.request import ScoreRequest
from frechet.evaluation.sampling import has_clusters, require_pairs
from frechet.execution.pairs import PairValues, measure_pairs
from frechet.images.image import ImageSource
from frechet.images.sources.registry import open_source
from frechet.metrics import PairMeasure
from frechet.results import INTERVAL_NOT_REQUESTED, Score, Scores
from frechet.statistics.feature_statistics import FeatureStatistics

_NUM_WORST_PAIRS = 10


def score_pairs(request: ScoreRequest) -> Scores:
    """Compute the scores of a request all of whose metrics are means over pairs of images.

    Args:
        request: what to compute: one seed, metrics that have a `load_pair_measure`.

    Raises:
        RequestError: the inputs are not pairs of images, or none of the metrics can be computed; the reason for the first.
    """
    metrics = [request_metric(name) for name in dict.fromkeys(request.metric_names or ())]
    sources = _open_pairs(request, metrics[0].key)
    measures, failed = _load_measures(metrics, request.device)
    found = measure_pairs(
        (sources["generated"], request.settings_of("generated")),
        (sources["reference"], request.settings_of("reference")),
        measures,
        request.progress,
    )
    classes = _find_classes(request, sources["reference"], found)
    failed |= {name: RequestError(reason) for name, reason in found.too_small.items()}
    scores: dict[str, Score] = {}
    for each in metrics:
        if each.key in found.values:
            try:
                scores[each.key] = _make_score(each, measures[each.key], found, request, sources, classes)
            except RequestError as error:
                failed[each.key] = error
    if not scores:
        raise next(iter(failed.values()))
    unavailable = {key: str(error) for key, error in failed.items()}
    return Scores(scores, next(iter(scores.values())).provenance, unavailable)


def _open_pairs(request: ScoreRequest, key: str) -> dict[str, ImageSource]:
    """Open both inputs.

    Raises:
        RequestError: an input is missing or no images, or the images do not form pairs.
    """
    if request.explain:
        raise RequestError(
            f"{name_option('explain')} is {request.explain}, but {key} is not a Fréchet distance, to which it applies; leave it out, since the "
            "worst pairs are always listed"
        )
    if request.reference is None:
        raise RequestError(
            f"{key} compares images with their reconstructions, and no reference is given; pass the images"
        )
    if request.design == "independent" or has_clusters(request) or request.strata is not None:
        raise RequestError(
            f"{key} compares pairs of images, but another sampling design is requested; leave out --design, --cluster-by and --strata"
        )
    if request.features:
        raise RequestError(f"{key} compares pixels, but the inputs are features; pass images")
    sources: dict[str, ImageSource] = {}
    for name, each in open_inputs(replace(request, held_out=None)).items():
        given = each
        if isinstance(each, FeatureStatistics) and name == "reference" and request.reference_images is not None:
            given = open_source(request.reference_images)  # type: ignore[arg-type]
        elif isinstance(each, FeatureStatistics):
            given = find_embedded_images(each) or each
        if isinstance(given, FeatureStatistics):
            raise RequestError(
                f"{key} compares pixels, but {given.label} contains statistics; pass the {name} images"
                f"{' as the reference or as --reference-images (reference_images=)' if name == 'reference' else ''}"
            )
        sources[name] = given
    require_pairs(sources)
    return sources


def _load_measures(metrics: list[MetricRequest], device: str) -> tuple[dict[str, PairMeasure], dict[str, RequestError]]:
    """Load what is measured, and return the reasons why some of it is not available.

    Raises:
        RequestError: nothing is available; the reason for the first metric.
    """
    measures: dict[str, PairMeasure] = {}
    failed: dict[str, RequestError] = {}
    for each in metrics:
        assert each.metric.load_pair_measure is not None  # requests are split by it
        try:
            measures[each.key] = each.metric.load_pair_measure(device, **each.settings)
        except RequestError as error:
            failed[each.key] = error
    if not measures:
        raise next(iter(failed.values()))
    return measures, failed


def _find_classes(request: ScoreRequest, reference: ImageSource, found: PairValues) -> np.ndarray | None:
    """Return the class of each pair, that of its reference image; None if no scores per class are requested."""
    return np.array(reference.get_class_names(found.source_indices.tolist())) if request.per_class else None


def _make_score(
    each: MetricRequest,
    measure: PairMeasure,
    found: PairValues,
    request: ScoreRequest,
    sources: Mapping[str, ImageSource],
    classes: np.ndarray | None,
) -> Score:
    values, generated, reference = found.values[each.key], found.generated, found.reference
    result = each.metric.compute(values, **each.settings)
    per_class = (
        {} if classes is None else {str(name): float(values[classes == name].mean()) for name in np.unique(classes)}
    )
    device = request.device if measure.spec.extractor != "pixels" else "cpu"
    return Score(
        metric=each.key,
        label=measure.label,
        value=result.value,
        terms=result.terms,
        settings=dict(each.settings),
        lower_is_better=each.metric.lower_is_better,
        per_class=per_class,
        worst_pairs=tuple(
            _list_worst_pairs(values, found, sources, lower_is_better=each.metric.lower_is_better is True)
        ),
        n_generated=generated.n,
        n_reference=reference.n,
        skipped_images=(*generated.skipped_images, *reference.skipped_images),
        warnings=(*iter_warnings(generated, reference, measure.spec), *result.notes),
        provenance={
            **build_provenance(generated, reference, measure.spec, None, device),
            **describe_decoding(),
            "seed": request.seed,
        },
        **_compute_interval_fields(values, request),
    )


def _compute_interval_fields(values: np.ndarray, request: ScoreRequest) -> dict[str, Any]:
    """Compute the interval of the mean over all pairs that the images could have been, or the reason why there is none."""
    if request.interval == "none":
        return {"interval_unavailable_reason": INTERVAL_NOT_REQUESTED}
    if request.reference_is == "fixed":
        return {
            "interval_unavailable_reason": "for a fixed reference, the reconstructions of its images have no sampling error"
        }
    mean = mean_of_pairs(values)
    return {
        "standard_error": mean.standard_error,
        "interval_95": (mean.low, mean.high),
        "interval_method": "standard error of the mean over pairs, Student's distribution",
        "reference_is": "sample",
        "sampling_design": f"{len(values):,} pairs",
        "variance_components": (0.0, mean.standard_error**2),
        "reference_groups": mean.groups,
    }


def _list_worst_pairs(
    values: np.ndarray, found: PairValues, sources: Mapping[str, ImageSource], *, lower_is_better: bool
) -> list[dict[str, Any]]:
    order = np.argsort(-values if lower_is_better else values, kind="stable")[:_NUM_WORST_PAIRS]
    return [
        {
            "value": float(values[row]),
            "source_index": int(found.source_indices[row]),
            **{name: source.get_label(int(found.source_indices[row])) for name, source in sources.items()},
        }
        for row in order
    ]
