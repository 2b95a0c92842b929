"""Several processes compute one run: each computes every k-th chunk, and the coordinator collects all chunks in order.

How worker processes start and how bytes reach them is up to the engine, which provides a `Channel` to each worker.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, Protocol, TypeVar

import frechet.errors
from frechet._internal.cpu import process_cpu_count
from frechet.errors import FrechetError, MismatchError, RequestError, RunError, UnreachableError
from frechet.execution.chunks import Chunk, Partition, read_chunk, write_chunk
from frechet.execution.reduce import build_small_chunks, merge_small_chunks
from frechet.execution.settings import Settings
from frechet.execution.subset import select_indices
from frechet.features.extract import extract
from frechet.features.extractor import LoadedExtractor
from frechet.images.sources.registry import open_source

Item = TypeVar("Item")

JOB, CHUNK, ERROR, END = range(4)  # kinds of messages
_PREFETCH = 2  # chunks that are computed before they are sent or merged


class Channel(Protocol):
    """A connection to another process.

    Attributes:
        name: name of the other process in error messages.
    """

    @property
    def name(self) -> str: ...

    def send(self, kind: int, data: bytes) -> None:
        """Send a message; raises OSError or RuntimeError if the other process is gone."""

    def receive(self) -> tuple[int, bytes]:
        """Wait for the next message; raises EOFError, OSError or RuntimeError if the other process is gone."""


def extract_chunks(
    partition: Partition,
    chunk_indices: Sequence[int],
    settings: Settings,
    extractor: LoadedExtractor,
    on_batch: Callable[[int], None] = lambda _: None,
) -> Generator[Chunk, None, None]:
    """Compute chunks in this process.

    Args:
        partition: the images.
        chunk_indices: the chunks to compute, ascending.
        settings: batch size, threads, seed, and what to do with images that cannot be decoded.
        extractor: the loaded extractor.
        on_batch: called with the number of images of each batch.
    """
    batches = extract(
        partition.iter_images(chunk_indices),
        extractor,
        batch_size=settings.batch_size or extractor.runner.batch_size,
        workers=settings.workers or process_cpu_count(),
        workers_kind=settings.workers_kind,
        skip_bad_images=settings.on_bad_image == "skip",
        crop=settings.image_crop,
        max_pixels=settings.max_pixels,
    )
    small_chunks = build_small_chunks(batches, extractor.layer_slices, on_batch)
    return merge_small_chunks(small_chunks, partition, chunk_indices, settings.seed, extractor)


def collect_from_workers(
    partition: Partition,
    chunk_indices: Sequence[int],
    settings: Settings,
    extractor: LoadedExtractor,
    channels: Sequence[Channel],
    on_batch: Callable[[int], None] = lambda _: None,
) -> Generator[Chunk, None, None]:
    """Compute chunks in this process and in the workers, round robin, and yield them in order.

    Args:
        partition: the images.
        chunk_indices: the chunks to compute, ascending.
        settings: sent to the workers.
        extractor: the loaded extractor of this process.
        channels: one connection to each worker.
        on_batch: called, from several threads, with the number of images of each batch of this process and of each chunk
            of a worker.

    Raises:
        RequestError: another process cannot open the source or load the extractor.
        UnreachableError: a worker is gone.
        FrechetError: whatever a worker raised.
    """
    n_processes = len(channels) + 1
    job = make_job(partition, settings, extractor)
    for rank, channel in enumerate(channels, start=1):
        with _require_reachable(channel):
            channel.send(JOB, json.dumps({**job, "chunk_indices": list(chunk_indices[rank::n_processes])}).encode())
    with prefetch(extract_chunks(partition, chunk_indices[::n_processes], settings, extractor, on_batch)) as own:
        for round_robin_index in range(len(chunk_indices)):
            if round_robin_index % n_processes == 0:
                yield next(own)
            else:
                chunk = _receive_chunk(channels[round_robin_index % n_processes - 1])
                on_batch(chunk.n_images)
                yield chunk


def serve(channel: Channel, adapt_settings: Callable[[Settings], Settings] = lambda settings: settings) -> None:
    """Compute the chunks that the coordinator requests until it sends END.

    Args:
        channel: connection to the coordinator.
        adapt_settings: adapts the coordinator's settings to this process, e.g. its device.
    """
    extractors: dict[str, LoadedExtractor] = {}
    while True:
        with _require_reachable(channel):
            kind, data = channel.receive()
        if kind == END:
            return
        try:
            job = json.loads(data)
            key = json.dumps([job["settings"], job["extra_layers"], job["max_device_pixels"]], sort_keys=True)
            if key not in extractors:
                extractors[key] = load_job_extractor(job, adapt_settings(Settings(**job["settings"])))
            for chunk in compute_job_chunks(job, job["chunk_indices"], extractors[key]):
                with _require_reachable(channel):
                    channel.send(CHUNK, encode_chunk(chunk))
        except UnreachableError:
            raise
        except FrechetError as error:
            channel.send(ERROR, json.dumps([type(error).__name__, str(error)]).encode())
            raise


def make_job(partition: Partition, settings: Settings, extractor: LoadedExtractor) -> dict[str, Any]:
    """Describe a run for another process, as plain JSON: how to compute chunks, and how to verify that inputs match.

    Raises:
        RequestError: only this process has the images or the extractor.
    """
    if not isinstance(settings.extractor, str):
        raise RequestError(
            f"the extractor is an object ({type(settings.extractor).__name__}), which other processes cannot load. "
            "Pass the name of an extractor, e.g. module:attribute."
        )
    if partition.source.location is None:
        raise RequestError(
            f"{partition.source.label} exists only in this process, so other processes cannot open it. Pass a path or a URL."
        )
    plain = replace(settings, work_dir=None, cache=False, engine="local")
    return {
        "source": partition.source.location,
        "settings": {
            key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in asdict(plain).items()
        },
        "image_digest": _digest_partition(partition),
        "chunk_size": partition.chunk_size,
        "ranks": partition.ranks,
        "spec": asdict(extractor.spec),
        "extra_layers": list(extractor.extra_layers),
        "max_device_pixels": extractor.max_device_pixels,
    }


def load_job_extractor(job: dict[str, Any], settings: Settings) -> LoadedExtractor:
    """Load the extractor of a job, with images resized where the coordinator resizes and records them.

    Args:
        job: the job.
        settings: those of the job, adapted to this process.
    """
    return settings.load(None, job["extra_layers"]).limit_device_pixels(job["max_device_pixels"])


def compute_job_chunks(
    job: dict[str, Any], chunk_indices: Sequence[int], extractor: LoadedExtractor
) -> Iterator[Chunk]:
    """Compute chunks of a job, some of them ahead of their use.

    Raises:
        MismatchError: this process has other images or weights than the coordinator.
    """
    if not chunk_indices:
        return
    partition = open_job(job, extractor)
    with prefetch(extract_chunks(partition, chunk_indices, Settings(**job["settings"]), extractor)) as chunks:
        yield from chunks


def open_job(job: dict[str, Any], extractor: LoadedExtractor) -> Partition:
    """Open the images of a job in this process.

    Raises:
        MismatchError: this process has other images or weights than the coordinator.
    """
    source = open_source(job["source"])
    source_indices = select_indices(source, Settings(**job["settings"]), job["ranks"])
    partition = Partition(source, source_indices, job["chunk_size"])
    for subject, own, expected in (
        ("images", _digest_partition(partition), job["image_digest"]),
        ("weights or settings", asdict(extractor.spec), job["spec"]),
    ):
        if own != expected:
            raise MismatchError(
                f"this process and the coordinator have different {subject} for {partition.source.label}. "
                "Make the same files available to all processes."
            )
    return partition


def encode_chunk(chunk: Chunk) -> bytes:
    """Return the bytes of a chunk, the same as in a work directory."""
    stream = io.BytesIO()
    write_chunk(chunk, stream)
    return stream.getvalue()


@contextmanager
def prefetch(items: Generator[Item, None, None]) -> Iterator[Iterator[Item]]:
    """Run a generator in a thread, a few items ahead, while this thread waits for something else."""
    exhausted: Any = object()
    pool = ThreadPoolExecutor(1, thread_name_prefix="chunks")
    waiting = deque(pool.submit(next, items, exhausted) for _ in range(_PREFETCH))

    def iterate() -> Iterator[Item]:
        while (item := waiting.popleft().result()) is not exhausted:
            waiting.append(pool.submit(next, items, exhausted))
            yield item

    try:
        yield iterate()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        items.close()


def _receive_chunk(channel: Channel) -> Chunk:
    with _require_reachable(channel):
        kind, data = channel.receive()
    if kind == ERROR:
        name, message = json.loads(data)
        error = getattr(frechet.errors, name, RunError)
        raise error(f"{channel.name}: {message}")
    return read_chunk(io.BytesIO(data))


@contextmanager
def _require_reachable(channel: Channel) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, EOFError) as error:
        if isinstance(error, FrechetError):
            raise
        raise UnreachableError(
            f"{channel.name} ended unexpectedly, and its chunks are lost; see its last output for the reason"
        ) from error


def _digest_partition(partition: Partition) -> str:
    """Digest the number of images, and where the first and last image of each chunk are."""
    digest = hashlib.sha256(f"{len(partition.source)} {len(partition.source_indices)}".encode())
    for chunk_index in range(len(partition)):
        images = partition.chunk_range(chunk_index)
        for index in (images[0], images[-1]):
            digest.update(_locate(partition, index).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _locate(partition: Partition, index: int) -> str:
    source, source_index = partition.source, partition.source_indices[index]
    path, url = source.locate(source_index)
    file = os.path.abspath(path) if path else url  # noqa: PTH100, resolve() would follow links
    return f"{file} {source.get_member_name(source_index)} {source_index}\n"
