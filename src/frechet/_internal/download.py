"""Fetch a file once: resumed after a cut, verified before it is used, safe for several processes at once."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from frechet._internal.remote_files import shown
from frechet.errors import WeightsError

Progress = Callable[[str, int, int], None]  # (what, bytes done, bytes in all)

TIMEOUT = 30.0  # seconds without a byte
_ATTEMPTS = 5  # for each address
_BLOCK = 1 << 18


def download(
    urls: Sequence[str],
    target: Path,
    *,
    size: int | None,
    sha256: str | None,
    authorization: str | None = None,
    progress: Progress | None = None,
    timeout: float = TIMEOUT,
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
                _fetch(urls, target, size, sha256, authorization, progress, timeout)
    except OSError as error:
        raise WeightsError(
            f"{target} cannot be written ({error}); set XDG_CACHE_HOME to a folder that can, or fetch {shown(urls[0])} by hand"
        ) from error
    return target


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _fetch(
    urls: Sequence[str],
    target: Path,
    size: int | None,
    sha256: str | None,
    authorization: str | None,
    progress: Progress | None,
    timeout: float,
) -> None:
    partial = target.with_name(f"{target.name}.partial")
    troubles: list[str] = []

    def report(done: int) -> None:
        if progress:
            progress(target.name, done, size or done)

    for url in urls:
        for attempt in range(_ATTEMPTS):
            before = _bytes_of(partial)
            trouble = _continued(url, partial, size, authorization, report, timeout)
            if trouble:
                troubles.append(f"{shown(url)}: {trouble}")
            got = _bytes_of(partial)
            if got >= size if size is not None else not trouble:
                mistake = _mistake(partial, size, sha256)
                if not mistake:
                    os.replace(partial, target)
                    return
                troubles.append(f"{shown(url)}: {mistake}")
                partial.unlink()
                break
            if got <= before:  # no byte nearer: a pause is worth one more try, not five
                if attempt:
                    troubles.append(f"{shown(url)}: {trouble or f'gave {got} of {size} bytes'}")
                    break
                time.sleep(0.5)
    raise WeightsError("\n  - ".join(["the download failed:", *dict.fromkeys(troubles)]))


def _mistake(partial: Path, size: int | None, sha256: str | None) -> str | None:
    """What is wrong with a download that came to its end, or None."""
    if size is not None and _bytes_of(partial) > size:
        return f"gave more than the {size} bytes expected"
    found = sha256_of(partial)
    return (
        None
        if sha256 is None or found.startswith(sha256)
        else f"other bytes than expected (sha256 differs: {found}, not {sha256})"
    )


def _continued(
    url: str,
    partial: Path,
    size: int | None,
    authorization: str | None,
    report: Callable[[int], None],
    timeout: float,
) -> str | None:
    """Continue the partial file from `url`, and say what went wrong.

    The bytes that came are kept. A connection that ends early goes unnoticed: the size tells it.
    """
    import http.client
    import urllib.error

    have = _bytes_of(partial) if size is not None else 0
    try:
        with opened(url, f"bytes={have}-" if have else None, authorization, timeout) as response:
            said = response.headers.get("Content-Range", "")
            resumed = have and response.status == 206 and said.startswith(f"bytes {have}-")
            with open(partial, "ab" if resumed else "wb") as file:
                while (size is None or file.tell() <= size) and (block := response.read(_BLOCK)):
                    file.write(block)
                    report(file.tell())
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ValueError) as error:
        return str(getattr(error, "reason", error))
    return None


def opened(url: str, span: str | None, authorization: str | None, timeout: float) -> Any:
    """The response of an http(s) server, to be closed: of the whole, or where it can of a span of bytes."""
    import urllib.request

    request = urllib.request.Request(url, headers={"Range": span} if span else {})  # noqa: S310, the caller saw to http
    if authorization:
        request.add_unredirected_header("Authorization", authorization)
    return urllib.request.urlopen(request, timeout=timeout)  # noqa: S310


def _bytes_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
