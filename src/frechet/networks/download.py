"""Fetch a file once: resumed after a cut, verified before it is used, safe for several processes at once."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from frechet.errors import WeightsError

Progress = Callable[[str, int, int], None]  # (what, bytes done, bytes in all)

TIMEOUT = 30.0  # seconds without a byte
_ATTEMPTS = 5  # for each address
_BLOCK = 1 << 18


def download(
    urls: Sequence[str],
    target: Path,
    *,
    size: int,
    sha256: str,
    progress: Progress | None = None,
    timeout: float = TIMEOUT,
) -> Path:
    """Fetch `target` from the first of `urls` that gives the right bytes.

    What arrived before a cut is kept beside the target and continued, also by the next run. Proxies are taken from
    the environment (`https_proxy` and the like).

    Args:
        urls: addresses of the same bytes.
        target: where the file goes; it appears there whole and verified, or not at all.
        size: bytes expected.
        sha256: hex digest expected.
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
                _fetch(urls, target, size, sha256, progress, timeout)
    except OSError as error:
        raise WeightsError(
            f"{target} cannot be written ({error}); set XDG_CACHE_HOME to a folder that can, or fetch {urls[0]} by hand"
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
    urls: Sequence[str], target: Path, size: int, sha256: str, progress: Progress | None, timeout: float
) -> None:
    import urllib.error

    partial = target.with_name(f"{target.name}.partial")
    troubles: list[str] = []
    for url in urls:
        for attempt in range(_ATTEMPTS):
            before = partial.stat().st_size if partial.exists() else 0
            try:
                _append(
                    url, partial, size, lambda done: progress(target.name, done, size) if progress else None, timeout
                )
            except (urllib.error.URLError, ConnectionError, TimeoutError, ValueError) as error:
                troubles.append(f"{url}: {getattr(error, 'reason', error)}")
            got = partial.stat().st_size if partial.exists() else 0
            if got == size:
                if sha256_of(partial) == sha256:
                    os.replace(partial, target)
                    return
                troubles.append(f"{url}: the bytes are not the published ones (sha256 differs)")
                partial.unlink()
                break
            if got > size:
                troubles.append(f"{url}: gave more than the {size} bytes expected")
                partial.unlink()
                break
            if got <= before:  # no byte nearer: a pause is worth one more try, not five
                if attempt:
                    break
                time.sleep(0.5)
    raise WeightsError("\n  - ".join(["the download failed:", *dict.fromkeys(troubles)]))


def _append(url: str, partial: Path, size: int, report: Callable[[int], None], timeout: float) -> None:
    """Continue the partial file from `url`; a connection that ends early is no error here, its bytes are kept."""
    import urllib.request

    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310, the URLs are ours
    with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310
        resumed = (
            have and response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        )
        with open(partial, "ab" if resumed else "wb") as file:
            while file.tell() <= size and (block := response.read(_BLOCK)):
                file.write(block)
                report(file.tell())
