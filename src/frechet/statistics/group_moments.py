"""Moments of a few random groups of the images, from which a jackknife needs no features.

The group of an image follows from its sampling unit alone: the image itself, identified by its content, or the cluster or
pair that it belongs to. Images of one unit are therefore always in the same group, on whatever machine they are processed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from frechet.statistics.moments import RunningMoments
from frechet.statistics.row_sample import priorities

NUM_GROUPS = 10
_SMALLEST_SCATTER = 1e-25
_BLOCK_ROWS = 64  # rows of a scatter matrix that the processor's cache holds
MIN_IMAGES_PER_DIM = 1.5  # with fewer images (or other sampling units) per feature dimension, no jackknife is reliable


@dataclass(frozen=True, eq=False)
class GroupMoments:
    """Count, mean and scatter of disjoint groups of images.

    Attributes:
        n: (g,) int64, number of images in each group; may be 0.
        mean: (g, d) float64.
        scatter: (g, d (d + 1) / 2) upper triangles of the scatter matrices, row by row: float64 while images are
            accumulated, float32 afterwards, when the moments of all images are known in float64 as well.
    """

    n: np.ndarray
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def from_moments(cls, groups: Sequence[RunningMoments], dtype: type[np.floating] = np.float32) -> GroupMoments:
        """Pack the moments of each group, at least one."""
        return cls(
            np.array([group.n for group in groups], np.int64),
            np.stack([group.mean for group in groups]),
            np.stack([pack_symmetric(group.scatter, dtype) for group in groups]),
        )

    def to_float32(self) -> GroupMoments:
        """Return the moments with the scatter in float32, as they are stored."""
        with np.errstate(over="ignore"):  # see `fits_float32`
            return GroupMoments(self.n.copy(), self.mean.copy(), self.scatter.astype(np.float32))

    def fits_float32(self) -> bool:
        """Return whether the scatter, its inverse and products with it are within the range of float32."""
        return fits_float32(max(self.scatter.max(initial=0.0), -self.scatter.min(initial=0.0)))

    @classmethod
    def from_features(cls, rows: np.ndarray, units: np.ndarray, seed: int) -> GroupMoments | None:
        """Compute the moments of each group from the features of all images.

        Returns:
            None if these are too few for a jackknife, or too large or small for float32.

        Args:
            rows: (n, d) features.
            units: (n,) integers, sampling unit of each image (see `assign_groups`).
            seed: seed of the groups.
        """
        if len(rows) < MIN_IMAGES_PER_DIM * rows.shape[1]:
            return None
        assigned = assign_groups(units, seed)
        groups = cls.from_moments([RunningMoments.from_features(rows[assigned == each]) for each in range(NUM_GROUPS)])
        return groups if groups.fits_float32() else None

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self.n)

    @property
    def dims(self) -> int:
        """Number of feature dimensions, d."""
        return self.mean.shape[1]

    def get(self, group: int) -> RunningMoments:
        """Return the moments of one group."""
        scatter = unpack_symmetric(self.scatter[group].astype(np.float64), self.dims)
        return RunningMoments(int(self.n[group]), self.mean[group].copy(), scatter)

    def merge_groups(self, groups: Sequence[int]) -> RunningMoments:
        """Return the moments of several groups together."""
        if len(groups) == 1:
            return self.get(groups[0])
        # a slice needs no copy
        chosen = slice(groups.start, groups.stop, groups.step) if isinstance(groups, range) else list(groups)
        n = self.n[chosen]
        mean = n @ self.mean[chosen] / max(1, n.sum())
        between = np.sqrt(n)[:, None] * (self.mean[chosen] - mean)
        scatter = unpack_symmetric(self.scatter[chosen].sum(axis=0, dtype=np.float64), self.dims)
        for start in range(0, self.dims, _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            scatter[rows] += between[:, rows].T @ between
        return RunningMoments(int(n.sum()), mean, scatter)


def fits_float32(scatter: float) -> bool:
    """Return whether group moments can be stored whose largest sum of squares or products is this one."""
    return scatter == 0 or _SMALLEST_SCATTER < scatter < 1 / _SMALLEST_SCATTER


def assign_groups(units: np.ndarray, seed: int) -> np.ndarray:
    """Return the group of each image.

    Args:
        units: (n,) integers; images with the same number belong to the same sampling unit.
        seed: seed of the assignment.

    Returns:
        (n,) int64 from 0 to `NUM_GROUPS` - 1, uniform and independent for different units.
    """
    return (priorities(units, seed) % np.uint64(NUM_GROUPS)).astype(np.int64)


def pack_symmetric(matrix: np.ndarray, dtype: type[np.floating] = np.float32) -> np.ndarray:
    """Return the upper triangle of a (d, d) matrix, row by row."""
    d = len(matrix)
    upper, start = np.empty(d * (d + 1) // 2, dtype), 0
    with np.errstate(over="ignore"):  # see `GroupMoments.fits_float32`
        for i in range(d):
            upper[start : start + d - i] = matrix[i, i:]
            start += d - i
    return upper


def add_triangle(upper: np.ndarray, matrix: np.ndarray) -> None:
    """Add the upper triangle of a (d, d) matrix to one that is given row by row."""
    d, start = len(matrix), 0
    for i in range(d):
        upper[start : start + d - i] += matrix[i, i:]
        start += d - i


def unpack_symmetric(upper: np.ndarray, d: int) -> np.ndarray:
    """Return the symmetric (d, d) matrix with this upper triangle, given row by row."""
    matrix, start = np.empty((d, d), upper.dtype), 0
    for begin in range(0, d, _BLOCK_ROWS):
        end = min(begin + _BLOCK_ROWS, d)
        for i in range(begin, end):
            matrix[i, i:] = upper[start : start + d - i]
            matrix[i:end, i] = matrix[i, i:end]
            start += d - i
        matrix[end:, begin:end] = matrix[begin:end, end:].T
    return matrix


def unpack_rows(upper: np.ndarray, d: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield blocks of rows of (g, d, d) matrices whose upper triangles (g, u) are given row by row.

    Each is a slice of b rows and an array (g, b, w) of their last w columns, with the diagonal in the first b of these and zeros
    below it.
    """
    start = 0
    for begin in range(0, d, _BLOCK_ROWS):
        rows = slice(begin, min(begin + _BLOCK_ROWS, d))
        block = np.zeros((len(upper), rows.stop - begin, d - begin), upper.dtype)
        for i in range(rows.stop - begin):
            end = start + d - begin - i
            block[:, i, i:] = upper[:, start:end]
            start = end
        yield rows, block
