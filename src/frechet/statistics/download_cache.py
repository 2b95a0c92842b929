"""Statistics at a URL: downloaded once into the user's cache, and used again as long as the server's file is the same.

A cached file is named by its URL and by what the server says of this version (ETag, Last-Modified, size), so that being
there is being current, and what a cut download left is continued only with bytes of the same version.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from frechet._internal.download import TIMEOUT, Progress, download, opened, sha256_of
from frechet._internal.remote_files import BUSY, advice, is_url, shown
from frechet.errors import FrechetError, RequestError, StatisticsError, WeightsError
from frechet.statistics.feature_statistics import Statistics
from frechet.statistics.foreign_formats import SUFFIXES


@dataclass(frozen=True)
class Address:
    """A URL taken apart.

    Attributes:
        url: what is asked for, without user, password and fragment.
        authorization: header made of user and password, or None.
        sha256: what its fragment says of the file, or None.
    """

    url: str
    authorization: str | None
    sha256: str | None

    @property
    def name(self) -> str:
        """The file's name, made safe."""
        import urllib.parse

        return re.sub(r"[^A-Za-z0-9._-]", "_", PurePosixPath(urllib.parse.urlsplit(self.url).path).name)[-80:]

    @property
    def key(self) -> str:
        """What its cached files are found by."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]


def is_statistics_url(side: object) -> bool:
    """Whether it is the URL of a web server's file that holds statistics, by its name; images may be at any other."""
    if not is_url(side):
        return False
    assert isinstance(side, str)
    path = re.sub(r"[?#].*", "", side, flags=re.DOTALL)
    return side.lower().startswith(("http://", "https://")) and PurePosixPath(path).suffix.lower() in SUFFIXES


def read_remote(
    url: str, read: Callable[[Path], Statistics], progress: Progress | None = None, timeout: float = TIMEOUT
) -> Statistics:
    """Statistics of the file at a URL.

    Args:
        url: http(s)://[user:password@]...{.npz, .pkl, .pt}[#sha256=HEX].
        read: makes statistics of the file once it is here.
        progress: called with (name, bytes done, bytes in all).
        timeout: seconds without a byte after which a connection is given up.

    Raises:
        RequestError: not such a URL.
        StatisticsError: it cannot be had, has another sha256, or is no statistics.
    """
    address = parsed(url)
    path, remarks = _cached(address, progress, timeout)
    try:
        statistics = read(path)
    except FrechetError as error:
        path.unlink(missing_ok=True)  # it may have been cut short: it is worth another download
        raise type(error)(str(error).replace(str(path), shown(url))) from error
    return replace(statistics, source=shown(url), sha256=sha256_of(path), remarks=(*statistics.remarks, *remarks))


def parsed(url: str) -> Address:
    """The parts of a URL of statistics.

    Raises:
        RequestError: another protocol, kind of file or fragment.
    """
    import base64
    import urllib.parse

    named = shown(url)
    parts = urllib.parse.urlsplit(url)
    if parts.scheme.lower() not in ("http", "https"):
        raise RequestError(f"{named}: {parts.scheme}:// is not read; expected https://, http:// or a path")
    suffix = PurePosixPath(parts.path).suffix.lower()
    if suffix not in SUFFIXES:
        raise RequestError(
            f"{named} is a file of type {suffix or '(none)'}; expected statistics ({', '.join(SUFFIXES)})"
        )
    sha256 = re.fullmatch(r"(?:sha256=([0-9a-fA-F]{64}))?", parts.fragment)
    if not sha256:
        raise RequestError(f"{named}#{parts.fragment}: expected #sha256= and 64 hexadecimal digits, or no fragment")
    user, _, host = parts.netloc.rpartition("@")
    authorization = "Basic " + base64.b64encode(urllib.parse.unquote(user).encode()).decode() if user else None
    path = urllib.parse.quote(parts.path, safe="/%:@!$&'()*+,;=~")
    clean = parts._replace(netloc=host, path=path, fragment="").geturl()
    return Address(clean, authorization, sha256[1].lower() if sha256[1] else None)


def statistics_cache() -> Path:
    """The user's cache folder for statistics."""
    import platformdirs  # here, since only a URL needs the folder

    return Path(platformdirs.user_cache_dir("frechet"), "statistics")


def _cached(address: Address, progress: Progress | None, timeout: float) -> tuple[Path, list[str]]:
    """The file, downloaded unless it is here, and what a user should know of it."""
    folder = statistics_cache()
    here = sorted(folder.glob(f"{address.key}-*-{address.name}"), key=os.path.getmtime)
    if address.sha256:
        for path in here:
            if sha256_of(path) == address.sha256:
                return path, []
    try:
        size, version = _asked(address, timeout)
    except (OSError, StatisticsError) as error:
        reason = _reason(error)
        if isinstance(error, StatisticsError) or address.sha256 or not here:
            raise StatisticsError(f"{shown(address.url)} cannot be had: {reason}") from error
        return here[-1], [f"{shown(address.url)} could not be reached ({reason}); the copy downloaded earlier is used"]
    target = folder / f"{address.key}-{version or 'unknown'}-{address.name}"
    if not version or address.sha256:  # what is here cannot be told from what is there, or is not what is wanted
        target.unlink(missing_ok=True)
    try:
        download(
            [address.url],
            target,
            size=size,
            sha256=address.sha256,
            authorization=address.authorization,
            progress=progress and (lambda _, done, total: progress(address.name, done, total)),
            timeout=timeout,
        )
    except WeightsError as error:
        raise StatisticsError(str(error)) from error
    return target, []


def _reason(error: Exception) -> object:
    """Why nothing came."""
    reason = getattr(error, "reason", error)
    status = getattr(error, "code", None)  # of an HTTPError
    return reason if status is None else f"the server says {status} {reason}{advice(status)}"


def _asked(address: Address, timeout: float) -> tuple[int | None, str]:
    """Size and a name for the version that the server has now (None and "" where it does not say).

    Raises:
        StatisticsError: the server refuses.
        OSError: it cannot be reached, or is broken.
    """
    import http.client
    import urllib.error

    try:
        with opened(address.url, "bytes=0-0", address.authorization, timeout) as response:
            headers = response.headers
            total = headers.get("Content-Range", "").rpartition("/")[2] if response.status == 206 else None
            size = total or headers.get("Content-Length") or ""
            marks = [headers.get(name) or "" for name in ("ETag", "Last-Modified")] + [size]
    except urllib.error.HTTPError as error:
        error.close()
        if error.code >= 500 or error.code == BUSY:
            raise
        raise StatisticsError(_reason(error)) from error
    except http.client.HTTPException as error:
        raise ConnectionError(f"{type(error).__name__}: {error}") from error
    version = hashlib.sha256("\n".join(marks).encode()).hexdigest()[:8] if any(marks) else ""
    return int(size) if size.isdecimal() else None, version
