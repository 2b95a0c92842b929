"""Chunks of a subset of images, taken from the cached features of all images of the source."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import groupby

import numpy as np

from frechet.execution.chunks import Chunk, Partition, make_plan
from frechet.execution.feature_cache import find_cache_entry
from frechet.execution.settings import Settings
from frechet.execution.work_dir import WorkDir, WorkDirInUseError, open_work_dir
from frechet.features.extractor import LoadedExtractor
from frechet.images.loader import CHUNK_SIZE
from frechet.statistics.accumulator import LayerSummary


def enter_cached_source(
    stack: ExitStack, partition: Partition, settings: Settings, extractor: LoadedExtractor
) -> WorkDir | None:
    """Open the cache entry of all images of a source of which a partition scores some.

    Args:
        stack: closes the entry.
        partition: the images.
        settings: how features are computed.
        extractor: the loaded extractor.

    Returns:
        The entry; None if the partition consists of all images, or if the features of some image are not in the cache.

    Raises:
        RequestError: the source cannot identify its images.
    """
    if partition.chunk_size != CHUNK_SIZE or len(partition.source_indices) == len(partition.source):
        return None
    settings = replace(settings, num_images=None)
    whole = Partition.from_source(partition.source, settings)
    if whole.chunk_size != CHUNK_SIZE:  # a large chunk holds a sample of its features only
        return None
    plan = make_plan(whole, settings, extractor)
    folder = find_cache_entry(plan)
    if folder is None:
        return None
    try:
        entry = stack.enter_context(open_work_dir(folder, whole, plan))
    except WorkDirInUseError:
        return None
    return entry if len(entry.finished) == len(whole) else None


def iter_subset(entry: WorkDir, partition: Partition, on_batch: Callable[[int], None]) -> Generator[Chunk, None, None]:
    """Yield the chunks of a partition from those of all images of its source.

    Args:
        entry: the chunks of all images.
        partition: some of the images.
        on_batch: called with the number of images of each chunk.
    """
    for chunk_index in range(len(partition)):
        images = partition.chunk_range(chunk_index)
        source_indices = np.array(partition.source_indices[images.start : images.stop])
        chunk = _concatenate(list(_iter_parts(entry, partition, source_indices)))
        indices = images.start + np.searchsorted(source_indices, chunk.indices)
        layers = {name: LayerSummary(indices=indices, rows=layer.rows) for name, layer in chunk.layers.items()}
        on_batch(len(source_indices))
        yield replace(chunk, indices=indices, layers=layers)


def _iter_parts(entry: WorkDir, partition: Partition, source_indices: np.ndarray) -> Iterator[Chunk]:
    """Yield the part of each chunk of the entry that belongs to these images (ascending), numbered as in the source."""
    for chunk_index, members in groupby(source_indices.tolist(), key=lambda source_index: source_index // CHUNK_SIZE):
        chunk, wanted = entry.read_finished(chunk_index), set(members)
        labels = {partition.source.get_label(source_index) for source_index in wanted}
        kept = np.isin(chunk.indices, list(wanted))
        bad = np.setdiff1d(entry.partition.chunk_range(chunk_index), chunk.indices).tolist()
        yield Chunk(
            indices=chunk.indices[kept],
            layers={
                name: LayerSummary(indices=layer.indices[kept], rows=layer.rows[kept])
                for name, layer in chunk.layers.items()
            },
            image_checks=chunk.image_checks[kept],
            notes=[(note, label) for note, label in chunk.notes if label in labels],
            skipped_images=[text for index, text in zip(bad, chunk.skipped_images, strict=True) if index in wanted],
        )


def _concatenate(parts: list[Chunk]) -> Chunk:
    first = parts[0]
    return Chunk(
        indices=np.concatenate([part.indices for part in parts]),
        layers={
            name: LayerSummary(
                indices=np.concatenate([part.layers[name].indices for part in parts]),
                rows=np.concatenate([part.layers[name].rows for part in parts]),
            )
            for name in first.layers
        },
        image_checks=np.concatenate([part.image_checks for part in parts]),
        notes=[note for part in parts for note in part.notes],
        skipped_images=[text for part in parts for text in part.skipped_images],
    )
