"""Validate the arrays of a statistics file; `frechet.statistics.npz_format` documents their names and shapes."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from frechet.errors import StatisticsError
from frechet.statistics.consistency import StoredMoments, describe_group_mismatch, describe_row_mismatch
from frechet.statistics.group_moments import GroupMoments

MAX_N = 2**63  # more images than any index can count
_MAX_FEATURE = float(np.finfo(np.float32).max)
_REPAIR = "Create the file again with frechet stats, or download it again."


def compute_array_sha256(array: np.ndarray) -> str:
    """Return the hex sha256 of the array's dtype and shape as text, followed by its bytes in C order."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def verify_checksums(arrays: Mapping[str, np.ndarray], checksums: object, stored: Collection[str], path: Path) -> None:
    """Compare each array with its recorded sha256.

    Args:
        arrays: the arrays that were read, by name.
        checksums: hex digest by array name, as `compute_array_sha256` returns it.
        stored: names of all arrays in the file, including those that were not read.
        path: the file, for messages.

    Raises:
        StatisticsError: an array has another digest or none, an array with a checksum is missing, or `checksums` is not
            a mapping.
    """
    if not isinstance(checksums, Mapping):
        raise StatisticsError(f"{path} records no checksums of its arrays; expected one for each. {_REPAIR}")
    if missing := sorted(map(str, set(checksums) - set(stored))):
        raise StatisticsError(
            f"{path} records checksums of arrays that it does not contain: {', '.join(missing)}. {_REPAIR}"
        )
    for name, array in arrays.items():
        expected, actual = checksums.get(name), compute_array_sha256(array)
        if actual != expected:
            raise StatisticsError(
                f"{path}: the array {name} has the sha256 {actual}; expected {expected or 'one that the file records'}. "
                f"The file is damaged or was edited. {_REPAIR}"
            )


def validate_n(n: int | None, path: Path) -> int | None:
    """Return the number of images that a file records; None if it records none.

    Raises:
        StatisticsError: it is less than two, or not a number of images.
    """
    if n is not None and not 2 <= n < MAX_N:
        raise StatisticsError(
            f"{path} records n = {n} images; expected at least two, which a covariance needs, and fewer than 2**63. {_REPAIR}"
        )
    return n


