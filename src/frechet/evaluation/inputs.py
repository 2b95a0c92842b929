"""One side of a comparison: what is given for it, opened, and what of it cannot be compared, refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from frechet._internal.remote_files import is_url
from frechet.errors import Mismatch, RequestError, SourceError, TooFewImages
from frechet.evaluation.provenance import guess_of
from frechet.execution.collect import Progress
from frechet.execution.settings import Settings
from frechet.features.encoders import name_of
from frechet.features.extractor import LoadedExtractor
from frechet.features.registry import table_row, tap_of
from frechet.features.spec import Recipe, require_equal
from frechet.images.decode import decode
from frechet.images.image import Source
from frechet.images.sources.generator import GeneratedSource
from frechet.images.sources.memory import objects_source
from frechet.images.sources.npy import npz_keys
from frechet.images.sources.registry import open_source
from frechet.preprocessing.registry import CONVENTIONS
from frechet.statistics.download_cache import is_statistics_url, read_remote
from frechet.statistics.feature_statistics import Statistics
from frechet.statistics.foreign_formats import is_statistics
from frechet.statistics.npz_format import read_features, read_statistics


def opened(
    opener: Callable[[Any], Source | Statistics], generated: Any, reference: Any, held_out: Any
) -> dict[str, Source | Statistics]:
    """The sides that are given, by name; statistics files are read at once."""
    given = {"generated": generated, "reference": reference, "held-out": held_out}
    given = {name: side for name, side in given.items() if name == "generated" or side is not None}
    with ThreadPoolExecutor() as readers:
        return dict(zip(given, readers.map(opener, given.values()), strict=True))


def gathered(side: Any) -> Any:
    """A side as it was given, or what an iterator yields, which it does once, and runs may be several."""
    return objects_source(side) if isinstance(side, Iterator) else side


def made_once(side: Any, settings: Settings) -> Any:
    """A side as it was given, or the images that a function makes, for all extractors of a run."""
    if _makes_images(side) and settings.num_images is not None:
        return GeneratedSource(side, settings.num_images, again=True)
    return side


def _makes_images(side: Any) -> bool:
    return callable(side) and not hasattr(side, "__len__")


def open_side(
    side: Any,
    settings: Settings,
    *,
    features: bool = False,
    keep_all: bool = False,
    progress: Progress | None = None,
) -> Source | Statistics:
    """Images to be measured, or the statistics that were given instead; `score` says what may be.

    Args:
        side, settings, features, progress: as there.
        keep_all: whether all rows are kept of features that are given.

    Raises:
        RequestError: it is neither, cannot be read, or holds fewer than two images.
    """

    def read(path: Path) -> Statistics:
        if features and not is_statistics(path):
            return read_features(path, settings.seed, keep_all=keep_all)
        return read_statistics(path, settings.dims, keep_all=keep_all)

    if isinstance(side, Statistics):
        return side
    is_path = isinstance(side, (str, os.PathLike))
    if is_statistics_url(side) or (features and is_url(side)):
        found = read_remote(side, read, progress)
    elif is_path and not is_url(side) and (features or is_statistics(Path(side))):
        found = read(Path(side))
    elif isinstance(side, GeneratedSource):
        return side
    elif _makes_images(side):
        if settings.num_images is None:
            raise RequestError("a function makes as many images as are wanted: say how many by num_images")
        return GeneratedSource(side, settings.num_images)
    elif features:
        found = Statistics.of_features(side, seed=settings.seed, keep_all=keep_all)
    else:
        return _images_of(side)
    return _as_said(found, settings) if features and are_bare_features(found) else found


def _images_of(side: Any) -> Source:
    source = open_source(side)
    if len(source) < 2:
        for picture in source.pictures(range(len(source))):
            decode(picture)  # in an archive that was cut short, that is what is wrong
        raise TooFewImages(f"{source.name} holds one image; a distribution needs at least two")
    return source


def are_bare_features(side: Statistics) -> bool:
    """Whether all that was given is rows, by nobody who says how they were made."""
    return side.rows is not None and side.made_by is None


def _as_said(side: Statistics, settings: Settings) -> Statistics:
    """Bare features, with what the settings say of them."""
    said = settings.asked()
    if {"extractor", "layer"} & set(said):
        row = table_row(settings.extractor)
        if row and side.dims not in row.taps.values():
            raise Mismatch(
                f"{side.source} has {side.dims} features an image; {settings.extractor} gives "
                f"{', '.join(map(str, row.taps.values()))}"
            )
        said |= {"extractor": name_of(settings.extractor), "layer": tap_of(row, side.dims) if row else str(side.dims)}
    return replace(side, recipe=side.recipe.filled_from(Recipe(**said)))  # type: ignore[arg-type]


def declared(side: Source | Statistics, convention: str | None, size: int | None) -> Source | Statistics:
    """The reference, with what its user says of it where it does not say itself."""
    if convention is None and size is None:
        return side
    if not isinstance(side, Statistics):
        raise RequestError("reference_convention and reference_size are for statistics files; images follow convention")
    if convention is not None:
        if convention not in CONVENTIONS:
            raise RequestError(f"no convention {convention!r}; there is {', '.join(CONVENTIONS)}")
        if side.recipe.convention not in (None, convention):
            raise Mismatch(
                f"{side.source} says it was made with convention {side.recipe.convention}, and the reference "
                f"convention given is {convention}; leave it out, or give the right file"
            )
        side = replace(side, recipe=side.recipe.filled_from(Recipe(convention=convention)))
    if size is not None:
        if size < 2:
            raise RequestError(f"reference_size is {size}; a covariance needs at least two images")
        if side.n not in (None, size):
            raise RequestError(
                f"reference_size {size} is given, but {side.source} says it was made from {side.n} images"
            )
        side = replace(side, n=int(size))
    return side


def images_beside(side: Statistics) -> Iterator[Source]:
    """The images that a file holds beside its statistics, as ADM's reference batches do."""
    path = Path(side.source)
    if side.features is None and path.suffix.lower() == ".npz" and is_statistics(path) and "arr_0" in npz_keys(path):
        with suppress(SourceError):  # an array of something else than images
            yield open_source(path)


