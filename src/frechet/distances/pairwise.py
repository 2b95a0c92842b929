"""Squared distances of many rows with many, block by block: in float32 where that decides, in float64 where it does not.

One matrix product gives a block: (x, |x|², 1)·(-2y, 1, |y|²) = |x - y|². Rows are centred first, so that its rounding is
small beside the distances; pairs so close to a limit that it might decide wrongly are computed anew in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from frechet.errors import StatisticsError

BLOCK = 2**24  # entries of a block: 64 MiB in float32
_PAIRS = 64  # pairs that are computed anew at a time: so few stay in the cache
_EPS = 2.0**-24


@dataclass(frozen=True)
class Cloud:
    """Rows, made ready for distances.

    Attributes:
        rows: (n, d) as they were given.
        centred: (n, d) float32.
        squares: (n,) float32, squared lengths of the centred rows.
    """

    rows: np.ndarray
    centred: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, centre: np.ndarray) -> Cloud:
        """(n, d) rows about a (d,) centre, which both sides of a distance must share."""
        centred = np.empty(rows.shape, np.float32)
        for some in spans(len(rows), 8 * rows.shape[1]):  # less than a block, since the differences are float64
            centred[some] = rows[some] - centre
        squares = np.einsum("ij,ij->i", centred, centred)
        if not np.isfinite(squares).all():
            raise StatisticsError(
                "features are so large that their squares are beyond float32; divide them by a number"
            )
        return cls(rows, centred, squares)

    def __len__(self) -> int:
        return len(self.rows)


def spans(n: int, width: int) -> Iterator[slice]:
    """Slices of n rows of that width, each a block."""
    size = max(1, BLOCK // max(width, 1))
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def mean_of(rows: np.ndarray) -> np.ndarray:
    """(d,) float64."""
    total = np.zeros(rows.shape[1])
    for some in spans(len(rows), rows.shape[1]):
        total += rows[some].sum(axis=0, dtype=np.float64)
    return total / len(rows)


def squared_distances(x: Cloud, y: Cloud) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """(rows of x, (b, m) float32 squared distances to all of y, (m,) float32 by how much those may be wrong)."""
    d = x.centred.shape[1]
    right = np.empty((len(y), d + 2), np.float32)
    np.multiply(y.centred, -2, out=right[:, :d])
    right[:, d], right[:, d + 1] = 1, y.squares
    for some in spans(len(x), len(y)):
        left = np.empty((some.stop - some.start, d + 2), np.float32)
        left[:, :d], left[:, d], left[:, d + 1] = x.centred[some], x.squares[some], 1
        yield some, left @ right.T, (8 * _EPS * d**0.5) * (x.squares[some].max() + y.squares)


def exact_distances(x: Cloud, y: Cloud, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """(p,) float64 squared distances of the pairs (xᵢ, yⱼ)."""
    found = np.empty(len(i))
    for start in range(0, len(i), _PAIRS):
        some = slice(start, start + _PAIRS)
        gap = x.rows[i[some]].astype(np.float64) - y.rows[j[some]]
        found[some] = np.einsum("ij,ij->i", gap, gap)
    return found


def nearest(x: Cloud, y: Cloud, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of y that are nearest to each row of x, k at most their number.

    Returns:
        (n, k) places in y and (n, k) float64 squared distances, ascending.
    """
    places, squared = np.empty((len(x), k), np.int64), np.empty((len(x), k))
    for some, block, doubt in squared_distances(x, y):
        i, j = places_of(block <= (_at_least_kth(block, k) + 2 * doubt.max())[:, None])
        places[some], squared[some] = _least(x, y, i + some.start, j, some, k)
    return places, squared


