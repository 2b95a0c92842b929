"""Squared distances between all pairs of rows, computed block by block, with the decisions of float64.

One float32 matrix product gives a block: (x, |x|², 1)·(-2y, 1, |y|²) = |x - y|². Rows are centred first, so that rounding
errors are small relative to the distances. Pairs so close to a limit that rounding may decide are recomputed in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int

from frechet.errors import StatisticsError

BLOCK_SIZE = 2**24  # entries per block: 64 MiB in float32
_PAIR_BATCH_SIZE = 64  # pairs recomputed at a time, few enough to stay in the cache
_FLOAT32_ROUNDOFF = 2.0**-24

# rows, columns and squared distances of candidates for nearest neighbours; "_" because lists hold several sizes
_Candidates: TypeAlias = tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"], Float32[np.ndarray, " _"]]


@dataclass(frozen=True)
class CenteredRows:
    """Rows prepared for the computation of distances.

    Attributes:
        rows: (n, d) rows as given.
        centered: (n, d) float32 rows minus a common centre.
        squared_norms: (n,) float32 squared lengths of the centred rows.
    """

    rows: Float[np.ndarray, "n d"]
    centered: Float32[np.ndarray, "n d"]
    squared_norms: Float32[np.ndarray, " n"]

    @classmethod
    def from_rows(cls, rows: Float[np.ndarray, "n d"], center: Float[np.ndarray, " d"]) -> CenteredRows:
        """Centre rows.

        Args:
            rows: (n, d) rows.
            center: (d,) centre, which both arguments of a distance must share.

        Raises:
            StatisticsError: the squared lengths exceed the range of float32.
        """
        centered = np.empty(rows.shape, np.float32)
        for selected in iter_block_slices(len(rows), 8 * rows.shape[1]):  # small blocks: the differences are float64
            centered[selected] = rows[selected] - center
        squared_norms = np.einsum("ij,ij->i", centered, centered)
        if not np.isfinite(squared_norms).all():
            raise StatisticsError(
                "features are so large that their squares are beyond float32; expected lengths below 1e19. Divide all features "
                "by the same number."
            )
        return cls(rows, centered, squared_norms)

    def __len__(self) -> int:
        return len(self.rows)


def iter_block_slices(n: int, width: int) -> Iterator[slice]:
    """Iterate over slices of n rows such that slices of a matrix of that width have at most BLOCK_SIZE entries."""
    size = max(1, BLOCK_SIZE // max(width, 1))
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def feature_mean(rows: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, " d"]:
    """Compute the mean (d,) of (n, d) rows in float64, block by block."""
    total = np.zeros(rows.shape[1])
    for selected in iter_block_slices(len(rows), rows.shape[1]):
        total += rows[selected].sum(axis=0, dtype=np.float64)
    return total / len(rows)


def iter_squared_distances(
    x: CenteredRows, y: CenteredRows
) -> Iterator[tuple[slice, Float32[np.ndarray, "b m"], Float32[np.ndarray, " m"]]]:
    """Iterate over blocks of squared distances.

    Args:
        x, y: n and m rows with a common centre.

    Yields:
        (slice of b rows of x, (b, m) float32 squared distances to all rows of y, (m,) float32 bounds of their errors).
    """
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


def exact_squared_distances(
    x: CenteredRows, y: CenteredRows, i: Int[np.ndarray, " p"], j: Int[np.ndarray, " p"]
) -> Float64[np.ndarray, " p"]:
    """Compute the squared distances of the pairs (xᵢ, yⱼ) in float64.

    Args:
        x, y: rows.
        i, j: (p,) indices of rows of x and y.
    """
    squared = np.empty(len(i))
    for start in range(0, len(i), _PAIR_BATCH_SIZE):
        selected = slice(start, start + _PAIR_BATCH_SIZE)
        gap = x.rows[i[selected]].astype(np.float64) - y.rows[j[selected]]
        squared[selected] = np.einsum("ij,ij->i", gap, gap)
    return squared


def nearest_neighbours(
    x: CenteredRows, y: CenteredRows, k: int
) -> tuple[Int[np.ndarray, "n k"], Float64[np.ndarray, "n k"]]:
    """Find the k nearest rows of y for each row of x.

    Args:
        x, y: n and m rows with a common centre.
        k: number of neighbours, 1 <= k <= m.

    Returns:
        (n, k) indices into y, nearest first (of equal distances, the smaller index), and (n, k) squared distances.
    """
    indices, squared = np.empty((len(x), k), np.int64), np.empty((len(x), k))
    for selected, block, error_bound in iter_squared_distances(x, y):
        i, j = fast_nonzero(block <= (_kth_smallest_upper_bound(block, k) + 2 * error_bound.max())[:, None])
        indices[selected], squared[selected] = _select_nearest(x, y, i + selected.start, j, selected, k)
    return indices, squared


def nearest_neighbours_within(x: CenteredRows, k: int) -> tuple[Int[np.ndarray, "n k"], Float64[np.ndarray, "n k"]]:
    """Find the k nearest other rows for each row.

    Of equal rows, only the first k + 1 are searched, and the others get the neighbours that all of them share. Otherwise,
    each image of a collapsed generator would be a candidate for all others.

    Args:
        x: n rows.
        k: number of neighbours, 1 <= k < n.

    Returns:
        (n, k) indices, nearest first (of equal distances, the smaller index), and (n, k) squared distances.
    """
    first = _first_duplicates(x, k)
    is_duplicate = first != np.arange(len(x))
    if not is_duplicate.any():
        return _nearest_neighbours_within(x, k)
    kept = np.flatnonzero(~is_duplicate)
    indices, squared = _nearest_neighbours_within(
        CenteredRows(x.rows[kept], x.centered[kept], x.squared_norms[kept]), k
    )
    same = np.searchsorted(kept, first)
    indices = kept[indices][same]
    indices[is_duplicate] = np.column_stack([first, indices])[is_duplicate, :k]
    return indices, squared[same]


def _first_duplicates(x: CenteredRows, k: int) -> Int[np.ndarray, " n"]:
    """Return, for a row equal to more than k rows before it, the index of the first of these; for others, their own."""
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


def _nearest_neighbours_within(x: CenteredRows, k: int) -> tuple[Int[np.ndarray, "n k"], Float64[np.ndarray, "n k"]]:
    """Find the k nearest other rows for each row if few rows are equal. Each distance is computed once, for both rows.

    Candidates of a row are those below a limit, which is at least its k-th distance and decreases from tile to tile.
    """
    n, d = x.centered.shape
    size = max(k + 1, min(n, int(BLOCK_SIZE**0.5)))
    tiles = [slice(start, min(start + size, n)) for start in range(0, n, size)]
    error_bound = 32 * _FLOAT32_ROUNDOFF * d**0.5 * float(x.squared_norms.max(initial=0))
    limits = np.full(n, np.inf, np.float32)
    candidates: list[_Candidates] = []
    for at, rows in enumerate(tiles):
        if at:
            candidates = [_prune_candidates(candidates, limits, k, error_bound)]
        for columns in tiles[at:]:
            tile = _squared_distance_tile(x, rows, columns)
            if rows == columns:
                np.fill_diagonal(tile, np.inf)
            elif np.isinf(limits[columns.start]):
                limits[columns] = _kth_smallest_upper_bound(tile, k, axis=0) + error_bound
            if np.isinf(limits[rows.start]):
                limits[rows] = _kth_smallest_upper_bound(tile, k) + error_bound
            i, j = fast_nonzero(tile <= limits[rows, None])
            candidates.append((i + rows.start, j + columns.start, tile[i, j]))
            if rows != columns:
                i, j = fast_nonzero(tile <= limits[columns])
                candidates.append((j + columns.start, i + rows.start, tile[i, j]))
    i, j, _ = _prune_candidates(candidates, limits, k, error_bound)
    return _select_nearest(x, x, i, j, slice(0, n), k)


def _squared_distance_tile(x: CenteredRows, rows: slice, columns: slice) -> Float32[np.ndarray, "b m"]:
    block = x.centered[rows] @ x.centered[columns].T
    block *= -2
    block += x.squared_norms[columns]
    block += x.squared_norms[rows, None]
    return block


def _prune_candidates(
    candidates: list[_Candidates], limits: Float32[np.ndarray, " n"], k: int, error_bound: float
) -> _Candidates:
    """Lower the limit of each row with k candidates to its k-th smallest, and drop candidates above the limits."""
    i, j, values = (np.concatenate(parts) for parts in zip(*candidates, strict=True))
    order = np.lexsort((values, i))
    i, j, values = i[order], j[order], values[order]
    counts = np.bincount(i, minlength=len(limits))
    full = counts >= k
    kth = (np.cumsum(counts) - counts + k - 1)[full]
    limits[full] = np.minimum(limits[full], values[kth] + np.float32(error_bound))
    kept = values <= limits[i]
    return i[kept], j[kept], values[kept]


def _select_nearest(
    x: CenteredRows, y: CenteredRows, i: Int[np.ndarray, " p"], j: Int[np.ndarray, " p"], selected: slice, k: int
) -> tuple[Int[np.ndarray, "b k"], Float64[np.ndarray, "b k"]]:
    """Return indices and squared distances of the k nearest candidates (xᵢ, yⱼ) of each of the selected rows.

    Args:
        x, y: rows.
        i, j: (p,) indices of the candidates; each selected row has at least k.
        selected: slice of b rows of x.
        k: number of neighbours.
    """
    exact = exact_squared_distances(x, y, i, j)
    order = np.lexsort((j, exact, i))
    first = np.searchsorted(i[order], np.arange(selected.start, selected.stop))
    chosen = order[first[:, None] + np.arange(k)]
    return j[chosen], exact[chosen]


def fast_nonzero(mask: Bool[np.ndarray, "b m"]) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]:
    """Return row and column indices of the true entries in row order; much faster than `numpy.nonzero` for few entries."""
    i, j = np.divmod(np.flatnonzero(mask), mask.shape[1])
    return i, j


def _kth_smallest_upper_bound(block: Float32[np.ndarray, "b m"], k: int, axis: int = 1) -> Float32[np.ndarray, " _"]:
    """Compute a close upper bound of the k-th smallest value along an axis: the k-th smallest of the minima of 64 k groups.

    The bound is infinite if the axis is shorter than k.
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
