"""Who computes the parts of a run, and where finished ones are kept."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from threading import Lock

from frechet.errors import RequestError
from frechet.execution.chunks import AnyPart, Cut, fingerprint
from frechet.execution.feature_cache import cached_at
from frechet.execution.settings import Settings
from frechet.execution.subprocess_workers import further_devices, processes_on
from frechet.execution.work_dir import InUse, WorkDir, opened_work_dir
from frechet.execution.workers import extracted, gathered
from frechet.features.extractor import LoadedExtractor

Progress = Callable[[str, int, int], None]  # (what, images done, images in all)


@contextmanager
def opened_parts(
    cut: Cut, settings: Settings, extractor: LoadedExtractor, progress: Progress | None, what: str
) -> Iterator[Iterator[AnyPart]]:
    """Every part in order; with a work-dir those that are finished come from there, and the others go there."""
    done, turn = 0, Lock()

    def count(images: int) -> None:
        nonlocal done
        with turn:  # of several processes, this one's batches are counted in another thread
            done += images
            if progress:
                progress(what, done, len(cut.chosen))

    compute = partial(_computed, cut, settings, extractor, count)
    count(0)
    with ExitStack() as stack:
        work = _opened(stack, cut, settings, extractor, what)
        if work:
            count(sum(len(cut.images_in(number)) for number in work.finished))
        with closing(work.completed(compute) if work else compute(range(len(cut)))) as parts:
            yield parts


def _opened(stack: ExitStack, cut: Cut, settings: Settings, extractor: LoadedExtractor, what: str) -> WorkDir | None:
    """Where finished parts are kept, or None: nobody wants them, or another run is filling the same place of the cache."""
    folder = _kept_at(cut, settings, extractor, what)
    if folder is None:
        return None
    try:
        return stack.enter_context(opened_work_dir(folder, cut, fingerprint(cut, settings, extractor)))
    except InUse:
        if settings.work_dir is not None:
            raise
        return None


def _kept_at(cut: Cut, settings: Settings, extractor: LoadedExtractor, what: str) -> Path | None:
    """The folder of finished parts: the work-dir, the user's cache where that is wished for, or none."""
    if settings.work_dir is not None:
        return Path(settings.work_dir) / what
    if not settings.cache:
        return None
    try:
        return cached_at(fingerprint(cut, settings, extractor))
    except RequestError:  # images in memory, which nothing tells from others of tomorrow
        return None


def _computed(
    cut: Cut, settings: Settings, extractor: LoadedExtractor, count: Callable[[int], None], numbers: Sequence[int]
) -> Generator[AnyPart, None, None]:
    """These parts, by whoever the settings name."""
    if settings.engine == "local":
        alone = cut.source.address is None or not isinstance(settings.extractor, str)
        others = () if alone else processes_on(further_devices(settings.device))
        if not others:
            return extracted(cut, numbers, settings, extractor, count)
        return gathered(cut, numbers, settings, extractor, others, count)
    if settings.engine == "torchrun":
        from frechet.execution.torchrun import other_ranks

        return gathered(cut, numbers, settings, extractor, other_ranks(), count)
    if importlib.util.find_spec("ray") is None:
        raise RequestError("--engine ray needs Ray: pip install 'frechet[ray]'")
    from frechet.execution.ray import by_actors

    return _counted(by_actors(cut, numbers, settings, extractor), count)


def _counted(parts: Generator[AnyPart, None, None], count: Callable[[int], None]) -> Generator[AnyPart, None, None]:
    with closing(parts):
        for part in parts:
            count(len(part.places) + len(part.bad))
            yield part
