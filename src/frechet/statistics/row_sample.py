"""A seeded sample of feature rows that does not depend on the order in which rows arrive or on who processes them.

Each image has a priority that depends only on the seed and on its index, and the rows with the smallest priorities are kept
(bottom-k sampling, Cohen & Kaplan 2007). Merging keeps the smallest of both samples, so it is associative and commutative.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

MAX_SAMPLE_ROWS = 4096  # enough rows for the means that standard errors need


def row_sample_size(n: int, dims: int) -> int:
    """Return how many rows of n images to keep: all if they take less memory than a few covariances, else `MAX_SAMPLE_ROWS`."""
    return n if n < 8 * dims else min(n, MAX_SAMPLE_ROWS)


def choose_rows(count: int, limit: int = MAX_SAMPLE_ROWS) -> np.ndarray | slice:
    """Return the sorted indices of a random sample of `limit` out of `count` rows, or a slice of all if `count` is not larger."""
    if count <= limit:
        return slice(None)
    return np.sort(np.random.default_rng(0).permutation(count)[:limit])


@dataclass(frozen=True)
class RowSample:
    """A sample of at most `limit` feature rows.

    Attributes:
        seed: seed of the priorities.
        indices: (k,) int64, ascending; the images that the rows belong to.
        rows: (k, d) float32.
        limit: maximum number of rows.
    """

    seed: int
    indices: np.ndarray
    rows: np.ndarray
    limit: int = MAX_SAMPLE_ROWS

    @classmethod
    def empty(cls, dims: int, seed: int, limit: int = MAX_SAMPLE_ROWS) -> RowSample:
        """Return the identity of `merge` for d = `dims`."""
        return cls(seed, np.empty(0, np.int64), np.empty((0, dims), np.float32), limit)

    def update(self, indices: np.ndarray, rows: np.ndarray) -> RowSample:
        """Return the sample of these images and of others with indices (m,) and rows (m, d)."""
        return self.merge(RowSample(self.seed, indices, rows, self.limit))

    def merge(self, other: RowSample) -> RowSample:
        """Return the sample of both sets of images, which must be disjoint."""
        indices = np.concatenate([self.indices, other.indices])
        kept = np.arange(len(indices))
        if len(indices) > self.limit:
            kept = np.argpartition(priorities(indices, self.seed), self.limit)[: self.limit]
        kept = kept[np.argsort(indices[kept])]
        n_own = len(self.indices)
        rows = np.empty((len(kept), self.rows.shape[1]), np.float32)
        is_own = kept < n_own
        rows[is_own], rows[~is_own] = self.rows[kept[is_own]], other.rows[kept[~is_own] - n_own]
        return RowSample(self.seed, indices[kept], rows, self.limit)

    def prefilter(self, n: int) -> RowSample:
        """Return only the rows that a sample of n images, these among them, may need: about a share of 2 limit / n.

        The sample of all n images is then complete unless more than half of them have no features (because they could
        not be decoded); in that case it is smaller, but still uniform.
        """
        share = 2 * self.limit / n
        if share >= 1:
            return self
        may_be_sampled = priorities(self.indices, self.seed) < np.uint64(share * 2**64)
        return replace(self, indices=self.indices[may_be_sampled], rows=self.rows[may_be_sampled])


def priorities(indices: np.ndarray, seed: int) -> np.ndarray:
    """Return one uint64 for each index, uniform and independent for practical purposes (splitmix64; Steele et al. 2014)."""
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
