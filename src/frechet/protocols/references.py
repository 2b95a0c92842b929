"""Named references: find them by name, download them once, and detect a file that has changed."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from frechet._internal.choices import validate_choice
from frechet._internal.download import ProgressCallback
from frechet.errors import MismatchError, RequestError, StatisticsError
from frechet.features.spec import FeatureSpec
from frechet.networks.weights import hash_tensors
from frechet.protocols.references_files import (
    PREFIX,
    find_downloaded_file,
    find_verified_file,
    normalise_address,
    read_new_file,
)
from frechet.protocols.references_lock import lock_path, read_lock, record_reference
from frechet.protocols.references_table import REFERENCES, Fingerprint, Reference
from frechet.statistics.feature_statistics import FeatureStatistics


@dataclass(frozen=True, kw_only=True)
class FetchedReference:
    """A reference whose file is on this machine.

    Attributes:
        name: its name.
        reference: what is known about it.
        path: the file, or FILE#NAME if it has several statistics.
        notes: what users should know about the download.
    """

    name: str
    reference: Reference
    path: Path
    notes: tuple[str, ...] = ()

    def describe(self, statistics: FeatureStatistics) -> FeatureStatistics:
        """Return statistics that were read from the file, completed by what is known about the reference."""
        known = FeatureSpec(extractor=self.reference.extractor, preprocessing=self.reference.preprocessing)
        return replace(
            statistics,
            label=f"{PREFIX}{self.name}",
            n=statistics.n or self.reference.n,
            spec=statistics.spec.fill_missing(known),
            sha256=self.reference.sha256,
            notes=(*statistics.notes, *self.notes),
        )


def is_reference_address(source: object) -> bool:
    """Return whether `source` is ref:NAME."""
    return isinstance(source, str) and source.startswith(PREFIX)


def list_references() -> dict[str, Reference]:
    """Return all references by name: the published ones, completed by what was recorded, and those that were added.

    Raises:
        StatisticsError: the lock file is damaged.
    """
    recorded = read_lock()
    published = {name: _merge(row, recorded.get(name)) for name, row in REFERENCES.items()}
    return published | {name: row for name, row in recorded.items() if name not in REFERENCES}


def find_reference(name: str) -> Reference:
    """Return what is known about a reference, without a download.

    Args:
        name: its name, with or without "ref:".

    Raises:
        RequestError: there is none; the message names the nearest.
    """
    references = list_references()
    name = name.removeprefix(PREFIX)
    validate_choice(name, references, "reference")
    return references[name]


def resolve(name: str) -> Path:
    """Return the path of a reference's file, which is downloaded unless it is on this machine.

    Args:
        name: its name, with or without "ref:".

    Returns:
        The path, or FILE#NAME if the file has several statistics.

    Raises:
        RequestError: there is no such reference; the message names the nearest.
        StatisticsError: the file cannot be downloaded or read, or is another one than was published or recorded.
    """
    return fetch(name).path


def fetch(name: str, progress: ProgressCallback | None = None, *, accept_changed: bool = False) -> FetchedReference:
    """Download a reference unless it is on this machine, and verify it.

    The first download of a reference without a published sha256 records the file's; later ones must have the same.

    Args:
        name: its name, with or without "ref:".
        progress: called with (file name, bytes downloaded, total bytes).
        accept_changed: record a file that differs from the recorded one instead of rejecting it.

    Raises:
        RequestError, StatisticsError: see `resolve`.
    """
    name = name.removeprefix(PREFIX)
    reference = find_reference(name)
    if accept_changed:
        reference = REFERENCES.get(name, replace(reference, sha256=None))
    expected = reference.sha256
    if expected and reference.fingerprint:
        path, download_notes = find_verified_file(name, reference, progress)
        return FetchedReference(name=name, reference=reference, path=path, notes=tuple(download_notes))
    statistics, path = read_new_file(name, reference, progress)
    completed = _complete_from_file(reference, statistics)
    record_reference(name, completed, force=accept_changed)
    notes = statistics.notes if expected else (*statistics.notes, _format_first_fetch(name, completed))
    return FetchedReference(name=name, reference=completed, path=path, notes=notes)


def add_reference(
    name: str, reference: Reference, progress: ProgressCallback | None = None, *, force: bool = False
) -> FetchedReference:
    """Give a file a name: read it, and record its address and sha256.

    Args:
        name: the new name: letters, digits, and . _ -
        reference: its URL or path, and what is known about it; a `sha256`, there or in the URL, is verified.
        progress: called with (file name, bytes downloaded, total bytes).
        force: replace a reference of this name that was added before.

    Raises:
        RequestError: the name is invalid or belongs to a published reference, or the URL contains a password.
        StatisticsError: the file cannot be downloaded or read or has another sha256, or the name was recorded with another
            sha256, size, extractor or preprocessing.
        MismatchError: the file contradicts what is stated about it.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise RequestError(f"{name!r} is not a valid name; expected letters, digits, and the characters . _ -")
    if name in REFERENCES:
        raise RequestError(f"{name} is the name of a published reference; choose another name")
    reference = normalise_address(reference)
    statistics, path = read_new_file(name, reference, progress)
    completed = _complete_from_file(reference, statistics)
    if not force and (earlier := read_lock().get(name)):
        _require_same_facts(name, earlier, completed)
    record_reference(name, completed, force=force)
    return FetchedReference(name=name, reference=completed, path=path, notes=statistics.notes)


