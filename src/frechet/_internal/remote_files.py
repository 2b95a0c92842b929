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

from frechet.errors import ImageDecodeError, SourceError, UnreachableError

Result = TypeVar("Result")

BLOCK_SIZE = 4 << 20  # bytes that are asked for at once
MAX_IN_FLIGHT = 16  # requests
_RETRY_DELAYS = (0.5, 1.0, 2.0, 4.0)  # seconds between attempts
_FORBIDDEN_STATUSES, _NOT_FOUND_STATUSES, TOO_MANY_REQUESTS = (401, 403), (404, 410), 429  # what web servers answer
_URL_PATTERN = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]+://[^\s'\"<>()\[\]]+"
)  # as a client's message quotes it, secrets and all


def is_url(value: object) -> bool:
    """Whether it is a text that names a protocol."""
    return isinstance(value, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", value) is not None


def redact_url(url: str) -> str:
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


def open_filesystem(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path in it.

    Raises:
        SourceError: fsspec or the package for that protocol is not installed, or there is no such protocol.
    """
    try:
        import fsspec
    except ImportError:
        raise SourceError(f"{redact_url(url)} needs fsspec: pip install 'frechet[remote]'") from None
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise SourceError(f"{redact_url(url)} cannot be read: {error}") from None
    return filesystem, path


class RemoteFile:
    """A file behind a URL, with as much of pathlib.Path as readers need.

    Attributes:
        name: its address as it may be shown.
        suffix: of its name, as in pathlib.
        size: in bytes.
        version: what tells it from an earlier file of that address: size, and ETag or time where the store has them.
    """

    def __init__(self, url: str) -> None:
        self.filesystem, self.path = open_filesystem(url)
        self.label = redact_url(url)
        self.suffix = PurePosixPath(self.path.partition("?")[0]).suffix
        info = open_with_retries(self.label, lambda: self.filesystem.info(self.path))
        if info.get("size") is None:
            raise SourceError(f"{self.label}: the server does not say how large it is; download it, and give the file")
        self.size = int(info["size"])
        self.version = entry_version(info)

    def __str__(self) -> str:
        return self.label

    def read(self, start: int, count: int) -> bytes:
        """That range of its bytes; safe to call from several threads.

        Raises:
            Unreachable: the store refuses or gives other than was asked for, after several attempts.
        """

        def attempt() -> bytes:
            data: bytes = self.filesystem.cat_file(self.path, start=start, end=start + count)
            if len(data) != count:
                raise OSError(f"gave {len(data)} bytes where {count} were asked for")
            return data

        return call_with_retries(self.label, attempt) if count else b""

    def open(self, _mode: str = "rb") -> BinaryIO:
        """A seekable stream."""
        return io.BufferedReader(_RemoteStream(self), BLOCK_SIZE)


class _RemoteStream(io.RawIOBase):
    """Blocks of a file; where they are read one after the other, the next is fetched meanwhile."""

    def __init__(self, file: RemoteFile) -> None:
        self.file = file
        self.position = self.sequential_position = 0  # where a read begins that continues the last one
        self.prefetched: tuple[int, Future[bytes]] | None = None
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="read ahead")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.file.size}[whence]
        self.position = base + offset
        return self.position

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self.file.size - self.position))
        pending, self.prefetched = self.prefetched, None
        data = (
            pending[1].result()[:count]
            if pending and pending[0] == self.position
            else self.file.read(self.position, count)
        )
        buffer[: len(data)] = data
        next_position = self.position + len(data)
        ahead = min(BLOCK_SIZE, self.file.size - next_position)
        if count >= BLOCK_SIZE and ahead and self.position == self.sequential_position:
            self.prefetched = next_position, self.pool.submit(self.file.read, next_position, ahead)
        self.position = self.sequential_position = next_position
        return len(data)

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        super().close()


def prefetch(requests: Iterable[tuple[Callable[[], bytes], Iterable[slice]]]) -> Iterator[Callable[[], bytes]]:
    """For each slice of each request's answer a function that waits for it; a bounded number is asked for ahead."""
    waiting: deque[tuple[Future[bytes], Iterable[slice]]] = deque()

    def ready() -> Iterator[Callable[[], bytes]]:
        future, byte_slices = waiting.popleft()
        yield from (partial(_slice_result, future, byte_slice) for byte_slice in byte_slices)

    pool = ThreadPoolExecutor(MAX_IN_FLIGHT, thread_name_prefix="read ahead")
    try:
        for request, byte_slices in requests:
            waiting.append((pool.submit(request), byte_slices))
            if len(waiting) == MAX_IN_FLIGHT:
                yield from ready()
        while waiting:
            yield from ready()
    finally:
        pool.shutdown(wait=False, cancel_futures=bool(waiting))  # what was handed out is still to come


def merge_ranges(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, list[slice]]]:
    """Neighbouring (start, size) gathered into (start, size, slices of it) of about a block each."""
    start, end, byte_slices = 0, 0, list[slice]()
    for first, size in ranges:
        if byte_slices and not (start <= first and max(end, first + size) - start <= BLOCK_SIZE):
            yield start, end - start, byte_slices
            byte_slices = []
        if not byte_slices:
            start, end = first, first
        byte_slices.append(slice(first - start, first - start + size))
        end = max(end, first + size)
    if byte_slices:
        yield start, end - start, byte_slices


def open_with_retries(label: str, call: Callable[[], Result]) -> Result:
    """What the call gives, before the run has begun.

    Raises:
        SourceError: nothing there, or the store refuses or does not answer.
    """
    try:
        return call_with_retries(label, call)
    except (ImageDecodeError, UnreachableError) as error:
        raise SourceError(str(error)) from error.__cause__


def call_with_retries(label: str, call: Callable[[], Result]) -> Result:
    """What the call gives, tried again after a pause where another attempt may help.

    Raises:
        BadImage: nothing is there.
        Unreachable: the store refuses, or did not answer in any attempt.
    """
    for delay in (*_RETRY_DELAYS, None):
        try:
            return call()
        except Exception as caught:  # each store's client has errors of its own
            error = _unwrap_error(caught)
            if isinstance(error, FileNotFoundError):
                raise ImageDecodeError(f"{label}: there is no such file in the store") from error
            is_refused = _is_refused(error)
            if is_refused or delay is None:
                tried = "" if is_refused else f" in {len(_RETRY_DELAYS) + 1} attempts"
                raise UnreachableError(f"{label} could not be read{tried}: {_describe_error(error)}") from error
            time.sleep(delay)
    raise AssertionError


def status_hint(status: object) -> str:
    """What to do about a web server's answer, to follow it; empty where nobody knows."""
    if status in _FORBIDDEN_STATUSES:
        return "; check the credentials"
    if status == TOO_MANY_REQUESTS:
        return "; it is asked too often; try again later, or download the file and give that"
    if isinstance(status, int) and status >= 500:
        return "; that is the server's own fault; try again later"
    return ""


def entry_version(info: dict[str, Any]) -> str:
    """What a store's entry tells of the version of a file."""
    fields = (info.get(key) for key in ("size", "ETag", "etag", "mtime", "LastModified", "last_modified", "created"))
    return " ".join(str(mark) for mark in fields if mark is not None)


def _slice_result(future: Future[bytes], byte_slice: slice) -> bytes:
    return future.result()[byte_slice]


def _unwrap_error(error: Exception) -> Exception:
    """What went wrong: fsspec tells whatever a web server answers to its first question as a missing file."""
    cause = error.__cause__
    if not isinstance(error, FileNotFoundError) or not isinstance(cause, Exception):
        return error
    status = getattr(cause, "status", None)
    is_other_error = (
        isinstance(cause, OSError) if status is None else status not in _NOT_FOUND_STATUSES
    )  # OSError: no connection
    return cause if is_other_error else error


def _is_refused(error: Exception) -> bool:
    """Whether no other attempt would help."""
    return (
        isinstance(error, (PermissionError, ImportError, NotImplementedError))
        or getattr(error, "status", None) in _FORBIDDEN_STATUSES
        or "Credentials" in type(error).__name__
    )


def _describe_error(error: Exception) -> str:
    message = _URL_PATTERN.sub(lambda found: redact_url(found[0]), str(error))
    status = getattr(error, "status", None)
    if status in _FORBIDDEN_STATUSES or isinstance(error, PermissionError):
        return f"access is refused ({message}){status_hint(403)}"
    return f"{message or type(error).__name__}{status_hint(status)}"
