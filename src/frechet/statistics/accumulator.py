"""The summary of one layer's features, accumulated while images are processed."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass

import numpy as np

from frechet.statistics.group_accumulator import GroupAccumulator
from frechet.statistics.group_moments import MIN_IMAGES_PER_DIM, NUM_GROUPS, GroupMoments, assign_groups
from frechet.statistics.moments import RunningMoments
from frechet.statistics.row_sample import RowSample, row_sample_size

MAX_IN_MEMORY_BYTES = 2**31  # features of all images beyond this size go to a temporary file


@dataclass(frozen=True, kw_only=True)
class LayerSummary:
    """Everything that later steps need to know about one layer's features of n images.

    A summary of few images holds every row; its moments follow from them, so they are neither stored nor sent. A summary
    of many images holds the moments of each group and only the rows that a sample of all images may need.
    `Accumulator.merge` treats both alike.

    Attributes:
        indices: (k,) int64, ascending; the images that the rows belong to.
        rows: (k, d) float32 features, k <= n.
        stored_groups: moments of the n images by group, in float64, or None if `rows` holds all of them.
    """

    indices: np.ndarray
    rows: np.ndarray
    stored_groups: GroupMoments | None = None


class Accumulator:
    """Moments, by group and in total, and rows of one layer.

    Each image is added to the moments of its group, and those of all images are the merge of the groups: one pass, with
    the arithmetic of one set of moments. Without enough images for a jackknife, there is only one group.

    Args:
        dims: number of features d.
        max_images: upper bound on the number of images that will be merged.
        seed: seed of the groups and of the row sample.
        keep_all: keep the rows of all images instead of a sample.
    """

    def __init__(self, dims: int, max_images: int, seed: int, *, keep_all: bool) -> None:
        self.n = 0
        self._seed = seed
        self._max_images = max_images
        self._groups = GroupAccumulator(NUM_GROUPS if max_images >= MIN_IMAGES_PER_DIM * dims else 1, dims)
        self._sample = RowSample.empty(dims, seed, row_sample_size(max_images, dims))
        self._all_indices: list[np.ndarray] = []
        self._all_rows = allocate_rows(max_images, dims) if keep_all else None

    def update(self, indices: np.ndarray, features: np.ndarray, units: np.ndarray) -> None:
        """Add the features of the next images.

        Args:
            indices: (k,) int64, ascending, greater than those before.
            features: (k, d) float32.
            units: (k,) integers, the sampling unit of each image (see `assign_groups`).
        """
        self.merge(LayerSummary(indices=indices, rows=features), units)

    def merge(self, summary: LayerSummary, units: np.ndarray) -> None:
        """Add the summary of the next images.

        Args:
            summary: the summary.
            units: the sampling unit of each of its images; not used if their moments are stored.

        Raises:
            ValueError: all rows are to be kept, and the summary holds only some.
        """
        n = len(summary.rows) if summary.stored_groups is None else int(summary.stored_groups.n.sum())
        if self._all_rows is None:
            self._sample = self._sample.update(summary.indices, summary.rows)
        elif len(summary.rows) != n:
            raise ValueError(f"got {len(summary.rows)} rows of {n} images; expected the rows of all images")
        else:
            self._all_rows[self.n : self.n + n] = summary.rows
            self._all_indices.append(summary.indices)
        if summary.stored_groups is None:
            is_grouped = len(self._groups) > 1
            assigned = assign_groups(units, self._seed) if is_grouped else np.zeros(n, np.int64)
            self._groups.add_rows(summary.rows, assigned)
        else:
            self._groups.add_moments(summary.stored_groups)
        self.n += n

    def to_summary(self) -> LayerSummary:
        """Return the summary of all images, for an accumulator of all `max_images`; not if all rows are kept."""
        sample = self._sample.prefilter(self._max_images)
        return LayerSummary(indices=sample.indices, rows=sample.rows, stored_groups=self._groups.finish())

    @property
    def moments(self) -> RunningMoments:
        """Moments of all images so far."""
        return self._groups.finish().merge_groups(range(len(self._groups)))

    @property
    def group_moments(self) -> GroupMoments | None:
        """Moments of each group, or None if there is only one or float32 cannot represent them."""
        groups = self._groups.finish()
        return groups.to_float32() if len(groups) > 1 and groups.fits_float32() else None

    @property
    def sample(self) -> RowSample:
        """The row sample, or all rows if they were kept."""
        if self._all_rows is None:
            return self._sample
        return RowSample(self._seed, np.concatenate(self._all_indices), self._all_rows[: self.n], self.n)


def allocate_rows(max_images: int, dims: int, num_arrays: int = 1) -> np.ndarray:
    """Allocate (max_images, dims) float32 in memory, or in a temporary file that is deleted together with the array.

    Args:
        max_images, dims: shape of the array.
        num_arrays: number of such arrays that are in use at the same time.
    """
    if num_arrays * max_images * dims * 4 <= MAX_IN_MEMORY_BYTES:
        return np.empty((max_images, dims), np.float32)
    with tempfile.TemporaryFile() as file:  # the mapping outlives the file object
        return np.memmap(file, np.float32, "w+", shape=(max_images, dims))
