"""Parts to statistics: whoever computed them, they are merged in their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from frechet.errors import TooFewImagesError
from frechet.execution.chunks import Partition
from frechet.execution.dispatch import ProgressCallback as ProgressCallback
from frechet.execution.dispatch import open_chunks
from frechet.execution.reduce import MergedChunks
from frechet.execution.settings import Settings
from frechet.features.extractor import LoadedExtractor
from frechet.images.checks import count_formats, quality_notes
from frechet.images.image import ImageSource, skipped_formats_note
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.version import __version__


def collect_statistics(
    source: ImageSource,
    settings: Settings,
    extractor: LoadedExtractor,
    progress: ProgressCallback | None = None,
    input_name: str = "images",
    *,
    keep_all: bool = False,
) -> FeatureStatistics:
    """Statistics of a source by an extractor that is loaded already; `keep_all` keeps every image's features and name.

    Raises:
        TooFewImages: fewer than two could be decoded.
        BadImage, BadFeatures: see `collect`.
    """
    keep_all_by_layer = {"features": keep_all}
    return collect_layer_statistics(
        source, settings, extractor, progress, input_name, keep_all_by_layer=keep_all_by_layer
    )["features"]


def collect_layer_statistics(
    source: ImageSource,
    settings: Settings,
    extractor: LoadedExtractor,
    progress: ProgressCallback | None = None,
    input_name: str = "images",
    *,
    keep_all_by_layer: Mapping[str, bool],
) -> dict[str, FeatureStatistics]:
    """The same of every layer of the extractor: "features" is the one that was asked for, others bear their tap's name.

    Args:
        source, settings, extractor, progress, what: as above.
        keep: by layer, whether every image's features and name are kept.
    """
    keep_all = any(keep_all_by_layer.values())
    partition = Partition.from_source(source, settings, keep_all=keep_all)
    merged = MergedChunks.empty(partition, settings.seed, extractor, keep_all_by_layer)
    with open_chunks(partition, settings, extractor, progress, input_name) as chunks:
        for chunk in chunks:
            merged.add(chunk)
    _require_two_images(source, merged)
    metadata = _describe_collection(partition, merged)
    labels = tuple(partition.get_labels(np.concatenate(merged.indices).tolist())) if keep_all else None
    return {
        name: FeatureStatistics.from_moments(
            layer.moments,
            layer.sample,
            labels=labels if keep_all_by_layer.get(name) else None,
            spec=extractor.extra_layers[name].spec if name in extractor.extra_layers else extractor.spec,
            **metadata,
        )
        for name, layer in merged.layers.items()
    }


def _require_two_images(source: ImageSource, merged: MergedChunks) -> None:
    n, skipped_images = merged.layers["features"].moments.n, merged.skipped_images
    if n < 2:
        raise TooFewImagesError(
            f"{source.label}: {n} usable images; at least two are needed ({len(skipped_images)} could not be decoded"
            f"{f', the first: {skipped_images[0]}' if skipped_images else ''})"
        )


def _describe_collection(partition: Partition, merged: MergedChunks) -> dict[str, Any]:
    """How the statistics of all layers were made."""
    image_checks, scored = np.concatenate(merged.image_checks), np.concatenate(merged.indices)

    def get_labels(indices: Sequence[int]) -> list[str]:
        return partition.get_labels(scored[indices].tolist())

    return {
        "label": partition.source.label,
        "n_source": len(partition.source),
        "skipped_images": tuple(merged.skipped_images),
        "notes": (
            *skipped_formats_note(partition.source),
            *_summarize_notes(merged.notes),
            *quality_notes(image_checks, get_labels),
        ),
        "formats": count_formats(image_checks),
        "made_by": f"frechet {__version__}",
    }


def _summarize_notes(notes: Iterable[tuple[str, str]]) -> Iterator[str]:
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for note, name in notes:
        first.setdefault(note, name)
        counts[note] += 1
    for note, count in counts.items():
        yield f"{note} in {count} image{'s' if count > 1 else ''} (the first: {first[note]})"
