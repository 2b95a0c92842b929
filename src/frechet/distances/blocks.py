"""Squared distances of many rows with many, block by block: in float32 where that decides, in float64 where it does not.

One matrix product gives a block: (x, |x|², 1)·(-2y, 1, |y|²) = |x - y|². Rows are centred first, so that its rounding is
small beside the distances; pairs so close to a limit that it might decide wrongly are computed anew in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BLOCK = 2**24  # entries of a block: 64 MiB in float32
_PAIRS = 4096  # pairs that are computed anew at a time
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
        for some in spans(len(rows), rows.shape[1]):
            centred[some] = rows[some] - centre
        return cls(rows, centred, np.einsum("ij,ij->i", centred, centred))

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
    """The k rows of y that are nearest to each row of x; where x is y, to each row the nearest others.

    Returns:
        (n, k) places in y and (n, k) float64 squared distances, ascending.
    """
    places, squared = np.empty((len(x), k), np.int64), np.empty((len(x), k))
    for some, block, doubt in squared_distances(x, y):
        if x is y:
            block[np.arange(len(block)), np.arange(some.start, some.stop)] = np.inf
        i, j = places_of(block <= (_at_least_kth(block, k) + 2 * doubt.max())[:, None])
        found = exact_distances(x, y, i + some.start, j)
        order = np.lexsort((found, i))
        first = np.searchsorted(i[order], np.arange(len(block)))
        chosen = order[first[:, None] + np.arange(k)]
        places[some], squared[some] = j[chosen], found[chosen]
    return places, squared


def places_of(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of what is true in a matrix, in order: many times as fast as `numpy.nonzero` where that is little."""
    i, j = np.divmod(np.flatnonzero(mask), mask.shape[1])
    return i, j


def _at_least_kth(block: np.ndarray, k: int) -> np.ndarray:
    """(b,) no less than the k-th smallest of each row, and little more: the k-th smallest of the minima of many groups."""
    groups = 64 * k
    depth = block.shape[1] // groups
    if depth < 2:
        return np.partition(block, k - 1, axis=1)[:, k - 1]
    minima = block[:, : depth * groups].reshape(len(block), depth, groups).min(axis=1)
    return np.partition(minima, k - 1, axis=1)[:, k - 1]
