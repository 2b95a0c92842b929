"""Parts merged, in their order: by whoever computes them into large ones, and by the first process into a side's statistics."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from frechet.execution.chunks import Chunk, Partition, SummaryChunk
from frechet.features.extract import FeatureChunk
from frechet.features.extractor import LoadedExtractor
from frechet.images.loader import CHUNK_SIZE
from frechet.statistics.accumulator import Accumulator


@dataclass
class MergedChunks:
    """What is kept of the parts that went by.

    Attributes:
        layers: what is kept of the features, by layer.
        places, signs: (k,) of each part.
        remarks, bad: of all parts.
    """

    layers: Mapping[str, Accumulator]
    indices: list[np.ndarray] = field(default_factory=list)
    image_checks: list[np.ndarray] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    skipped_images: list[str] = field(default_factory=list)

    @classmethod
    def empty(
        cls, partition: Partition, seed: int, extractor: LoadedExtractor, keep_all_by_layer: Mapping[str, bool]
    ) -> MergedChunks:
        """Of no part; `keep` says of which layers every image's features are kept."""
        return cls(
            {
                name: Accumulator(
                    columns, len(partition.source_indices), seed, keep_all=keep_all_by_layer.get(name, False)
                )
                for name, columns in extractor.layer_slices.items()
            }
        )

    def add(self, chunk: Chunk) -> None:
        """The next part, of either kind."""
        for name, layer in self.layers.items():
            if isinstance(chunk, FeatureChunk):
                layer.update(chunk.indices, chunk.features)
            else:
                layer.merge(chunk.layers[name])
        self.indices.append(chunk.indices)
        self.image_checks.append(chunk.image_checks)
        self.notes += chunk.notes
        self.skipped_images += chunk.skipped_images

    def to_summary_chunk(self) -> SummaryChunk:
        """What stands for them."""
        return SummaryChunk(
            indices=np.concatenate(self.indices),
            layers={name: layer.summary for name, layer in self.layers.items()},
            image_checks=np.concatenate(self.image_checks),
            notes=self.notes,
            skipped_images=self.skipped_images,
        )


def summarize_chunks(
    chunks: Generator[FeatureChunk, None, None],
    partition: Partition,
    chunk_indices: Sequence[int],
    seed: int,
    extractor: LoadedExtractor,
) -> Generator[SummaryChunk, None, None]:
    """The large parts of these numbers, of the parts of 256 images that they consist of.

    They are merged in a thread of their own while the network goes on; at most the parts of one large part wait for it.
    """
    with closing(chunks), ThreadPoolExecutor(1, thread_name_prefix="merge") as pool:
        for chunk_index in chunk_indices:
            merged = MergedChunks.empty(partition, seed, extractor, {})
            few = islice(chunks, -(-len(partition.chunk_range(chunk_index)) // CHUNK_SIZE))
            for added in [pool.submit(merged.add, chunk) for chunk in few]:
                added.result()
            yield merged.to_summary_chunk()
