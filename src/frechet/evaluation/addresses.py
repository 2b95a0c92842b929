"""What a path, a URL or the name of a reference stands for: statistics, or images."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from frechet._internal.download import ProgressCallback
from frechet._internal.remote_files import is_url, redact_url
from frechet.errors import SourceError, TooFewImagesError
from frechet.images.decode import decode
from frechet.images.image import ImageSource
from frechet.images.sources.npy import npz_keys
from frechet.images.sources.registry import open_source
from frechet.protocols.references import fetch, is_reference_address
from frechet.statistics.download_cache import is_statistics_url, read_remote_statistics
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.foreign_formats import is_statistics_file

Input: TypeAlias = ImageSource | FeatureStatistics


def open_address(
    address: str | os.PathLike[str],
    read: Callable[[Path], FeatureStatistics],
    *,
    features: bool,
    progress: ProgressCallback | None,
) -> Input:
    """Read the statistics, or open the images, that an address stands for.

    Args:
        address: a path, a URL, FILE#NAME, or ref:NAME.
        read: function that reads a local file of statistics (or features).
        features: whether files other than statistics are (n, d) features.
        progress: called while a file is downloaded.

    Raises:
        RequestError: there is nothing that can be read.
    """
    if is_reference_address(address):
        reference = fetch(str(address), progress)
        return reference.describe(read(reference.path))
    if is_statistics_url(address) or (features and is_url(address)):
        url = str(address)

        def read_or_open(path: Path) -> Input:
            return (None if features else _find_images(path, url)) or read(path)

        return read_remote_statistics(url, read_or_open, progress)
    if not is_url(address) and (features or is_statistics_file(Path(address))):
        return read(Path(address))
    return open_images(address)


def open_images(data: Any) -> ImageSource:
    """Open a source of at least two images.

    Args:
        data: see `frechet.images.sources.registry.open_source`.

    Raises:
        RequestError: the images cannot be opened, or there is only one.
    """
    source = open_source(data)
    if len(source) < 2:
        for image_ref in source.iter_images(range(len(source))):
            decode(image_ref)  # if an archive was cut short, this reports it
        raise TooFewImagesError(f"{source.label} contains 1 image; at least 2 are required")
    return source


def _find_images(path: Path, url: str) -> ImageSource | None:
    """Return the images in a download without statistics, such as the samples of ADM; None if it is not one."""
    with suppress(SourceError):
        if path.suffix.lower() == ".npz" and "arr_0" in npz_keys(path) and not is_statistics_file(path):
            source = open_images(path)
            source.label = redact_url(url)
            return source
    return None
