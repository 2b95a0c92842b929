"""Several processes at one run: each computes every k-th part, and the first gathers them all in order.

How they are started, and what carries their bytes, is the engine's business: it gives a `Channel` for each of the others.
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
from frechet._internal.remote_files import is_url
from frechet.errors import FrechetError, MismatchError, RequestError, RunError, UnreachableError
from frechet.execution.chunks import Chunk, Partition, read_chunk, write_chunk
from frechet.execution.reduce import summarize_chunks
from frechet.execution.settings import Settings
from frechet.features.extract import extract
from frechet.features.extractor import LoadedExtractor
from frechet.images.sources.registry import open_source

Item = TypeVar("Item")

JOB, CHUNK, ERROR, END = range(4)  # kinds of messages
_PREFETCH = 2  # parts that wait to be sent or merged


class Channel(Protocol):
    """A way to another process.

    Attributes:
        name: of the other end, for messages.
    """

    @property
    def name(self) -> str: ...

    def send(self, kind: int, data: bytes) -> None:
        """Hand over a message; raises OSError or RuntimeError if the other end is gone."""

    def receive(self) -> tuple[int, bytes]:
        """The next message; raises EOFError, OSError or RuntimeError if the other end is gone."""


def extract_chunks(
    partition: Partition,
    chunk_indices: Sequence[int],
    settings: Settings,
    extractor: LoadedExtractor,
    on_batch: Callable[[int], None] = lambda _: None,
) -> Generator[Chunk, None, None]:
    """These parts, by this process; `on_batch` hears how many images each batch had."""
    chunks = extract(
        partition.iter_images(chunk_indices),
        extractor,
        batch_size=settings.batch_size or extractor.runner.batch_size,
        workers=settings.workers or process_cpu_count(),
        skip_bad_images=settings.on_bad_image == "skip",
        on_batch=on_batch,
    )
    return (
        summarize_chunks(chunks, partition, chunk_indices, settings.seed, extractor)
        if partition.has_large_chunks
        else chunks
    )


def collect_from_workers(
    partition: Partition,
    chunk_indices: Sequence[int],
    settings: Settings,
    extractor: LoadedExtractor,
    channels: Sequence[Channel],
    on_batch: Callable[[int], None] = lambda _: None,
) -> Generator[Chunk, None, None]:
    """These parts in order, by this process and the others, dealt out in turn.

    `on_batch` hears, from several threads, how many images each batch of this process had, and each part of the others.

    Raises:
        RequestError: the source is none that another process could open.
        Unreachable: another process is gone.
        FrechetError: what another process raised.
    """
    n_processes = len(channels) + 1
    job = make_job(partition, settings, extractor)
    for rank, channel in enumerate(channels, start=1):
        with _require_reachable(channel):
            channel.send(JOB, json.dumps({**job, "numbers": list(chunk_indices[rank::n_processes])}).encode())
    with prefetch(extract_chunks(partition, chunk_indices[::n_processes], settings, extractor, on_batch)) as own:
        for round_robin_index in range(len(chunk_indices)):
            if round_robin_index % n_processes == 0:
                yield next(own)
            else:
                chunk = _receive_chunk(channels[round_robin_index % n_processes - 1])
                on_batch(len(chunk.indices) + len(chunk.skipped_images))
                yield chunk


def serve(channel: Channel, adapt_settings: Callable[[Settings], Settings] = lambda settings: settings) -> None:
    """Compute what the first process asks for, until it says that this was all; `prepare` adapts its settings."""
    extractors: dict[str, LoadedExtractor] = {}
    while True:
        with _require_reachable(channel):
            kind, data = channel.receive()
        if kind == END:
            return
        try:
            job = json.loads(data)
            key = json.dumps([job["settings"], job["extra_layers"]], sort_keys=True)
            if key not in extractors:
                extractors[key] = adapt_settings(Settings(**job["settings"])).load(None, job["extra_layers"])
            for chunk in compute_job_chunks(job, job["numbers"], extractors[key]):
                with _require_reachable(channel):
                    channel.send(CHUNK, encode_chunk(chunk))
        except UnreachableError:
            raise
        except FrechetError as error:
            channel.send(ERROR, json.dumps([type(error).__name__, str(error)]).encode())
            raise


def make_job(partition: Partition, settings: Settings, extractor: LoadedExtractor) -> dict[str, Any]:
    """What another process needs to compute parts of this run, and to see that they are the same; plain JSON.

    Raises:
        RequestError: the images or the extractor are in this process alone.
    """
    if not isinstance(settings.extractor, str):
        raise RequestError("several processes need an extractor that each can load: give its name, not an object")
    if partition.source.location is None:
        raise RequestError("several processes need images that each can open: give a path or a URL, not Python objects")
    plain = replace(settings, work_dir=None, cache=False, engine="local")
    return {
        "source": partition.source.location,
        "settings": {
            key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in asdict(plain).items()
        },
        "images": _digest_partition(partition),
        "images in a part": partition.chunk_size,
        "spec": asdict(extractor.spec),
        "extra_layers": list(extractor.extra_layers),
    }


def compute_job_chunks(
    job: dict[str, Any], chunk_indices: Sequence[int], extractor: LoadedExtractor
) -> Iterator[Chunk]:
    """Parts of a job, computed ahead of whoever takes them. Raises as `opened_job`."""
    if not chunk_indices:
        return
    partition = open_job(job, extractor)
    with prefetch(extract_chunks(partition, chunk_indices, Settings(**job["settings"]), extractor)) as chunks:
        yield from chunks


def open_job(job: dict[str, Any], extractor: LoadedExtractor) -> Partition:
    """The images of a job, as this process sees them.

    Raises:
        Mismatch: it sees other images or other weights than the one whose job it is.
    """
    partition = replace(
        Partition.from_source(open_source(job["source"]), Settings(**job["settings"])),
        chunk_size=job["images in a part"],
    )
    for what, mine, theirs in (
        ("images", _digest_partition(partition), job["images"]),
        ("weights or settings", asdict(extractor.spec), job["spec"]),
    ):
        if mine != theirs:
            raise MismatchError(
                f"this process sees other {what} than the first one at {partition.source.label}; give all the same"
            )
    return partition


def encode_chunk(chunk: Chunk) -> bytes:
    """As it is written to files."""
    stream = io.BytesIO()
    write_chunk(chunk, stream)
    return stream.getvalue()


@contextmanager
def prefetch(items: Generator[Item, None, None]) -> Iterator[Iterator[Item]]:
    """The items, made in a thread, so that this one may wait for something else meanwhile."""
    ended: Any = object()
    pool = ThreadPoolExecutor(1, thread_name_prefix="parts")
    waiting = deque(pool.submit(next, items, ended) for _ in range(_PREFETCH))

    def iterate() -> Iterator[Item]:
        while (item := waiting.popleft().result()) is not ended:
            waiting.append(pool.submit(next, items, ended))
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
        raise UnreachableError(f"{channel.name} is gone, and its parts with it; see what it said last") from error


def _digest_partition(partition: Partition) -> str:
    """Of how many images there are, and of the names of the first and the last of each part, from whichever folder a path counts."""
    digest = hashlib.sha256(f"{len(partition.source)} {len(partition.source_indices)}".encode())
    for chunk_index in range(len(partition)):
        images = partition.chunk_range(chunk_index)
        digest.update(
            "\n".join(map(_absolute_name, partition.get_labels([images[0], images[-1]]))).encode(
                "utf-8", "surrogateescape"
            )
        )
    return digest.hexdigest()


def _absolute_name(name: str) -> str:
    """A name that begins with a path, from the root: the others open the whole path."""
    return name if is_url(name) else os.path.abspath(name)  # noqa: PTH100, links in it stay
