"""The summary of one layer's features, accumulated while images are processed."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass

import numpy as np

from frechet.statistics.moments import RunningMoments
from frechet.statistics.row_sample import RowSample, row_sample_size

MAX_IN_MEMORY_BYTES = 2**31  # features of all images beyond this size go to a temporary file


@dataclass(frozen=True, kw_only=True)
class LayerSummary:
    """Everything that later steps need to know about one layer's features of n images.

    A summary of few images holds every row; its moments follow from them, so they are neither stored nor sent. A summary
    of many images holds the moments and only the rows that a sample of all images may need. `Accumulator.merge` treats
    both alike.

    Attributes:
        indices: (k,) int64, ascending; the images that the rows belong to.
        rows: (k, d) float32 features, k <= n.
        stored_moments: moments of all n images, or None if `rows` holds all of them.
    """

    indices: np.ndarray
    rows: np.ndarray
    stored_moments: RunningMoments | None = None

    def compute_moments(self) -> RunningMoments:
        """Return the moments of all n images; O(n d²) if they are not stored."""
        return self.stored_moments or RunningMoments.from_features(self.rows)


class Accumulator:
    """Running moments and rows of one layer.

    Args:
        dims: number of features d.
        max_images: upper bound on the number of images that will be merged.
        seed: seed of the row sample.
        keep_all: keep the rows of all images instead of a sample.
    """

    def __init__(self, dims: int, max_images: int, seed: int, *, keep_all: bool) -> None:
        self.moments = RunningMoments.empty(dims)
        self._max_images = max_images
        self._sample = RowSample.empty(dims, seed, row_sample_size(max_images, dims))
        self._all_indices: list[np.ndarray] = []
        self._all_rows = _allocate_rows(max_images, dims) if keep_all else None

    def update(self, indices: np.ndarray, features: np.ndarray) -> None:
        """Add the features of the next images.

        Args:
            indices: (k,) int64, ascending, greater than those before.
            features: (k, d) float32.
        """
        self.merge(LayerSummary(indices=indices, rows=features))

    def merge(self, summary: LayerSummary) -> None:
        """Add the summary of the next images.

        Raises:
            ValueError: all rows are to be kept, and the summary holds only some.
        """
        moments = summary.compute_moments()
        if self._all_rows is None:
            self._sample = self._sample.update(summary.indices, summary.rows)
        elif len(summary.rows) != moments.n:
            raise ValueError(f"got {len(summary.rows)} rows of {moments.n} images; expected the rows of all images")
        else:
            self._all_rows[self.moments.n : self.moments.n + moments.n] = summary.rows
            self._all_indices.append(summary.indices)
        self.moments = self.moments.merge(moments)

    def to_summary(self) -> LayerSummary:
        """Return the summary of the images so far, for an accumulator of all `max_images`; not if all rows are kept."""
        sample = self._sample.prefilter(self._max_images)
        return LayerSummary(indices=sample.indices, rows=sample.rows, stored_moments=self.moments)

    @property
    def sample(self) -> RowSample:
        """The row sample, or all rows if they were kept."""
        if self._all_rows is None:
            return self._sample
        n = self.moments.n
        return RowSample(self._sample.seed, np.concatenate(self._all_indices), self._all_rows[:n], n)


def _allocate_rows(max_images: int, dims: int) -> np.ndarray:
    """Allocate (max_images, dims) float32 in memory, or in a temporary file that is deleted together with the array."""
    if max_images * dims * 4 <= MAX_IN_MEMORY_BYTES:
        return np.empty((max_images, dims), np.float32)
    with tempfile.TemporaryFile() as file:  # the mapping outlives the file object
        return np.memmap(file, np.float32, "w+", shape=(max_images, dims))
