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
from frechet._internal.cpu import usable_cores
from frechet._internal.remote_files import is_url
from frechet.errors import FrechetError, Mismatch, RequestError, RunError, Unreachable
from frechet.execution.chunks import AnyPart, Cut, read_part, write_part
from frechet.execution.reduce import condensed
from frechet.execution.settings import Settings
from frechet.features.extract import extract
from frechet.features.extractor import LoadedExtractor
from frechet.images.sources.registry import open_source

Item = TypeVar("Item")

JOB, PART, ERROR, END = range(4)  # kinds of messages
_AHEAD = 2  # parts that wait to be sent or merged


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


def extracted(
    cut: Cut,
    numbers: Sequence[int],
    settings: Settings,
    extractor: LoadedExtractor,
    on_batch: Callable[[int], None] = lambda _: None,
) -> Generator[AnyPart, None, None]:
    """These parts, by this process; `on_batch` hears how many images each batch had."""
    parts = extract(
        cut.pictures(numbers),
        extractor,
        batch_size=settings.batch_size or extractor.runner.batch_size,
        workers=settings.workers or usable_cores(),
        skip_bad=settings.on_bad_image == "skip",
        on_batch=on_batch,
    )
    return condensed(parts, cut, numbers, settings.seed, extractor) if cut.large else parts


def gathered(
    cut: Cut,
    numbers: Sequence[int],
    settings: Settings,
    extractor: LoadedExtractor,
    others: Sequence[Channel],
    on_batch: Callable[[int], None] = lambda _: None,
) -> Generator[AnyPart, None, None]:
    """These parts in order, by this process and the others, dealt out in turn.

    `on_batch` hears, from several threads, how many images each batch of this process had, and each part of the others.

    Raises:
        RequestError: the source is none that another process could open.
        Unreachable: another process is gone.
        FrechetError: what another process raised.
    """
    crew = len(others) + 1
    job = job_of(cut, settings, extractor)
    for place, channel in enumerate(others, start=1):
        with _reached(channel):
            channel.send(JOB, json.dumps({**job, "numbers": list(numbers[place::crew])}).encode())
    with ahead(extracted(cut, numbers[::crew], settings, extractor, on_batch)) as own:
        for turn in range(len(numbers)):
            if turn % crew == 0:
                yield next(own)
            else:
                part = _received(others[turn % crew - 1])
                on_batch(len(part.places) + len(part.bad))
                yield part


def serve(channel: Channel, prepare: Callable[[Settings], Settings] = lambda settings: settings) -> None:
    """Compute what the first process asks for, until it says that this was all; `prepare` adapts its settings."""
    extractors: dict[str, LoadedExtractor] = {}
    while True:
        with _reached(channel):
            kind, data = channel.receive()
        if kind == END:
            return
        try:
            job = json.loads(data)
            key = json.dumps([job["settings"], job["further"]], sort_keys=True)
            if key not in extractors:
                extractors[key] = prepare(Settings(**job["settings"])).load(None, job["further"])
            for part in parts_of(job, job["numbers"], extractors[key]):
                with _reached(channel):
                    channel.send(PART, part_bytes(part))
        except Unreachable:
            raise
        except FrechetError as error:
            channel.send(ERROR, json.dumps([type(error).__name__, str(error)]).encode())
            raise


def job_of(cut: Cut, settings: Settings, extractor: LoadedExtractor) -> dict[str, Any]:
    """What another process needs to compute parts of this run, and to see that they are the same; plain JSON.

    Raises:
        RequestError: the images or the extractor are in this process alone.
    """
    if not isinstance(settings.extractor, str):
        raise RequestError("several processes need an extractor that each can load: give its name, not an object")
    if cut.source.address is None:
        raise RequestError("several processes need images that each can open: give a path or a URL, not Python objects")
    plain = replace(settings, work_dir=None, cache=False, engine="local")
    return {
        "source": cut.source.address,
        "settings": {
            key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in asdict(plain).items()
        },
        "images": _digest_of(cut),
        "images in a part": cut.size,
        "recipe": asdict(extractor.recipe),
        "further": list(extractor.further),
    }


def parts_of(job: dict[str, Any], numbers: Sequence[int], extractor: LoadedExtractor) -> Iterator[AnyPart]:
    """Parts of a job, computed ahead of whoever takes them. Raises as `opened_job`."""
    if not numbers:
        return
    cut = opened_job(job, extractor)
    with ahead(extracted(cut, numbers, Settings(**job["settings"]), extractor)) as parts:
        yield from parts


def opened_job(job: dict[str, Any], extractor: LoadedExtractor) -> Cut:
    """The images of a job, as this process sees them.

    Raises:
        Mismatch: it sees other images or other weights than the one whose job it is.
    """
    cut = replace(Cut.of(open_source(job["source"]), Settings(**job["settings"])), size=job["images in a part"])
    for what, mine, theirs in (
        ("images", _digest_of(cut), job["images"]),
        ("weights or settings", asdict(extractor.recipe), job["recipe"]),
    ):
        if mine != theirs:
            raise Mismatch(f"this process sees other {what} than the first one at {cut.source.name}; give all the same")
    return cut


def part_bytes(part: AnyPart) -> bytes:
    """As it is written to files."""
    stream = io.BytesIO()
    write_part(part, stream)
    return stream.getvalue()


@contextmanager
def ahead(items: Generator[Item, None, None]) -> Iterator[Iterator[Item]]:
    """The items, made in a thread, so that this one may wait for something else meanwhile."""
    ended: Any = object()
    pool = ThreadPoolExecutor(1, thread_name_prefix="parts")
    waiting = deque(pool.submit(next, items, ended) for _ in range(_AHEAD))

    def taken() -> Iterator[Item]:
        while (item := waiting.popleft().result()) is not ended:
            waiting.append(pool.submit(next, items, ended))
            yield item

    try:
        yield taken()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        items.close()


def _received(channel: Channel) -> AnyPart:
    with _reached(channel):
        kind, data = channel.receive()
    if kind == ERROR:
        name, message = json.loads(data)
        error = getattr(frechet.errors, name, RunError)
        raise error(f"{channel.name}: {message}")
    return read_part(io.BytesIO(data))


@contextmanager
def _reached(channel: Channel) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, EOFError) as error:
        if isinstance(error, FrechetError):
            raise
        raise Unreachable(f"{channel.name} is gone, and its parts with it; see what it said last") from error


def _digest_of(cut: Cut) -> str:
    """Of how many images there are, and of the names of the first and the last of each part, from whichever folder a path counts."""
    digest = hashlib.sha256(f"{len(cut.source)} {len(cut.chosen)}".encode())
    for number in range(len(cut)):
        images = cut.images_in(number)
        digest.update("\n".join(map(_whole, cut.names([images[0], images[-1]]))).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _whole(name: str) -> str:
    """A name that begins with a path, from the root: the others open the whole path."""
    return name if is_url(name) else os.path.abspath(name)  # noqa: PTH100, links in it stay
