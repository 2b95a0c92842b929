"""Several runs told as one: each class alone, each extractor its own metrics, other seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from frechet.errors import RequestError
from frechet.evaluation.compute import LayerStatistics, compute_scores
from frechet.evaluation.per_class import get_class_names, select_class
from frechet.evaluation.request import MetricPlan, group_by_extractor
from frechet.execution.settings import Settings
from frechet.metrics import has_small_sample_bias
from frechet.results import Score, Scores


def average_runs(runs: Sequence[Scores]) -> Scores:
    """The scores of runs that were repeated: the mean of each, and how far the runs lie apart (n - 1 in the denominator)."""
    first = runs[0]
    combined = {}
    for key, score in first.items():
        values = tuple(run[key].value for run in runs if key in run)
        combined[key] = replace(
            score,
            value=float(np.mean(values)),
            std=float(np.std(values, ddof=1)) if len(values) > 1 else None,
            repeats=values,
            terms={},
            splits=(),
            per_class={
                class_name: float(
                    np.mean([run[key].per_class[class_name] for run in runs if class_name in _class_names(run, key)])
                )
                for class_name in sorted(set().union(*(_class_names(run, key) for run in runs)))
            },
            interval_method=score.interval_method and f"{score.interval_method}, of the first run alone",
        )
    return Scores(combined, first.provenance, first.unavailable)


def _class_names(run: Scores, key: str) -> set[str]:
    return set(run[key].per_class) if key in run else set()


def add_class_scores(plan: MetricPlan, scores: Scores, inputs: Mapping[str, LayerStatistics]) -> Scores:
    """The same scores, with the values that each class has alone, where every side has two images of it or more.

    Raises:
        RequestError: the generated or the reference side has no classes.
    """
    compared = [name for name in ("generated", "reference") if name in inputs]
    classes = {name: np.array(get_class_names(inputs[name]["features"])) for name in compared}
    everywhere = sorted(set.intersection(*map(set, classes.values())))
    class_names = sorted(set().union(*classes.values()))
    sizes = {
        class_name: min(int((of_side == class_name).sum()) for of_side in classes.values()) for class_name in everywhere
    }
    of_held_out = {request.key for request in plan.requests if request.metric.uses_held_out}
    held_out_problem = _add_held_out_classes(classes, inputs) if of_held_out else ""
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
            return (f"{key} has no values by class: {held_out_problem}",)
        return (
            *_missing_class_warnings(key, class_names, values[key]),
            *(small_class_warnings if key in distances else ()),
        )

    combined = {
        key: replace(score, per_class=values[key], warnings=(*score.warnings, *warnings_for(key)))
        for key, score in scores.items()
    }
    return Scores(combined, scores.provenance, scores.unavailable)


def _compute_class_values(
    class_name: str, plan: MetricPlan, inputs: Mapping[str, LayerStatistics], classes: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """The values that one class has alone; of metrics that want held-out images, where two are of that class."""
    members = {name: of_side == class_name for name, of_side in classes.items()}
    if "held-out" not in members or members["held-out"].sum() < 2:
        members.pop("held-out", None)
        plan = replace(plan, requests=[request for request in plan.requests if not request.metric.uses_held_out])
    alone = {
        name: {layer: select_class(found, some, class_name) for layer, found in inputs[name].items()}
        for name, some in members.items()
    }
    with suppress(RequestError):  # no metric is to be had of so few
        found = compute_scores(plan, {**inputs, **alone}, interval="none") if plan.requests else {}
        return {key: score.value for key, score in found.items()}
    return {}


def _add_held_out_classes(classes: dict[str, np.ndarray], inputs: Mapping[str, LayerStatistics]) -> str:
    """Add the classes of the held-out images, of which a class wants its own beside it; or why they have none."""
    try:
        classes["held-out"] = np.array(get_class_names(inputs["held-out"]["features"]))
    except RequestError as error:
        return str(error)
    return ""


def _missing_class_warnings(key: str, class_names: Sequence[str], values: Mapping[str, float]) -> Iterator[str]:
    missing = [class_name for class_name in class_names if class_name not in values]
    if missing:
        yield f"{key} has no value of class {', '.join(missing)}: too few images of it, or none on one side"


def _small_class_warnings(sizes: Mapping[str, int], dims: int) -> Iterator[str]:
    """A word on classes whose distances are mostly bias."""
    few = [size for size in sizes.values() if 2 <= size <= dims]
    if few:
        yield (
            f"{len(few)} of {len(sizes)} classes have no more images than the {dims} dimensions, the smallest {min(few)}: their values "
            "are far too large and only comparable with others at the same numbers of images"
        )


def offset_seed(settings: Settings, repetition: int) -> Settings:
    """The settings of a run that is repeated: the next seeds, and where that is another subset, a work-dir of its own."""
    if not repetition:
        return settings
    apart = settings.work_dir is not None and settings.num_images is not None
    work_dir = Path(settings.work_dir or "") / f"seed-{settings.seed + repetition}" if apart else settings.work_dir
    return replace(settings, seed=settings.seed + repetition, work_dir=work_dir)


def run_per_extractor(
    run: Callable[[Settings, Sequence[str] | None], Scores], settings: Settings, metrics: Sequence[str] | None
) -> Scores:
    """One run for each extractor that the metrics name; what one cannot give does not cost the others'.

    Raises:
        RequestError: nothing could be computed; why the first metric could not.
    """
    groups = group_by_extractor(metrics)
    if groups.keys() <= {None, settings.extractor}:
        return run(settings, metrics)
    scores: dict[str, Score] = {}
    failed: dict[str, RequestError | str] = {}
    for extractor, names in groups.items():
        try:
            found = run(settings if extractor is None else _settings_for_extractor(settings, extractor), names)
        except RequestError as error:
            failed |= dict.fromkeys(names or (), error)
        else:
            scores |= found
            failed |= found.unavailable
    if not scores:
        raise next(error for error in failed.values() if isinstance(error, RequestError))
    ordered = {name: scores[name] for name in metrics or scores if name in scores}
    reasons = {name: str(error) for name, error in failed.items()}
    return Scores(ordered, next(iter(ordered.values())).provenance, reasons)


def _settings_for_extractor(settings: Settings, extractor: str) -> Settings:
    """The same settings for another extractor than the one that layer, convention and weights were said of."""
    work_dir = Path(settings.work_dir, extractor) if settings.work_dir is not None else None
    return replace(
        settings, extractor=extractor, dims=None, preprocessing=None, weights=None, backend="auto", work_dir=work_dir
    )
