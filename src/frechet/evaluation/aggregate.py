"""Several runs told as one: each class alone, each extractor its own metrics, other seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from frechet.errors import RequestError
from frechet.evaluation.compute import Layers, computed
from frechet.evaluation.per_class import classes_of, of_class
from frechet.evaluation.request import Plan, by_extractor
from frechet.execution.settings import Settings
from frechet.metrics import has_bias_of_few
from frechet.results import Score, Scores


def averaged(runs: Sequence[Scores]) -> Scores:
    """The scores of runs that were repeated: the mean of each, and how far the runs lie apart (n - 1 in the denominator)."""
    first = runs[0]
    told = {}
    for key, score in first.items():
        values = tuple(run[key].value for run in runs if key in run)
        told[key] = replace(
            score,
            value=float(np.mean(values)),
            deviation=float(np.std(values, ddof=1)) if len(values) > 1 else None,
            repeats=values,
            terms={},
            per_class={
                label: float(np.mean([run[key].per_class[label] for run in runs if label in _classes(run, key)]))
                for label in sorted(set().union(*(_classes(run, key) for run in runs)))
            },
            interval_method=score.interval_method and f"{score.interval_method}, of the first run alone",
        )
    return Scores(told, first.provenance, first.unavailable)


def _classes(run: Scores, key: str) -> set[str]:
    return set(run[key].per_class) if key in run else set()


def by_class(plan: Plan, scores: Scores, sides: Mapping[str, Layers]) -> Scores:
    """The same scores, with the values that each class has alone, where every side has two images of it or more.

    Raises:
        RequestError: the generated or the reference side has no classes.
    """
    compared = [name for name in ("generated", "reference") if name in sides]
    classes = {name: np.array(classes_of(sides[name]["features"])) for name in compared}
    everywhere = sorted(set.intersection(*map(set, classes.values())))
    labels = sorted(set().union(*classes.values()))
    sizes = {label: min(int((of_side == label).sum()) for of_side in classes.values()) for label in everywhere}
    of_held_out = {wish.key for wish in plan.wishes if wish.metric.held_out}
    lacking = _add_held_out(classes, sides) if of_held_out else ""
    alone = {label: _values_of(label, plan, sides, classes) for label, size in sizes.items() if size > 1}
    values = {key: {label: found[key] for label, found in alone.items() if key in found} for key in scores}
    distances = {wish.key for wish in plan.wishes if has_bias_of_few(wish.metric)}
    thin = tuple(_thin(sizes, sides["generated"]["features"].dims))

    def words(key: str) -> tuple[str, ...]:
        if lacking and key in of_held_out:
            return (f"{key} has no values by class: {lacking}",)
        return (*_left_out(key, labels, values[key]), *(thin if key in distances else ()))

    told = {
        key: replace(score, per_class=values[key], warnings=(*score.warnings, *words(key)))
        for key, score in scores.items()
    }
    return Scores(told, scores.provenance, scores.unavailable)


def _values_of(
    label: str, plan: Plan, sides: Mapping[str, Layers], classes: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """The values that one class has alone; of metrics that want held-out images, where two are of that class."""
    members = {name: of_side == label for name, of_side in classes.items()}
    if "held-out" not in members or members["held-out"].sum() < 2:
        members.pop("held-out", None)
        plan = replace(plan, wishes=[wish for wish in plan.wishes if not wish.metric.held_out])
    alone = {
        name: {layer: of_class(found, some, label) for layer, found in sides[name].items()}
        for name, some in members.items()
    }
    with suppress(RequestError):  # no metric is to be had of so few
        found = computed(plan, {**sides, **alone}, interval="none") if plan.wishes else {}
        return {key: score.value for key, score in found.items()}
    return {}


def _add_held_out(classes: dict[str, np.ndarray], sides: Mapping[str, Layers]) -> str:
    """Add the classes of the held-out images, of which a class wants its own beside it; or why they have none."""
    try:
        classes["held-out"] = np.array(classes_of(sides["held-out"]["features"]))
    except RequestError as error:
        return str(error)
    return ""


def _left_out(key: str, labels: Sequence[str], values: Mapping[str, float]) -> Iterator[str]:
    missing = [label for label in labels if label not in values]
    if missing:
        yield f"{key} has no value of class {', '.join(missing)}: too few images of it, or none on one side"


def _thin(sizes: Mapping[str, int], dims: int) -> Iterator[str]:
    """A word on classes whose distances are mostly bias."""
    few = [size for size in sizes.values() if 2 <= size <= dims]
    if few:
        yield (
            f"{len(few)} of {len(sizes)} classes have no more images than the {dims} dimensions, the smallest {min(few)}: their values "
            "are far too large and only comparable with others at the same numbers of images"
        )


def with_seed(settings: Settings, turn: int) -> Settings:
    """The settings of a run that is repeated: the next seeds, and where that is another subset, a work-dir of its own."""
    if not turn:
        return settings
    apart = settings.work_dir is not None and settings.num_images is not None
    work_dir = Path(settings.work_dir or "") / f"seed-{settings.seed + turn}" if apart else settings.work_dir
    return replace(settings, seed=settings.seed + turn, work_dir=work_dir)


def extractor_by_extractor(
    run: Callable[[Settings, Sequence[str] | None], Scores], settings: Settings, metrics: Sequence[str] | None
) -> Scores:
    """One run for each extractor that the metrics name; what one cannot give does not cost the others'.

    Raises:
        RequestError: nothing could be computed; why the first metric could not.
    """
    groups = by_extractor(metrics)
    if groups.keys() <= {None, settings.extractor}:
        return run(settings, metrics)
    scores: dict[str, Score] = {}
    failed: dict[str, RequestError | str] = {}
    for extractor, names in groups.items():
        try:
            found = run(settings if extractor is None else _of_other(settings, extractor), names)
        except RequestError as error:
            failed |= dict.fromkeys(names or (), error)
        else:
            scores |= found
            failed |= found.unavailable
    if not scores:
        raise next(error for error in failed.values() if isinstance(error, RequestError))
    ordered = {name: scores[name] for name in metrics or scores if name in scores}
    told = {name: str(error) for name, error in failed.items()}
    return Scores(ordered, next(iter(ordered.values())).provenance, told)


def _of_other(settings: Settings, extractor: str) -> Settings:
    """The same settings for another extractor than the one that layer, convention and weights were said of."""
    work_dir = Path(settings.work_dir, extractor) if settings.work_dir is not None else None
    return replace(
        settings, extractor=extractor, dims=None, convention=None, weights=None, backend="auto", work_dir=work_dir
    )