def _require_same_facts(name: str, earlier: Reference, reference: Reference) -> None:
    for fact, description in {
        "n": "{:,} images",
        "extractor": "the extractor {}",
        "preprocessing": "the preprocessing {}",
    }.items():
        old, new = getattr(earlier, fact), getattr(reference, fact)
        if old is not None and old != new:
            now = "none" if new is None else f"{new:,}" if fact == "n" else new
            raise StatisticsError(
                f"{name} was recorded with {description.format(old)}, and now has {now}. If that is intended, replace it with "
                "--force."
            )


def verify(name: str) -> Path | None:
    """Compare the file on this machine with the published or recorded sha256, without a download.

    Args:
        name: its name, with or without "ref:".

    Returns:
        The path of the file; None if it has not been downloaded.

    Raises:
        StatisticsError: the file is another one.
    """
    name = name.removeprefix(PREFIX)
    return find_downloaded_file(name, find_reference(name))


def compute_fingerprint(statistics: FeatureStatistics) -> Fingerprint:
    """Return what identifies statistics independently of the file that they are in."""
    return Fingerprint(
        n=statistics.n,
        dims=statistics.dims,
        mean_squared_norm=float(statistics.mean @ statistics.mean),
        covariance_trace=float(np.trace(statistics.covariance)),
        values_sha256=hash_tensors({"mu": statistics.mean, "sigma": statistics.covariance}),
    )


def _complete_from_file(reference: Reference, statistics: FeatureStatistics) -> Reference:
    """Return the reference completed by what its file contains.

    Raises:
        MismatchError: the file contradicts what is known about the reference.
    """
    recorded = {
        "n": statistics.n,
        "dims": statistics.dims,
        "extractor": statistics.spec.extractor,
        "preprocessing": statistics.spec.preprocessing,
    }
    for field, value in recorded.items():
        expected = getattr(reference, field)
        if None not in (expected, value) and expected != value:
            raise MismatchError(
                f"{statistics.label} has {field} {value}; expected {expected} for {reference.title}. Pass the right file or "
                "value, or give the file a name of its own with frechet reference add."
            )
    return replace(
        reference,
        sha256=statistics.sha256,
        n=statistics.n or reference.n,
        dims=statistics.dims,
        extractor=statistics.spec.extractor or reference.extractor,
        preprocessing=statistics.spec.preprocessing or reference.preprocessing,
        fingerprint=compute_fingerprint(statistics),
    )


def _merge(published: Reference, recorded: Reference | None) -> Reference:
    """Return a row of the table with what was recorded when its file was read; what is published takes precedence."""
    if recorded is None:
        return published
    return replace(
        recorded,
        title=published.title,
        url=published.url,
        sha256=published.sha256 or recorded.sha256,
        extractor=published.extractor,
        preprocessing=published.preprocessing,
        note=published.note,
    )


def _format_first_fetch(name: str, reference: Reference) -> str:
    return f"{PREFIX}{name} has no published sha256; this first download was recorded in {lock_path()} with {reference.sha256}"
