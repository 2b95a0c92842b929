"""Squared distances of many rows with many, block by block: in float32 where that decides, in float64 where it does not.

One matrix product gives a block: (x, |x|², 1)·(-2y, 1, |y|²) = |x - y|². Rows are centred first, so that its rounding is
small beside the distances; pairs so close to a limit that it might decide wrongly are computed anew in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from frechet.errors import StatisticsError

BLOCK_SIZE = 2**24  # entries of a block: 64 MiB in float32
_PAIR_BATCH_SIZE = 64  # pairs that are computed anew at a time: so few stay in the cache
_FLOAT32_ROUNDOFF = 2.0**-24


@dataclass(frozen=True)
class CenteredRows:
    """Rows, made ready for distances.

    Attributes:
        rows: (n, d) as they were given.
        centred: (n, d) float32.
        squares: (n,) float32, squared lengths of the centred rows.
    """

    rows: np.ndarray
    centered: np.ndarray
    squared_norms: np.ndarray

    @classmethod
    def from_rows(cls, rows: np.ndarray, center: np.ndarray) -> CenteredRows:
        """(n, d) rows about a (d,) centre, which both sides of a distance must share."""
        centered = np.empty(rows.shape, np.float32)
        for selected in iter_block_slices(
            len(rows), 8 * rows.shape[1]
        ):  # less than a block, since the differences are float64
            centered[selected] = rows[selected] - center
        squared_norms = np.einsum("ij,ij->i", centered, centered)
        if not np.isfinite(squared_norms).all():
            raise StatisticsError(
                "features are so large that their squares are beyond float32; divide them by a number"
            )
        return cls(rows, centered, squared_norms)

    def __len__(self) -> int:
        return len(self.rows)


def iter_block_slices(n: int, width: int) -> Iterator[slice]:
    """Slices of n rows of that width, each a block."""
    size = max(1, BLOCK_SIZE // max(width, 1))
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def feature_mean(rows: np.ndarray) -> np.ndarray:
    """(d,) float64."""
    total = np.zeros(rows.shape[1])
    for selected in iter_block_slices(len(rows), rows.shape[1]):
        total += rows[selected].sum(axis=0, dtype=np.float64)
    return total / len(rows)


def iter_squared_distances(x: CenteredRows, y: CenteredRows) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """(rows of x, (b, m) float32 squared distances to all of y, (m,) float32 by how much those may be wrong)."""
    d = x.centered.shape[1]
    right = np.empty((len(y), d + 2), np.float32)
    np.multiply(y.centered, -2, out=right[:, :d])
    right[:, d], right[:, d + 1] = 1, y.squared_norms
    for selected in iter_block_slices(len(x), len(y)):
        left = np.empty((selected.stop - selected.start, d + 2), np.float32)
        left[:, :d], left[:, d], left[:, d + 1] = x.centered[selected], x.squared_norms[selected], 1
        yield (
            selected,
            left @ right.T,
            (8 * _FLOAT32_ROUNDOFF * d**0.5) * (x.squared_norms[selected].max() + y.squared_norms),
        )


def exact_squared_distances(x: CenteredRows, y: CenteredRows, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """(p,) float64 squared distances of the pairs (xᵢ, yⱼ)."""
    found = np.empty(len(i))
    for start in range(0, len(i), _PAIR_BATCH_SIZE):
        selected = slice(start, start + _PAIR_BATCH_SIZE)
        gap = x.rows[i[selected]].astype(np.float64) - y.rows[j[selected]]
        found[selected] = np.einsum("ij,ij->i", gap, gap)
    return found


def nearest_neighbours(x: CenteredRows, y: CenteredRows, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of y that are nearest to each row of x, k at most their number.

    Returns:
        (n, k) places in y and (n, k) float64 squared distances, ascending.
    """
    indices, squared = np.empty((len(x), k), np.int64), np.empty((len(x), k))
    for selected, block, error_bound in iter_squared_distances(x, y):
        i, j = fast_nonzero(block <= (_kth_smallest_upper_bound(block, k) + 2 * error_bound.max())[:, None])
        indices[selected], squared[selected] = _select_nearest(x, y, i + selected.start, j, selected, k)
    return indices, squared


