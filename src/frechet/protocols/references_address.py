"""Statistics of a reference by path, URL or name, for losses and training-loop metrics."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from frechet._internal.remote_files import is_url
from frechet.errors import RequestError
from frechet.protocols.references import fetch, is_reference_address
from frechet.statistics.download_cache import is_statistics_url, read_remote_statistics
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.npz_format import read_statistics


def read_address(address: str | os.PathLike[str], dims: int | None = None) -> FeatureStatistics:
    """Read the statistics that an address stands for; notes on a download are shown as warnings.

    Args:
        address: the path of a statistics file, its URL, FILE#NAME, or ref:NAME.
        dims: number of feature dimensions, which selects the statistics in a file that contains several.

    Raises:
        RequestError: the reference is unknown, or the URL does not point to a statistics file.
        StatisticsError: the file cannot be downloaded or read, or is another one than was published or recorded.
    """

    def read(path: Path) -> FeatureStatistics:
        return read_statistics(path, dims)

    if is_reference_address(address):
        reference = fetch(str(address))
        statistics = reference.describe(read(reference.path))
    elif is_statistics_url(address):
        statistics = read_remote_statistics(str(address), read)
    elif is_url(str(address)):
        raise RequestError(
            f"{address} is not a URL of statistics; expected https:// or hf:// and a file that ends in .npz, .pkl or .pt. Download it, "
            "and pass its path."
        )
    else:
        return read(Path(address))
    for note in dict.fromkeys(statistics.notes):
        warnings.warn(note, stacklevel=2)
    return statistics
