"""Files behind a URL, by fsspec: asked for in ranges, ahead of need, and again where a store stumbles."""

from __future__ import annotations

import io
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO, TypeVar

from frechet.errors import BadImage, SourceError, Unreachable

Result = TypeVar("Result")

BLOCK = 4 << 20  # bytes that are asked for at once
IN_FLIGHT = 16  # requests
_PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds between attempts
_REFUSALS, _MISSING, BUSY = (401, 403), (404, 410), 429  # what web servers answer
_ADDRESS = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]+://[^\s'\"<>()\[\]]+"
)  # as a client's message quotes it, secrets and all


def is_url(side: object) -> bool:
    """Whether it is a text that names a protocol."""
    return isinstance(side, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", side) is not None


def shown(url: str) -> str:
    """The address as it may be shown: what could let somebody in (user, password, query) is left out.

    Raises:
        SourceError: it is no address.
    """
    import urllib.parse  # here, since most runs have none

    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError as error:
        raise SourceError(f"{url.partition('://')[0]}://... is no address: {error}") from None
    return parts._replace(
        netloc=parts.netloc.rpartition("@")[2], query="..." if parts.query else "", fragment=""
    ).geturl()


def filesystem_of(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path in it.

    Raises:
        SourceError: fsspec or the package for that protocol is not installed, or there is no such protocol.
    """
    try:
        import fsspec
    except ImportError:
        raise SourceError(f"{shown(url)} needs fsspec: pip install 'frechet[remote]'") from None
    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise SourceError(f"{shown(url)} cannot be read: {error}") from None
    return system, path


class RemoteFile:
    """A file behind a URL, with as much of pathlib.Path as readers need.

    Attributes:
        name: its address as it may be shown.
        suffix: of its name, as in pathlib.
        size: in bytes.
        version: what tells it from an earlier file of that address: size, and ETag or time where the store has them.
    """

    def __init__(self, url: str) -> None:
        self.system, self.path = filesystem_of(url)
        self.name = shown(url)
        self.suffix = PurePosixPath(self.path.partition("?")[0]).suffix
        facts = opening(self.name, lambda: self.system.info(self.path))
        if facts.get("size") is None:
            raise SourceError(f"{self.name}: the server does not say how large it is; download it, and give the file")
        self.size = int(facts["size"])
        self.version = version_in(facts)

    def __str__(self) -> str:
        return self.name

    def read(self, start: int, count: int) -> bytes:
        """That range of its bytes; safe to call from several threads.

        Raises:
            Unreachable: the store refuses or gives other than was asked for, after several attempts.
        """

        def once() -> bytes:
            data: bytes = self.system.cat_file(self.path, start=start, end=start + count)
            if len(data) != count:
                raise OSError(f"gave {len(data)} bytes where {count} were asked for")
            return data

        return retried(self.name, once) if count else b""

    def open(self, _mode: str = "rb") -> BinaryIO:
        """A seekable stream."""
        return io.BufferedReader(_Stream(self), BLOCK)


class _Stream(io.RawIOBase):
    """Blocks of a file; where they are read one after the other, the next is fetched meanwhile."""

    def __init__(self, file: RemoteFile) -> None:
        self.file = file
        self.at = self.expected = 0  # where a read begins that continues the last one
        self.next: tuple[int, Future[bytes]] | None = None
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="read ahead")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: self.file.size}[whence]
        self.at = base + offset
        return self.at

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self.file.size - self.at))
        begun, self.next = self.next, None
        data = begun[1].result()[:count] if begun and begun[0] == self.at else self.file.read(self.at, count)
        buffer[: len(data)] = data
        follows = self.at + len(data)
        ahead = min(BLOCK, self.file.size - follows)
        if count >= BLOCK and ahead and self.at == self.expected:
            self.next = follows, self.pool.submit(self.file.read, follows, ahead)
        self.at = self.expected = follows
        return len(data)

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        super().close()


def fetched_ahead(requests: Iterable[tuple[Callable[[], bytes], Iterable[slice]]]) -> Iterator[Callable[[], bytes]]:
    """For each slice of each request's answer a function that waits for it; a bounded number is asked for ahead."""
    waiting: deque[tuple[Future[bytes], Iterable[slice]]] = deque()

    def ready() -> Iterator[Callable[[], bytes]]:
        answer, cuts = waiting.popleft()
        yield from (partial(_cut, answer, cut) for cut in cuts)

    pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="read ahead")
    try:
        for request, cuts in requests:
            waiting.append((pool.submit(request), cuts))
            if len(waiting) == IN_FLIGHT:
                yield from ready()
        while waiting:
            yield from ready()
    finally:
        pool.shutdown(wait=False, cancel_futures=bool(waiting))  # what was handed out is still to come


def spans_together(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, list[slice]]]:
    """Neighbouring (start, size) gathered into (start, size, slices of it) of about a block each."""
    start, end, cuts = 0, 0, list[slice]()
    for first, size in spans:
        if cuts and not (start <= first and max(end, first + size) - start <= BLOCK):
            yield start, end - start, cuts
            cuts = []
        if not cuts:
            start, end = first, first
        cuts.append(slice(first - start, first - start + size))
        end = max(end, first + size)
    if cuts:
        yield start, end - start, cuts


