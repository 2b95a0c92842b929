"""Several runs told as one: each class alone, each extractor its own metrics, other seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from frechet.comparison import Layers, computed
from frechet.errors import RequestError
from frechet.features.settings import Settings
from frechet.metrics.plan import Plan, by_extractor
from frechet.scores import Score, Scores
from frechet.statistics.classes import classes_of, of_class


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
            interval_reason="of one run; the deviation is that of repeated runs",
        )
    return Scores(told, first.provenance, first.unavailable)


def by_class(plan: Plan, scores: Scores, generated: Layers, reference: Layers | None) -> Scores:
    """The same scores, with the values that each class has alone.

    Raises:
        RequestError: a side has no classes.
    """
    sides = [side for side in (generated, reference) if side is not None]
    classes = [np.array(classes_of(side["features"])) for side in sides]
    values: dict[str, dict[str, float]] = {key: {} for key in scores}
    for name in sorted(set(classes[0]).intersection(*classes[1:])):
        parts = [
            {layer: of_class(found, labels == name, name) for layer, found in side.items()}
            for side, labels in zip(sides, classes, strict=True)
            if (labels == name).sum() > 1
        ]
        with suppress(RequestError):  # no metric is to be had of so few
            for key, score in computed(plan, *parts, interval="none").items() if len(parts) == len(sides) else ():
                values[key][name] = score.value
    told = {key: replace(score, per_class=values[key]) for key, score in scores.items()}
    return Scores(told, scores.provenance, scores.unavailable)


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
        own = {"dims": None, "convention": None, "weights": None, "backend": "auto"}  # those are said of the other one
        chosen = settings if extractor is None else replace(settings, extractor=extractor, **own)  # type: ignore[arg-type]
        try:
            found = run(chosen, names)
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