def nearest_others(x: Cloud, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k other rows that are nearest to each row, k less than their number.

    Of equal rows all but the first k + 1 are left out, and get the neighbours that they share: each of a collapsed
    generator's images would be a candidate for all others.

    Returns:
        (n, k) places and (n, k) float64 squared distances, ascending.
    """
    first = _first_twins(x, k)
    more = first != np.arange(len(x))
    if not more.any():
        return _nearest_others(x, k)
    kept = np.flatnonzero(~more)
    places, squared = _nearest_others(Cloud(x.rows[kept], x.centred[kept], x.squares[kept]), k)
    same = np.searchsorted(kept, first)
    places = kept[places][same]
    places[more] = np.column_stack([first, places])[more, :k]
    return places, squared[same]


def _first_twins(x: Cloud, k: int) -> np.ndarray:
    """(n,) for a row that is equal to more than k before it, the first of these; for every other, itself."""
    first = np.arange(len(x))
    _, inverse, counts = np.unique(x.squares, return_inverse=True, return_counts=True)
    twins: dict[bytes, list[int]] = {}
    for i in np.flatnonzero(counts[inverse] > k + 1).tolist():
        before = twins.setdefault(x.rows[i].tobytes(), [])
        if len(before) > k:
            first[i] = before[0]
        else:
            before.append(i)
    return first


def _nearest_others(x: Cloud, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The same of rows of which few are equal. Each distance is computed once for both its rows.

    A row's candidates are what lies below a limit that is no less than its k-th distance and falls as tiles go by.
    """
    n, d = x.centred.shape
    size = max(k + 1, min(n, int(BLOCK**0.5)))
    tiles = [slice(start, min(start + size, n)) for start in range(0, n, size)]
    doubt = 32 * _EPS * d**0.5 * float(x.squares.max(initial=0))
    limits = np.full(n, np.inf, np.float32)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for at, rows in enumerate(tiles):
        if at:
            found = [_kept(found, limits, k, doubt)]
        for columns in tiles[at:]:
            tile = _tile(x, rows, columns)
            if rows == columns:
                np.fill_diagonal(tile, np.inf)
            elif np.isinf(limits[columns.start]):
                limits[columns] = _at_least_kth(tile, k, axis=0) + doubt
            if np.isinf(limits[rows.start]):
                limits[rows] = _at_least_kth(tile, k) + doubt
            i, j = places_of(tile <= limits[rows, None])
            found.append((i + rows.start, j + columns.start, tile[i, j]))
            if rows != columns:
                i, j = places_of(tile <= limits[columns])
                found.append((j + columns.start, i + rows.start, tile[i, j]))
    i, j, _ = _kept(found, limits, k, doubt)
    return _least(x, x, i, j, slice(0, n), k)


def _tile(x: Cloud, rows: slice, columns: slice) -> np.ndarray:
    block = x.centred[rows] @ x.centred[columns].T
    block *= -2
    block += x.squares[columns]
    block += x.squares[rows, None]
    return block


def _kept(
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]], limits: np.ndarray, k: int, doubt: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Candidates that are still below their row's limit, which falls to its k-th candidate where it has so many."""
    i, j, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((values, i))
    i, j, values = i[order], j[order], values[order]
    counts = np.bincount(i, minlength=len(limits))
    full = counts >= k
    kth = (np.cumsum(counts) - counts + k - 1)[full]
    limits[full] = np.minimum(limits[full], values[kth] + np.float32(doubt))
    kept = values <= limits[i]
    return i[kept], j[kept], values[kept]


def _least(x: Cloud, y: Cloud, i: np.ndarray, j: np.ndarray, some: slice, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(places, squared distances) of the k nearest among candidates (xᵢ, yⱼ), of which every row in `some` has k or more."""
    exact = exact_distances(x, y, i, j)
    order = np.lexsort((j, exact, i))
    first = np.searchsorted(i[order], np.arange(some.start, some.stop))
    chosen = order[first[:, None] + np.arange(k)]
    return j[chosen], exact[chosen]


def places_of(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of what is true in a matrix, in order: many times as fast as `numpy.nonzero` where that is little."""
    i, j = np.divmod(np.flatnonzero(mask), mask.shape[1])
    return i, j


def _at_least_kth(block: np.ndarray, k: int, axis: int = 1) -> np.ndarray:
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
