"""The score of each class by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from frechet.errors import RequestError
from frechet.evaluation.compute import compute_scores
from frechet.evaluation.layers import LayerStatistics
from frechet.evaluation.plan import MetricPlan
from frechet.execution.chunks import Partition
from frechet.execution.settings import Settings
from frechet.images.image import ImageSource
from frechet.metrics import has_small_sample_bias
from frechet.results import Scores
from frechet.statistics.feature_statistics import FeatureStatistics

_MAX_CLASSES_SHOWN = 3


def add_class_scores(
    plan: MetricPlan,
    scores: Scores,
    inputs: Mapping[str, LayerStatistics],
    sources: Mapping[str, ImageSource],
    settings: Settings,
) -> Scores:
    """Add the value of each class to the scores, for classes with at least two images in every input.

    Args:
        plan: what was computed.
        scores: of all classes together.
        inputs: statistics by input and layer.
        sources: where the images of each input are.
        settings: how the images were chosen.

    Raises:
        RequestError: the generated or the reference images have no classes.
    """
    classes = {
        name: _get_class_names(name, inputs, sources, settings) for name in ("generated", "reference") if name in inputs
    }
    everywhere = sorted(set.intersection(*(set(each.tolist()) for each in classes.values())))
    class_names = sorted(set().union(*(each.tolist() for each in classes.values())))
    sizes = {
        class_name: min(int((of_input == class_name).sum()) for of_input in classes.values())
        for class_name in everywhere
    }
    of_held_out = {request.key for request in plan.requests if request.metric.uses_held_out}
    held_out_problem = ""
    if of_held_out:
        try:
            classes["held-out"] = _get_class_names("held-out", inputs, sources, settings)
        except RequestError as error:
            held_out_problem = str(error)
    alone = {
        class_name: _compute_class_values(class_name, plan, inputs, classes)
        for class_name, size in sizes.items()
        if size > 1
    }
    values = {key: {class_name: found[key] for class_name, found in alone.items() if key in found} for key in scores}
    distances = {request.key for request in plan.requests if has_small_sample_bias(request.metric)}
    small_class_warnings = tuple(_small_class_warnings(sizes, inputs["generated"]["features"].dims))

    def warnings_for(key: str) -> tuple[str, ...]:
        if held_out_problem and key in of_held_out:
            return (f"{key} has no values per class: {held_out_problem}",)
        if not everywhere:
            return (f"{key} has no values per class: {_describe_class_names(classes)}",)
        return (
            *_missing_class_warnings(key, class_names, values[key]),
            *(small_class_warnings if key in distances else ()),
        )

    combined = {
        key: replace(score, per_class=values[key], warnings=(*score.warnings, *warnings_for(key)))
        for key, score in scores.items()
    }
    return scores.with_scores(combined)


def _describe_class_names(classes: Mapping[str, np.ndarray]) -> str:
    """Return that the inputs have no class in common, with the first classes of each."""
    shown = []
    for name in ("generated", "reference"):
        if name in classes:
            class_names = np.unique(classes[name]).tolist()
            more = ", ..." if len(class_names) > _MAX_CLASSES_SHOWN else ""
            shown.append(f"{name}: {', '.join(class_names[:_MAX_CLASSES_SHOWN])}{more}")
    return (
        f"the class names of the inputs differ ({'; '.join(shown)}). Classes are compared by name; rename the class folders of one "
        "input to those of the other"
    )


def _compute_class_values(
    class_name: str, plan: MetricPlan, inputs: Mapping[str, LayerStatistics], classes: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Compute the values of one class; metrics of held-out images need two held-out images of that class."""
    members = {name: of_input == class_name for name, of_input in classes.items()}
    if "held-out" not in members or members["held-out"].sum() < 2:
        members.pop("held-out", None)
        plan = replace(plan, requests=[request for request in plan.requests if not request.metric.uses_held_out])
    alone = {
        name: {layer: _select_class(found, some, class_name) for layer, found in inputs[name].items()}
        for name, some in members.items()
    }
    with suppress(RequestError):  # no metric can be computed from so few images
        found = compute_scores(plan, {**inputs, **alone}, interval="none") if plan.requests else {}
        return {key: score.value for key, score in found.items()}
    return {}


def _get_class_names(
    name: str, inputs: Mapping[str, LayerStatistics], sources: Mapping[str, ImageSource], settings: Settings
) -> np.ndarray:
    """Return the class of every image of an input, as an array of text.

    Raises:
        RequestError: the input is statistics, or its images have no classes.
    """
    statistics = inputs[name]["features"]
    if name not in sources or statistics.indices is None:
        raise RequestError(
            f"{statistics.label} contains features or statistics, which have no classes; pass images in one folder per class, or an .npz with "
            "labels in arr_1"
        )
    source = sources[name]
    source_indices = Partition.from_source(source, settings).source_indices
    return np.array(source.get_class_names([source_indices[index] for index in statistics.indices]))


def _missing_class_warnings(key: str, class_names: Sequence[str], values: Mapping[str, float]) -> Iterator[str]:
    missing = [class_name for class_name in class_names if class_name not in values]
    if missing:
        yield f"{key} has no value for class {', '.join(missing)}: too few images, or none in one of the inputs"


def _small_class_warnings(sizes: Mapping[str, int], dims: int) -> Iterator[str]:
    """Yield a warning if distances of some classes are dominated by small-sample bias."""
    few = [size for size in sizes.values() if 2 <= size <= dims]
    if few:
        yield (
            f"{len(few)} of {len(sizes)} classes have no more images than the {dims:,} feature dimensions (the smallest has "
            f"{min(few)}): their values are strongly biased upwards; compare only with runs of the same sample size"
        )


def _select_class(statistics: FeatureStatistics, mask: np.ndarray, class_name: str) -> FeatureStatistics:
    """Compute the statistics of the rows of one class.

    Raises:
        StatisticsError: fewer than two rows.
    """
    assert statistics.features is not None
    return FeatureStatistics.from_features(
        statistics.features[mask],
        spec=statistics.spec,
        label=f"{statistics.label} (class {class_name})",
        seed=statistics.seed,
        keep_all=True,
    )
