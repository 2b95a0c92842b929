"""Thumbnails and names of images, which a statistics file may store so that reports can show them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
from PIL import Image, ImageOps

from frechet._internal.fields import name_option
from frechet.errors import ImageDecodeError, RequestError
from frechet.execution.chunks import Partition
from frechet.execution.settings import Settings
from frechet.images.decode import decode
from frechet.images.image import ImageSource
from frechet.images.sources.generator import GeneratorSource
from frechet.images.sources.memory import DataLoaderSource
from frechet.statistics.feature_statistics import FeatureStatistics

MAX_THUMBNAILS = 256
_MAX_SIDE = 96  # pixels; 256 thumbnails then take 7 MB


def can_read_again(source: ImageSource) -> bool:
    """Return whether reading the images a second time gives the same ones."""
    if isinstance(source, GeneratorSource):
        return source.cache is not None
    return not isinstance(source, DataLoaderSource) or source.is_repeatable


def require_repeatable(source: ImageSource) -> None:
    """Reject images that cannot be read a second time, before anything is computed.

    Raises:
        RequestError: the images come from a function or from a loader that shuffles.
    """
    if not can_read_again(source):
        raise RequestError(
            f"{name_option('thumbnails')} needs images that can be read twice; {source.label} differ each time. Pass a folder or a list of images, "
            "or leave it out."
        )


def add_thumbnails(
    statistics: FeatureStatistics, source: ImageSource, settings: Settings, count: int
) -> FeatureStatistics:
    """Add square thumbnails of images whose features are kept, evenly spaced, and the names of all images with features.

    Args:
        statistics: statistics of the images.
        source: the images.
        settings: the settings that the statistics were computed with.
        count: number of thumbnails.
    """
    assert statistics.indices is not None
    partition, indices = Partition.from_source(source, settings), statistics.indices
    chosen = indices[np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(int)]
    images = {}
    refs = source.iter_images([partition.source_indices[index] for index in chosen.tolist()])
    for index, image_ref in zip(chosen.tolist(), refs, strict=True):
        with suppress(ImageDecodeError):  # the file changed after it was scored
            images[index] = decode(image_ref).rgb
    labels = partition.get_labels(indices.tolist())
    side = min(_MAX_SIDE, max((max(rgb.shape[:2]) for rgb in images.values()), default=1))
    return replace(
        statistics,
        labels=tuple(label.removeprefix(source.label).lstrip("/\\:") or label for label in labels),
        thumbnails=np.array([_pad(rgb, side) for rgb in images.values()], np.uint8).reshape(-1, side, side, 3),
        thumbnail_indices=np.array(list(images), np.int64),
    )


def _pad(rgb: np.ndarray, side: int) -> np.ndarray:
    """Reduce an image to a square with white margins."""
    return np.asarray(ImageOps.pad(Image.fromarray(rgb), (side, side), Image.Resampling.LANCZOS, color="white"))
