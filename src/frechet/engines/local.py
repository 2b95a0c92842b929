"""This machine: decoding threads ahead of the network, one part after the other, merged in their order."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from frechet.engines.crew import extracted, gathered
from frechet.engines.parts import Cut, fingerprint
from frechet.engines.processes import further_devices, processes_on
from frechet.engines.workdir import opened_work_dir
from frechet.errors import RequestError, TooFewImages
from frechet.features.extract import Part
from frechet.features.extractors import LoadedExtractor
from frechet.features.settings import Settings
from frechet.images.pictures import Source
from frechet.images.signs import formats_in, remarks_on
from frechet.statistics.gaussian import Gaussian
from frechet.statistics.samples import Sample, rows_kept
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
    cut = Cut.of(source, settings)
    gaussian = Gaussian.empty(extractor.dims)
    sample = Sample.empty(
        extractor.dims, settings.seed, len(cut.chosen) if keep_all else rows_kept(len(cut.chosen), extractor.dims)
    )
    signs: list[np.ndarray] = []
    places: list[np.ndarray] = []
    remarks: list[tuple[str, str]] = []
    bad: list[str] = []
    with _opened_parts(cut, settings, extractor, progress, what) as parts:
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


@contextmanager
def _opened_parts(
    cut: Cut, settings: Settings, extractor: LoadedExtractor, progress: Progress | None, what: str
) -> Iterator[Iterator[Part]]:
    """Every part in order; with a work-dir those that are finished come from there, and the others go there."""
    done = 0

    def count(images: int) -> None:
        nonlocal done
        done += images
        if progress:
            progress(what, done, len(cut.chosen))

    compute = partial(_computed, cut, settings, extractor, count)
    count(0)
    if settings.work_dir is None:
        with closing(compute(range(len(cut)))) as parts:
            yield parts
        return
    with opened_work_dir(Path(settings.work_dir) / what, cut, fingerprint(cut, settings, extractor)) as work:
        count(sum(len(cut.images_in(number)) for number in work.finished))
        with closing(work.completed(compute)) as parts:
            yield parts


def _computed(
    cut: Cut, settings: Settings, extractor: LoadedExtractor, count: Callable[[int], None], numbers: Sequence[int]
) -> Generator[Part, None, None]:
    """These parts, by whoever the settings name."""
    if settings.engine == "local":
        others = processes_on(further_devices(settings.device)) if cut.source.address else ()
        if not others:
            return extracted(cut, numbers, settings, extractor, count)
        return _counted(gathered(cut, numbers, settings, extractor, others), count)
    if settings.engine == "torchrun":
        from frechet.engines.torchrun import other_ranks

        return _counted(gathered(cut, numbers, settings, extractor, other_ranks()), count)
    if importlib.util.find_spec("ray") is None:
        raise RequestError("--engine ray needs Ray: pip install 'frechet[ray]'")
    from frechet.engines.ray import by_actors

    return _counted(by_actors(cut, numbers, settings, extractor), count)


def _counted(parts: Generator[Part, None, None], count: Callable[[int], None]) -> Generator[Part, None, None]:
    with closing(parts):
        for part in parts:
            count(len(part.places) + len(part.bad))
            yield part


def _summed_up(remarks: Iterable[tuple[str, str]]) -> Iterator[str]:
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for remark, name in remarks:
        first.setdefault(remark, name)
        counts[remark] += 1
    for remark, count in counts.items():
        yield f"{remark} in {count} image{'s' if count > 1 else ''} (the first: {first[remark]})"
