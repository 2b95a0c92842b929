"""Parts to statistics: whoever computed them, they are merged in their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from frechet.errors import TooFewImages
from frechet.execution.chunks import Cut
from frechet.execution.dispatch import Progress as Progress
from frechet.execution.dispatch import opened_parts
from frechet.execution.reduce import Merged
from frechet.execution.settings import Settings
from frechet.features.extractor import LoadedExtractor
from frechet.images.checks import formats_in, remarks_on
from frechet.images.image import Source, passed_over
from frechet.statistics.feature_statistics import Statistics
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
    keep_all = any(keep.values())
    cut = Cut.of(source, settings, keep_all=keep_all)
    merged = Merged.empty(cut, settings.seed, extractor, keep)
    with opened_parts(cut, settings, extractor, progress, what) as parts:
        for part in parts:
            merged.add(part)
    _require_two(source, merged)
    about = _about(cut, merged)
    names = tuple(cut.names(np.concatenate(merged.places).tolist())) if keep_all else None
    return {
        name: Statistics.of(
            layer.gaussian,
            layer.sample,
            names=names if keep.get(name) else None,
            recipe=extractor.further[name].recipe if name in extractor.further else extractor.recipe,
            **about,
        )
        for name, layer in merged.layers.items()
    }


def _require_two(source: Source, merged: Merged) -> None:
    n, bad = merged.layers["features"].gaussian.n, merged.bad
    if n < 2:
        raise TooFewImages(
            f"{source.name}: {n} usable images; at least two are needed ({len(bad)} could not be decoded"
            f"{f', the first: {bad[0]}' if bad else ''})"
        )


def _about(cut: Cut, merged: Merged) -> dict[str, Any]:
    """How the statistics of all layers were made."""
    noticed, scored = np.concatenate(merged.signs), np.concatenate(merged.places)

    def names_of(indices: Sequence[int]) -> list[str]:
        return cut.names(scored[indices].tolist())

    return {
        "source": cut.source.name,
        "n_source": len(cut.source),
        "bad_images": tuple(merged.bad),
        "remarks": (
            *passed_over(cut.source),
            *_summed_up(merged.remarks),
            *remarks_on(noticed, names_of),
        ),
        "formats": formats_in(noticed),
        "made_by": f"frechet {__version__}",
    }


def _summed_up(remarks: Iterable[tuple[str, str]]) -> Iterator[str]:
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for remark, name in remarks:
        first.setdefault(remark, name)
        counts[remark] += 1
    for remark, count in counts.items():
        yield f"{remark} in {count} image{'s' if count > 1 else ''} (the first: {first[remark]})"
