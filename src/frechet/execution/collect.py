"""Collect the statistics of a source of images: compute its chunks and merge them in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from frechet._internal.words import count_of
from frechet.errors import TooFewImagesError
from frechet.execution.chunks import Partition, Units
from frechet.execution.dispatch import ProgressCallback as ProgressCallback
from frechet.execution.dispatch import open_chunks
from frechet.execution.reduce import MergedChunks
from frechet.execution.settings import Settings
from frechet.features.extractor import LoadedExtractor
from frechet.images.checks import count_formats, count_sizes, quality_notes
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
    units: Units | None = None,
) -> FeatureStatistics:
    """Compute the statistics of the main layer's features.

    Args:
        source: the images.
        settings: subset, seed, batch size, engine, work directory and so on.
        extractor: the loaded extractor.
        progress: called with `input_name` and the numbers of images processed and in total.
        input_name: name of the input for `progress`, and of its folder in the work directory.
        keep_all: keep the features and labels of all images instead of a sample.
        units: sampling units of the images; None if each is one by itself.

    Raises:
        TooFewImagesError: fewer than two images could be decoded.
        ImageDecodeError: an image cannot be decoded and `settings.on_bad_image` is "stop".
        NonFiniteFeaturesError: the network returned NaN or infinity.
    """
    by_layer = collect_layer_statistics(
        source, settings, extractor, progress, input_name, keep_all_by_layer={"features": keep_all}, units=units
    )
    return by_layer["features"]


def collect_layer_statistics(
    source: ImageSource,
    settings: Settings,
    extractor: LoadedExtractor,
    progress: ProgressCallback | None = None,
    input_name: str = "images",
    *,
    keep_all_by_layer: Mapping[str, bool],
    units: Units | None = None,
) -> dict[str, FeatureStatistics]:
    """Compute the statistics of each layer of an extractor, in one pass.

    Args:
        source: the images.
        settings: subset, seed, batch size, engine, work directory and so on.
        extractor: the loaded extractor.
        progress: called with `input_name` and the numbers of images processed and in total.
        input_name: name of the input for `progress`, and of its folder in the work directory.
        keep_all_by_layer: whether to keep the features and labels of all images, by layer; absent means False.
        units: sampling units of the images; None if each is one by itself.

    Returns:
        Statistics by layer; "features" is the main one.

    Raises:
        TooFewImagesError: fewer than two images could be decoded.
        ImageDecodeError: an image cannot be decoded and `settings.on_bad_image` is "stop".
        NonFiniteFeaturesError: the network returned NaN or infinity.
    """
    keep_all = any(keep_all_by_layer.values())
    partition = Partition.from_source(source, settings, keep_all=keep_all, units=units)
    merged = MergedChunks.empty(partition, settings.seed, extractor, keep_all_by_layer)
    with open_chunks(partition, settings, extractor, progress, input_name) as chunks:
        for chunk in chunks:
            merged.add(chunk)
    return build_statistics(merged, settings, extractor, keep_all_by_layer)


def build_statistics(
    merged: MergedChunks, settings: Settings, extractor: LoadedExtractor, keep_all_by_layer: Mapping[str, bool]
) -> dict[str, FeatureStatistics]:
    """Return the statistics of each layer of the images that were merged.

    Args:
        merged: the images.
        settings: how they were cropped.
        extractor: the loaded extractor.
        keep_all_by_layer: for which layers the features and labels of all images were kept.

    Raises:
        TooFewImagesError: fewer than two images could be decoded.
    """
    partition = merged.partition
    _require_two_images(partition.source, merged)
    metadata = {
        **describe_collection(partition, merged),
        "crop": str(settings.image_crop) if settings.image_crop else None,
    }
    indices, merged_units = np.concatenate(merged.indices), np.concatenate(merged.units)
    labels = tuple(partition.get_labels(indices.tolist())) if any(keep_all_by_layer.values()) else None
    return {
        name: FeatureStatistics.from_accumulator(
            layer,
            indices,
            merged_units,
            grouped_by=partition.units.kind if partition.units else "image",
            labels=labels if keep_all_by_layer.get(name) else None,
            spec=extractor.extra_layers[name].spec if name in extractor.extra_layers else extractor.spec,
            **metadata,
        )
        for name, layer in merged.layers.items()
    }


def _require_two_images(source: ImageSource, merged: MergedChunks) -> None:
    n, skipped_images = merged.layers["features"].n, merged.skipped_images
    if n < 2:
        raise TooFewImagesError(
            f"{source.label} has {count_of(n, 'usable image')}; expected at least 2. {len(skipped_images)} could not be decoded"
            f"{f', the first: {skipped_images[0]}' if skipped_images else ''}"
        )


def describe_collection(partition: Partition, merged: MergedChunks) -> dict[str, Any]:
    """Return the metadata that the statistics of all layers share."""
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
        "sizes": count_sizes(image_checks),
        "made_by": f"frechet {__version__}",
    }


def _summarize_notes(notes: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield each distinct note with the number of images and the label of the first one."""
    first_labels: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for note, label in notes:
        first_labels.setdefault(note, label)
        counts[note] += 1
    for note, count in counts.items():
        yield f"{note} in {count} image{'s' if count > 1 else ''} (the first: {first_labels[note]})"
