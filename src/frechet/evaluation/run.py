"""Images in, scores out: the one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from frechet.errors import RequestError, SourceError, WeightsError
from frechet.evaluation.aggregate import averaged, by_class, extractor_by_extractor, with_seed
from frechet.evaluation.compute import SAMPLES, Layers, computed, influences_of, layers_of, require_wishes
from frechet.evaluation.inputs import (
    are_bare_features,
    declared,
    gathered,
    images_beside,
    made_once,
    open_side,
    opened,
    require_as_asked,
    require_extractor,
    require_fit,
)
from frechet.evaluation.provenance import common_recipe
from frechet.evaluation.request import Plan, by_extractor, names_of, of_every_image, plan_of
from frechet.execution.collect import Progress, collect_from, collect_layers
from frechet.execution.settings import Options, Settings, require_keywords
from frechet.features.extractor import LoadedExtractor
from frechet.features.registry import table_row
from frechet.features.spec import Recipe
from frechet.images.image import Source
from frechet.results import Influences, Score, Scores
from frechet.statistics.feature_statistics import Statistics

if TYPE_CHECKING:
    from typing_extensions import Unpack


def score(
    generated: Any,
    reference: Any = None,
    *,
    metrics: Sequence[str] | str | None = None,
    held_out: Any = None,
    splits: Sequence[int] | None = None,
    reference_convention: str | None = None,
    reference_size: int | None = None,
    interval: str = "auto",
    explain: int = 0,
    per_class: bool = False,
    repeat: int = 1,
    features: bool = False,
    progress: Progress | None = None,
    **options: Unpack[Options],
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
        reference_convention: the convention of a reference statistics file that does not say.
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
    require_keywords("frechet.score", options, score)
    settings = Settings(**options)
    require_wishes(interval, explain)
    metrics = names_of(metrics)
    if repeat < 1:
        raise RequestError(f"repeat is {repeat}; expected the number of runs")

    def run(given: Sequence[Any], settings: Settings, metrics: Sequence[str] | None) -> Scores:
        keep_all = explain > 0 or of_every_image(metrics)
        opener = partial(open_side, settings=settings, features=features, keep_all=keep_all, progress=progress)
        sides = opened(opener, *given)
        if "reference" in sides:
            sides["reference"] = declared(sides["reference"], reference_convention, reference_size)
        wish = partial(plan_of, metrics, splits=splits, explain=explain, per_class=per_class)
        return _run(sides, settings, wish, interval, explain, progress).scores

    sides = [generated, reference, held_out] if features else list(map(gathered, (generated, reference, held_out)))
    runs = [_turn(run, sides, with_seed(settings, turn), metrics) for turn in range(repeat)]
    return runs[0] if repeat == 1 else averaged(runs)


def _turn(
    run: Callable[[Sequence[Any], Settings, Sequence[str] | None], Scores],
    sides: Sequence[Any],
    settings: Settings,
    metrics: Sequence[str] | None,
) -> Scores:
    """One run, of as many extractors as the metrics name."""
    if len(by_extractor(metrics)) > 1:
        sides = [made_once(side, settings) for side in sides]
    return extractor_by_extractor(partial(run, sides), settings, metrics)


class Measured(NamedTuple):
    """Scores and what they were computed from.

    Attributes:
        scores: the result.
        statistics: of the layer that was asked for, by side ("generated", "reference").
        sources: the images, of sides that were given as such.
    """

    scores: Scores
    statistics: dict[str, Statistics]
    sources: dict[str, Source]


def measure(
    generated: Any,
    reference: Any,
    settings: Settings,
    *,
    metrics: Sequence[str] | str | None = None,
    splits: Sequence[int] | None = None,
    held_out: Any = None,
    reference_convention: str | None = None,
    reference_size: int | None = None,
    interval: str = "auto",
    explain: int = 0,
    per_class: bool = False,
    features: bool = False,
    progress: Progress | None = None,
) -> Measured:
    """As `score`, with the features that the scores come from: of every image, where images or features are given.

    Statistics that did not keep the features of every image are scored without `explain`.
    """
    require_wishes(interval, explain)
    sides = opened(
        partial(open_side, settings=settings, features=features, keep_all=True, progress=progress),
        generated,
        reference,
        held_out,
    )
    sides["reference"] = declared(sides["reference"], reference_convention, reference_size)
    one = sides["generated"]
    all_there = not isinstance(one, Statistics) or one.features is not None
    keeps = max(explain, 1) if all_there else 0  # what images are listed by is kept, whether they are listed or not
    wish = partial(plan_of, names_of(metrics), splits=splits, explain=keeps, per_class=per_class)
    return _run(sides, settings, wish, interval, explain if all_there else 0, progress)


def _run(
    sides: Mapping[str, Source | Statistics],
    settings: Settings,
    wish: Callable[..., Plan],
    interval: str,
    explain: int,
    progress: Progress | None,
) -> Measured:
    """Plan, collect, compute."""
    wish = partial(wish, reference="reference" in sides, held_out="held-out" in sides)
    plan, found, used = _found(sides, settings, wish, progress)
    told = {"backend": used.backend, "device": used.device} if used else {}
    scores = computed(plan, found, interval=interval, explain=explain, progress=progress, **told)
    if plan.per_class:
        scores = by_class(plan, scores, found)
    return Measured(
        scores,
        {name: layers["features"] for name, layers in found.items() if name != "held-out"},
        {name: side for name, side in sides.items() if not isinstance(side, Statistics)},
    )


def _found(
    sides: Mapping[str, Source | Statistics],
    settings: Settings,
    wish: Callable[[Recipe], Plan],
    progress: Progress | None,
) -> tuple[Plan, Mapping[str, Layers], LoadedExtractor | None]:
    """(what can be computed, statistics by layer of all sides, what computed their features)."""
    known = {name: side for name, side in sides.items() if isinstance(side, Statistics)}
    if len(known) == len(sides):
        require_as_asked(known, settings)
        return wish(common_recipe(*known.values())).given(known), _by_layer(known), None
    require_extractor(known, settings)
    wished = wish(settings.recipe)
    beside = {
        name: images for name, side in known.items() if wished.needs_images(name) for images in images_beside(side)
    }
    plan, extractor = _loaded(wished.given(known, beside), settings, progress)
    found = _collected(sides, settings, extractor, progress, plan.layers)
    for name, images in beside.items():
        samples = collect_from(images, settings, extractor, progress, name, keep_all=True)
        found[name] = {**found[name], SAMPLES: samples}
    return plan, found, extractor


def _loaded(plan: Plan, settings: Settings, progress: Progress | None) -> tuple[Plan, LoadedExtractor]:
    """The extractor with all layers that the plan needs, or as many as its weights have, and what is left of the plan."""
    further = [layer for layer in plan.layers if layer != "features"]
    try:
        return plan, settings.load(progress, further)
    except WeightsError as error:
        heads = [layer for layer in further if (row := table_row(settings.extractor)) and layer in row.heads]
        left = plan.without(heads, error) if heads else plan
        if left is plan:
            raise
        return left, settings.load(progress, [layer for layer in further if layer not in heads])


def _by_layer(sides: Mapping[str, Statistics]) -> dict[str, Layers]:
    return {name: layers_of(side) for name, side in sides.items()}


def fid(generated: Any, reference: Any, **options: Any) -> Score:
    """The Fréchet Inception Distance. Arguments as in `score`."""
    require_keywords("frechet.fid", options, score)
    return score(generated, reference, metrics=("fid",), **options)["fid"]


def influence(
    generated: Any,
    reference: Any,
    *,
    features: bool = False,
    progress: Progress | None = None,
    **options: Unpack[Options],
) -> Influences:
    """What every generated image does to the Fréchet distance. Arguments as in `score`.

    Raises:
        RequestError: the generated side is statistics that did not keep every image's features.
    """
    require_keywords("frechet.influence", options, influence)
    settings = Settings(**options)
    opener = partial(open_side, settings=settings, features=features, progress=progress)
    one, other = opener(generated, keep_all=True), opener(reference)
    if not (isinstance(one, Statistics) and isinstance(other, Statistics)):
        sides = {"generated": one, "reference": other}
        found = _collected(sides, settings, settings.load(progress), progress, {"features": True})
        one, other = found["generated"]["features"], found["reference"]["features"]
    common_recipe(one, other)
    return influences_of(one, other)


def collect(
    images: Any, *, features: bool = False, progress: Progress | None = None, **options: Unpack[Options]
) -> Statistics:
    """Statistics of images, for later comparisons.

    Args:
        images: a folder, .zip, .npz with `arr_0` or .npy of images, or an iterable of images.
        features: `images` are floating-point features (n, d) instead; what `options` say of them is recorded.
        progress: called with (what, images done, images in all).
        **options: fields of `Settings`.
    """
    require_keywords("frechet.collect", options, collect)
    settings = Settings(**options)
    source = open_side(images, settings, features=features, progress=progress)
    if isinstance(source, Statistics):
        if not (features and are_bare_features(source)):
            raise SourceError(
                f"{source.source} holds statistics already; expected {'features' if features else 'images'}"
            )
        require_as_asked({"generated": source}, settings)
        return source
    return collect_from(source, settings, settings.load(progress), progress)


def _collected(
    sides: Mapping[str, Source | Statistics],
    settings: Settings,
    extractor: LoadedExtractor,
    progress: Progress | None,
    layers: Mapping[str, bool],
) -> dict[str, Layers]:
    """Statistics of all sides by layer; `layers` says of which every image's features and name are kept.

    Raises:
        Mismatch: a side is statistics that these features cannot be compared with.
    """
    for name, side in sides.items():
        if isinstance(side, Statistics):
            require_fit(side, name, extractor)
    tap = extractor.recipe.layer or "features"
    keep = {**layers, "features": layers["features"] or layers.get(tap, False)}
    found: dict[str, Layers] = {}
    for name, side in sides.items():
        if isinstance(side, Statistics):
            found[name] = layers_of(side)
        else:
            collected = collect_layers(side, settings, extractor, progress, name, keep=keep)
            found[name] = {tap: collected["features"], **collected}
    return found
