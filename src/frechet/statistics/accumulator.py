"""What is kept of one layer's features while the images of a side go by."""

from __future__ import annotations

import tempfile
from typing import NamedTuple

import numpy as np

from frechet.statistics.moments import Gaussian
from frechet.statistics.row_sample import Sample, rows_kept

IN_MEMORY = 2**31  # bytes of features that are kept in memory; beyond that they go to a temporary file


class Summary(NamedTuple):
    """What stands for one layer's features of many images.

    Attributes:
        gaussian: of all of them.
        places: (k,) int64, ascending: which images the rows belong to.
        rows: (k, d) float32, those that the sample of the whole side may need.
    """

    gaussian: Gaussian
    places: np.ndarray
    rows: np.ndarray


class Gathering:
    """A Gaussian and rows of some columns of the features.

    Args:
        columns: of the features, where several layers lie side by side.
        images: how many will come, at most.
        seed: of the sample of rows.
        keep_all: whether all rows are kept.
    """

    def __init__(self, columns: slice, images: int, seed: int, *, keep_all: bool) -> None:
        dims = columns.stop - columns.start
        self.columns = columns
        self.images = images
        self.gaussian = Gaussian.empty(dims)
        self._sample = Sample.empty(dims, seed, rows_kept(images, dims))
        self._places: list[np.ndarray] = []
        self._rows = _room(images, dims) if keep_all else None
        self._seed = seed

    def update(self, places: np.ndarray, features: np.ndarray) -> None:
        """(k,) places and (k, width) features of the next part."""
        features = features[:, self.columns]
        if self._rows is None:
            self._sample = self._sample.update(places, features)
        else:
            self._rows[self.gaussian.n : self.gaussian.n + len(places)] = features
            self._places.append(places)
        self.gaussian = self.gaussian.update(features)

    def merge(self, summary: Summary) -> None:
        """What stands for the features of the next images, in their place; not where all rows are kept."""
        self._sample = self._sample.update(summary.places, summary.rows)
        self.gaussian = self.gaussian.merge(summary.gaussian)

    @property
    def summary(self) -> Summary:
        """What stands for the features that came so far, where others of the side are gathered elsewhere."""
        sample = self._sample.likely(self.images)
        return Summary(self.gaussian, sample.places, sample.rows)

    @property
    def sample(self) -> Sample:
        """The rows that were kept."""
        if self._rows is None:
            return self._sample
        n = self.gaussian.n
        return Sample(self._seed, np.concatenate(self._places), self._rows[:n], n)


def _room(images: int, dims: int) -> np.ndarray:
    """(images, dims) float32: in memory, or mapped from a file that is gone with it."""
    if images * dims * 4 <= IN_MEMORY:
        return np.empty((images, dims), np.float32)
    with tempfile.TemporaryFile() as file:  # the mapping outlives it
        return np.memmap(file, np.float32, "w+", shape=(images, dims))
