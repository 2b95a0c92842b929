"""The moments of random groups of images while images are added: packed triangles in float64, half the memory of matrices."""

from __future__ import annotations

import numpy as np

from frechet.statistics.group_moments import GroupMoments, add_triangle

_BLOCK_ROWS = 256  # rows of a group whose outer products are added at once: products of a few rows are slow
_MAX_PENDING_MEANS = 256  # sets of group moments whose means are merged at once, by a matrix product


class GroupAccumulator:
    """Count, mean and scatter of disjoint groups of images, in one pass over rows and over moments of further images.

    What the differences between means add to a scatter matrix is computed together with other products: as one more row of a
    block of rows, and for up to 256 sets of moments at once.

    Args:
        num_groups: number of groups.
        dims: number of features d.
    """

    def __init__(self, num_groups: int, dims: int) -> None:
        self._n = np.zeros(num_groups, np.int64)
        self._mean = np.zeros((num_groups, dims))
        self._scatter = np.zeros((num_groups, dims * (dims + 1) // 2))
        self._pending_rows: list[list[np.ndarray]] = [[] for _ in range(num_groups)]
        self._pending_means: list[tuple[np.ndarray, np.ndarray]] = []

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self._n)

    def add_rows(self, rows: np.ndarray, assigned: np.ndarray) -> None:
        """Add images by their features (k, d), and the group of each (k,)."""
        for group, pending in enumerate(self._pending_rows):
            pending.append(rows[assigned == group])
            if sum(map(len, pending)) >= _BLOCK_ROWS:
                self._flush_rows(group)

    def add_moments(self, groups: GroupMoments) -> None:
        """Add images by the moments of each group, in float64."""
        self._scatter += groups.scatter
        self._pending_means.append((groups.n, groups.mean))
        if len(self._pending_means) >= _MAX_PENDING_MEANS:
            self._flush_means()

    def finish(self) -> GroupMoments:
        """Return the moments of each group, in float64. They share the memory of this object, which may change them later."""
        for group in range(len(self)):
            self._flush_rows(group)
        self._flush_means()
        return GroupMoments(self._n, self._mean, self._scatter)

    def _flush_rows(self, group: int) -> None:
        pending, self._pending_rows[group] = self._pending_rows[group], []
        rows = np.concatenate(pending, dtype=np.float64) if pending else np.empty((0, 0))
        if not len(rows):
            return
        n, k, mean = self._n[group], len(rows), rows.mean(axis=0)
        shift = mean - self._mean[group]
        rows -= mean
        if n:
            rows = np.vstack([rows, shift * np.sqrt(n * k / (n + k))])
        add_triangle(self._scatter[group], rows.T @ rows)
        self._mean[group] += shift * (k / (n + k))
        self._n[group] += k

    def _flush_means(self) -> None:
        if not self._pending_means:
            return
        sizes, means = zip((self._n, self._mean), *self._pending_means, strict=True)
        n, mean_by_set = np.stack(sizes), np.stack(means)
        self._n, self._pending_means = n.sum(axis=0), []
        self._mean = (n[:, :, None] * mean_by_set).sum(axis=0) / np.maximum(self._n, 1)[:, None]
        for group in range(len(self)):
            between = np.sqrt(n[:, group, None]) * (mean_by_set[:, group] - self._mean[group])
            add_triangle(self._scatter[group], between.T @ between)