def opening(name: str, call: Callable[[], Result]) -> Result:
    """What the call gives, before the run has begun.

    Raises:
        SourceError: nothing there, or the store refuses or does not answer.
    """
    try:
        return retried(name, call)
    except (BadImage, Unreachable) as error:
        raise SourceError(str(error)) from error.__cause__


def retried(name: str, call: Callable[[], Result]) -> Result:
    """What the call gives, tried again after a pause where another attempt may help.

    Raises:
        BadImage: nothing is there.
        Unreachable: the store refuses, or did not answer in any attempt.
    """
    for pause in (*_PAUSES, None):
        try:
            return call()
        except Exception as caught:  # each store's client has errors of its own
            error = _meant(caught)
            if isinstance(error, FileNotFoundError):
                raise BadImage(f"{name}: there is no such file in the store") from error
            refused = _refused(error)
            if refused or pause is None:
                tried = "" if refused else f" in {len(_PAUSES) + 1} attempts"
                raise Unreachable(f"{name} could not be read{tried}: {_reason(error)}") from error
            time.sleep(pause)
    raise AssertionError


def advice(status: object) -> str:
    """What to do about a web server's answer, to follow it; empty where nobody knows."""
    if status in _REFUSALS:
        return "; check the credentials"
    if status == BUSY:
        return "; it is asked too often; try again later, or download the file and give that"
    if isinstance(status, int) and status >= 500:
        return "; that is the server's own fault; try again later"
    return ""


def version_in(facts: dict[str, Any]) -> str:
    """What a store's entry tells of the version of a file."""
    marks = (facts.get(key) for key in ("size", "ETag", "etag", "mtime", "LastModified", "last_modified", "created"))
    return " ".join(str(mark) for mark in marks if mark is not None)


def _cut(answer: Future[bytes], cut: slice) -> bytes:
    return answer.result()[cut]


def _meant(error: Exception) -> Exception:
    """What went wrong: fsspec tells whatever a web server answers to its first question as a missing file."""
    cause = error.__cause__
    if not isinstance(error, FileNotFoundError) or not isinstance(cause, Exception):
        return error
    status = getattr(cause, "status", None)
    elsewhere = isinstance(cause, OSError) if status is None else status not in _MISSING  # OSError: no connection
    return cause if elsewhere else error


def _refused(error: Exception) -> bool:
    """Whether no other attempt would help."""
    return (
        isinstance(error, (PermissionError, ImportError, NotImplementedError))
        or getattr(error, "status", None) in _REFUSALS
        or "Credentials" in type(error).__name__
    )


def _reason(error: Exception) -> str:
    told = _ADDRESS.sub(lambda found: shown(found[0]), str(error))
    status = getattr(error, "status", None)
    if status in _REFUSALS or isinstance(error, PermissionError):
        return f"access is refused ({told}){advice(403)}"
    return f"{told or type(error).__name__}{advice(status)}"
