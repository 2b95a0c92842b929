"""A seeded sample of feature rows, the same whoever gathers it and in whatever order.

Every image has a priority that depends on the seed and its place alone; the rows with the smallest are kept. Merging
keeps the smallest of both, so it is associative and commutative.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

MAX_SAMPLE_ROWS = 4096  # rows: enough for the means that error bars need


def row_sample_size(n: int, dims: int) -> int:
    """How many rows of n images to keep: all where the jackknife will leave some of them out (n < 8 d), else a sample."""
    return n if n < 8 * dims else min(n, MAX_SAMPLE_ROWS)


@dataclass(frozen=True)
class RowSample:
    """At most `limit` rows of features.

    Attributes:
        seed: what the choice depends on.
        places: (k,) int64, ascending: which images the rows belong to.
        rows: (k, d) float32.
        limit: the most rows that are kept.
    """

    seed: int
    indices: np.ndarray
    rows: np.ndarray
    limit: int = MAX_SAMPLE_ROWS

    @classmethod
    def empty(cls, dims: int, seed: int, limit: int = MAX_SAMPLE_ROWS) -> RowSample:
        """The identity of `merge`."""
        return cls(seed, np.empty(0, np.int64), np.empty((0, dims), np.float32), limit)

    def update(self, indices: np.ndarray, rows: np.ndarray) -> RowSample:
        """This sample of a set that has these rows as well."""
        return self.merge(RowSample(self.seed, indices, rows, self.limit))

    def merge(self, other: RowSample) -> RowSample:
        """The sample of both sets; their places must not overlap."""
        indices = np.concatenate([self.indices, other.indices])
        kept = np.arange(len(indices))
        if len(indices) > self.limit:
            kept = np.argpartition(priorities(indices, self.seed), self.limit)[: self.limit]
        kept = kept[np.argsort(indices[kept])]
        mine = len(self.indices)
        rows = np.empty((len(kept), self.rows.shape[1]), np.float32)
        ours = kept < mine
        rows[ours], rows[~ours] = self.rows[kept[ours]], other.rows[kept[~ours] - mine]
        return RowSample(self.seed, indices[kept], rows, self.limit)

    def prefilter(self, n: int) -> RowSample:
        """Those rows that a sample of n images may need, of which these are some: about 2 limit / n of them.

        Below that share of the priorities the sample is complete, unless more than half of the n have no features; it is
        a smaller one then, and as uniform.
        """
        share = 2 * self.limit / n
        if share >= 1:
            return self
        few = priorities(self.indices, self.seed) < np.uint64(share * 2**64)
        return replace(self, indices=self.indices[few], rows=self.rows[few])


def priorities(indices: np.ndarray, seed: int) -> np.ndarray:
    """A uint64 for every place, uniform and independent for practical purposes (splitmix64: Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        mixed = _splitmix64(np.full(len(indices), seed, np.uint64)) + indices.astype(np.uint64) * np.uint64(
            0x9E3779B97F4A7C15
        )
        return _splitmix64(mixed)


def _splitmix64(x: np.ndarray) -> np.ndarray:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
