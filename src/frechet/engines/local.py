"""Parts to statistics: whoever computed them, they are merged in their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from frechet.engines.choice import Progress as Progress
from frechet.engines.choice import opened_parts
from frechet.engines.parts import Cut
from frechet.errors import TooFewImages
from frechet.features.extractors import LoadedExtractor
from frechet.features.settings import Settings
from frechet.images.pictures import Source
from frechet.images.signs import formats_in, remarks_on
from frechet.statistics.gaussian import Gaussian
from frechet.statistics.samples import Sample, rows_kept
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
    cut = Cut.of(source, settings)
    gaussian = Gaussian.empty(extractor.dims)
    sample = Sample.empty(
        extractor.dims, settings.seed, len(cut.chosen) if keep_all else rows_kept(len(cut.chosen), extractor.dims)
    )
    signs: list[np.ndarray] = []
    places: list[np.ndarray] = []
    remarks: list[tuple[str, str]] = []
    bad: list[str] = []
    with opened_parts(cut, settings, extractor, progress, what) as parts:
        for part in parts:
            gaussian = gaussian.update(part.features)
            sample = sample.update(part.places, part.features)
            signs.append(part.signs)
            places.append(part.places)
            remarks += part.remarks
            bad += part.bad
    if gaussian.n < 2:
        raise TooFewImages(
            f"{source.name}: {gaussian.n} usable images; at least two are needed ({len(bad)} could not be decoded)"
        )
    noticed, scored = np.concatenate(signs), np.concatenate(places)

    def names_of(indices: Sequence[int]) -> list[str]:
        return cut.names(scored[indices].tolist())

    return Statistics.of(
        gaussian,
        sample,
        names=tuple(cut.names(sample.places.tolist())) if keep_all else None,
        recipe=extractor.recipe,
        source=source.name,
        n_source=len(source),
        bad_images=tuple(bad),
        remarks=(*_summed_up(remarks), *remarks_on(noticed, names_of)),
        formats=formats_in(noticed),
        made_by=f"frechet {__version__}",
    )


def _summed_up(remarks: Iterable[tuple[str, str]]) -> Iterator[str]:
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for remark, name in remarks:
        first.setdefault(remark, name)
        counts[remark] += 1
    for remark, count in counts.items():
        yield f"{remark} in {count} image{'s' if count > 1 else ''} (the first: {first[remark]})"
