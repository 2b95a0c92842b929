"""Two statistics side by side: what the metrics of a plan say of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from frechet.errors import RequestError, StatisticsError
from frechet.evaluation.provenance import common_recipe, guess_of, provenance_of, warnings_on
from frechet.evaluation.request import Plan, Wish, names_of, plan_of
from frechet.execution.collect import Progress
from frechet.features.spec import Recipe
from frechet.metrics import (
    Metric,
    Outcome,
    Sides,
    default_metric,
    frechet_changes,
    has_bias_of_few,
    label_of,
    require_all_features,
)
from frechet.metrics.frechet import frechet_of
from frechet.results import Influences, Score, Scores
from frechet.statistics.feature_statistics import Statistics

Layers = Mapping[str, Statistics]  # "features" is the layer that was asked for, others bear their tap's name
SAMPLES = "samples"  # the layer that was asked for, of images that lie beside statistics of others


def compare(
    generated: Statistics | Layers,
    reference: Statistics | Layers | None = None,
    *,
    held_out: Statistics | Layers | None = None,
    metrics: Sequence[str] | str | None = None,
    splits: Sequence[int] | None = None,
    interval: str = "auto",
    explain: int = 0,
    progress: Progress | None = None,
) -> Scores:
    """Scores from statistics. Arguments as in `frechet.score`.

    Raises:
        Mismatch: they were made differently.
        RequestError: an unknown metric, or nothing that can be computed.
    """
    require_wishes(interval, explain)
    given = {"generated": generated, "reference": reference, "held-out": held_out}
    sides = {name: layers_of(side) for name, side in given.items() if side is not None}
    known = {name: side["features"] for name, side in sides.items()}
    recipe = common_recipe(*known.values())
    plan = plan_of(
        names_of(metrics), recipe, reference="reference" in sides, held_out="held-out" in sides, splits=splits
    )
    return computed(plan.given(known), sides, interval=interval, explain=explain, progress=progress)


def layers_of(side: Statistics | Layers) -> Layers:
    """A side's statistics by layer: alone, they are those of the layer that was asked for, whatever it is."""
    if not isinstance(side, Statistics):
        return side
    tap = side.recipe.filled_from(guess_of(side.dims)).layer
    return {"features": side, **({tap: side} if tap else {})}


