"""Merge chunks in order: small ones into large ones where they are computed, and all of them into the statistics of a run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby, islice

import numpy as np

from frechet.execution.chunks import Chunk, Partition
from frechet.features.extract import FeatureBatch
from frechet.features.extractor import LoadedExtractor
from frechet.images.loader import CHUNK_SIZE
from frechet.statistics.accumulator import Accumulator, LayerSummary


@dataclass
class MergedChunks:
    """The merge of the chunks so far.

    Attributes:
        layers: moments and rows by layer.
        partition: the images of the run.
        indices, image_checks, units: arrays of each chunk.
        notes, skipped_images: of all chunks.
    """

    layers: Mapping[str, Accumulator]
    partition: Partition
    indices: list[np.ndarray] = field(default_factory=list)
    image_checks: list[np.ndarray] = field(default_factory=list)
    units: list[np.ndarray] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    skipped_images: list[str] = field(default_factory=list)

    @classmethod
    def empty(
        cls, partition: Partition, seed: int, extractor: LoadedExtractor, keep_all_by_layer: Mapping[str, bool]
    ) -> MergedChunks:
        """Return the merge of no chunks.

        Args:
            partition: the images of the run.
            seed: seed of the groups and of the row samples.
            extractor: its layers.
            keep_all_by_layer: whether to keep the features of every image, by layer; absent means False.
        """
        max_images = len(partition.source_indices)
        return cls(
            {
                name: Accumulator(
                    columns.stop - columns.start, max_images, seed, keep_all=keep_all_by_layer.get(name, False)
                )
                for name, columns in extractor.layer_slices.items()
            },
            partition,
        )

    def add(self, chunk: Chunk) -> None:
        """Merge the next chunk."""
        units = self.partition.get_units(chunk)
        for name, layer in self.layers.items():
            layer.merge(chunk.layers[name], units)
        self.units.append(units)
        self.indices.append(chunk.indices)
        self.image_checks.append(chunk.image_checks)
        self.notes += chunk.notes
        self.skipped_images += chunk.skipped_images

    def to_chunk(self) -> Chunk:
        """Return the merged chunks as one."""
        return Chunk(
            indices=np.concatenate(self.indices),
            layers={name: layer.to_summary() for name, layer in self.layers.items()},
            image_checks=np.concatenate(self.image_checks),
            notes=self.notes,
            skipped_images=self.skipped_images,
        )


def build_small_chunks(
    batches: Generator[FeatureBatch, None, None], layer_slices: Mapping[str, slice], on_batch: Callable[[int], None]
) -> Generator[Chunk, None, None]:
    """Yield chunks of up to 256 images, which hold all features.

    Args:
        batches: features in the order of the images.
        layer_slices: the columns of each layer.
        on_batch: called with the number of images of each batch.
    """

    def report(batch: FeatureBatch) -> FeatureBatch:
        on_batch(len(batch.indices) + len(batch.skipped_images))
        return batch

    with closing(batches):
        for _, group in groupby(batches, key=lambda batch: batch.chunk_index):
            yield _concatenate([report(batch) for batch in group], layer_slices)


def merge_small_chunks(
    small_chunks: Generator[Chunk, None, None],
    partition: Partition,
    chunk_indices: Sequence[int],
    seed: int,
    extractor: LoadedExtractor,
) -> Generator[Chunk, None, None]:
    """Yield the chunks of a partition from the small chunks that they consist of.

    Merging takes place in a thread while the network computes the next small chunks, at most those of one chunk ahead.
    A chunk that consists of one small chunk is yielded unchanged.

    Args:
        small_chunks: chunks of up to 256 images, in order.
        partition: the images of the run.
        chunk_indices: the chunks to yield, ascending; `small_chunks` holds the images of these.
        seed: seed of the groups and of the row samples.
        extractor: its layers.
    """
    with closing(small_chunks), ThreadPoolExecutor(1, thread_name_prefix="merge") as pool:
        for chunk_index in chunk_indices:
            n_images = len(partition.chunk_range(chunk_index))
            if n_images <= CHUNK_SIZE:
                yield next(small_chunks)
                continue
            merged = MergedChunks.empty(partition, seed, extractor, {})
            members = islice(small_chunks, -(-n_images // CHUNK_SIZE))
            for merging in [pool.submit(merged.add, chunk) for chunk in members]:
                merging.result()
            yield merged.to_chunk()


def _concatenate(batches: list[FeatureBatch], layer_slices: Mapping[str, slice]) -> Chunk:
    indices = np.concatenate([batch.indices for batch in batches])
    features = np.concatenate([batch.features for batch in batches])
    return Chunk(
        indices=indices,
        layers={
            name: LayerSummary(indices=indices, rows=features[:, columns]) for name, columns in layer_slices.items()
        },
        image_checks=np.concatenate([batch.image_checks for batch in batches]),
        notes=[note for batch in batches for note in batch.notes],
        skipped_images=[skipped for batch in batches for skipped in batch.skipped_images],
    )
