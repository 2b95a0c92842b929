"""Read files at a URL through fsspec: in byte ranges, ahead of time, and with retries."""

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

from frechet._internal.http import client_options
from frechet.errors import ImageDecodeError, SourceError, UnreachableError

Result = TypeVar("Result")

BLOCK_SIZE = 4 << 20  # bytes per request
MAX_IN_FLIGHT = 16  # requests
_RETRY_DELAYS = (0.5, 1.0, 2.0, 4.0)  # seconds between attempts
_FORBIDDEN_STATUSES, _NOT_FOUND_STATUSES, TOO_MANY_REQUESTS = (401, 403), (404, 410), 429  # HTTP status codes
_URL_PATTERN = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]+://[^\s'\"<>()\[\]]+"
)  # as quoted in a client's message, with its credentials


def is_url(value: object) -> bool:
    """Return whether a value is a text that starts with a protocol, such as https://."""
    return isinstance(value, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", value) is not None


def redact_url(url: str) -> str:
    """Return a URL that is safe to display: without user, password, query and fragment.

    Raises:
        SourceError: it is not a valid URL.
    """
    import urllib.parse  # here, because most runs do not need it

    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError as error:
        raise SourceError(f"{url.partition('://')[0]}://... is not a valid URL: {error}") from None
    return parts._replace(
        netloc=parts.netloc.rpartition("@")[2], query="..." if parts.query else "", fragment=""
    ).geturl()


def open_filesystem(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the path in it.

    Raises:
        SourceError: fsspec or the package for this protocol is not installed, or the protocol is unknown.
    """
    try:
        import fsspec
    except ImportError:
        raise SourceError(
            f"{redact_url(url)} needs fsspec, which is not installed; run pip install 'frechet[remote]'"
        ) from None
    try:
        filesystem, path = fsspec.core.url_to_fs(url, **client_options(url))
    except (ImportError, ValueError) as error:
        raise SourceError(f"{redact_url(url)} cannot be read: {error}") from None
    except OSError as error:  # some stores connect at once, such as ftp
        raise SourceError(
            f"{redact_url(url)} cannot be read: {_describe_error(error)}. Check the address and the connection, or download "
            "the files and pass the local folder."
        ) from error
    return filesystem, path


class RemoteFile:
    """A file at a URL, with the part of pathlib.Path's interface that readers need.

    Attributes:
        url: its URL, which may contain credentials; do not display it.
        label: its URL without credentials.
        suffix: extension of its name, as in pathlib.
        size: in bytes.
        version: text that changes if the file is replaced: size, and ETag or time if the store reports them.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.filesystem, self.path = open_filesystem(url)
        self.label = redact_url(url)
        self.suffix = PurePosixPath(self.path.partition("?")[0]).suffix
        info = open_with_retries(self.label, lambda: self.filesystem.info(self.path))
        if info.get("size") is None:
            raise SourceError(
                f"{self.label}: the server does not report its size; download it, and pass the local file"
            )
        self.size = int(info["size"])
        self.version = entry_version(info)

    def __str__(self) -> str:
        return self.label

    def read(self, start: int, count: int) -> bytes:
        """Read `count` bytes from `start`; safe to call from several threads.

        Raises:
            ImageDecodeError: the file no longer exists.
            UnreachableError: the store refuses access, or did not return these bytes in several attempts.
        """

        def attempt() -> bytes:
            data: bytes = self.filesystem.cat_file(self.path, start=start, end=start + count)
            if len(data) != count:
                raise OSError(f"returned {len(data)} bytes where {count} were requested")
            return data

        return call_with_retries(self.label, attempt) if count else b""

    def open(self, _mode: str = "rb") -> BinaryIO:
        """Open the file as a seekable stream."""
        return io.BufferedReader(_RemoteStream(self), BLOCK_SIZE)


class _RemoteStream(io.RawIOBase):
    """A stream that fetches the next block in the background while a file is read sequentially."""

    def __init__(self, file: RemoteFile) -> None:
        self.file = file
        self.position = self.sequential_position = 0  # the latter: where the last read ended
        self.prefetched: tuple[int, Future[bytes]] | None = None
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="read ahead")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, origin: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.file.size}[origin]
        self.position = start + offset
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
    """Run requests in threads, at most `MAX_IN_FLIGHT` ahead of the caller.

    Args:
        requests: functions that return bytes, each with the slices of the result that are needed.

    Yields:
        For each slice of each result, in order, a function that waits for it and returns it.
    """
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
        pool.shutdown(
            wait=False, cancel_futures=bool(waiting)
        )  # functions that were yielded may still need their results


def merge_ranges(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, list[slice]]]:
    """Merge neighbouring byte ranges (start, size) into requests (start, size, slices of it) of about one block each."""
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
    """Return the result of a call that opens an input, with retries.

    Raises:
        SourceError: there is no such file, or the store refuses access or does not answer.
    """
    try:
        return call_with_retries(label, call)
    except (ImageDecodeError, UnreachableError) as error:
        raise SourceError(str(error)) from error.__cause__


def call_with_retries(label: str, call: Callable[[], Result]) -> Result:
    """Return the result of a call; retry it after a pause if another attempt may succeed.

    Raises:
        ImageDecodeError: there is no such file.
        UnreachableError: the store refuses access, or did not answer in any attempt.
    """
    for delay in (*_RETRY_DELAYS, None):
        try:
            return call()
        except Exception as caught:  # each store's client has its own error types
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
    """Return what to do about an HTTP status code, to be appended to a message; empty if there is no advice."""
    if status in _FORBIDDEN_STATUSES:
        return "; check the credentials"
    if status == TOO_MANY_REQUESTS:
        return (
            "; the server limits the number of requests; try again later, or download the file and pass the local file"
        )
    if isinstance(status, int) and status >= 500:
        return "; the error is on the server's side; try again later"
    return ""


def entry_version(info: dict[str, Any]) -> str:
    """Return what a store reports about the version of a file."""
    fields = (info.get(key) for key in ("size", "ETag", "etag", "mtime", "LastModified", "last_modified", "created"))
    return " ".join(str(field) for field in fields if field is not None)


def _slice_result(future: Future[bytes], byte_slice: slice) -> bytes:
    return future.result()[byte_slice]


def _unwrap_error(error: Exception) -> Exception:
    """Return the original error: fsspec reports any HTTP error in its first request as FileNotFoundError."""
    cause = error.__cause__
    if not isinstance(error, FileNotFoundError) or not isinstance(cause, Exception):
        return error
    status = getattr(cause, "status", None)
    # An OSError without a status means that there is no connection.
    is_other_error = isinstance(cause, OSError) if status is None else status not in _NOT_FOUND_STATUSES
    return cause if is_other_error else error


def _is_refused(error: Exception) -> bool:
    """Return whether another attempt cannot succeed."""
    return (
        isinstance(error, (PermissionError, ImportError, NotImplementedError))
        or type(error)
        in (ValueError, UnicodeError)  # an invalid address; truncated answers raise other subclasses than the Hub's
        or type(error).__name__ in ("HFValidationError", "HfUriError")
        or getattr(error, "status", None) in _FORBIDDEN_STATUSES
        or "Credentials" in type(error).__name__
    )


def _describe_error(error: Exception) -> str:
    message = _URL_PATTERN.sub(lambda found: redact_url(found[0]), str(error))
    status = getattr(error, "status", None)
    if status in _FORBIDDEN_STATUSES or isinstance(error, PermissionError):
        return f"access is refused ({message}){status_hint(403)}"
    return f"{message or type(error).__name__}{status_hint(status)}"
