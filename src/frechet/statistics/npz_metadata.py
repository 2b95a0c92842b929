"""The JSON object of a statistics file; `frechet.statistics.npz_format` documents its keys."""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from frechet.errors import StatisticsError
from frechet.features.spec import FeatureSpec
from frechet.statistics.array_checks import MAX_N, validate_n
from frechet.version import __version__

FORMAT_VERSION = 2
METADATA_KEY = "frechet"
_FORMAT_1_METADATA = {"source": "label", "recipe": "spec", "bad_images": "skipped_images", "remarks": "notes"}
_FORMAT_1_SPEC = {"official": "is_official", "convention": "preprocessing"}


def compute_metadata_sha256(metadata: Mapping[str, Any]) -> str:
    """Return the hex sha256 of the object without its key `checksum`."""
    content = {key: value for key, value in metadata.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def parse_metadata(text: str, path: Path) -> dict[str, Any]:
    """Return the JSON object with the keys of format 2, of which n, n_source, seed and covariance_eps are validated.

    Raises:
        StatisticsError: it is damaged, was edited, or is of another format.
    """
    try:
        metadata = json.loads(text)
        file_format = int(metadata["format"])
        _validate_origin(metadata, file_format, path)
        if file_format == 1:
            metadata = {_FORMAT_1_METADATA.get(key, key): value for key, value in metadata.items()}
        numbers = _parse_numbers(metadata)
    except StatisticsError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StatisticsError(
            f"{path}: its description (key {METADATA_KEY}) cannot be read ({type(error).__name__}: {error}). "
            "Create the file again with frechet stats."
        ) from None
    grouped_by = metadata.get("grouped_by", "image")
    _validate_numbers(numbers, path)
    _validate_units(numbers, grouped_by, path)
    assumed = metadata.get("assumed_extractor")
    return {
        **metadata,
        **numbers,
        "format": file_format,
        "grouped_by": grouped_by,
        "assumed_extractor": None if assumed is None else str(assumed),
    }


def _validate_origin(metadata: Mapping[str, Any], file_format: int, path: Path) -> None:
    """Raise an error if the object is of another format or was changed after it was written.

    Raises:
        StatisticsError: names the format or the key.
    """
    if file_format not in (1, FORMAT_VERSION):
        raise StatisticsError(
            f"{path} has statistics format {file_format}, written by frechet {metadata.get('version')}; this version "
            f"({__version__}) reads formats 1 and {FORMAT_VERSION}. Upgrade frechet, or create the file again with "
            "frechet stats."
        )
    has_checksum = file_format != 1 and "checksums" in metadata
    if has_checksum and metadata.get("checksum") != compute_metadata_sha256(metadata):
        raise StatisticsError(
            f"{path}: its description (key {METADATA_KEY}) does not have the sha256 that it records. The file is damaged or "
            "was edited. Create it again with frechet stats, or download it again."
        )


def _parse_numbers(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of the object; raise ValueError or TypeError if one of them is not a number."""
    counts = {
        name: None if value is None else operator.index(value)
        for name, value in (
            ("n", metadata["n"]),
            ("n_source", metadata.get("n_source")),
            ("n_units", metadata.get("n_units")),
            ("seed", metadata.get("seed", 0)),
        )
    }
    return {
        **counts,
        "unit_skewness": float(metadata.get("unit_skewness", 1.0)),
        "covariance_eps": float(metadata.get("covariance_eps", 0.0)),
    }


def _validate_numbers(numbers: Mapping[str, Any], path: Path) -> None:
    """Raise an error if a number is impossible.

    Raises:
        StatisticsError: names the key, its value and the valid range.
    """
    n, n_source, seed = numbers["n"], numbers["n_source"], numbers["seed"]
    validate_n(n, path)
    if n_source is not None and not (n or 0) <= n_source < MAX_N:
        raise StatisticsError(
            f"{path} records n_source = {n_source} images, of which n = {n} were used; expected at least n. Create the file "
            "again with frechet stats."
        )
    if seed is None or not 0 <= seed < 2**63:
        raise StatisticsError(f"{path} records that its seed is {seed}; expected an integer from 0 to 2**63 - 1")
    if not 0 <= numbers["covariance_eps"] < 1:
        raise StatisticsError(
            f"{path} records covariance_eps = {numbers['covariance_eps']}; expected a number from 0 to 1"
        )


def _validate_units(numbers: Mapping[str, Any], grouped_by: object, path: Path) -> None:
    """Raise an error if the sampling units (pairs, clusters or strata) do not fit the number of images.

    Raises:
        StatisticsError: names the units and the number of images.
    """
    n, n_units = numbers["n"] or 1, numbers["n_units"]
    is_valid_count = n_units is None or 1 <= n_units <= n
    is_known = grouped_by in ("image", "pair", "cluster", "stratum")
    if not (is_known and is_valid_count and 0.99 <= numbers["unit_skewness"] <= n):
        raise StatisticsError(
            f"{path} records {n_units} sampling units (grouped_by {grouped_by!r}) of {numbers['n']} images; expected at most "
            "as many units as images, and image, pair, cluster or stratum. Create the file again with frechet stats."
        )


def parse_spec(metadata: Mapping[str, Any], path: Path) -> FeatureSpec:
    """Return how the features were computed.

    Raises:
        StatisticsError: the description has keys or types that this version does not support.
    """
    recorded = metadata.get("spec", {})
    if isinstance(recorded, dict) and metadata["format"] == 1:
        recorded = {_FORMAT_1_SPEC.get(name, name): value for name, value in recorded.items()}
    known = {field.name for field in fields(FeatureSpec)}
    if (
        not isinstance(recorded, dict)
        or not set(recorded) <= known
        or not all(_is_valid_field(*item) for item in recorded.items())
    ):
        raise StatisticsError(
            f"{path}: its spec {recorded} uses settings that this version ({__version__}) does not support; expected some "
            f"of {', '.join(sorted(known))}. Upgrade frechet."
        )
    return FeatureSpec(**recorded)


def _is_valid_field(name: str, value: object) -> bool:
    return value is None or isinstance(value, bool if name == "is_official" else str)
