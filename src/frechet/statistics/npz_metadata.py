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
        if file_format not in (1, FORMAT_VERSION):
            raise StatisticsError(
                f"{path} has statistics format {file_format}, written by frechet {metadata.get('version')}; this version "
                f"({__version__}) reads formats 1 and {FORMAT_VERSION}. Upgrade frechet, or create the file again with "
                "frechet stats."
            )
        if (
            file_format != 1
            and "checksums" in metadata
            and metadata.get("checksum") != compute_metadata_sha256(metadata)
        ):
            raise StatisticsError(
                f"{path}: its description (key {METADATA_KEY}) does not have the sha256 that it records. The file is damaged or "
                "was edited. Create it again with frechet stats, or download it again."
            )
        if file_format == 1:
            metadata = {_FORMAT_1_METADATA.get(key, key): value for key, value in metadata.items()}
        n, n_source, n_units = (
            None if value is None else operator.index(value)
            for value in (metadata["n"], metadata.get("n_source"), metadata.get("n_units"))
        )
        seed, covariance_eps = operator.index(metadata.get("seed", 0)), float(metadata.get("covariance_eps", 0.0))
        unit_skewness = float(metadata.get("unit_skewness", 1.0))
    except StatisticsError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StatisticsError(
            f"{path}: its description (key {METADATA_KEY}) cannot be read ({type(error).__name__}: {error}). "
            "Create the file again with frechet stats."
        ) from None
    validate_n(n, path)
    if n_source is not None and not (n or 0) <= n_source < MAX_N:
        raise StatisticsError(
            f"{path} records n_source = {n_source} images, of which n = {n} were used; expected at least n. Create the file "
            "again with frechet stats."
        )
    grouped_by = metadata.get("grouped_by", "image")
    if grouped_by not in ("image", "pair", "cluster", "stratum") or not (
        1 <= (1 if n_units is None else n_units) <= (n or 1) and 0.99 <= unit_skewness <= (n or 1)
    ):
        raise StatisticsError(
            f"{path} records {n_units} sampling units (grouped_by {grouped_by!r}) of {n} images; expected at most as many "
            "units as images, and image, pair, cluster or stratum. Create the file again with frechet stats."
        )
    if not 0 <= seed < 2**63:
        raise StatisticsError(f"{path} records that its seed is {seed}; expected an integer from 0 to 2**63 - 1.")
    if not 0 <= covariance_eps < 1:
        raise StatisticsError(f"{path} records covariance_eps = {covariance_eps}; expected a number from 0 to 1.")
    return {
        **metadata,
        "format": file_format,
        "n": n,
        "grouped_by": grouped_by,
        "n_units": n_units,
        "unit_skewness": unit_skewness,
        "n_source": n_source,
        "seed": seed,
        "covariance_eps": covariance_eps,
        "assumed_extractor": None if metadata.get("assumed_extractor") is None else str(metadata["assumed_extractor"]),
    }


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
