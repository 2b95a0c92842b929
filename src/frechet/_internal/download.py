"""Download a file once: resumed after an interruption, verified before it is used, safe for concurrent processes."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from frechet._internal.http import STALL_SECONDS, open_url, read_blocks
from frechet._internal.remote_files import redact_url
from frechet.errors import WeightsError

ProgressCallback = Callable[[str, int, int], None]  # (stage, done, in all); bytes if the stage begins with `DOWNLOAD`
DOWNLOAD = "download "

DEFAULT_TIMEOUT = STALL_SECONDS
_MAX_UNKNOWN_SIZE = 1 << 32  # bytes of a file whose size the server does not state
_MAX_ATTEMPTS = 5  # per URL
_BLOCK_SIZE = 1 << 18


def download(
    urls: Sequence[str],
    target: Path,
    *,
    size: int | None,
    sha256: str | None,
    authorization: str | None = None,
    progress: ProgressCallback | None = None,
    timeout: float = DEFAULT_TIMEOUT,
) -> Path:
    """Download a file from the first of several URLs that returns the expected bytes, unless it exists already.

    After an interruption, the bytes received so far are kept next to the target, and this run or the next one continues
    from there. Proxies are taken from the environment (`https_proxy` etc.).

    Args:
        urls: URLs of the same file.
        target: path of the file; it is created complete and verified, or not at all.
        size: expected number of bytes, or None if unknown; an interrupted download can then not be resumed.
        sha256: expected SHA-256 in hexadecimal, or its first digits, or None if unknown.
        authorization: value of the Authorization header; it is not sent to other servers after a redirect.
        progress: called with (name, bytes done, bytes in all).
        timeout: seconds without a byte after which a connection is closed.

    Returns:
        The target.

    Raises:
        WeightsError: no URL returned the expected bytes, or the folder is not writable; the message lists the attempts.
    """
    from filelock import FileLock  # imported here, and urllib below, to keep the start of the program fast

    options = _Options(size=size, sha256=sha256, authorization=authorization, progress=progress, timeout=timeout)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not target.exists():
                _download_from_first(urls, target, options)
    except OSError as error:
        raise WeightsError(
            f"{target} cannot be written ({error}); set XDG_CACHE_HOME to a writable folder, or download "
            f"{redact_url(urls[0])} by hand"
        ) from error
    return target


def compute_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class _Options:
    """Arguments of `download` that apply to every attempt."""

    size: int | None
    sha256: str | None
    authorization: str | None
    progress: ProgressCallback | None
    timeout: float


def _download_from_first(urls: Sequence[str], target: Path, options: _Options) -> None:
    partial_path = target.with_name(f"{target.name}.partial")
    failures: list[str] = []

    def report_progress(done: int) -> None:
        if options.progress:
            options.progress(f"{DOWNLOAD}{target.name}", done, options.size or done)

    for url in urls:
        url_failures = _download_from(url, partial_path, options, report_progress)
        if not url_failures:
            os.replace(partial_path, target)
            return
        failures += [f"{redact_url(url)}: {failure}" for failure in url_failures]
    raise WeightsError("\n  - ".join(["the download failed:", *dict.fromkeys(failures)]))


def _download_from(
    url: str, partial_path: Path, options: _Options, report_progress: Callable[[int], None]
) -> list[str]:
    """Download from one URL and return what went wrong; an empty list if the file is complete and verified."""
    failures: list[str] = []
    size, received = options.size, _file_size(partial_path)
    for attempt in range(_MAX_ATTEMPTS):
        before = received
        failure = _resume_download(url, partial_path, options, report_progress)
        failures += [failure] if failure else []
        received = _file_size(partial_path)
        if received >= size if size is not None else not failure:
            error = _find_error(partial_path, options)
            if error is None:
                return []
            partial_path.unlink()
            return [*failures, error]
        if received <= before:  # without progress, one more attempt is worth a pause, but not five
            if attempt:
                break
            time.sleep(0.5)
    return failures or [f"returned {received} of {size} bytes"]


def _resume_download(
    url: str, partial_path: Path, options: _Options, report_progress: Callable[[int], None]
) -> str | None:
    """Continue the partial file from a URL and return what went wrong, or None.

    The bytes received are kept. A connection that ends early is not an error here: the caller compares the size.
    """
    import http.client
    import urllib.error

    size = options.size
    start = _file_size(partial_path) if size is not None else 0
    try:
        with open_url(url, f"bytes={start}-" if start else None, options.authorization, options.timeout) as response:
            content_range = response.headers.get("Content-Range", "")
            is_resumed = start and response.status == 206 and content_range.startswith(f"bytes {start}-")
            with open(partial_path, "ab" if is_resumed else "wb") as file:
                for block in read_blocks(response, _BLOCK_SIZE):
                    file.write(block)
                    report_progress(file.tell())
                    if file.tell() > (_MAX_UNKNOWN_SIZE if size is None else size):
                        break
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ValueError) as error:
        received = _file_size(partial_path)
        total = "an unknown number of" if size is None else size
        return f"{getattr(error, 'reason', error)}" + (f" ({received} of {total} bytes received)" if received else "")
    return None


def _find_error(partial_path: Path, options: _Options) -> str | None:
    """Return what is wrong with a download that has ended, or None."""
    if options.size is not None and _file_size(partial_path) > options.size:
        return f"returned more than the {options.size} bytes expected"
    if options.size is None and _file_size(partial_path) > _MAX_UNKNOWN_SIZE:
        return f"returned more than {_MAX_UNKNOWN_SIZE} bytes without stating how many there are"
    sha256 = compute_sha256(partial_path)
    if options.sha256 is not None and not sha256.startswith(options.sha256):
        return f"returned other bytes than expected (sha256 differs: {sha256}, not {options.sha256})"
    return None


def _file_size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
