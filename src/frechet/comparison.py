"""Two statistics side by side: may they be compared, what do the metrics say, what should a reader know."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from frechet.engines.local import Progress
from frechet.errors import Mismatch, RequestError, StatisticsError
from frechet.features.extractors import EXTRACTORS
from frechet.features.recipe import Recipe, require_equal
from frechet.metrics import Metric, Outcome, Sides, default_metric, frechet_influence, label_of, require_all_features
from frechet.metrics.gaussian import frechet_of
from frechet.metrics.plan import Plan, Wish, names_of, plan_of
from frechet.scores import Influences, Score, Scores
from frechet.statistics.pairs import remarks_on_pair
from frechet.statistics.statistics import Statistics
from frechet.version import __version__

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
    one, other = whole["generated"], whole.get("reference")
    provenance = _provenance(one, other, recipe, backend, device)
    frechet = any(wish.metric.compute is frechet_of for wish in plan.wishes)
    if explain and not frechet:
        raise RequestError(
            "explain lists what images do to the Fréchet distance, which is not among the metrics; ask for "
            f"{default_metric(recipe)} as well"
        )
    listed = _listed(one, other, explain) if explain and other is not None else None
    common = {
        "bad_images": tuple(bad for side in whole.values() for bad in side.bad_images),
        "warnings": tuple(_warnings(one, other, recipe, frechet=frechet)),
        "provenance": provenance,
    }
    settings = tuple(wish.settings for wish in plan.wishes)
    scores: dict[str, Score] = {}
    failed, by_layer = dict(plan.refused), {}
    for wish in plan.wishes:
        layers = {
            name: _name_of_layer(name, side, wish.metric)
            for name, side in sides.items()
            if wish.metric.reference or name == "generated"
        }
        same = tuple(layers.items())
        try:
            if same not in by_layer:
                found = {name: _layer(sides[name], layer, wish.key) for name, layer in same}
                by_layer[same] = Sides.of(found, device or "cpu", settings)
            score = _score(wish, by_layer[same], recipe, interval, progress, common)
            told = tuple(_images_beside(wish.key, sides[name][SAMPLES]) for name in layers if layers[name] == SAMPLES)
            listing = listed if wish.metric.compute is frechet_of else None
            scores[wish.key] = replace(score, influence=listing, warnings=(*score.warnings, *told))
        except RequestError as error:
            failed[wish.key] = error
    if not scores:
        raise next(iter(failed.values()))
    return Scores(scores, provenance, {key: str(error) for key, error in failed.items()})


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


def common_recipe(generated: Statistics, *others: Statistics) -> Recipe:
    """How all sides were made, as far as any says.

    Raises:
        Mismatch: they were made differently and have no distance.
    """
    recipe = generated.recipe
    for other in others:
        if generated.dims != other.dims:
            raise Mismatch(
                f"generated ({generated.source}) has {generated.dims} dimensions and reference ({other.source}) "
                f"{other.dims}; they come from different layers or networks"
            )
        require_equal(recipe, other.recipe)
        recipe = recipe.filled_from(other.recipe)
        if other.recipe.official:  # the same tensors, and known to be the published ones on that side
            recipe = replace(recipe, official=True)
    return recipe.filled_from(guess_of(generated.dims))


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
    assert generated.n is not None
    assert generated.places is not None
    found = frechet_influence(generated, reference)
    names = generated.names or tuple(f"image {place}" for place in generated.places)
    return Influences(names, found.mean / (1 - generated.n), found.covariance / (1 - generated.n))


def _listed(generated: Statistics, reference: Statistics, count: int) -> dict[str, Any]:
    found = influences_of(generated, reference)
    return {"raise": found.raising(count), "lower": found.lowering(count)}


def guess_of(dims: int) -> Recipe:
    """What statistics that say nothing are taken for: Inception features, where Inception has such a layer."""
    layers = [tap for tap, d in EXTRACTORS["inception"].taps.items() if d == dims]
    return Recipe(extractor="inception", layer=layers[0]) if layers else Recipe()


def _warnings(generated: Statistics, reference: Statistics | None, recipe: Recipe, *, frechet: bool) -> Iterator[str]:
    """What a reader should know of the sides; `frechet` says whether a Fréchet distance is among the scores."""
    sides = [("generated", generated)] + ([("reference", reference)] if reference is not None else [])
    for name, side in sides:
        if not side.recipe.complete:
            taken = ", ".join(f"{key} {value}" for key, value in asdict(recipe).items() if key in _TOLD and value)
            yield (
                f"{side.source} does not say how it was made; taken to be {taken or 'made like the other side'}"
                + (". If its convention is another one, say --reference-convention." if name == "reference" else "")
            )
        if frechet and side.n is not None and side.n <= side.dims:
            yield (
                f"{side.n} {name} images span at most {side.n - 1} of {side.dims} dimensions: the value is far too large "
                "and only comparable with others at the same numbers of images"
            )
        yield from (f"{name}: {remark}" for remark in side.remarks)
        if side.bad_images:
            yield f"{name}: {len(side.bad_images)} images could not be decoded and were left out; the first: {side.bad_images[0]}"
    if reference is not None:
        yield from remarks_on_pair(generated, reference)


_TOLD = ("extractor", "layer", "convention", "precision")


def _provenance(
    generated: Statistics, reference: Statistics | None, recipe: Recipe, backend: str | None, device: str | None
) -> dict[str, Any]:
    def side(statistics: Statistics) -> dict[str, Any]:
        said = asdict(statistics.recipe)
        return {
            "source": statistics.source,
            "sha256": statistics.sha256,
            "n": statistics.n,
            "n_source": statistics.n_source,
            "seed": statistics.seed,
            "made_by": statistics.made_by,
            "moments": [float(statistics.mean @ statistics.mean), float(np.trace(statistics.covariance))],
            "assumed": [name for name, value in said.items() if value is None],
            "bad_images": list(statistics.bad_images),
        }

    return {
        "frechet": __version__,
        **asdict(recipe),
        "backend": backend,
        "device": device,
        "generated": side(generated),
        "reference": side(reference) if reference is not None else None,
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
