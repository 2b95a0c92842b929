"""Images in, scores out: the one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from frechet.errors import RequestError, SourceError, WeightsError
from frechet.evaluation.aggregate import add_class_scores, average_runs, offset_seed, run_per_extractor
from frechet.evaluation.compute import (
    EMBEDDED_IMAGES,
    LayerStatistics,
    as_layers,
    compute_image_influence,
    compute_scores,
    validate_options,
)
from frechet.evaluation.inputs import (
    buffer_iterator,
    declare_reference,
    find_embedded_images,
    is_bare_features,
    make_repeatable,
    open_input,
    open_inputs,
    require_compatible,
    require_consistent_options,
    require_same_extractor,
)
from frechet.evaluation.provenance import resolve_spec
from frechet.evaluation.request import (
    MetricPlan,
    group_by_extractor,
    needs_all_features,
    parse_metric_names,
    plan_metrics,
)
from frechet.execution.collect import ProgressCallback, collect_layer_statistics, collect_statistics
from frechet.execution.settings import Settings, SettingsKwargs, validate_keywords
from frechet.features.extractor import LoadedExtractor
from frechet.features.registry import find_extractor
from frechet.features.spec import FeatureSpec
from frechet.images.image import ImageSource
from frechet.results import ImageInfluence, Score, Scores
from frechet.statistics.feature_statistics import FeatureStatistics

if TYPE_CHECKING:
    from typing_extensions import Unpack


def score(
    generated: Any,
    reference: Any = None,
    *,
    metrics: Sequence[str] | str | None = None,
    held_out: Any = None,
    splits: Sequence[int] | None = None,
    reference_preprocessing: str | None = None,
    reference_size: int | None = None,
    interval: str = "auto",
    explain: int = 0,
    per_class: bool = False,
    repeat: int = 1,
    features: bool = False,
    progress: ProgressCallback | None = None,
    **options: Unpack[SettingsKwargs],
) -> Scores:
    """Score generated images, against reference images where a metric compares.

    Args:
        generated, reference: each a folder, .zip, .npz with `arr_0` or .npy of images, a statistics .npz or its URL, a
            `Statistics`, an iterable of PIL images or uint8 arrays (h, w, 3), or a function that makes as many images as it
            is asked for (`num_images` in all). The reference may be left out for metrics of one side.
        metrics: keys of the table of metrics (a sequence, or one text with commas), with "@" and the name of a tool for that tool's settings, or "all"; by
            default the Fréchet distance of the extractor's features.
        held_out: images that the generator never saw, for metrics that ask whether it repeats its training images.
        splits: numbers of splits for the Inception Score.
        reference_preprocessing: the convention of a reference statistics file that does not say.
        reference_size: the number of images behind a reference statistics file that does not say.
        interval: "auto" for the corrected value and its 95 % interval where there are images enough, or "none".
        explain: how many of the images that raise the score most, and of those that lower it most, to list.
        per_class: score each class (sub-folder, or label in ADM's `arr_1`) alone as well.
        repeat: score so many times, with seeds that count up from `seed`: other subsets of `num_images`, other images of a
            function, other draws of a metric. Values are then means.
        features: each side that is no statistics is floating-point features (n, d): an array, an .npy, or an .npz with
            `features`, `feats` or `arr_0`.
        progress: called with (what, images done, images in all) as the work goes on.
        **options: fields of `Settings`.

    Returns:
        The scores; `unavailable` says why metrics have none that could not be computed while others could.

    Raises:
        RequestError: the request cannot be done; nothing was computed.
        RunError: an image or a feature was bad.
    """
    validate_keywords("frechet.score", options, score)
    settings = Settings(**options)
    validate_options(interval, explain)
    metrics = parse_metric_names(metrics)
    if repeat < 1:
        raise RequestError(f"repeat is {repeat}; expected the number of runs")

    def run(passed: Sequence[Any], settings: Settings, metrics: Sequence[str] | None) -> Scores:
        keep_all = explain > 0 or needs_all_features(metrics)
        opener = partial(open_input, settings=settings, features=features, keep_all=keep_all, progress=progress)
        inputs = open_inputs(opener, *passed)
        if "reference" in inputs:
            inputs["reference"] = declare_reference(inputs["reference"], reference_preprocessing, reference_size)
        make_plan = partial(plan_metrics, metrics, splits=splits, explain=explain, per_class=per_class)
        return _evaluate(inputs, settings, make_plan, interval, explain, progress).scores

    inputs = (
        [generated, reference, held_out] if features else list(map(buffer_iterator, (generated, reference, held_out)))
    )
    runs = [_run_once(run, inputs, offset_seed(settings, repetition), metrics) for repetition in range(repeat)]
    return runs[0] if repeat == 1 else average_runs(runs)


def _run_once(
    run: Callable[[Sequence[Any], Settings, Sequence[str] | None], Scores],
    inputs: Sequence[Any],
    settings: Settings,
    metrics: Sequence[str] | None,
) -> Scores:
    """One run, of as many extractors as the metrics name."""
    if len(group_by_extractor(metrics)) > 1:
        inputs = [make_repeatable(data, settings) for data in inputs]
    return run_per_extractor(partial(run, inputs), settings, metrics)


class Evaluation(NamedTuple):
    """Scores and what they were computed from.

    Attributes:
        scores: the result.
        statistics: of the layer that was asked for, by side ("generated", "reference").
        sources: the images, of sides that were given as such.
    """

    scores: Scores
    statistics: dict[str, FeatureStatistics]
    sources: dict[str, ImageSource]


def evaluate(
    generated: Any,
    reference: Any,
    settings: Settings,
    *,
    metrics: Sequence[str] | str | None = None,
    splits: Sequence[int] | None = None,
    held_out: Any = None,
    reference_preprocessing: str | None = None,
    reference_size: int | None = None,
    interval: str = "auto",
    explain: int = 0,
    per_class: bool = False,
    features: bool = False,
    progress: ProgressCallback | None = None,
) -> Evaluation:
    """As `score`, with the features that the scores come from: of every image, where images or features are given.

    Statistics that did not keep the features of every image are scored without `explain`.
    """
    validate_options(interval, explain)
    inputs = open_inputs(
        partial(open_input, settings=settings, features=features, keep_all=True, progress=progress),
        generated,
        reference,
        held_out,
    )
    inputs["reference"] = declare_reference(inputs["reference"], reference_preprocessing, reference_size)
    one = inputs["generated"]
    all_there = not isinstance(one, FeatureStatistics) or one.features is not None
    keeps = max(explain, 1) if all_there else 0  # what images are listed by is kept, whether they are listed or not
    make_plan = partial(plan_metrics, parse_metric_names(metrics), splits=splits, explain=keeps, per_class=per_class)
    return _evaluate(inputs, settings, make_plan, interval, explain if all_there else 0, progress)


def _evaluate(
    inputs: Mapping[str, ImageSource | FeatureStatistics],
    settings: Settings,
    make_plan: Callable[..., MetricPlan],
    interval: str,
    explain: int,
    progress: ProgressCallback | None,
) -> Evaluation:
    """Plan, collect, compute."""
    make_plan = partial(make_plan, reference="reference" in inputs, held_out="held-out" in inputs)
    plan, found, used = _plan_and_collect(inputs, settings, make_plan, progress)
    runtime_info = {"backend": used.backend, "device": used.device} if used else {}
    scores = compute_scores(plan, found, interval=interval, explain=explain, progress=progress, **runtime_info)
    if plan.per_class:
        scores = add_class_scores(plan, scores, found)
    return Evaluation(
        scores,
        {name: layers["features"] for name, layers in found.items() if name != "held-out"},
        {name: data for name, data in inputs.items() if not isinstance(data, FeatureStatistics)},
    )


def _plan_and_collect(
    inputs: Mapping[str, ImageSource | FeatureStatistics],
    settings: Settings,
    make_plan: Callable[[FeatureSpec], MetricPlan],
    progress: ProgressCallback | None,
) -> tuple[MetricPlan, Mapping[str, LayerStatistics], LoadedExtractor | None]:
    """(what can be computed, statistics by layer of all sides, what computed their features)."""
    precomputed = {name: data for name, data in inputs.items() if isinstance(data, FeatureStatistics)}
    if len(precomputed) == len(inputs):
        require_consistent_options(precomputed, settings)
        return (
            make_plan(resolve_spec(*precomputed.values())).restrict_to(precomputed),
            _group_by_layer(precomputed),
            None,
        )
    require_same_extractor(precomputed, settings)
    planned = make_plan(settings.spec)
    embedded_images = {
        name: images
        for name, data in precomputed.items()
        if planned.needs_all_features_of(name)
        for images in find_embedded_images(data)
    }
    plan, extractor = _load_extractor(planned.restrict_to(precomputed, embedded_images), settings, progress)
    found = _collect_inputs(inputs, settings, extractor, progress, plan.layers)
    for name, images in embedded_images.items():
        samples = collect_statistics(images, settings, extractor, progress, name, keep_all=True)
        found[name] = {**found[name], EMBEDDED_IMAGES: samples}
    return plan, found, extractor


def _load_extractor(
    plan: MetricPlan, settings: Settings, progress: ProgressCallback | None
) -> tuple[MetricPlan, LoadedExtractor]:
    """The extractor with all layers that the plan needs, or as many as its weights have, and what is left of the plan."""
    extra_layers = [layer for layer in plan.layers if layer != "features"]
    try:
        return plan, settings.load(progress, extra_layers)
    except WeightsError as error:
        heads = [layer for layer in extra_layers if (row := find_extractor(settings.extractor)) and layer in row.heads]
        left = plan.drop_layers(heads, error) if heads else plan
        if left is plan:
            raise
        return left, settings.load(progress, [layer for layer in extra_layers if layer not in heads])


def _group_by_layer(inputs: Mapping[str, FeatureStatistics]) -> dict[str, LayerStatistics]:
    return {name: as_layers(data) for name, data in inputs.items()}


def fid(generated: Any, reference: Any, **options: Any) -> Score:
    """The Fréchet Inception Distance. Arguments as in `score`."""
    validate_keywords("frechet.fid", options, score)
    return score(generated, reference, metrics=("fid",), **options)["fid"]


def influence(
    generated: Any,
    reference: Any,
    *,
    features: bool = False,
    progress: ProgressCallback | None = None,
    **options: Unpack[SettingsKwargs],
) -> ImageInfluence:
    """What every generated image does to the Fréchet distance. Arguments as in `score`.

    Raises:
        RequestError: the generated side is statistics that did not keep every image's features.
    """
    validate_keywords("frechet.influence", options, influence)
    settings = Settings(**options)
    opener = partial(open_input, settings=settings, features=features, progress=progress)
    one, other = opener(generated, keep_all=True), opener(reference)
    if not (isinstance(one, FeatureStatistics) and isinstance(other, FeatureStatistics)):
        inputs = {"generated": one, "reference": other}
        found = _collect_inputs(inputs, settings, settings.load(progress), progress, {"features": True})
        one, other = found["generated"]["features"], found["reference"]["features"]
    resolve_spec(one, other)
    return compute_image_influence(one, other)


def collect(
    images: Any, *, features: bool = False, progress: ProgressCallback | None = None, **options: Unpack[SettingsKwargs]
) -> FeatureStatistics:
    """Statistics of images, for later comparisons.

    Args:
        images: a folder, .zip, .npz with `arr_0` or .npy of images, or an iterable of images.
        features: `images` are floating-point features (n, d) instead; what `options` say of them is recorded.
        progress: called with (what, images done, images in all).
        **options: fields of `Settings`.
    """
    validate_keywords("frechet.collect", options, collect)
    settings = Settings(**options)
    source = open_input(images, settings, features=features, progress=progress)
    if isinstance(source, FeatureStatistics):
        if not (features and is_bare_features(source)):
            raise SourceError(
                f"{source.label} holds statistics already; expected {'features' if features else 'images'}"
            )
        require_consistent_options({"generated": source}, settings)
        return source
    return collect_statistics(source, settings, settings.load(progress), progress)


def _collect_inputs(
    inputs: Mapping[str, ImageSource | FeatureStatistics],
    settings: Settings,
    extractor: LoadedExtractor,
    progress: ProgressCallback | None,
    layers: Mapping[str, bool],
) -> dict[str, LayerStatistics]:
    """Statistics of all sides by layer; `layers` says of which every image's features and name are kept.

    Raises:
        Mismatch: a side is statistics that these features cannot be compared with.
    """
    for name, data in inputs.items():
        if isinstance(data, FeatureStatistics):
            require_compatible(data, name, extractor)
    layer = extractor.spec.layer or "features"
    keep_all_by_layer = {**layers, "features": layers["features"] or layers.get(layer, False)}
    found: dict[str, LayerStatistics] = {}
    for name, data in inputs.items():
        if isinstance(data, FeatureStatistics):
            found[name] = as_layers(data)
        else:
            collected = collect_layer_statistics(
                data, settings, extractor, progress, name, keep_all_by_layer=keep_all_by_layer
            )
            found[name] = {layer: collected["features"], **collected}
    return found
