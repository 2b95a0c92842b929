"""Which class each image of a side is of: its folder's name, or a label that lies beside the images."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path, PurePosixPath

import numpy as np

from frechet._internal.remote_files import RemoteFile, is_url
from frechet.errors import RequestError
from frechet.images.sources.npy import npz_keys, open_npz
from frechet.statistics.feature_statistics import Statistics


def classes_of(side: Statistics) -> list[str]:
    """The class of every row: the first folder below the source, or the entry of `arr_1` in ADM's array files.

    Raises:
        RequestError: the source has no classes.
    """
    if side.names is None or side.places is None:
        raise RequestError(
            f"{side.source} is statistics, which know no classes; give images in a folder for each class"
        )
    places = [_IN_ARRAY.fullmatch(name) for name in side.names]
    files = {found[1] for found in places if found}
    labels = {file: stored for file in sorted(files) if (stored := _labels(file)) is not None}
    if labels and all(found and found[1] in labels for found in places):
        return [str(labels[found[1]][int(found[2])]) for found in places if found]
    folders = [_folder(name, side.source) for name in side.names]
    bare = [name for name, folder in zip(side.names, folders, strict=True) if folder is None]
    if bare:
        raise RequestError(
            f"{bare[0]} lies in no class folder of {side.source}: for scores by class give a folder for each class, or an "
            ".npz with labels in arr_1"
        )
    return [folder for folder in folders if folder is not None]


def of_class(side: Statistics, members: np.ndarray, name: str) -> Statistics:
    """The statistics of some rows alone.

    Raises:
        StatisticsError: fewer than two.
    """
    assert side.features is not None
    return Statistics.of_features(
        side.features[members],
        recipe=side.recipe,
        source=f"{side.source} (class {name})",
        seed=side.seed,
        keep_all=True,
    )


_IN_ARRAY = re.compile(r"(.*\.npz)\[(\d+)\]", re.IGNORECASE | re.DOTALL)  # the file and the place of an image


def _labels(name: str) -> np.ndarray | None:
    """The labels that lie beside the images of an array file, or None.

    Raises:
        RequestError: they are no labels, or not as many as images.
    """
    file = RemoteFile(name) if is_url(name) else Path(name)
    if "arr_1" not in npz_keys(file):
        return None
    try:
        with closing(file.open("rb")) as stream, np.load(stream, allow_pickle=False) as arrays:
            labels: np.ndarray = arrays["arr_1"]
    except Exception as error:  # damage has many names
        raise RequestError(f"{name}: its labels arr_1 cannot be read ({error})") from error
    n = len(open_npz(file, "arr_0"))
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        raise RequestError(
            f"{name} holds arr_1 of shape {labels.shape} and type {labels.dtype}; expected ({n},): a whole number an image"
        )
    return labels


_IN_SHARD = re.compile(r"\.(?:tar|zip):(.*)", re.IGNORECASE | re.DOTALL)


def _folder(name: str, source: str) -> str | None:
    """The first folder below the source, or, where that is a pattern of archives, below the image's own."""
    shard = None if name.startswith(source) else _IN_SHARD.search(name)
    below = name.removeprefix(source) if name.startswith(source) else shard[1] if shard else ""
    inside = PurePosixPath(below.replace("\\", "/").lstrip("/:"))
    return inside.parts[0] if len(inside.parts) > 1 else None
