"""Statistics files: our own (.npz, format 1), and those of other tools made into statistics.

Format 1, all arrays plain (nothing is pickled):

    mu          (d,) float64        mean
    sigma       (d, d) float64      covariance, divided by n - 1
    rows        (k, d) float32      a seeded sample of the features, in order of place; all of them where k = n
    places      (k,) int64          which images (counted from 0 in the scored order) the rows belong to
    frechet     () str              JSON: format, version, n, n_source, seed, source, recipe, bad_images, remarks, formats

A reader of format 1 ignores keys it does not know, so later versions may add some.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from frechet._internal.atomic_write import atomic_write
from frechet.errors import StatisticsError, UnsafeFileError
from frechet.features.spec import FeatureSpec
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.foreign_formats import read_arrays, read_feature_array
from frechet.version import __version__

FORMAT_VERSION = 1
_FORMAT_1_KEYS = {"is_official": "official", "preprocessing": "convention"}
_FORMAT_1_NAMES = {"official": "is_official", "convention": "preprocessing"}


def write_statistics(statistics: FeatureStatistics, path: Path, *, force: bool = False) -> None:
    """Write format 1, aside first and renamed when complete.

    Raises:
        OutputError: the path does not end in .npz, exists (and `force` is false), or cannot be written.
    """
    metadata = {
        "format": FORMAT_VERSION,
        "version": __version__,
        "n": statistics.n,
        "n_source": statistics.n_source,
        "seed": statistics.seed,
        "source": statistics.label,
        "recipe": {_FORMAT_1_KEYS.get(name, name): value for name, value in asdict(statistics.spec).items()},
        "bad_images": statistics.skipped_images,
        "remarks": statistics.notes,
        "formats": dict(statistics.formats),
    }
    arrays: dict[str, Any] = {"mu": statistics.mean, "sigma": statistics.covariance}
    if statistics.rows is not None and statistics.indices is not None:
        arrays |= {"rows": statistics.rows, "places": statistics.indices}
    with atomic_write(path, suffix=".npz", force=force) as temporary_path, open(temporary_path, "wb") as file:
        np.savez(file, frechet=np.array(json.dumps(metadata)), **arrays)


def read_statistics(path: str | Path, dims: int | None = None, *, keep_all: bool = False) -> FeatureStatistics:
    """Read our own format or a peer's (see `frechet.statistics.foreign_formats`).

    Args:
        path: the file.
        dims: the number of features that is wanted, where a file has statistics of several layers.
        keep_all: whether all rows are kept of a file that is features, also of 8 d or more.

    Raises:
        StatisticsError: damaged, incomplete, not finite, not a covariance, or holding Python objects (never unpickled).
    """
    path = Path(path)
    with _wrap_read_errors(path, "statistics"):
        arrays = read_arrays(path, dims)
        if "features" in arrays:
            return FeatureStatistics.from_features(arrays["features"], label=str(path), keep_all=keep_all)
        return _parse_statistics(arrays, path)


def read_features(path: Path, seed: int = 0, *, keep_all: bool = False) -> FeatureStatistics:
    """Statistics of a file of features: an .npy (n, d), or an .npz with such an array.

    Args:
        path: the file.
        seed: of the sample of rows that is kept.
        keep_all: whether all rows are.

    Raises:
        StatisticsError: another kind of file, damaged, or holding something else than features.
    """
    with _wrap_read_errors(path, "features"):
        if not path.is_file():
            raise StatisticsError(
                f"{path} is a folder; --features (features=True) takes features or statistics on both sides. Leave it out "
                "to score images, or make statistics of them first (frechet stats)"
                if path.is_dir()
                else f"no such file: {path}"
            )
        if path.suffix.lower() not in (".npy", ".npz"):
            raise StatisticsError(
                f"{path} is a file of type {path.suffix or '(none)'}; expected features in an .npy or .npz, or statistics"
            )
        return FeatureStatistics.from_features(read_feature_array(path), label=str(path), seed=seed, keep_all=keep_all)


@contextmanager
def _wrap_read_errors(path: Path, content: str) -> Iterator[None]:
    """Say of any failure to read a file that it is one: damage has many names (BadZipFile, zlib.error, KeyError ...)."""
    try:
        yield
    except StatisticsError:
        raise
    except UnsafeFileError as error:
        raise StatisticsError(f"{path}: {error}") from None
    except IsADirectoryError:
        raise StatisticsError(
            f"{path} is a folder; expected a file, made of it by: frechet stats {path} FILE.npz"
        ) from None
    except Exception as error:
        raise StatisticsError(
            f"{path} cannot be read as {content} ({type(error).__name__}: {error}); "
            "it may be cut short, hold Python objects or be another kind of file"
        ) from error


def _parse_statistics(arrays: Mapping[str, Any], path: Path) -> FeatureStatistics:
    mean, covariance = _parse_moments(arrays, path)
    metadata = _parse_metadata(arrays, path)
    rows, indices = _parse_rows(arrays, len(mean), metadata.get("n"), path)
    return FeatureStatistics(
        mean=mean,
        covariance=covariance,
        n=metadata.get("n", arrays.get("n")),
        spec=_parse_spec(metadata, path),
        label=str(path),
        rows=rows,
        indices=indices,
        n_source=metadata.get("n_source"),
        seed=metadata.get("seed", 0),
        skipped_images=tuple(map(str, metadata.get("bad_images", ()))),
        notes=tuple(map(str, metadata.get("remarks", ()))),
        formats={str(kind): int(count) for kind, count in metadata.get("formats", {}).items()},
        made_by=f"frechet {metadata.get('version')}" if metadata else None,
        covariance_eps=float(np.finfo(arrays["sigma"].dtype).eps),
    )


def _parse_moments(arrays: Mapping[str, np.ndarray], path: Path) -> tuple[np.ndarray, np.ndarray]:
    for key in ("mu", "sigma"):
        if not isinstance(arrays.get(key), np.ndarray):
            raise StatisticsError(f"{path} has no {key}; expected mu (d,) and sigma (d, d)")
        if arrays[key].dtype.kind != "f":
            raise StatisticsError(f"{path}: {key} is {arrays[key].dtype}; expected floating point")
        if not np.isfinite(arrays[key]).all():
            raise StatisticsError(f"{path}: {key} holds NaN or infinity; make the file anew")
    mu, sigma = arrays["mu"], arrays["sigma"]
    mean = np.atleast_1d(mu.squeeze()).astype(np.float64)
    if not mean.size or mean.ndim != 1 or sigma.shape != (len(mean), len(mean)):
        raise StatisticsError(f"{path}: mu has shape {mu.shape} and sigma {sigma.shape}; expected (d,) and (d, d)")
    covariance = sigma.astype(np.float64, copy=False)
    scale = float(np.abs(covariance.diagonal()).max())
    tolerance = scale * max(1e-9, 100 * float(np.finfo(sigma.dtype).eps))
    if covariance.diagonal().min() < -tolerance or _asymmetry(covariance) > tolerance * len(mean):
        raise StatisticsError(f"{path}: sigma is not a covariance: it must be symmetric with no negative variance")
    return mean, covariance


def _asymmetry(matrix: np.ndarray) -> float:
    """How far the matrix and its transpose map one random vector apart (Freivalds 1977): zero where they are equal."""
    probe = np.random.default_rng(0).standard_normal(len(matrix))
    return float(np.abs(matrix @ probe - probe @ matrix).max())


def _parse_metadata(arrays: Mapping[str, np.ndarray], path: Path) -> dict[str, Any]:
    if "frechet" not in arrays:
        return {}
    try:
        metadata = json.loads(str(arrays["frechet"]))
        known = int(metadata["format"])
        n, seed = int(metadata["n"]), int(metadata.get("seed", 0))
        n_source = None if metadata.get("n_source") is None else int(metadata["n_source"])
    except (ValueError, KeyError, TypeError) as error:
        raise StatisticsError(f"{path}: its description (key frechet) cannot be read ({error})") from None
    if known != FORMAT_VERSION:
        raise StatisticsError(
            f"{path} is of statistics format {known}, made by frechet {metadata.get('version')}; this version reads format {FORMAT_VERSION}"
        )
    if n < 2:
        raise StatisticsError(f"{path} says it was made from {n} images; a covariance needs at least two")
    if not 0 <= seed < 2**63:
        raise StatisticsError(f"{path} says its seed is {seed}; expected a whole number of at least 0")
    return {**metadata, "n": n, "seed": seed, "n_source": n_source}


def _parse_rows(
    arrays: Mapping[str, np.ndarray], dims: int, n: int | None, path: Path
) -> tuple[np.ndarray | None, np.ndarray | None]:
    rows, indices = arrays.get("rows"), arrays.get("places")
    if n is None or rows is None or indices is None:
        return None, None
    if (
        rows.dtype.kind != "f"
        or rows.ndim != 2
        or rows.shape[1] != dims
        or indices.shape != rows.shape[:1]
        or len(rows) > n
    ):
        raise StatisticsError(
            f"{path}: rows {rows.shape} and places {indices.shape} do not fit {n} images of {dims} dimensions"
        )
    if not np.isfinite(rows).all():
        raise StatisticsError(f"{path}: rows hold NaN or infinity; make the file anew")
    return rows.astype(np.float32, copy=False), indices


def _parse_spec(metadata: Mapping[str, Any], path: Path) -> FeatureSpec:
    recorded = metadata.get("recipe", {})
    if isinstance(recorded, dict):
        recorded = {_FORMAT_1_NAMES.get(name, name): value for name, value in recorded.items()}
    known = {field.name for field in fields(FeatureSpec)}
    if (
        not isinstance(recorded, dict)
        or not set(recorded) <= known
        or not all(_is_valid_field(*item) for item in recorded.items())
    ):
        raise StatisticsError(f"{path}: its recipe {recorded} says what this version does not know; update frechet")
    return FeatureSpec(**recorded)


def _is_valid_field(name: str, value: object) -> bool:
    return value is None or isinstance(value, bool if name == "is_official" else str)
