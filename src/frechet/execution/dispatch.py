"""Who computes the parts of a run, and where finished ones are kept."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from threading import Lock

from frechet.errors import RequestError
from frechet.execution.chunks import Chunk, Partition, compute_fingerprint
from frechet.execution.feature_cache import open_cache_entry
from frechet.execution.settings import Settings
from frechet.execution.subprocess_workers import list_extra_devices, start_workers
from frechet.execution.work_dir import WorkDir, WorkDirInUseError, open_work_dir
from frechet.execution.workers import collect_from_workers, extract_chunks
from frechet.features.extractor import LoadedExtractor

ProgressCallback = Callable[[str, int, int], None]  # (what, images done, images in all)


@contextmanager
def open_chunks(
    partition: Partition,
    settings: Settings,
    extractor: LoadedExtractor,
    progress: ProgressCallback | None,
    input_name: str,
) -> Iterator[Iterator[Chunk]]:
    """Every part in order; with a work-dir those that are finished come from there, and the others go there."""
    done, lock = 0, Lock()

    def on_batch(images: int) -> None:
        nonlocal done
        with lock:  # of several processes, this one's batches are counted in another thread
            done += images
            if progress:
                progress(input_name, done, len(partition.source_indices))

    compute = partial(_compute_chunks, partition, settings, extractor, on_batch)
    on_batch(0)
    with ExitStack() as stack:
        work_dir = _enter_work_dir(stack, partition, settings, extractor, input_name)
        if work_dir:
            on_batch(sum(len(partition.chunk_range(chunk_index)) for chunk_index in work_dir.finished))
        with closing(work_dir.iter_chunks(compute) if work_dir else compute(range(len(partition)))) as chunks:
            yield chunks


def _enter_work_dir(
    stack: ExitStack, partition: Partition, settings: Settings, extractor: LoadedExtractor, input_name: str
) -> WorkDir | None:
    """Where finished parts are kept, or None: nobody wants them, or another run is filling the same place of the cache."""
    folder = _locate_work_dir(partition, settings, extractor, input_name)
    if folder is None:
        return None
    try:
        return stack.enter_context(
            open_work_dir(folder, partition, compute_fingerprint(partition, settings, extractor))
        )
    except WorkDirInUseError:
        if settings.work_dir is not None:
            raise
        return None


def _locate_work_dir(
    partition: Partition, settings: Settings, extractor: LoadedExtractor, input_name: str
) -> Path | None:
    """The folder of finished parts: the work-dir, the user's cache where that is wished for, or none."""
    if settings.work_dir is not None:
        return Path(settings.work_dir) / input_name
    if not settings.cache:
        return None
    try:
        return open_cache_entry(compute_fingerprint(partition, settings, extractor))
    except RequestError:  # images in memory, which nothing tells from others of tomorrow
        return None


def _compute_chunks(
    partition: Partition,
    settings: Settings,
    extractor: LoadedExtractor,
    on_batch: Callable[[int], None],
    chunk_indices: Sequence[int],
) -> Generator[Chunk, None, None]:
    """These parts, by whoever the settings name."""
    if settings.engine in ("auto", "local"):
        is_unshareable = partition.source.location is None or not isinstance(settings.extractor, str)
        channels = () if is_unshareable else start_workers(list_extra_devices(settings.device))
        if not channels:
            return extract_chunks(partition, chunk_indices, settings, extractor, on_batch)
        return collect_from_workers(partition, chunk_indices, settings, extractor, channels, on_batch)
    if settings.engine == "torchrun":
        from frechet.execution.torchrun import connect_worker_ranks

        return collect_from_workers(partition, chunk_indices, settings, extractor, connect_worker_ranks(), on_batch)
    if importlib.util.find_spec("ray") is None:
        raise RequestError("--engine ray needs Ray: pip install 'frechet[ray]'")
    from frechet.execution.ray import collect_from_actors

    return _report_chunks(collect_from_actors(partition, chunk_indices, settings, extractor), on_batch)


def _report_chunks(
    chunks: Generator[Chunk, None, None], on_batch: Callable[[int], None]
) -> Generator[Chunk, None, None]:
    with closing(chunks):
        for chunk in chunks:
            on_batch(len(chunk.indices) + len(chunk.skipped_images))
            yield chunk
