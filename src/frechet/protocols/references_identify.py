"""Recognise a file by its content: its format, and the references that have the same bytes or the same values."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import isclose
from pathlib import Path

from frechet._internal.download import compute_sha256
from frechet._internal.missing_path import describe_missing_path
from frechet.errors import SourceError, StatisticsError
from frechet.images.sources.npy import ArraySource
from frechet.protocols.references import compute_fingerprint, list_references
from frechet.protocols.references_table import Fingerprint, Reference
from frechet.statistics.foreign_formats import is_statistics_file, join_entry
from frechet.statistics.npz_format import list_statistics, read_statistics

_ROUNDING = 1e-6  # relative difference of sums over values, some of which were rounded to float32


@dataclass(frozen=True, kw_only=True)
class IdentifiedStatistics:
    """One set of statistics in a file.

    Attributes:
        entry: its name in the file.
        fingerprint: what identifies it.
        same_values: names of the references with the same mean and covariance, which may be in files of other formats.
        equal_sums: names of the references whose ‖μ‖² and tr Σ differ by rounding only, and whose values are not the same.
    """

    entry: str
    fingerprint: Fingerprint
    same_values: tuple[str, ...]
    equal_sums: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class IdentifiedFile:
    """What a file is.

    Attributes:
        format: the tool that writes this format, or "images".
        sha256: hex digest of the file.
        same_file: names of the references with this digest.
        n_images: number of images in it; 0 if it has none.
        statistics: the statistics in it.
    """

    format: str
    sha256: str
    same_file: tuple[str, ...]
    n_images: int
    statistics: tuple[IdentifiedStatistics, ...]


def identify(path: Path) -> IdentifiedFile:
    """Recognise a file of statistics or images by its content; of its name, only the suffix matters.

    Args:
        path: the file.

    Raises:
        RequestError: it is neither statistics nor an array of images, or cannot be read.
    """
    if not path.exists():
        raise StatisticsError(describe_missing_path(path, "file"))
    if not path.is_file():
        raise StatisticsError(f"{path} is not a file; expected statistics or an array of images")
    sha256, references = compute_sha256(path), list_references()
    is_images = not is_statistics_file(path)
    file_format, entries = ("images", []) if is_images else list_statistics(path)
    return IdentifiedFile(
        format=file_format,
        sha256=sha256,
        same_file=tuple(name for name, reference in references.items() if reference.sha256 == sha256),
        n_images=len(ArraySource(path)) if is_images else _count_images(path),
        statistics=tuple(_identify_statistics(path, entry, references) for entry in entries),
    )


def _identify_statistics(path: Path, entry: str, references: Mapping[str, Reference]) -> IdentifiedStatistics:
    found = compute_fingerprint(read_statistics(join_entry(path, entry)))
    known = {name: each.fingerprint for name, each in references.items() if each.fingerprint}
    same = [name for name, each in known.items() if each.values_sha256 == found.values_sha256]
    close = [name for name, each in known.items() if name not in same and _has_equal_sums(each, found)]
    return IdentifiedStatistics(entry=entry, fingerprint=found, same_values=tuple(same), equal_sums=tuple(close))


def _has_equal_sums(one: Fingerprint, other: Fingerprint) -> bool:
    return (
        one.dims == other.dims
        and isclose(one.mean_squared_norm, other.mean_squared_norm, rel_tol=_ROUNDING)
        and isclose(one.covariance_trace, other.covariance_trace, rel_tol=_ROUNDING)
    )


def _count_images(path: Path) -> int:
    """Return the number of images that an .npz file has in addition to its statistics."""
    if path.suffix.lower() == ".npz":
        with suppress(SourceError):
            return len(ArraySource(path))
    return 0
