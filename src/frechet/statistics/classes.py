"""Which class each image of a side is of: its folder's name, or a label that lies beside the images."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import numpy as np

from frechet.errors import RequestError
from frechet.images.arrays import npz_keys
from frechet.statistics.statistics import Statistics


def classes_of(side: Statistics) -> list[str]:
    """The class of every row: the first folder below the source, or the entry of `arr_1` in ADM's array files.

    Raises:
        RequestError: the source has no classes.
    """
    if side.names is None or side.places is None:
        raise RequestError(
            f"{side.source} is statistics, which know no classes; give images in a folder for each class"
        )
    path = Path(side.source)
    if path.suffix.lower() == ".npz" and "arr_1" in npz_keys(path):
        try:
            with np.load(path, allow_pickle=False) as arrays:
                labels = arrays["arr_1"]
        except Exception as error:  # damage has many names
            raise RequestError(f"{side.source}: its labels arr_1 cannot be read ({error})") from error
        n = side.n_source or len(side.names)
        if labels.shape != (n,) or labels.dtype.kind not in "iu":
            raise RequestError(
                f"{side.source} holds arr_1 of shape {labels.shape} and type {labels.dtype}; expected ({n},): a whole number an image"
            )
        return [str(labels[_place(name)]) for name in side.names]
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


def _place(name: str) -> int:
    """The place that an array file's image bears in its name."""
    return int(name.rpartition("[")[2].rstrip("]"))


_IN_SHARD = re.compile(r"\.(?:tar|zip):(.*)", re.IGNORECASE | re.DOTALL)


def _folder(name: str, source: str) -> str | None:
    """The first folder below the source, or, where that is a pattern of archives, below the image's own."""
    shard = None if name.startswith(source) else _IN_SHARD.search(name)
    below = name.removeprefix(source) if name.startswith(source) else shard[1] if shard else ""
    inside = PurePosixPath(below.replace("\\", "/").lstrip("/:"))
    return inside.parts[0] if len(inside.parts) > 1 else None