def computed(
    plan: Plan,
    sides: Mapping[str, Layers],
    *,
    interval: str = "auto",
    explain: int = 0,
    progress: Progress | None = None,
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
    whole = {name: side["features"] for name, side in sides.items()}
    recipe = common_recipe(*whole.values())
    common = _common(plan, whole, recipe, explain, provenance_of(*_pair(whole), recipe, backend, device))
    listed = _listed(*_pair(whole), explain) if explain else None
    settings = tuple(wish.settings for wish in plan.wishes)
    prepared: dict[tuple[tuple[str, str], ...], Sides] = {}  # metrics of the same layers share what they have in common
    scores: dict[str, Score] = {}
    failed = dict(plan.refused)
    for wish in plan.wishes:
        layers = _layers_for(wish, sides)
        same = tuple(layers.items())
        try:
            if same not in prepared:
                found = {name: _layer(sides[name], layer, wish.key) for name, layer in same}
                prepared[same] = Sides.of(found, device or "cpu", settings)
            score = _score(wish, prepared[same], recipe, interval, progress, common)
        except RequestError as error:
            failed[wish.key] = error
        else:
            beside = tuple(_images_beside(wish.key, sides[name][SAMPLES]) for name in layers if layers[name] == SAMPLES)
            listing = listed if wish.metric.compute is frechet_of else None
            scores[wish.key] = replace(score, influence=listing, warnings=(*score.warnings, *beside))
    if not scores:
        raise next(iter(failed.values()))
    return Scores(scores, common["provenance"], {key: str(error) for key, error in failed.items()})


def _pair(whole: Mapping[str, Statistics]) -> tuple[Statistics, Statistics | None]:
    return whole["generated"], whole.get("reference")


def _common(
    plan: Plan, whole: Mapping[str, Statistics], recipe: Recipe, explain: int, provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields that all scores of a plan have in common.

    Raises:
        RequestError: images are to be listed by a distance that is not among the metrics.
    """
    frechet = any(wish.metric.compute is frechet_of for wish in plan.wishes)
    if explain and not frechet:
        raise RequestError(
            "explain lists what images do to the Fréchet distance, which is not among the metrics; ask for "
            f"{default_metric(recipe)} as well"
        )
    biased = any(has_bias_of_few(wish.metric) for wish in plan.wishes)
    return {
        "bad_images": tuple(bad for side in whole.values() for bad in side.bad_images),
        "warnings": tuple(warnings_on(*_pair(whole), recipe, frechet=biased)),
        "provenance": provenance,
    }


def _layers_for(wish: Wish, sides: Mapping[str, Layers]) -> dict[str, str]:
    """The layer of each side that a metric is about."""
    return {
        name: _name_of_layer(name, side, wish.metric)
        for name, side in sides.items()
        if wish.metric.reference or name == "generated"
    }


def _name_of_layer(name: str, side: Layers, metric: Metric) -> str:
    """The layer of a side that a metric is about; where it needs every image and the side has some beside, theirs."""
    samples = SAMPLES in side and metric.layer == "features" and name in metric.all_features
    return SAMPLES if samples else metric.layer


def _images_beside(key: str, side: Statistics) -> str:
    return (
        f"{key} is of the {side.n} images that {side.source} holds beside its statistics; those may be of more images"
    )


def _layer(side: Layers, layer: str, key: str) -> Statistics:
    """The statistics that a metric is about.

    Raises:
        RequestError: the side is statistics of another layer.
    """
    if layer in side:
        return side[layer]
    known = side["features"]
    raise RequestError(
        f"{key} needs the {layer} layer, and {known.source} holds statistics of {known.recipe.layer or f'{known.dims} features'} "
        "alone; give images"
    )


def _score(
    wish: Wish, sides: Sides, recipe: Recipe, interval: str, progress: Progress | None, common: Mapping[str, Any]
) -> Score:
    """One metric's score.

    Raises:
        RequestError: it cannot be computed of these sides.
    """
    metric, generated = wish.metric, sides.generated
    outcome = metric.compute(sides, **wish.settings)
    if not math.isfinite(outcome.value):
        raise StatisticsError(f"{wish.key} is {outcome.value}: the statistics hold numbers too large to be features")
    reference = sides.reference if metric.reference else None
    layer = recipe if metric.layer == "features" else replace(recipe, layer=metric.layer)
    return Score(
        metric=wish.key,
        label=label_of(wish.key, layer, generated.dims),
        value=outcome.value,
        terms=outcome.terms,
        deviation=outcome.deviation,
        settings=dict(wish.settings),
        lower_is_better=metric.lower_is_better,
        compares=metric.reference,
        **_interval_fields(metric, outcome, generated, reference, interval, progress),
        n_generated=generated.n,
        n_reference=reference.n if reference is not None else None,
        **common,
    )


def require_wishes(interval: str, explain: int) -> None:
    """Refuse wishes that could never be met, before anything is computed."""
    if interval not in ("auto", "none"):
        raise RequestError(f"interval is {interval!r}; expected auto or none")
    if not isinstance(explain, (int, np.integer)) or explain < 0:
        raise RequestError(f"explain is {explain!r}; expected the number of images to list")


def _interval_fields(
    metric: Metric,
    outcome: Outcome,
    generated: Statistics,
    reference: Statistics | None,
    interval: str,
    progress: Progress | None,
) -> dict[str, Any]:
    """The fields of a score that say how far it is from the truth, or why that is not known."""
    if interval == "none":
        return {"interval_reason": "not asked for"}
    if outcome.standard_error is not None:
        half = 1.96 * outcome.standard_error
        return {
            "corrected_value": outcome.value,
            "standard_error": outcome.standard_error,
            "interval_95": (outcome.value - half, outcome.value + half),
            "interval_method": "unbiased; the U-statistic's variance",
        }
    if metric.interval is None or reference is None:
        return {"interval_reason": metric.no_interval}

    def done(step: int, steps: int) -> None:
        if progress:
            progress("interval", step, steps)

    found = metric.interval(generated, reference, generated.seed, done)
    if isinstance(found, str):
        return {"interval_reason": found}
    return {
        "corrected_value": found.corrected,
        "standard_error": found.standard_error,
        "interval_95": (found.low, found.high),
        "interval_method": found.method,
        "variances": found.variances,
        "reference_groups": found.groups,
        "p_equal": found.p_equal,
        "halved_by": found.halved_by(generated.n, reference.n),
    }


def influences_of(generated: Statistics, reference: Statistics) -> Influences:
    """What every generated image does to the Fréchet distance.

    Raises:
        RequestError: the generated side did not keep every image's features.
    """
    require_all_features(generated)
    assert generated.places is not None
    found = frechet_changes(generated, reference)
    names = generated.names or tuple(f"image {place}" for place in generated.places)
    return Influences(names, found.mean, found.covariance)


def _listed(generated: Statistics, reference: Statistics | None, count: int) -> dict[str, Any] | None:
    if reference is None:
        return None
    found = influences_of(generated, reference)
    return {"raise": found.raising(count), "lower": found.lowering(count)}
