"""Choose what computes the chunks of a run, and where finished chunks are kept."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Lock

from frechet.errors import RequestError
from frechet.execution.cached_subset import enter_cached_source, iter_subset
from frechet.execution.chunks import Chunk, Partition, make_plan
from frechet.execution.feature_cache import open_cache_entry
from frechet.execution.settings import Settings
from frechet.execution.subprocess_workers import list_extra_devices, start_workers, stop_workers
from frechet.execution.work_dir import WorkDir, WorkDirInUseError, open_work_dir
from frechet.execution.workers import collect_from_workers, extract_chunks
from frechet.features.extractor import LoadedExtractor

ProgressCallback = Callable[[str, int, int], None]  # (name of the input, images processed, images in total)


@contextmanager
def open_chunks(
    partition: Partition,
    settings: Settings,
    extractor: LoadedExtractor,
    progress: ProgressCallback | None,
    input_name: str,
) -> Iterator[Iterator[Chunk]]:
    """Give all chunks in order; finished ones come from the work directory or the cache, if the settings name one.

    The cache is searched for the features of all images of the source, if the partition scores some of them, and then for
    those of the partition.

    Args:
        partition: the images.
        settings: engine, work directory, cache, and how features are computed.
        extractor: the loaded extractor.
        progress: called with the input's name and the numbers of images processed and in total.
        input_name: name of the input for `progress`, and of its folder in the work directory.

    Raises:
        RequestError: the work directory belongs to another run, or the engine is not available.
        RunError: a chunk cannot be computed or written.
    """
    done, lock = 0, Lock()

    def on_batch(n_images: int) -> None:
        nonlocal done
        with lock:  # with several processes, the batches of this one are counted in another thread
            done += n_images
            if progress:
                progress(input_name, done, len(partition.source_indices))

    def compute(chunk_indices: Sequence[int]) -> Generator[Chunk, None, None]:
        return _compute_chunks(partition, settings, extractor, on_batch, chunk_indices)

    on_batch(0)
    with ExitStack() as stack:
        if source_entry := _enter_cached_source(stack, partition, settings, extractor):
            with closing(iter_subset(source_entry, partition, on_batch)) as chunks:
                yield chunks
            return
        work_dir = _enter_work_dir(stack, partition, settings, extractor, input_name)
        if work_dir:
            on_batch(sum(len(partition.chunk_range(chunk_index)) for chunk_index in work_dir.finished))
        with closing(work_dir.iter_chunks(compute) if work_dir else compute(range(len(partition)))) as chunks:
            yield chunks


def _enter_cached_source(
    stack: ExitStack, partition: Partition, settings: Settings, extractor: LoadedExtractor
) -> WorkDir | None:
    """Open the cache entry of all images of the source, if the partition scores some of them and it has such an entry."""
    if settings.work_dir is not None or not settings.cache:
        return None
    try:
        return enter_cached_source(stack, partition, settings, extractor)
    except RequestError:  # the source cannot identify its images
        return None


def _enter_work_dir(
    stack: ExitStack, partition: Partition, settings: Settings, extractor: LoadedExtractor, input_name: str
) -> WorkDir | None:
    """Open the work directory or the cache entry of the run; None if there is none."""
    if settings.work_dir is not None:
        plan = make_plan(partition, settings, extractor)
        return stack.enter_context(open_work_dir(Path(settings.work_dir) / input_name, partition, plan))
    if not settings.cache:
        return None
    try:
        plan = make_plan(partition, settings, extractor)
    except RequestError:  # the source cannot identify its images, so an entry could never be found again
        return None
    try:
        return stack.enter_context(open_work_dir(open_cache_entry(plan), partition, plan))
    except WorkDirInUseError:  # another run is filling this entry; compute without it
        return None


def _compute_chunks(
    partition: Partition,
    settings: Settings,
    extractor: LoadedExtractor,
    on_batch: Callable[[int], None],
    chunk_indices: Sequence[int],
) -> Generator[Chunk, None, None]:
    """Compute chunks with the engine that the settings name."""
    if settings.engine in ("auto", "local"):
        is_unshareable = partition.source.location is None or not isinstance(settings.extractor, str)
        devices = list_extra_devices(settings.device, extractor.device, len(chunk_indices))
        channels = () if is_unshareable else start_workers(devices)
        if not channels:
            return extract_chunks(partition, chunk_indices, settings, extractor, on_batch)
        chunks = collect_from_workers(partition, chunk_indices, settings, extractor, channels, on_batch)
        return _stop_workers_unless_complete(chunks, len(chunk_indices))
    if settings.engine == "torchrun":
        from frechet.execution.torchrun import connect_worker_ranks

        return collect_from_workers(partition, chunk_indices, settings, extractor, connect_worker_ranks(), on_batch)
    if importlib.util.find_spec("ray") is None:
        raise RequestError("--engine ray (engine=) needs Ray, which is not installed; run pip install 'frechet[ray]'")
    from frechet.execution.ray import collect_from_actors

    return _report_chunks(collect_from_actors(partition, chunk_indices, settings, extractor), on_batch)


def _stop_workers_unless_complete(chunks: Generator[Chunk, None, None], n_chunks: int) -> Generator[Chunk, None, None]:
    """Yield chunks; stop the workers if not all are taken, so that the next run does not receive the rest."""
    try:
        with closing(chunks):
            for chunk in chunks:
                n_chunks -= 1
                yield chunk
    finally:
        if n_chunks:
            stop_workers()


def _report_chunks(
    chunks: Generator[Chunk, None, None], on_batch: Callable[[int], None]
) -> Generator[Chunk, None, None]:
    with closing(chunks):
        for chunk in chunks:
            on_batch(chunk.n_images)
            yield chunk
