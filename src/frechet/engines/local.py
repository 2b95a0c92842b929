"""This machine: decoding threads ahead of the network, one part after the other, merged in their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np

from frechet.errors import TooFewImages
from frechet.features.extract import Part, extract
from frechet.features.extractors import LoadedExtractor
from frechet.features.settings import Settings
from frechet.images.signs import formats_in, remarks_on
from frechet.images.sources import Source
from frechet.machine import usable_cores
from frechet.statistics.gathering import Gathering
from frechet.statistics.samples import priorities
from frechet.statistics.statistics import Statistics
from frechet.version import __version__

Progress = Callable[[str, int, int], None]  # (what, images done, images in all)


def collect_from(
    source: Source,
    settings: Settings,
    extractor: LoadedExtractor,
    progress: Progress | None = None,
    what: str = "images",
    *,
    keep_all: bool = False,
) -> Statistics:
    """Statistics of a source by an extractor that is loaded already; `keep_all` keeps every image's features and name.

    Raises:
        TooFewImages: fewer than two could be decoded.
        BadImage, BadFeatures: see `collect`.
    """
    keep = {"features": keep_all}
    return collect_layers(source, settings, extractor, progress, what, keep=keep)["features"]


def collect_layers(
    source: Source,
    settings: Settings,
    extractor: LoadedExtractor,
    progress: Progress | None = None,
    what: str = "images",
    *,
    keep: Mapping[str, bool],
) -> dict[str, Statistics]:
    """The same of every layer of the extractor: "features" is the one that was asked for, others bear their tap's name.

    Args:
        source, settings, extractor, progress, what: as above.
        keep: by layer, whether every image's features and name are kept.
    """
    chosen = _subset(source, settings)
    layers = {
        name: Gathering(columns, len(chosen), settings.seed, keep_all=keep.get(name, False))
        for name, columns in extractor.columns.items()
    }
    signs: list[np.ndarray] = []
    places: list[np.ndarray] = []
    remarks: list[tuple[str, str]] = []
    bad: list[str] = []
    for part in _parts(source, chosen, settings, extractor, progress, what):
        for layer in layers.values():
            layer.update(part.places, part.features)
        signs.append(part.signs)
        places.append(part.places)
        remarks += part.remarks
        bad += part.bad
    n = layers["features"].gaussian.n
    if n < 2:
        raise TooFewImages(
            f"{source.name}: {n} usable images; at least two are needed ({len(bad)} could not be decoded)"
        )
    noticed = np.concatenate(signs)
    about: dict[str, Any] = {
        "source": source.name,
        "n_source": len(source),
        "bad_images": tuple(bad),
        "remarks": (
            *_summed_up(remarks),
            *remarks_on(noticed, partial(_names, source, chosen, np.concatenate(places))),
        ),
        "formats": formats_in(noticed),
        "made_by": f"frechet {__version__}",
    }
    names = tuple(_names(source, chosen, np.concatenate(places), range(n))) if any(keep.values()) else None
    return {
        name: Statistics.of(
            layer.gaussian,
            layer.sample,
            names=names if keep.get(name) else None,
            recipe=extractor.further[name].recipe if name in extractor.further else extractor.recipe,
            **about,
        )
        for name, layer in layers.items()
    }


def _names(source: Source, chosen: Sequence[int], places: np.ndarray, indices: Iterable[int]) -> list[str]:
    """Names of images by their indices among those that could be decoded."""
    return [picture.name for picture in source.pictures([chosen[places[index]] for index in indices])]


def _parts(
    source: Source,
    chosen: Sequence[int],
    settings: Settings,
    extractor: LoadedExtractor,
    progress: Progress | None,
    what: str,
) -> Iterator[Part]:
    done = 0

    def count(images: int) -> None:
        nonlocal done
        done += images
        if progress:
            progress(what, done, len(chosen))

    count(0)
    parts = extract(
        source.pictures(chosen),
        extractor,
        batch_size=settings.batch_size or extractor.runner.batch_size,
        workers=settings.workers or usable_cores(),
        skip_bad=settings.on_bad_image == "skip",
        on_batch=count,
    )
    with closing(parts):
        yield from parts


def _subset(source: Source, settings: Settings) -> Sequence[int]:
    """Places of the images to score, ascending; the subset of a smaller size is part of that of a larger one."""
    wanted = settings.num_images
    if wanted is None:
        return range(len(source))
    if wanted > len(source):
        raise TooFewImages(f"{source.name} holds {len(source)} images; {wanted} were asked for (--num-images)")
    ranks = priorities(np.arange(len(source)), settings.seed)
    return [int(place) for place in np.sort(np.argsort(ranks, kind="stable")[:wanted])]


def _summed_up(remarks: Iterable[tuple[str, str]]) -> Iterator[str]:
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for remark, name in remarks:
        first.setdefault(remark, name)
        counts[remark] += 1
    for remark, count in counts.items():
        yield f"{remark} in {count} image{'s' if count > 1 else ''} (the first: {first[remark]})"