def nearest_neighbours_within(x: CenteredRows, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k other rows that are nearest to each row, k less than their number.

    Of equal rows all but the first k + 1 are left out, and get the neighbours that they share: each of a collapsed
    generator's images would be a candidate for all others.

    Returns:
        (n, k) places and (n, k) float64 squared distances, ascending.
    """
    first = _first_duplicates(x, k)
    more = first != np.arange(len(x))
    if not more.any():
        return _nearest_neighbours_within(x, k)
    kept = np.flatnonzero(~more)
    indices, squared = _nearest_neighbours_within(
        CenteredRows(x.rows[kept], x.centered[kept], x.squared_norms[kept]), k
    )
    same = np.searchsorted(kept, first)
    indices = kept[indices][same]
    indices[more] = np.column_stack([first, indices])[more, :k]
    return indices, squared[same]


def _first_duplicates(x: CenteredRows, k: int) -> np.ndarray:
    """(n,) for a row that is equal to more than k before it, the first of these; for every other, itself."""
    first = np.arange(len(x))
    _, inverse, counts = np.unique(x.squared_norms, return_inverse=True, return_counts=True)
    duplicates: dict[bytes, list[int]] = {}
    for i in np.flatnonzero(counts[inverse] > k + 1).tolist():
        before = duplicates.setdefault(x.rows[i].tobytes(), [])
        if len(before) > k:
            first[i] = before[0]
        else:
            before.append(i)
    return first


def _nearest_neighbours_within(x: CenteredRows, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The same of rows of which few are equal. Each distance is computed once for both its rows.

    A row's candidates are what lies below a limit that is no less than its k-th distance and falls as tiles go by.
    """
    n, d = x.centered.shape
    size = max(k + 1, min(n, int(BLOCK_SIZE**0.5)))
    tiles = [slice(start, min(start + size, n)) for start in range(0, n, size)]
    error_bound = 32 * _FLOAT32_ROUNDOFF * d**0.5 * float(x.squared_norms.max(initial=0))
    limits = np.full(n, np.inf, np.float32)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for at, rows in enumerate(tiles):
        if at:
            found = [_prune_candidates(found, limits, k, error_bound)]
        for columns in tiles[at:]:
            tile = _squared_distance_tile(x, rows, columns)
            if rows == columns:
                np.fill_diagonal(tile, np.inf)
            elif np.isinf(limits[columns.start]):
                limits[columns] = _kth_smallest_upper_bound(tile, k, axis=0) + error_bound
            if np.isinf(limits[rows.start]):
                limits[rows] = _kth_smallest_upper_bound(tile, k) + error_bound
            i, j = fast_nonzero(tile <= limits[rows, None])
            found.append((i + rows.start, j + columns.start, tile[i, j]))
            if rows != columns:
                i, j = fast_nonzero(tile <= limits[columns])
                found.append((j + columns.start, i + rows.start, tile[i, j]))
    i, j, _ = _prune_candidates(found, limits, k, error_bound)
    return _select_nearest(x, x, i, j, slice(0, n), k)


def _squared_distance_tile(x: CenteredRows, rows: slice, columns: slice) -> np.ndarray:
    block = x.centered[rows] @ x.centered[columns].T
    block *= -2
    block += x.squared_norms[columns]
    block += x.squared_norms[rows, None]
    return block


def _prune_candidates(
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]], limits: np.ndarray, k: int, error_bound: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Candidates that are still below their row's limit, which falls to its k-th candidate where it has so many."""
    i, j, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((values, i))
    i, j, values = i[order], j[order], values[order]
    counts = np.bincount(i, minlength=len(limits))
    full = counts >= k
    kth = (np.cumsum(counts) - counts + k - 1)[full]
    limits[full] = np.minimum(limits[full], values[kth] + np.float32(error_bound))
    kept = values <= limits[i]
    return i[kept], j[kept], values[kept]


def _select_nearest(
    x: CenteredRows, y: CenteredRows, i: np.ndarray, j: np.ndarray, selected: slice, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """(places, squared distances) of the k nearest among candidates (xᵢ, yⱼ), of which every row in `some` has k or more."""
    exact = exact_squared_distances(x, y, i, j)
    order = np.lexsort((j, exact, i))
    first = np.searchsorted(i[order], np.arange(selected.start, selected.stop))
    chosen = order[first[:, None] + np.arange(k)]
    return j[chosen], exact[chosen]


def fast_nonzero(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of what is true in a matrix, in order: many times as fast as `numpy.nonzero` where that is little."""
    i, j = np.divmod(np.flatnonzero(mask), mask.shape[1])
    return i, j


def _kth_smallest_upper_bound(block: np.ndarray, k: int, axis: int = 1) -> np.ndarray:
    """No less than the k-th smallest along an axis, and little more: the k-th smallest of the minima of many groups.

    Infinite where the axis is shorter than k.
    """
    groups, size = 64 * k, block.shape[axis]
    depth = size // groups
    if size < k:
        return np.full(block.shape[1 - axis], np.inf, block.dtype)
    if depth >= 2 and axis:
        block = block[:, : depth * groups].reshape(len(block), depth, groups).min(axis=1)
    elif depth >= 2:
        block = block[: depth * groups].reshape(depth, groups, -1).min(axis=0)
    return np.take(np.partition(block, k - 1, axis=axis), k - 1, axis=axis)
