"""Clusters of dependent images by their names: folders, stems, or a table."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from frechet._internal.fields import name_option
from frechet.errors import RequestError
from frechet.images.image import ImageSource

FIX_CLUSTERS = "Pass --cluster-by folder, stem or a CSV file with the columns name,cluster (cluster_by=, or clusters=)"


def has_names(source: ImageSource) -> bool:
    """Return whether all images have names, from which clusters can be read."""
    return all(source.get_member_name(source_index) is not None for source_index in range(len(source)))


def find_clusters(cluster_by: str | Path, source: ImageSource) -> list[str] | str:
    """Return the cluster of each image (its folder, its name up to the last _ or -, or what a CSV file says), or the reason why it has none.

    An input has none if all of its images are in one folder or have the same stem, or if a CSV file is about the images of another input.

    Args:
        cluster_by: "folder", "stem" or the path of a CSV file.
        source: the images.

    Raises:
        RequestError: the images have no names, or the file is missing, is not such a table or lacks some of the images.
    """
    names = [source.get_member_name(source_index) for source_index in range(len(source))]
    if None in names:
        raise RequestError(f"{source.label} has no file names, from which clusters are read; pass clusters= in Python")
    paths = [PurePosixPath(name) for name in names if name is not None]
    if str(cluster_by) == "folder":  # a Path on the command line
        clusters = [str(path.parent) for path in paths]
        if len(set(clusters)) == 1:
            return f"all images of {source.label} are in one folder"
    elif str(cluster_by) == "stem":
        clusters = [
            str(path.parent / path.stem[: max(path.stem.rfind("_"), path.stem.rfind("-"), 0) or None]) for path in paths
        ]
        if len(set(clusters)) == 1:
            return f"the names of all images of {source.label} begin with {PurePosixPath(clusters[0]).name}"
    else:
        table = _read_clusters(Path(cluster_by))
        missing = [str(path) for path in paths if str(path) not in table]
        if len(missing) == len(paths):
            return f"{cluster_by} has no row for the images of {source.label}, such as {missing[0]!r}"
        if missing:
            raise RequestError(
                f"{cluster_by} has no row for {missing[0]} of {source.label} ({len(missing)} of {len(paths)} images are missing); "
                "expected a row name,cluster for each image"
            )
        clusters = [table[str(path)] for path in paths]
    return clusters


def explain_missing_clusters(cluster_by: str | Path, clusters: Mapping[str, list[str] | str]) -> str:
    """Return why no images share a cluster, and what to do.

    Args:
        cluster_by: as in `find_clusters`.
        clusters: what it returned, by the label of the input.
    """
    reasons = (
        each if isinstance(each, str) else f"every cluster of {label} has one image" for label, each in clusters.items()
    )
    found = f"{name_option('cluster_by')} is {str(cluster_by)!r}, but {', and '.join(reasons)}"
    if str(cluster_by) not in ("folder", "stem") and all(isinstance(each, str) for each in clusters.values()):
        examples = " and ".join(repr(name) for name in list(_read_clusters(Path(cluster_by)))[:2])
        return (
            f"{found}; its first rows are for {examples}. Expected the columns name,cluster, and the names of the images relative to "
            "the folder or archive that contains them."
        )
    return f"{found}; expected several clusters, and images that share one. {FIX_CLUSTERS}, or leave it out if the images are independent."


def _read_clusters(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise RequestError(f"{name_option('cluster_by')} is {str(path)!r}, which does not exist. {FIX_CLUSTERS}.")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise RequestError(f"{path} is not a CSV file ({error}); expected the columns name and cluster") from error
    if rows and rows[0] == ["name", "cluster"]:
        rows = rows[1:]
    if not rows or any(len(row) != 2 for row in rows):
        raise RequestError(f"{path}: expected rows of two columns, name,cluster, one for each image")
    return {row[0]: row[1] for row in rows}
