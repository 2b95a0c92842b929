"""Which class each image of a side is of: its folder's name, or a label that lies beside the images."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path, PurePosixPath

import numpy as np

from frechet._internal.remote_files import RemoteFile, is_url
from frechet.errors import RequestError
from frechet.images.sources.npy import npz_keys, open_npz
from frechet.statistics.feature_statistics import FeatureStatistics


def get_class_names(statistics: FeatureStatistics) -> list[str]:
    """The class of every row: the first folder below the source, or the entry of `arr_1` in ADM's array files.

    Raises:
        RequestError: the source has no classes.
    """
    if statistics.labels is None or statistics.indices is None:
        raise RequestError(
            f"{statistics.label} is statistics, which know no classes; give images in a folder for each class"
        )
    indices = [_ARRAY_LABEL.fullmatch(name) for name in statistics.labels]
    files = {found[1] for found in indices if found}
    class_labels = {file: stored for file in sorted(files) if (stored := _read_class_labels(file)) is not None}
    if class_labels and all(found and found[1] in class_labels for found in indices):
        return [str(class_labels[found[1]][int(found[2])]) for found in indices if found]
    folders = [_class_folder(name, statistics.label) for name in statistics.labels]
    bare = [name for name, folder in zip(statistics.labels, folders, strict=True) if folder is None]
    if bare:
        raise RequestError(
            f"{bare[0]} lies in no class folder of {statistics.label}: for scores by class give a folder for each class, or an "
            ".npz with labels in arr_1"
        )
    return [folder for folder in folders if folder is not None]


def select_class(statistics: FeatureStatistics, mask: np.ndarray, name: str) -> FeatureStatistics:
    """The statistics of some rows alone.

    Raises:
        StatisticsError: fewer than two.
    """
    assert statistics.features is not None
    return FeatureStatistics.from_features(
        statistics.features[mask],
        spec=statistics.spec,
        label=f"{statistics.label} (class {name})",
        seed=statistics.seed,
        keep_all=True,
    )


_ARRAY_LABEL = re.compile(r"(.*\.npz)\[(\d+)\]", re.IGNORECASE | re.DOTALL)  # the file and the place of an image


def _read_class_labels(name: str) -> np.ndarray | None:
    """The labels that lie beside the images of an array file, or None.

    Raises:
        RequestError: they are no labels, or not as many as images.
    """
    file = RemoteFile(name) if is_url(name) else Path(name)
    if "arr_1" not in npz_keys(file):
        return None
    try:
        with closing(file.open("rb")) as stream, np.load(stream, allow_pickle=False) as arrays:
            class_labels: np.ndarray = arrays["arr_1"]
    except Exception as error:  # damage has many names
        raise RequestError(f"{name}: its labels arr_1 cannot be read ({error})") from error
    n = len(open_npz(file, "arr_0"))
    if class_labels.shape != (n,) or class_labels.dtype.kind not in "iu":
        raise RequestError(
            f"{name} holds arr_1 of shape {class_labels.shape} and type {class_labels.dtype}; expected ({n},): a whole number an image"
        )
    return class_labels


_SHARD_LABEL = re.compile(r"\.(?:tar|zip):(.*)", re.IGNORECASE | re.DOTALL)


def _class_folder(name: str, source: str) -> str | None:
    """The first folder below the source, or, where that is a pattern of archives, below the image's own."""
    shard = None if name.startswith(source) else _SHARD_LABEL.search(name)
    below = name.removeprefix(source) if name.startswith(source) else shard[1] if shard else ""
    inside = PurePosixPath(below.replace("\\", "/").lstrip("/:"))
    return inside.parts[0] if len(inside.parts) > 1 else None
