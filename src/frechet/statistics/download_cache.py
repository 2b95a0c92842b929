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

from frechet._internal.download import DEFAULT_TIMEOUT, ProgressCallback, compute_sha256, download, open_url
from frechet._internal.remote_files import TOO_MANY_REQUESTS, is_url, redact_url, status_hint
from frechet.errors import FrechetError, RequestError, StatisticsError, WeightsError
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.foreign_formats import STATISTICS_SUFFIXES


@dataclass(frozen=True)
class StatisticsUrl:
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


def is_statistics_url(source: object) -> bool:
    """Whether it is the URL of a web server's file that holds statistics, by its name; images may be at any other."""
    if not is_url(source):
        return False
    assert isinstance(source, str)
    path = re.sub(r"[?#].*", "", source, flags=re.DOTALL)
    return (
        source.lower().startswith(("http://", "https://")) and PurePosixPath(path).suffix.lower() in STATISTICS_SUFFIXES
    )


def read_remote_statistics(
    url: str,
    read: Callable[[Path], FeatureStatistics],
    progress: ProgressCallback | None = None,
    timeout: float = DEFAULT_TIMEOUT,
) -> FeatureStatistics:
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
    parsed_url = parse_statistics_url(url)
    path, notes = _fetch_cached(parsed_url, progress, timeout)
    try:
        statistics = read(path)
    except FrechetError as error:
        path.unlink(missing_ok=True)  # it may have been cut short: it is worth another download
        raise type(error)(str(error).replace(str(path), redact_url(url))) from error
    return replace(statistics, label=redact_url(url), sha256=compute_sha256(path), notes=(*statistics.notes, *notes))


def parse_statistics_url(url: str) -> StatisticsUrl:
    """The parts of a URL of statistics.

    Raises:
        RequestError: another protocol, kind of file or fragment.
    """
    import base64
    import urllib.parse

    named = redact_url(url)
    parts = urllib.parse.urlsplit(url)
    if parts.scheme.lower() not in ("http", "https"):
        raise RequestError(f"{named}: {parts.scheme}:// is not read; expected https://, http:// or a path")
    suffix = PurePosixPath(parts.path).suffix.lower()
    if suffix not in STATISTICS_SUFFIXES:
        raise RequestError(
            f"{named} is a file of type {suffix or '(none)'}; expected statistics ({', '.join(STATISTICS_SUFFIXES)})"
        )
    sha256 = re.fullmatch(r"(?:sha256=([0-9a-fA-F]{64}))?", parts.fragment)
    if not sha256:
        raise RequestError(f"{named}#{parts.fragment}: expected #sha256= and 64 hexadecimal digits, or no fragment")
    user, _, host = parts.netloc.rpartition("@")
    authorization = "Basic " + base64.b64encode(urllib.parse.unquote(user).encode()).decode() if user else None
    path = urllib.parse.quote(parts.path, safe="/%:@!$&'()*+,;=~")
    clean = parts._replace(netloc=host, path=path, fragment="").geturl()
    return StatisticsUrl(clean, authorization, sha256[1].lower() if sha256[1] else None)


def statistics_cache_dir() -> Path:
    """The user's cache folder for statistics."""
    import platformdirs  # here, since only a URL needs the folder

    return Path(platformdirs.user_cache_dir("frechet"), "statistics")


def _fetch_cached(
    parsed_url: StatisticsUrl, progress: ProgressCallback | None, timeout: float
) -> tuple[Path, list[str]]:
    """The file, downloaded unless it is here, and what a user should know of it."""
    folder = statistics_cache_dir()
    cached_paths = sorted(folder.glob(f"{parsed_url.key}-*-{parsed_url.name}"), key=os.path.getmtime)
    if parsed_url.sha256:
        for path in cached_paths:
            if compute_sha256(path) == parsed_url.sha256:
                return path, []
    try:
        size, version = _fetch_size_and_version(parsed_url, timeout)
    except (OSError, StatisticsError) as error:
        reason = _describe_error(error)
        if isinstance(error, StatisticsError) or parsed_url.sha256 or not cached_paths:
            raise StatisticsError(f"{redact_url(parsed_url.url)} cannot be had: {reason}") from error
        return cached_paths[-1], [
            f"{redact_url(parsed_url.url)} could not be reached ({reason}); the copy downloaded earlier is used"
        ]
    target = folder / f"{parsed_url.key}-{version or 'unknown'}-{parsed_url.name}"
    if not version or parsed_url.sha256:  # what is here cannot be told from what is there, or is not what is wanted
        target.unlink(missing_ok=True)
    try:
        download(
            [parsed_url.url],
            target,
            size=size,
            sha256=parsed_url.sha256,
            authorization=parsed_url.authorization,
            progress=progress and (lambda _, done, total: progress(parsed_url.name, done, total)),
            timeout=timeout,
        )
    except WeightsError as error:
        raise StatisticsError(str(error)) from error
    return target, []


def _describe_error(error: Exception) -> object:
    """Why nothing came."""
    reason = getattr(error, "reason", error)
    status = getattr(error, "code", None)  # of an HTTPError
    return reason if status is None else f"the server says {status} {reason}{status_hint(status)}"


def _fetch_size_and_version(parsed_url: StatisticsUrl, timeout: float) -> tuple[int | None, str]:
    """Size and a name for the version that the server has now (None and "" where it does not say).

    Raises:
        StatisticsError: the server refuses.
        OSError: it cannot be reached, or is broken.
    """
    import http.client
    import urllib.error

    try:
        with open_url(parsed_url.url, "bytes=0-0", parsed_url.authorization, timeout) as response:
            headers = response.headers
            total = headers.get("Content-Range", "").rpartition("/")[2] if response.status == 206 else None
            size = total or headers.get("Content-Length") or ""
            validators = [headers.get(name) or "" for name in ("ETag", "Last-Modified")] + [size]
    except urllib.error.HTTPError as error:
        error.close()
        if error.code >= 500 or error.code == TOO_MANY_REQUESTS:
            raise
        raise StatisticsError(_describe_error(error)) from error
    except http.client.HTTPException as error:
        raise ConnectionError(f"{type(error).__name__}: {error}") from error
    version = hashlib.sha256("\n".join(validators).encode()).hexdigest()[:8] if any(validators) else ""
    return int(size) if size.isdecimal() else None, version
