"""A sample that grows in steps: statistics of the first n images of a source in a random order, for increasing n."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from frechet.errors import GeneratorError
from frechet.execution.chunks import Partition, Units
from frechet.execution.collect import ProgressCallback, build_statistics
from frechet.execution.dispatch import open_chunks
from frechet.execution.feature_function import FeatureFunction
from frechet.execution.reduce import MergedChunks
from frechet.execution.settings import Settings
from frechet.execution.subset import random_order
from frechet.features.extractor import LoadedExtractor
from frechet.images.image import ImageSource
from frechet.images.loader import CHUNK_SIZE
from frechet.images.sources.generator import GeneratorSource
from frechet.statistics.accumulator import Accumulator
from frechet.statistics.feature_statistics import FeatureStatistics

_MAX_REPEATED_FRACTION = 0.1  # of the images of one step that a function may return a second time


class GrowingSample(Protocol):
    """Images or features of which more and more are drawn."""

    def grow(self, n: int) -> Mapping[str, FeatureStatistics]:
        """Return statistics by layer of the first n images; n must increase from call to call."""


@dataclass
class GrowingFeatures:
    """Rows of an array of features in a seeded random order, or those of a function in the order in which it returns them.

    Attributes:
        data: statistics with the features of every image or, of a function, of the first ones.
        looks: numbers of images that `grow` is called with.
        seed: seed of the order, of the groups and of the row sample.
        function: the function that returns the features, or None.
        units: sampling units of the features of a function; None if each is one by itself.
    """

    data: FeatureStatistics
    looks: Sequence[int]
    seed: int
    function: FeatureFunction | None = None
    units: Units | None = None

    def __post_init__(self) -> None:
        assert self.data.features is not None
        self._order = random_order(len(self.data.features), self.seed)
        self._accumulator = Accumulator(self.data.dims, self.looks[-1], self.seed, keep_all=False)
        self._units: list[np.ndarray] = []
        self._seen: set[bytes] = set()

    def grow(self, n: int) -> Mapping[str, FeatureStatistics]:
        """Return statistics of n rows.

        Raises:
            GeneratorError: the function that makes the features returns the same ones again.
        """
        done = self._accumulator.n
        rows, units = self._select(done, n) if self.function is None else self._generate(done, n)
        self._accumulator.update(np.arange(done, n), rows, units)
        self._units.append(units)
        statistics = FeatureStatistics.from_accumulator(
            self._accumulator,
            np.arange(n),
            np.concatenate(self._units),
            grouped_by=self.units.kind if self.units else self.data.grouped_by,
            spec=self.data.spec,
            label=self.data.label,
            n_source=self.data.n if self.function is None else None,
        )
        return {"features": statistics}

    def _select(self, done: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the features and units from position `done` to n of the random order."""
        assert self.data.features is not None
        indices = np.sort(self._order[done:n])
        return self.data.features[indices], indices if self.data.units is None else self.data.units[indices]

    def _generate(self, done: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return n - done further features of the function, and their units."""
        assert self.function is not None
        rows = self.function.take(n - done)
        self._seen.update(hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows)
        n_repeated = n - len(self._seen)
        if n_repeated > _MAX_REPEATED_FRACTION * n:
            raise GeneratorError(
                f"the function that generates features repeats them: {n_repeated:,} of {n:,} rows are identical to earlier ones. "
                "A sample can only grow by new images; draw new random numbers at every call."
            )
        numbers = None if self.units is None else self.units.numbers
        return rows, np.arange(done, n) if numbers is None else numbers[done:n]


@dataclass
class GrowingImages:
    """Images of a source in a seeded random order, or those of a function in the order in which it returns them.

    The images between two looks are read in the order of the source, and have a folder of their own in the work directory.

    Attributes:
        source: the images.
        looks: numbers of images that `grow` is called with.
        settings: how images become features; their seed is that of the order.
        extractor: the loaded extractor.
        folder: name of the folder in the work directory.
        units: sampling units of the images; None if each is one by itself.
        progress: called with the folder and the numbers of images processed and in total.
    """

    source: ImageSource
    looks: Sequence[int]
    settings: Settings
    extractor: LoadedExtractor
    folder: str
    units: Units | None = None
    progress: ProgressCallback | None = None
    _merged: MergedChunks = field(init=False)
    _n: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        order = np.arange(self.looks[-1]) if isinstance(self.source, GeneratorSource) else self._random_order()
        blocks = [np.sort(block) for block in np.split(order, self.looks[:-1])]
        partition = Partition(self.source, np.concatenate(blocks).tolist(), CHUNK_SIZE, self.units)
        self._merged = MergedChunks.empty(partition, self.settings.seed, self.extractor, {})

    def _random_order(self) -> np.ndarray:
        return random_order(len(self.source), self.settings.seed)[: self.looks[-1]]

    def grow(self, n: int) -> Mapping[str, FeatureStatistics]:
        """Return statistics by layer of n images, without those that could not be decoded.

        Raises:
            GeneratorError: the function that makes the images returns the same ones again.
        """
        first, self._n = self._n, n
        indices = self._merged.partition.source_indices[first:n]
        partition = Partition(self.source, indices, CHUNK_SIZE, ranks=(first, n))

        def report(_name: str, done: int, _total: int) -> None:
            if self.progress:
                self.progress(self.folder, first + done, self.looks[-1])

        folder = f"{self.folder}/images-{first}-{n}"
        with open_chunks(partition, self.settings, self.extractor, report, folder) as chunks:
            for chunk in chunks:
                self._merged.add(chunk.shift(first))
        if isinstance(self.source, GeneratorSource):
            _require_new_images(self._merged, first)
        return build_statistics(self._merged, self.settings, self.extractor, {})


def _require_new_images(merged: MergedChunks, first: int) -> None:
    """Require that the images from index `first` on differ from each other and from the earlier ones, by their contents."""
    digests, indices = np.concatenate(merged.image_checks)["digest"], np.concatenate(merged.indices)
    _, first_seen, inverse = np.unique(digests, return_index=True, return_inverse=True)
    repeated = np.flatnonzero((first_seen[inverse] != np.arange(len(digests))) & (indices >= first))
    n_new = int((indices >= first).sum())
    if len(repeated) > _MAX_REPEATED_FRACTION * n_new:
        again = repeated[0]
        earlier = first_seen[inverse[again]]
        one, other = merged.partition.get_labels([int(indices[earlier]), int(indices[again])])
        raise GeneratorError(
            f"the function that generates images repeats them: {len(repeated):,} of {n_new:,} images are identical to earlier "
            f"ones, the first: {other} == {one}. A sample can only grow by new images; draw new random numbers at every call."
        )
