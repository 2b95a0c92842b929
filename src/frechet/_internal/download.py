"""Fetch a file once: resumed after a cut, verified before it is used, safe for several processes at once."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from frechet._internal.remote_files import redact_url
from frechet.errors import WeightsError

ProgressCallback = Callable[[str, int, int], None]  # (what, bytes done, bytes in all)

DEFAULT_TIMEOUT = 30.0  # seconds without a byte
_MAX_ATTEMPTS = 5  # for each address
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
    """Fetch `target` from the first of `urls` that gives the right bytes.

    What arrived before a cut is kept beside the target and continued, also by the next run. Proxies are taken from
    the environment (`https_proxy` and the like).

    Args:
        urls: addresses of the same bytes.
        target: where the file goes; it appears there whole and verified, or not at all.
        size: bytes expected; None where nobody knows, and then nothing can be resumed.
        sha256: hex digest expected, or its first digits, or None where nobody knows.
        authorization: header that the server asks for; it does not follow to other servers.
        progress: called with (name, bytes done, bytes in all).
        timeout: seconds without a byte after which a connection is given up.

    Raises:
        WeightsError: no address gave the right bytes, or the folder is not writable; says what was tried.
    """
    from filelock import FileLock  # here and below: what only a download needs would slow every start

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not target.exists():
                _download_from_first(urls, target, size, sha256, authorization, progress, timeout)
    except OSError as error:
        raise WeightsError(
            f"{target} cannot be written ({error}); set XDG_CACHE_HOME to a folder that can, or fetch {redact_url(urls[0])} by hand"
        ) from error
    return target


def compute_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _download_from_first(
    urls: Sequence[str],
    target: Path,
    size: int | None,
    sha256: str | None,
    authorization: str | None,
    progress: ProgressCallback | None,
    timeout: float,
) -> None:
    partial_path = target.with_name(f"{target.name}.partial")
    failures: list[str] = []

    def report_progress(done: int) -> None:
        if progress:
            progress(target.name, done, size or done)

    for url in urls:
        for attempt in range(_MAX_ATTEMPTS):
            before = _file_size(partial_path)
            failure = _resume_download(url, partial_path, size, authorization, report_progress, timeout)
            if failure:
                failures.append(f"{redact_url(url)}: {failure}")
            got = _file_size(partial_path)
            if got >= size if size is not None else not failure:
                error_message = _find_error(partial_path, size, sha256)
                if not error_message:
                    os.replace(partial_path, target)
                    return
                failures.append(f"{redact_url(url)}: {error_message}")
                partial_path.unlink()
                break
            if got <= before:  # no byte nearer: a pause is worth one more try, not five
                if attempt:
                    failures.append(f"{redact_url(url)}: {failure or f'gave {got} of {size} bytes'}")
                    break
                time.sleep(0.5)
    raise WeightsError("\n  - ".join(["the download failed:", *dict.fromkeys(failures)]))


def _find_error(partial_path: Path, size: int | None, sha256: str | None) -> str | None:
    """What is wrong with a download that came to its end, or None."""
    if size is not None and _file_size(partial_path) > size:
        return f"gave more than the {size} bytes expected"
    found = compute_sha256(partial_path)
    return (
        None
        if sha256 is None or found.startswith(sha256)
        else f"other bytes than expected (sha256 differs: {found}, not {sha256})"
    )


def _resume_download(
    url: str,
    partial_path: Path,
    size: int | None,
    authorization: str | None,
    report_progress: Callable[[int], None],
    timeout: float,
) -> str | None:
    """Continue the partial file from `url`, and say what went wrong.

    The bytes that came are kept. A connection that ends early goes unnoticed: the size tells it.
    """
    import http.client
    import urllib.error

    have = _file_size(partial_path) if size is not None else 0
    try:
        with open_url(url, f"bytes={have}-" if have else None, authorization, timeout) as response:
            content_range = response.headers.get("Content-Range", "")
            resumed = have and response.status == 206 and content_range.startswith(f"bytes {have}-")
            with open(partial_path, "ab" if resumed else "wb") as file:
                while (size is None or file.tell() <= size) and (block := response.read(_BLOCK_SIZE)):
                    file.write(block)
                    report_progress(file.tell())
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ValueError) as error:
        return str(getattr(error, "reason", error))
    return None


def open_url(url: str, byte_range: str | None, authorization: str | None, timeout: float) -> Any:
    """The response of an http(s) server, to be closed: of the whole, or where it can of a span of bytes."""
    import urllib.request

    request = urllib.request.Request(url, headers={"Range": byte_range} if byte_range else {})  # noqa: S310, the caller saw to http
    if authorization:
        request.add_unredirected_header("Authorization", authorization)
    return urllib.request.urlopen(request, timeout=timeout)  # noqa: S310


def _file_size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
