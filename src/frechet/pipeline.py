"""Images in, scores out: the one sentence."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frechet.comparison import (
    checked_metrics,
    common_recipe,
    compare,
    guess_of,
    influences_of,
    require_wishes,
)
from frechet.engines.local import Progress, collect_from
from frechet.errors import Mismatch, RequestError, SourceError, TooFewImages
from frechet.features.conventions import CONVENTIONS
from frechet.features.extractors import EXTRACTORS, LoadedExtractor, tap_of
from frechet.features.recipe import Recipe, require_equal
from frechet.features.settings import Options, Settings
from frechet.images.pictures import Source
from frechet.images.remote import is_url
from frechet.images.sources import open_source
from frechet.metrics import METRICS, require_all_features
from frechet.scores import Influences, Score, Scores
from frechet.statistics.files import read_features, read_statistics
from frechet.statistics.peers import is_statistics
from frechet.statistics.remote import is_statistics_url, read_remote
from frechet.statistics.statistics import Statistics

if TYPE_CHECKING:
    from typing_extensions import Unpack


def score(
    generated: Any,
    reference: Any,
    *,
    metrics: Sequence[str] | None = None,
    reference_convention: str | None = None,
    reference_size: int | None = None,
    interval: str = "auto",
    explain: int = 0,
    features: bool = False,
    progress: Progress | None = None,
    **options: Unpack[Options],
) -> Scores:
    """Score generated images against reference images.

    Args:
        generated, reference: each a folder, .zip, .npz with `arr_0` or .npy of images, a statistics .npz or its URL, a
            `Statistics`, or an iterable of PIL images or uint8 arrays (h, w, 3).
        metrics: keys of the table of metrics; by default the Fréchet distance of the extractor's features.
        reference_convention: the convention of a reference statistics file that does not say.
        reference_size: the number of images behind a reference statistics file that does not say.
        interval: "auto" for the corrected value and its 95 % interval where there are images enough, or "none".
        explain: how many of the images that raise the score most, and of those that lower it most, to list.
        features: each side that is no statistics is floating-point features (n, d): an array, an .npy, or an .npz with
            `features`, `feats` or `arr_0`.
        progress: called with (what, images done, images in all) as the work goes on.
        **options: fields of `Settings`.

    Raises:
        RequestError: the request cannot be done; nothing was computed.
        RunError: an image or a feature was bad.
    """
    settings = Settings(**options)
    require_wishes(interval, explain)
    with ThreadPoolExecutor() as readers:  # two statistics files are read at once
        opener = partial(_open_side, settings=settings, features=features, progress=progress)
        one, other = readers.map(opener, (generated, reference))
    other = _declared(other, reference_convention, reference_size)
    if isinstance(one, Statistics) and isinstance(other, Statistics):
        _require_as_asked(one, other, settings)
        return compare(one, other, metrics=metrics, interval=interval, explain=explain, progress=progress)
    extractor = settings.load(progress)
    keep_all = explain > 0 or any(METRICS[name].all_features for name in checked_metrics(metrics, extractor.recipe))
    return compare(
        *_collected(one, other, settings, extractor, progress, keep_all=keep_all),
        metrics=metrics,
        interval=interval,
        explain=explain,
        progress=progress,
        backend=extractor.backend,
        device=extractor.device,
    )


def fid(generated: Any, reference: Any, **options: Any) -> Score:
    """The Fréchet Inception Distance. Arguments as in `score`."""
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
    settings = Settings(**options)
    opener = partial(_open_side, settings=settings, features=features, progress=progress)
    one, other = opener(generated), opener(reference)
    if not (isinstance(one, Statistics) and isinstance(other, Statistics)):
        one, other = _collected(one, other, settings, settings.load(progress), progress, keep_all=True)
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
    settings = Settings(**options)
    source = _open_side(images, settings, features=features, progress=progress)
    if isinstance(source, Statistics):
        if not (features and _are_bare_features(source)):
            raise SourceError(
                f"{source.source} holds statistics already; expected {'features' if features else 'images'}"
            )
        _require_as_asked(source, source, settings)
        return source
    return collect_from(source, settings, settings.load(progress), progress)


def _collected(
    one: Source | Statistics,
    other: Source | Statistics,
    settings: Settings,
    extractor: LoadedExtractor,
    progress: Progress | None,
    *,
    keep_all: bool,
) -> tuple[Statistics, Statistics]:
    """Statistics of both sides; `keep_all` keeps every image's features and name.

    Raises:
        RequestError: the generated side is statistics that did not keep them, though they are wanted.
    """
    if keep_all and isinstance(one, Statistics):
        require_all_features(one)
    for side, name in ((one, "generated"), (other, "reference")):
        if isinstance(side, Statistics):
            _require_fit(side, name, extractor)
    if not isinstance(one, Statistics):
        one = collect_from(one, settings, extractor, progress, "generated", keep_all=keep_all)
    if not isinstance(other, Statistics):
        other = collect_from(other, settings, extractor, progress, "reference", keep_all=keep_all)
    return one, other


def _open_side(
    side: Any, settings: Settings, *, features: bool = False, progress: Progress | None = None
) -> Source | Statistics:
    def read(path: Path) -> Statistics:
        if features and not is_statistics(path):
            return read_features(path, settings.seed)
        return read_statistics(path, settings.dims)

    if isinstance(side, Statistics):
        return side
    is_path = isinstance(side, (str, os.PathLike))
    if is_statistics_url(side) or (features and is_url(side)):
        found = read_remote(side, read, progress)
    elif is_path and not is_url(side) and (features or is_statistics(Path(side))):
        found = read(Path(side))
    elif features:
        found = Statistics.of_features(side, seed=settings.seed)
    else:
        source = open_source(side)
        if len(source) < 2:
            raise TooFewImages(f"{source.name} holds one image; a distribution needs at least two")
        return source
    return _as_said(found, settings) if features and _are_bare_features(found) else found


def _are_bare_features(side: Statistics) -> bool:
    """Whether all that was given is rows, by nobody who says how they were made."""
    return side.rows is not None and side.made_by is None


def _as_said(side: Statistics, settings: Settings) -> Statistics:
    """Bare features, with what the settings say of them."""
    said = settings.asked()
    if {"extractor", "layer"} & set(said):
        said |= {"extractor": settings.extractor, "layer": tap_of(EXTRACTORS[settings.extractor], side.dims)}
    return replace(side, recipe=side.recipe.filled_from(Recipe(**said)))  # type: ignore[arg-type]


def _declared(side: Source | Statistics, convention: str | None, size: int | None) -> Source | Statistics:
    """The reference, with what its user says of it where it does not say itself."""
    if convention is None and size is None:
        return side
    if not isinstance(side, Statistics):
        raise RequestError(
            "reference_convention and reference_size are for statistics files; images follow --convention"
        )
    if convention is not None:
        if convention not in CONVENTIONS:
            raise RequestError(f"no convention {convention!r}; there is {', '.join(CONVENTIONS)}")
        if side.recipe.convention not in (None, convention):
            raise Mismatch(
                f"{side.source} says it was made with convention {side.recipe.convention}, and --reference-convention "
                f"says {convention}; leave the flag out, or give the right file"
            )
        side = replace(side, recipe=side.recipe.filled_from(Recipe(convention=convention)))
    if size is not None:
        if size < 2:
            raise RequestError(f"reference_size is {size}; a covariance needs at least two images")
        if side.n not in (None, size):
            raise RequestError(
                f"reference_size {size} is given, but {side.source} says it was made from {side.n} images"
            )
        side = replace(side, n=size)
    return side


def _require_as_asked(one: Statistics, other: Statistics, settings: Settings) -> None:
    """Refuse flags that say how images become features where both sides are features already, and say otherwise."""
    asked = settings.asked()
    if settings.num_images is not None or settings.weights is not None:
        raise RequestError(
            "only statistics or features are given: there are no images that num_images or weights could apply to"
        )
    for name, side in (("generated", one), ("reference", other)):
        for what, value in asked.items():
            said = getattr(side.recipe, what) or (guess_of(side.dims).layer if what == "layer" else None)
            if said not in (None, value):
                raise Mismatch(f"{what} {value} is asked for, and the {name} statistics {side.source} have {said}")


def _require_fit(side: Statistics, name: str, extractor: LoadedExtractor) -> None:
    """Refuse statistics that this extractor's features could never be compared with, before any image is read."""
    if side.dims != extractor.dims:
        raise Mismatch(
            f"the {name} statistics {side.source} have {side.dims} dimensions; {extractor.recipe.extractor} "
            f"at layer {extractor.recipe.layer} has {extractor.dims}. Choose the layer with --dims, or other statistics."
        )
    sides = (side.recipe, extractor.recipe)
    require_equal(*(sides if name == "generated" else sides[::-1]))
