"""What is kept of one layer's features while the images of a side go by."""

from __future__ import annotations

import tempfile
from typing import NamedTuple

import numpy as np

from frechet.statistics.moments import RunningMoments
from frechet.statistics.row_sample import RowSample, row_sample_size

MAX_IN_MEMORY_BYTES = 2**31  # bytes of features that are kept in memory; beyond that they go to a temporary file


class LayerSummary(NamedTuple):
    """What stands for one layer's features of many images.

    Attributes:
        gaussian: of all of them.
        places: (k,) int64, ascending: which images the rows belong to.
        rows: (k, d) float32, those that the sample of the whole side may need.
    """

    moments: RunningMoments
    indices: np.ndarray
    rows: np.ndarray


class Accumulator:
    """A Gaussian and rows of some columns of the features.

    Args:
        columns: of the features, where several layers lie side by side.
        images: how many will come, at most.
        seed: of the sample of rows.
        keep_all: whether all rows are kept.
    """

    def __init__(self, columns: slice, max_images: int, seed: int, *, keep_all: bool) -> None:
        dims = columns.stop - columns.start
        self.columns = columns
        self.max_images = max_images
        self.moments = RunningMoments.empty(dims)
        self._sample = RowSample.empty(dims, seed, row_sample_size(max_images, dims))
        self._indices: list[np.ndarray] = []
        self._rows = _allocate_rows(max_images, dims) if keep_all else None
        self._seed = seed

    def update(self, indices: np.ndarray, features: np.ndarray) -> None:
        """(k,) places and (k, width) features of the next part."""
        features = features[:, self.columns]
        if self._rows is None:
            self._sample = self._sample.update(indices, features)
        else:
            self._rows[self.moments.n : self.moments.n + len(indices)] = features
            self._indices.append(indices)
        self.moments = self.moments.update(features)

    def merge(self, summary: LayerSummary) -> None:
        """What stands for the features of the next images, in their place; not where all rows are kept."""
        self._sample = self._sample.update(summary.indices, summary.rows)
        self.moments = self.moments.merge(summary.moments)

    @property
    def summary(self) -> LayerSummary:
        """What stands for the features that came so far, where others of the side are gathered elsewhere."""
        sample = self._sample.prefilter(self.max_images)
        return LayerSummary(self.moments, sample.indices, sample.rows)

    @property
    def sample(self) -> RowSample:
        """The rows that were kept."""
        if self._rows is None:
            return self._sample
        n = self.moments.n
        return RowSample(self._seed, np.concatenate(self._indices), self._rows[:n], n)


def _allocate_rows(max_images: int, dims: int) -> np.ndarray:
    """(images, dims) float32: in memory, or mapped from a file that is gone with it."""
    if max_images * dims * 4 <= MAX_IN_MEMORY_BYTES:
        return np.empty((max_images, dims), np.float32)
    with tempfile.TemporaryFile() as file:  # the mapping outlives it
        return np.memmap(file, np.float32, "w+", shape=(max_images, dims))
