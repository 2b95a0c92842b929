"""Parts to statistics: whoever computed them, they are merged in their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from frechet.engines.choice import Progress as Progress
from frechet.engines.choice import opened_parts
from frechet.engines.parts import Cut
from frechet.errors import TooFewImages
from frechet.features.loaded import LoadedExtractor
from frechet.features.settings import Settings
from frechet.images.pictures import Source
from frechet.images.signs import formats_in, remarks_on
from frechet.statistics.gathering import Gathering
from frechet.statistics.statistics import Statistics
from frechet.version import __version__


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
    cut = Cut.of(source, settings)
    layers = {
        name: Gathering(columns, len(cut.chosen), settings.seed, keep_all=keep.get(name, False))
        for name, columns in extractor.columns.items()
    }
    signs: list[np.ndarray] = []
    places: list[np.ndarray] = []
    remarks: list[tuple[str, str]] = []
    bad: list[str] = []
    with opened_parts(cut, settings, extractor, progress, what) as parts:
        for part in parts:
            for layer in layers.values():
                layer.update(part.places, part.features)
            signs.append(part.signs)
            places.append(part.places)
            remarks += part.remarks
            bad += part.bad
    n = layers["features"].gaussian.n
    if n < 2:
        raise TooFewImages(
            f"{source.name}: {n} usable images; at least two are needed ({len(bad)} could not be decoded"
            f"{f', the first: {bad[0]}' if bad else ''})"
        )
    noticed, scored = np.concatenate(signs), np.concatenate(places)

    def names_of(indices: Sequence[int]) -> list[str]:
        return cut.names(scored[indices].tolist())

    about: dict[str, Any] = {
        "source": source.name,
        "n_source": len(source),
        "bad_images": tuple(bad),
        "remarks": (*_summed_up(remarks), *remarks_on(noticed, names_of)),
        "formats": formats_in(noticed),
        "made_by": f"frechet {__version__}",
    }
    names = tuple(cut.names(scored.tolist())) if any(keep.values()) else None
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


def _summed_up(remarks: Iterable[tuple[str, str]]) -> Iterator[str]:
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for remark, name in remarks:
        first.setdefault(remark, name)
        counts[remark] += 1
    for remark, count in counts.items():
        yield f"{remark} in {count} image{'s' if count > 1 else ''} (the first: {first[remark]})"
