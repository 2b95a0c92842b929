"""The files of references on this machine: download them, verify their sha256, and report a file that has changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from frechet._internal.download import ProgressCallback, compute_sha256
from frechet._internal.missing_path import describe_missing_path
from frechet._internal.remote_files import is_url, redact_url
from frechet.errors import RequestError, StatisticsError
from frechet.protocols.references_table import REFERENCES, Reference
from frechet.statistics.download_cache import (
    fetch_statistics,
    find_cached_statistics,
    parse_statistics_url,
    read_remote_statistics,
)
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.foreign_formats import join_entry, split_entry
from frechet.statistics.npz_format import read_statistics

PREFIX = "ref:"


def normalise_address(reference: Reference) -> Reference:
    """Move the sha256 out of a URL, and make a path absolute."""
    if not is_url(reference.url):
        path, entry = split_entry(reference.url)
        return replace(reference, url=str(join_entry(path.resolve(), entry)))
    parsed_url, address = parse_statistics_url(reference.url), reference.url.partition("#")[0]
    if "@" in address.partition("://")[2].partition("/")[0]:
        raise RequestError(f"{redact_url(address)} contains a user or password, which would be stored; leave it out")
    url = f"{address}#{parsed_url.entry}" if parsed_url.entry else address
    return replace(reference, url=url, sha256=parsed_url.sha256 or reference.sha256)


def find_downloaded_file(name: str, reference: Reference) -> Path | None:
    """Return the file on this machine with the reference's sha256, without a download; None if there is no file.

    Raises:
        StatisticsError: there is a file, with another sha256.
    """
    if is_url(reference.url):
        paths = find_cached_statistics(parse_statistics_url(reference.url))
    else:
        paths = [path for path in [split_entry(reference.url)[0]] if path.is_file()]
    digest = ""
    for path in reversed(paths):
        digest = compute_sha256(path)
        if reference.sha256 in (None, digest):
            return path
    if paths:
        raise _report_changed_file(name, reference, f"{paths[0]} has the sha256 {digest}")
    return None


def read_new_file(name: str, reference: Reference, progress: ProgressCallback | None) -> tuple[FeatureStatistics, Path]:
    """Return the statistics of a file that was not read before, and its address on this machine."""
    if not is_url(reference.url):
        if not (file := split_entry(reference.url)[0]).exists():
            raise StatisticsError(describe_missing_path(file, "file"))
        path = find_verified_file(name, reference, progress)[0]
        return replace(read_statistics(path), sha256=compute_sha256(split_entry(path)[0])), path
    try:
        statistics = read_remote_statistics(_with_sha256(reference), read_statistics, progress)
    except StatisticsError as error:
        raise _explain(name, reference, error) from error
    assert statistics.path is not None
    return statistics, join_entry(statistics.path, parse_statistics_url(reference.url).entry)


def find_verified_file(name: str, reference: Reference, progress: ProgressCallback | None) -> tuple[Path, list[str]]:
    """Return the address of a file with the reference's sha256 on this machine, and notes; a URL is downloaded if necessary."""
    if is_url(reference.url):
        parsed_url = parse_statistics_url(_with_sha256(reference))
        try:
            path, notes = fetch_statistics(parsed_url, progress)
        except StatisticsError as error:
            raise _explain(name, reference, error) from error
        return join_entry(path, parsed_url.entry), notes
    path, _ = split_entry(reference.url)
    if not path.is_file():
        raise StatisticsError(
            f"{PREFIX}{name}: no such file: {path}. Restore it, or add the reference again with --force."
        )
    if reference.sha256 and (digest := compute_sha256(path)) != reference.sha256:
        raise _report_changed_file(name, reference, f"{path} has the sha256 {digest}")
    return Path(reference.url), []


def _with_sha256(reference: Reference) -> str:
    address, _, entry = reference.url.partition("#")
    fragment = "&".join(part for part in (entry, reference.sha256 and f"sha256={reference.sha256}") if part)
    return f"{address}#{fragment}" if fragment else address


def _explain(name: str, reference: Reference, error: StatisticsError) -> StatisticsError:
    """Return the error of a download with the name of the reference, and what to do about another sha256."""
    if reference.sha256 and "sha256 differs" in str(error):
        return _report_changed_file(name, reference, str(error))
    return StatisticsError(f"{PREFIX}{name}: {error}")


def _report_changed_file(name: str, reference: Reference, finding: str) -> StatisticsError:
    is_published = name in REFERENCES and REFERENCES[name].sha256 == reference.sha256
    fix = (
        f"give the new one another name: frechet reference add NAME {reference.url}"
        if is_published
        else f"accept the new one: frechet reference fetch {name} --force"
    )
    return StatisticsError(
        f"{PREFIX}{name}: {finding}; expected {reference.sha256}. The file was changed or damaged. If its publisher has "
        f"replaced it on purpose, {fix}"
    )