def validate_moments(arrays: Mapping[str, Any], path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (d,) and the covariance (d, d) in float64.

    Args:
        arrays: contains `mu` and `sigma`, floating point.
        path: the file, for messages.

    Raises:
        StatisticsError: one is missing, not floating point, of the wrong shape, not finite or beyond what float32 features
            can have, or sigma is not a covariance.
    """
    for key in ("mu", "sigma"):
        if not isinstance(arrays.get(key), np.ndarray):
            raise StatisticsError(f"{path} has no {key}; expected the arrays mu (d,) and sigma (d, d)")
        if arrays[key].dtype.kind != "f":
            raise StatisticsError(f"{path}: {key} is {arrays[key].dtype}; expected floating point")
        if not np.isfinite(arrays[key]).all():
            raise StatisticsError(f"{path}: {key} contains NaN or infinity; expected finite numbers. {_REPAIR}")
        largest, limit = float(np.abs(arrays[key]).max(initial=0.0)), _MAX_FEATURE ** (1 if key == "mu" else 2)
        if largest > limit:
            raise StatisticsError(
                f"{path}: {key} contains values up to {largest:.3g}; expected at most {limit:.3g}, as float32 features have. {_REPAIR}"
            )
    mu, sigma = arrays["mu"], arrays["sigma"]
    mean = np.atleast_1d(mu.squeeze()).astype(np.float64)
    if not mean.size or mean.ndim != 1 or sigma.shape != (len(mean), len(mean)):
        raise StatisticsError(f"{path}: mu has shape {mu.shape} and sigma {sigma.shape}; expected (d,) and (d, d)")
    covariance = sigma.astype(np.float64, copy=False)
    scale = float(np.abs(covariance.diagonal()).max())
    tolerance = scale * max(1e-9, 100 * float(np.finfo(sigma.dtype).eps))
    if covariance.diagonal().min() < -tolerance or _asymmetry(covariance) > tolerance * len(mean):
        raise StatisticsError(
            f"{path}: sigma is not a covariance; expected a symmetric matrix without negative variances. {_REPAIR}"
        )
    return mean, covariance


def validate_rows(
    arrays: Mapping[str, np.ndarray], moments: StoredMoments | None, n_skipped: int, path: Path
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return `rows` (k, d) float32 and `indices` (k,), or None twice if an array or the number of images is missing.

    Args:
        arrays: may contain `rows` and `indices`.
        moments: of all n images, or None if n is unknown.
        n_skipped: number of further images, which could not be decoded.
        path: the file, for messages.

    Raises:
        StatisticsError: their shapes do not fit the images, a row is not finite or not that of an image with these
            moments, or indices are repeated, out of order, negative or too large.
    """
    rows, indices = arrays.get("rows"), arrays.get("indices")
    if moments is None or rows is None or indices is None:
        return None, None
    n, dims = moments.n, len(moments.mean)
    if (
        rows.dtype.kind != "f"
        or rows.ndim != 2
        or rows.shape[1] != dims
        or indices.shape != rows.shape[:1]
        or len(rows) > n
    ):
        raise StatisticsError(
            f"{path}: rows ({rows.dtype} {rows.shape}) and indices {indices.shape} do not fit {n} images; expected "
            f"floating point (k, {dims}) and (k,) with k of at most {n}. {_REPAIR}"
        )
    if not float(np.abs(rows).max(initial=0.0)) <= _MAX_FEATURE:  # also if it is NaN
        raise StatisticsError(
            f"{path}: rows contain NaN, infinity or values beyond float32; expected features. {_REPAIR}"
        )
    if len(indices) and (
        indices.dtype.kind not in "iu"
        or (indices[1:] <= indices[:-1]).any()
        or not 0 <= indices[0] <= indices[-1] < n + n_skipped
    ):
        raise StatisticsError(
            f"{path}: indices are {indices.dtype} from {indices.min()} to {indices.max()}, {len(np.unique(indices))} of them "
            f"distinct; expected ascending integers from 0 to {n + n_skipped - 1}. {_REPAIR}"
        )
    if problem := describe_row_mismatch(rows, moments):
        raise StatisticsError(
            f"{path}: rows {problem}; expected rows of the images that mu and sigma describe. {_REPAIR}"
        )
    return rows.astype(np.float32, copy=False), indices


def validate_labels(arrays: Mapping[str, np.ndarray], rows: np.ndarray | None, path: Path) -> tuple[str, ...] | None:
    """Return the display names of the images that the rows belong to, or None if there are none.

    Raises:
        StatisticsError: they are not text, or not one per row.
    """
    labels = arrays.get("labels")
    if rows is None or labels is None:
        return None
    if labels.dtype.kind != "U" or labels.shape != rows.shape[:1]:
        raise StatisticsError(
            f"{path}: labels are {labels.dtype} {labels.shape}; expected text ({len(rows)},), one per row. {_REPAIR}"
        )
    return tuple(labels.tolist())


def validate_units(arrays: Mapping[str, np.ndarray], rows: np.ndarray | None, path: Path) -> np.ndarray | None:
    """Return the sampling unit of each row, or None if every image is a unit of its own.

    Raises:
        StatisticsError: they are not integers, or not one per row.
    """
    units = arrays.get("units")
    if rows is None or units is None:
        return None
    if units.dtype.kind not in "iu" or units.shape != rows.shape[:1]:
        raise StatisticsError(
            f"{path}: units are {units.dtype} {units.shape}; expected integers ({len(rows)},), one per row. {_REPAIR}"
        )
    return units


def validate_group_moments(
    arrays: Mapping[str, np.ndarray], moments: StoredMoments | None, path: Path
) -> GroupMoments | None:
    """Return the moments of each group of images, or None if an array is missing.

    Args:
        arrays: may contain `group_n`, `group_mean` and `group_scatter`.
        moments: of all n images, or None if n is unknown.
        path: the file, for messages.

    Raises:
        StatisticsError: the arrays do not fit each other, the dimensions or n, are not finite, or the groups together have
            other moments than all images.
    """
    names = ("group_n", "group_mean", "group_scatter")
    if not all(name in arrays for name in names):
        return None
    if moments is None:
        raise StatisticsError(f"{path} has moments of groups but no number of images; expected both. {_REPAIR}")
    sizes, means, scatters = (arrays[name] for name in names)
    count, dims, n = sizes.size, len(moments.mean), moments.n
    n_upper = dims * (dims + 1) // 2
    if (
        (sizes.dtype.kind, means.dtype.kind, scatters.dtype.kind) != ("i", "f", "f")
        or (sizes.shape, means.shape, scatters.shape) != ((count,), (count, dims), (count, n_upper))
        or sizes.min(initial=0) < 0
        or int(sizes.sum()) != n
    ):
        raise StatisticsError(
            f"{path}: group_n ({sizes.dtype} {sizes.shape}), group_mean ({means.dtype} {means.shape}) and group_scatter "
            f"({scatters.dtype} {scatters.shape}) do not fit each other or {n} images of {dims} dimensions; expected int64 "
            f"(g,) that add up to n, and floating point (g, {dims}) and (g, {n_upper}). {_REPAIR}"
        )
    if not (np.isfinite(means).all() and np.isfinite(scatters).all()):
        raise StatisticsError(f"{path}: the group moments contain NaN or infinity; expected finite numbers. {_REPAIR}")
    groups = GroupMoments(sizes.astype(np.int64), means.astype(np.float64), scatters)
    if problem := describe_group_mismatch(groups, moments):
        raise StatisticsError(
            f"{path}: the groups together {problem}; expected those of the images that mu and sigma describe. {_REPAIR}"
        )
    return groups


def validate_thumbnails(
    arrays: Mapping[str, np.ndarray], n: int | None, path: Path
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return `thumbnails` (t, h, w, 3) uint8 and `thumbnail_indices` (t,), or None twice if an array is missing.

    Raises:
        StatisticsError: they have another dtype or shape, or an index is not that of one of the n images.
    """
    thumbnails, indices = arrays.get("thumbnails"), arrays.get("thumbnail_indices")
    if thumbnails is None or indices is None:
        return None, None
    if (
        thumbnails.dtype != np.uint8
        or thumbnails.ndim != 4
        or thumbnails.shape[3] != 3
        or indices.dtype.kind != "i"
        or indices.shape != thumbnails.shape[:1]
        or indices.min(initial=0) < 0
        or (n is not None and indices.max(initial=0) >= n)
    ):
        raise StatisticsError(
            f"{path}: thumbnails ({thumbnails.dtype} {thumbnails.shape}) and thumbnail_indices ({indices.dtype} "
            f"{indices.shape}) do not fit {n} images; expected uint8 (t, h, w, 3) and int64 (t,) from 0 to n - 1. {_REPAIR}"
        )
    return thumbnails, indices


def _asymmetry(matrix: np.ndarray) -> float:
    """Return how far the matrix and its transpose map one random vector apart: 0 for a symmetric matrix.

    This takes O(d²) operations (Freivalds 1977) and no copy of the matrix.
    """
    probe = np.random.default_rng(0).standard_normal(len(matrix))
    return float(np.abs(matrix @ probe - probe @ matrix).max())
