"""Read statistics files from URLs, with a download cache that is valid as long as the server's file is the same.

The name of a cached file contains a hash of its URL and of the validators that the server sends (ETag, Last-Modified,
size). A cached file with the current name is therefore current, and an interrupted download is only resumed with bytes
of the same version.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TypeVar

from frechet._internal.cache_dir import user_cache_dir
from frechet._internal.download import DEFAULT_TIMEOUT, DOWNLOAD, ProgressCallback, compute_sha256, download
from frechet._internal.http import open_url
from frechet._internal.hub_urls import hub_authorization, resolve_file_url
from frechet._internal.remote_files import TOO_MANY_REQUESTS, is_url, redact_url, status_hint
from frechet.errors import FrechetError, RequestError, StatisticsError, WeightsError
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.foreign_formats import STATISTICS_SUFFIXES, join_entry

Content = TypeVar("Content")


@dataclass(frozen=True)
class StatisticsUrl:
    """The parts of a statistics file's URL.

    Attributes:
        url: URL to request, without user, password and fragment.
        authorization: value of the Authorization header for the user and password in the URL, or None.
        sha256: hex digest given in the fragment, in lower case, or None.
        entry: name given in the fragment of one of several statistics in the file, or None.
    """

    url: str
    authorization: str | None
    sha256: str | None
    entry: str | None = None

    @property
    def name(self) -> str:
        """File name in the URL, with every character that is unsafe in a path replaced by an underscore."""
        import urllib.parse

        return re.sub(r"[^A-Za-z0-9._-]", "_", PurePosixPath(urllib.parse.urlsplit(self.url).path).name)[-80:]

    @property
    def key(self) -> str:
        """Prefix of the names of the cached files of this URL."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]


def is_statistics_url(source: object) -> bool:
    """Return whether `source` is an http(s) or hf:// URL with the suffix of a statistics file; others locate images."""
    if not is_url(source):
        return False
    assert isinstance(source, str)
    path = re.sub(r"[?#].*", "", source, flags=re.DOTALL)
    return (
        source.lower().startswith(("http://", "https://", "hf://"))
        and PurePosixPath(path).suffix.lower() in STATISTICS_SUFFIXES
    )


def read_remote_statistics(
    url: str,
    read: Callable[[Path], Content],
    progress: ProgressCallback | None = None,
    timeout: float = DEFAULT_TIMEOUT,
) -> Content:
    """Download the statistics file at a URL, unless it is cached, and read it.

    Args:
        url: see `parse_statistics_url`.
        read: function that reads a local statistics file, or FILE#NAME. It may return something else for a file that has
            no statistics, such as a source of the images in it.
        progress: called with (file name, bytes downloaded, total bytes).
        timeout: seconds without receiving a byte before a connection is abandoned.

    Returns:
        What `read` returns. Of statistics, `path` is the cached download, `url` the URL as given, and `label` the URL
        without credentials and query. `notes` reports if the server could not be reached and an earlier download was used.

    Raises:
        RequestError: the URL has another form.
        StatisticsError: the download failed, its sha256 differs, or the file is not a statistics file.
    """
    parsed_url = parse_statistics_url(url)
    label = redact_url(url) + (f"#{parsed_url.entry}" if parsed_url.entry else "")
    path, notes = fetch_statistics(parsed_url, progress, timeout)
    try:
        content = read(join_entry(path, parsed_url.entry))
    except FrechetError as error:
        if type(error) is not RequestError:  # which a sound file without this entry causes
            path.unlink(missing_ok=True)  # it may have been truncated: the next run downloads it again
        raise type(error)(str(error).replace(str(path), redact_url(url))) from error
    if not isinstance(content, FeatureStatistics):
        return content
    all_notes = (*content.notes, *notes)
    return replace(content, label=label, path=path, url=url, sha256=compute_sha256(path), notes=all_notes)