def require_as_asked(sides: Mapping[str, Statistics], settings: Settings) -> None:
    """Refuse flags that say how images become features where all sides are features already, and say otherwise."""
    asked = settings.asked()
    for flag, given in (("--num-images", settings.num_images), ("--weights", settings.weights)):
        if given is not None:
            raise RequestError(
                f"{flag} {given} is of images ({flag[2:].replace('-', '_')} in Python), and only statistics or features are "
                "given; leave it out, or give images"
            )
    for name, side in sides.items():
        for what, value in asked.items():
            said = getattr(side.recipe, what) or (guess_of(side.dims).layer if what == "layer" else None)
            if said not in (None, value):
                raise Mismatch(f"{what} {value} is asked for, and the {name} statistics {side.source} have {said}")


def require_extractor(known: Mapping[str, Statistics], settings: Settings) -> None:
    """Refuse statistics of another extractor before its weights are looked for."""
    for side in known.values():
        if side.recipe.extractor not in (None, name_of(settings.extractor)):
            raise Mismatch(
                f"{side.source} was made with {side.recipe.extractor}, and these images would be measured with "
                f"{name_of(settings.extractor)}; say --extractor {side.recipe.extractor} (extractor=), or give other statistics"
            )


def require_fit(side: Statistics, name: str, extractor: LoadedExtractor) -> None:
    """Refuse statistics that this extractor's features could never be compared with, before any image is read."""
    if side.dims != extractor.dims:
        raise Mismatch(
            f"the {name} statistics {side.source} have {side.dims} dimensions; {extractor.recipe.extractor} "
            f"at layer {extractor.recipe.layer} has {extractor.dims}. Choose the layer with --dims (dims=), or other statistics."
        )
    sides = (side.recipe, extractor.recipe)
    require_equal(*(sides if name == "generated" else sides[::-1]))
