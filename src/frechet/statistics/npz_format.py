"""Read and write statistics files (.npz). All arrays are plain; nothing is pickled.

Format 2:

    mu                 (d,) float64             mean
    sigma              (d, d) float64           covariance, divided by n - 1
    rows               (k, d) float32           a seeded sample of the features; all of them if k = n
    indices            (k,) int64               image that each row belongs to, counted from 0 in the order of scoring
    frechet            () str                   JSON object, see below

    optional arrays, read if they are present:
    labels             (k,) str                 display names of the images that the rows belong to
    units              (k,) uint64              sampling unit of each row, if some images belong to the same one or to strata
    group_n            (g,) int64               number of images in each of g random groups; they add up to n
    group_mean         (g, d) floating point    mean of each group
    group_scatter      (g, d (d + 1) / 2)       upper triangle of the scatter matrix of each group (the sum of
                       floating point           (x - mean)(x - mean)ᵀ), row by row as in numpy.triu_indices(d)
    thumbnails         (t, h, w, 3) uint8       RGB thumbnails of some images
    thumbnail_indices  (t,) int64               image that each thumbnail shows

    keys of the JSON object:
    format             2
    version            version of frechet that wrote the file
    label              display name of what the statistics were computed from
    n                  number of images; null if unknown
    grouped_by         what a sampling unit is: image, pair or cluster; stratum for an image of a stratified sample
    n_units            effective number of sampling units; null if unknown
    unit_skewness      how unequal the sizes of the units are; 1 if they are equal
    n_source           number of images in the source before a subset was taken; null if unknown
    seed               seed of the subset and of the sample of rows
    spec               how the features were computed: extractor, layer, weights (sha256), is_official, preprocessing,
                       precision; null if unknown
    extractor_parts    what spec.weights is computed from, if the extractor is a function: names with values or digests, for
                       messages only; absent otherwise
    skipped_images     images that were left out, each with the reason
    notes              what users should know about how the images were read
    formats            number of images per file format
    crop               crop of the images, e.g. adm(256); absent or null if there was none
    sizes              number of images of each of the most frequent sizes, as "height x width"; absent if unknown
    covariance_eps     relative precision of sigma, if it was once stored in a smaller dtype than now
    assumed_extractor  extractor to assume if spec names none, if the statistics were read from another tool's file
    checksums          for each array (except this object) the sha256 of its dtype and shape as text ("<f8 (2048,)")
                       followed by its bytes in C order
    checksum           the sha256 of this object without this key, as json.dumps writes it with sort_keys=True

Format 1 (frechet 0.1 and 0.2) has the arrays mu, sigma, rows, places (now indices) and frechet. Its JSON object has the
keys format, version, n, n_source, seed, formats, source (now label), recipe (now spec, with official and convention instead
of is_official and preprocessing), bad_images (now skipped_images) and remarks (now notes). It has no checksums.

pytorch-fid reads mu and sigma from both. A reader ignores arrays and JSON keys that it does not know, except keys of
spec, so that later versions can add some without a new format.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from frechet._internal.atomic_write import atomic_write
from frechet._internal.home import expand_home
from frechet._internal.missing_path import describe_missing_path
from frechet._internal.special_files import describe_special_file
from frechet.errors import RequestError, StatisticsError, UnsafeFileError
from frechet.features.identity_parts import get_parts, record_parts
from frechet.features.spec import FeatureSpec
from frechet.images.sources.npy import npz_keys
from frechet.statistics.array_checks import (
    compute_array_sha256,
    validate_group_moments,
    validate_labels,
    validate_moments,
    validate_n,
    validate_rows,
    validate_thumbnails,
    validate_units,
    verify_checksums,
)
from frechet.statistics.consistency import StoredMoments
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.foreign_formats import (
    open_foreign_file,
    read_feature_array,
    read_foreign_arrays,
    split_entry,
)
from frechet.statistics.group_moments import GroupMoments
from frechet.statistics.npz_metadata import (
    FORMAT_VERSION,
    METADATA_KEY,
    compute_metadata_sha256,
    parse_metadata,
    parse_spec,
)
from frechet.statistics.safe_npz import NpzArrays, open_npz_safely
from frechet.version import __version__

_FORMAT_1_ARRAYS = {"mu": "mu", "sigma": "sigma", "rows": "rows", "places": "indices"}  # stored name: name in format 2
_OPTIONAL_ARRAYS = ("labels", "units", "group_n", "group_mean", "group_scatter", "thumbnails", "thumbnail_indices")
_FORMAT_2_ARRAYS = {name: name for name in (*_FORMAT_1_ARRAYS.values(), *_OPTIONAL_ARRAYS)}


def write_statistics(statistics: FeatureStatistics, path: Path, *, force: bool = False) -> None:
    """Write a file of format 2 under a temporary name, and rename it when it is complete.

    Args:
        statistics: what to write; `path` and `url` are left out, since they may be private, and so are `labels` unless there
            are thumbnails.
        path: file to write; it must end in .npz.
        force: replace an existing file.

    Raises:
        OutputError: the path does not end in .npz, the file exists and `force` is false, or the folder is not writable.
        RunError: writing failed, for example because the disk is full.
    """
    arrays = _collect_arrays(statistics)
    metadata = {
        "format": FORMAT_VERSION,
        "version": __version__,
        "label": statistics.label,
        "n": statistics.n,
        "grouped_by": statistics.grouped_by,
        "n_units": statistics.n_units,
        "unit_skewness": statistics.unit_skewness,
        "n_source": statistics.n_source,
        "seed": statistics.seed,
        "spec": asdict(statistics.spec),
        "skipped_images": statistics.skipped_images,
        "notes": statistics.notes,
        "formats": dict(statistics.formats),
        "crop": statistics.crop,
        "sizes": dict(statistics.sizes),
        "covariance_eps": statistics.covariance_eps,
        "assumed_extractor": statistics.assumed_extractor,
        "checksums": {name: compute_array_sha256(array) for name, array in arrays.items()},
    }
    if (parts := get_parts(statistics.spec.weights)) is not None:
        metadata["extractor_parts"] = parts
    arrays[METADATA_KEY] = np.array(json.dumps({**metadata, "checksum": compute_metadata_sha256(metadata)}))
    with atomic_write(path, suffix=".npz", force=force) as temporary_path, open(temporary_path, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # its stub takes the arrays for allow_pickle


def read_statistics(path: str | Path, dims: int | None = None, *, keep_all: bool = False) -> FeatureStatistics:
    """Read a statistics file of frechet or of another tool (see `frechet.statistics.foreign_formats`).

    Args:
        path: the file, or FILE#NAME for one of several statistics in it.
        dims: number of feature dimensions, which selects the statistics in a file that contains several.
        keep_all: if the file contains features, keep all rows even if n ≥ 8 d.

    Returns:
        The statistics, with `path` set and the path as their label.

    Raises:
        StatisticsError: the file is damaged, incomplete, of a newer format or not a statistics file, contains NaN or
            infinity, sigma is not a covariance, or it contains Python objects, which are never unpickled.

    Examples:
        >>> import numpy as np, pathlib, tempfile, frechet
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "theirs.npz"
        >>> np.savez(path, mu=np.zeros(4), sigma=np.eye(4))
        >>> frechet.read_statistics(path).dims
        4
    """
    path = expand_home(path)
    label = str(path)
    path, entry = split_entry(path)
    with translate_read_errors(path, "statistics"):
        if path.suffix.lower() == ".npz":
            with open_npz_safely(path) as archive:
                if METADATA_KEY in archive:
                    _reject_entry(path, entry)
                    return _read_own_format(archive, path)
        arrays = read_foreign_arrays(path, dims, entry)
        if "features" in arrays:
            statistics = FeatureStatistics.from_features(arrays["features"], label=label, keep_all=keep_all)
            return replace(statistics, path=path, assumed_extractor=arrays["extractor"])
        mean, covariance = validate_moments(arrays, path)
        return FeatureStatistics(
            mean=mean,
            covariance=covariance,
            n=validate_n(arrays.get("n"), path),
            spec=FeatureSpec(),
            label=label,
            path=path,
            assumed_extractor=arrays["extractor"],
            covariance_eps=_machine_epsilon(arrays["sigma"]),
        )


def list_statistics(path: Path) -> tuple[str, list[str]]:
    """Return the format of a statistics file and the names of the statistics in it.

    Args:
        path: the file.

    Returns:
        The tool that writes this format, and names for FILE#NAME; frechet's own files have the statistics "mu" alone.

    Raises:
        StatisticsError: see `read_statistics`.
    """
    with translate_read_errors(path, "statistics"):
        if path.suffix.lower() == ".npz" and METADATA_KEY in npz_keys(path):
            return "frechet", ["mu"]
        with open_foreign_file(path) as file:
            return file.format, list(file.entries)


def read_features(
    path: Path, seed: int = 0, *, keep_all: bool = False, units: np.ndarray | None = None, grouped_by: str = "image"
) -> FeatureStatistics:
    """Compute statistics from a file of features.

    Args:
        path: an .npy file with features (n, d), or an .npz file that contains such an array.
        seed: seed of the row sample.
        keep_all: keep all rows even if n ≥ 8 d.
        units, grouped_by: see `FeatureStatistics.from_features`.

    Returns:
        The statistics, with `path` set and the path as their label.

    Raises:
        StatisticsError: the file is missing, damaged or of another type, or contains something other than features.
    """
    with translate_read_errors(path, "features"):
        if path.is_dir():
            raise StatisticsError(
                f"{path} is a folder; --features (features=True) requires features or statistics as both inputs. Leave it out "
                "to score images, or compute their statistics first (frechet stats)."
            )
        if not path.is_file():
            raise StatisticsError(describe_missing_path(path, "file"))
        if path.suffix.lower() not in (".npy", ".npz"):
            raise StatisticsError(
                f"{path} is a file of type {path.suffix or '(none)'}; expected features in an .npy or .npz, or statistics"
            )
        features = read_feature_array(path)
        statistics = FeatureStatistics.from_features(
            features, label=str(path), seed=seed, keep_all=keep_all, units=units, grouped_by=grouped_by
        )
        return replace(statistics, path=path)


def _reject_entry(path: Path, entry: str | None) -> None:
    if entry not in (None, "mu"):
        raise StatisticsError(
            f"{path} has the statistics of one set of images, and no entry {entry!r}; leave #{entry} out"
        )


@contextmanager
def translate_read_errors(path: Path, content: str) -> Iterator[None]:
    """Raise StatisticsError for any failure to read: damage raises BadZipFile, zlib.error, KeyError and many others."""
    if problem := describe_special_file(path):
        raise StatisticsError(problem)
    try:
        yield
    except UnsafeFileError as error:
        raise StatisticsError(f"{path}: {error}") from None
    except RequestError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise StatisticsError(describe_missing_path(path, "file")) from None
    except IsADirectoryError:
        raise StatisticsError(
            f"{path} is a folder; expected a statistics file. Create one with: frechet stats {path} FILE.npz"
        ) from None
    except Exception as error:
        raise StatisticsError(
            f"{path} cannot be read as {content} ({type(error).__name__}: {error}). "
            "It may be truncated, contain Python objects or be another kind of file."
        ) from error


def _collect_arrays(statistics: FeatureStatistics) -> dict[str, np.ndarray]:
    arrays = {"mu": statistics.mean, "sigma": statistics.covariance}
    if statistics.rows is not None and statistics.indices is not None:
        arrays |= {"rows": statistics.rows, "indices": statistics.indices}
    if statistics.units is not None:
        arrays["units"] = statistics.units.astype(np.uint64)
    if groups := statistics.group_moments:
        arrays |= {"group_n": groups.n, "group_mean": groups.mean, "group_scatter": groups.scatter}
    if statistics.thumbnails is not None and statistics.thumbnail_indices is not None:
        arrays |= {"thumbnails": statistics.thumbnails, "thumbnail_indices": statistics.thumbnail_indices}
        if statistics.labels is not None:
            arrays["labels"] = np.array(statistics.labels, np.str_)
    return arrays


def _read_own_format(archive: NpzArrays, path: Path) -> FeatureStatistics:
    metadata = parse_metadata(str(archive[METADATA_KEY]), path)
    names = _FORMAT_1_ARRAYS if metadata["format"] == 1 else _FORMAT_2_ARRAYS
    arrays = {name: archive[key] for key, name in names.items() if key in archive}
    if metadata["format"] != 1:
        verify_checksums(arrays, metadata.get("checksums"), list(archive), path)
    spec = parse_spec(metadata, path)
    record_parts(spec.weights, metadata.get("extractor_parts"))
    n = metadata["n"]
    mean, covariance = validate_moments(arrays, path)
    covariance_eps = max(metadata["covariance_eps"], _machine_epsilon(arrays["sigma"]))
    moments = _describe_moments(arrays, mean, covariance, n, covariance_eps)
    rows, indices = validate_rows(arrays, moments, len(metadata.get("skipped_images", ())), path)
    groups, n_units = validate_group_moments(arrays, moments, path), metadata["n_units"]
    units = validate_units(arrays, rows, path)
    if groups is n_units is None and rows is not None and indices is not None and len(rows) == n:  # format 1
        groups, n_units = GroupMoments.from_features(rows, indices, metadata["seed"]), n
    thumbnails, thumbnail_indices = validate_thumbnails(arrays, n, path)
    return FeatureStatistics(
        mean=mean,
        covariance=covariance,
        n=n,
        spec=spec,
        label=str(path),
        path=path,
        rows=rows,
        indices=indices,
        labels=validate_labels(arrays, rows, path),
        group_moments=groups,
        grouped_by=metadata["grouped_by"],
        n_units=n_units,
        unit_skewness=metadata["unit_skewness"],
        units=units,
        thumbnails=thumbnails,
        thumbnail_indices=thumbnail_indices,
        n_source=metadata["n_source"],
        seed=metadata["seed"],
        skipped_images=tuple(map(str, metadata.get("skipped_images", ()))),
        notes=tuple(map(str, metadata.get("notes", ()))),
        formats={str(kind): int(count) for kind, count in metadata.get("formats", {}).items()},
        crop=None if metadata.get("crop") is None else str(metadata["crop"]),
        sizes={str(size): int(count) for size, count in metadata.get("sizes", {}).items()},
        made_by=f"frechet {metadata.get('version')}",
        covariance_eps=covariance_eps,
        assumed_extractor=metadata["assumed_extractor"],
    )


def _describe_moments(
    arrays: Mapping[str, np.ndarray], mean: np.ndarray, covariance: np.ndarray, n: int | None, covariance_eps: float
) -> StoredMoments | None:
    """Return what rows and group moments have to agree with, or None if the number of images is unknown."""
    if n is None:
        return None
    stored = [arrays[name] for name in ("mu", "rows", "group_mean", "group_scatter") if name in arrays]
    eps = max(_machine_epsilon(array) for array in stored if array.dtype.kind == "f")
    return StoredMoments(n=n, mean=mean, covariance=covariance, covariance_eps=covariance_eps, eps=eps)


def _machine_epsilon(array: np.ndarray) -> float:
    return float(np.finfo(array.dtype).eps)