def parse_statistics_url(url: str) -> StatisticsUrl:
    """Split the URL of a statistics file into its parts.

    Args:
        url: http(s)://[user:password@]...{.npz, .pkl, .pt}[#[NAME&][sha256=HEX]], or hf://...; NAME is one of several
            statistics in the file. Pages of the Hub and of GitHub that show a file stand for the file.

    Returns:
        The parts, with the path percent-encoded.

    Raises:
        RequestError: the URL has another protocol, file type or fragment.
    """
    import base64
    import urllib.parse

    label = redact_url(url)
    parts = urllib.parse.urlsplit(resolve_file_url(url))
    if parts.scheme.lower() not in ("http", "https"):
        raise RequestError(
            f"{label}: statistics cannot be read from {parts.scheme}://; expected https://, http:// or "
            "hf://OWNER/NAME/PATH. Download the file, and pass its path."
        )
    suffix = PurePosixPath(parts.path).suffix.lower()
    if suffix not in STATISTICS_SUFFIXES:
        raise RequestError(
            f"{label} is a file of type {suffix or '(none)'}; expected statistics ({', '.join(STATISTICS_SUFFIXES)})"
        )
    fragment = re.fullmatch(r"([^=&]*?)&?(?:sha256=([0-9a-fA-F]{64}))?", parts.fragment)
    if not fragment:
        raise RequestError(
            f"{label} has the fragment #{parts.fragment}; expected #sha256= and 64 hexadecimal digits, #NAME for one of "
            "several statistics in the file, #NAME&sha256=..., or no fragment"
        )
    entry, sha256 = urllib.parse.unquote(fragment[1]), fragment[2]
    user, _, host = parts.netloc.rpartition("@")
    authorization = "Basic " + base64.b64encode(urllib.parse.unquote(user).encode()).decode() if user else None
    path = urllib.parse.quote(parts.path, safe="/%:@!$&'()*+,;=~")
    clean = parts._replace(netloc=host, path=path, fragment="").geturl()
    return StatisticsUrl(
        clean, authorization or hub_authorization(clean), sha256.lower() if sha256 else None, entry or None
    )


def statistics_cache_dir() -> Path:
    """Return the folder in the user's cache that downloaded statistics files are stored in."""
    return user_cache_dir("statistics")


def find_cached_statistics(parsed_url: StatisticsUrl) -> list[Path]:
    """Return the cached downloads of a URL, the latest last."""
    pattern = f"{parsed_url.key}-*-{parsed_url.name}"
    return sorted(statistics_cache_dir().glob(pattern), key=os.path.getmtime)


def fetch_statistics(
    parsed_url: StatisticsUrl, progress: ProgressCallback | None = None, timeout: float = DEFAULT_TIMEOUT
) -> tuple[Path, list[str]]:
    """Download the file unless the cache has the current version.

    Args:
        parsed_url: what to download.
        progress, timeout: see `read_remote_statistics`.

    Returns:
        Path of the cached file, and notes for the user.

    Raises:
        StatisticsError: the server refuses, cannot be reached and there is no earlier download, or the sha256 differs.
    """
    folder = statistics_cache_dir()
    cached_paths = find_cached_statistics(parsed_url)
    if parsed_url.sha256:
        for path in cached_paths:
            if compute_sha256(path) == parsed_url.sha256:
                return path, []
    try:
        size, version = _fetch_size_and_version(parsed_url, timeout)
    except (OSError, StatisticsError) as error:
        reason = _describe_error(error)
        if isinstance(error, StatisticsError) or parsed_url.sha256 or not cached_paths:
            raise StatisticsError(f"{redact_url(parsed_url.url)} could not be downloaded: {reason}") from error
        return cached_paths[-1], [
            f"{redact_url(parsed_url.url)} could not be reached ({reason}); the copy downloaded earlier was used"
        ]
    target = folder / f"{parsed_url.key}-{version or 'unknown'}-{parsed_url.name}"
    if not version or parsed_url.sha256:  # no way to see whether the cached file is current, or it has another sha256
        target.unlink(missing_ok=True)
    try:
        download(
            [parsed_url.url],
            target,
            size=size,
            sha256=parsed_url.sha256,
            authorization=parsed_url.authorization,
            progress=progress and (lambda _, done, total: progress(f"{DOWNLOAD}{parsed_url.name}", done, total)),
            timeout=timeout,
        )
    except WeightsError as error:
        raise StatisticsError(str(error)) from error
    return target, []


def _describe_error(error: Exception) -> object:
    """Return why a request failed and, for an HTTPError, its status with a hint on what to do."""
    reason = getattr(error, "reason", error)
    status = getattr(error, "code", None)
    return reason if status is None else f"the server answered {status} {reason}{status_hint(status)}"


def _fetch_size_and_version(parsed_url: StatisticsUrl, timeout: float) -> tuple[int | None, str]:
    """Request the first byte of the file, and return the file's size and a hash of its validators.

    Returns:
        The size in bytes (None if the server does not send it), and the hash (empty without validators).

    Raises:
        StatisticsError: the server refuses the request.
        OSError: the server cannot be reached, is overloaded or violates the protocol.
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
