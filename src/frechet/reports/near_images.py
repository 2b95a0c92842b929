"""Find which generated images are nearest to reference images, and which reference images are far from all generated ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from frechet.distances.pairwise import CenteredRows, feature_mean, nearest_neighbours
from frechet.statistics.feature_statistics import FeatureStatistics

N_LISTED = 12  # images in each list
_N_NEIGHBOURS = 3
_MAX_ROWS = 4096  # images of either input whose nearest images are searched


@dataclass(frozen=True)
class Neighbour:
    """A row of the other input, and its Euclidean distance in feature space."""

    row: int
    distance: float


@dataclass(frozen=True)
class NearImage:
    """A generated image, by its row, and the nearest reference images, nearest first."""

    row: int
    nearest: tuple[Neighbour, ...]


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Nearest images of both inputs, as rows of `FeatureStatistics.rows`.

    Attributes:
        near: the generated images that are nearest to a reference image, nearest first.
        uncovered: reference images that are further from every generated image than `median_nn_distance`, furthest first,
            each with the nearest generated image.
        median_nn_distance: median distance of a reference image to its nearest other reference image, or None.
        notes: what was not searched.
    """

    near: Sequence[NearImage] = ()
    uncovered: Sequence[tuple[int, Neighbour]] = ()
    median_nn_distance: float | None = None
    notes: Sequence[str] = ()


def find_neighbours(generated: FeatureStatistics, reference: FeatureStatistics, candidates: np.ndarray) -> Neighbours:
    """Search nearest images. Of either input, at most 4,096 images are searched, spaced evenly, since images are often sorted.

    Args:
        generated: statistics with the features of every image.
        reference: statistics with rows.
        candidates: (c,) rows of the reference that may be listed.

    Raises:
        StatisticsError: squared distances overflow.
    """
    assert generated.rows is not None
    assert reference.rows is not None
    center = feature_mean(reference.rows)
    x, y = (CenteredRows.from_rows(rows, center) for rows in (generated.rows, reference.rows))
    asked = _space_evenly(np.arange(len(x)))
    sampled = _space_evenly(candidates)
    median = None
    if len(y) > 1:  # column 0 is the image itself or a duplicate
        median = float(np.median(np.sqrt(nearest_neighbours(_select(y, sampled), y, 2)[1][:, 1])))
    return Neighbours(
        near=_find_near_images(x, y, asked, candidates),
        uncovered=_find_uncovered_images(x, y, sampled, median or 0.0),
        median_nn_distance=median,
        notes=list(_iter_notes(reference, len(x), len(asked), len(candidates), len(sampled))),
    )


def _find_near_images(x: CenteredRows, y: CenteredRows, asked: np.ndarray, candidates: np.ndarray) -> list[NearImage]:
    k = min(_N_NEIGHBOURS, len(candidates))
    indices, squared = nearest_neighbours(_select(x, asked), _select(y, candidates), k)

    def describe(i: int) -> NearImage:
        found = zip(candidates[indices[i]].tolist(), np.sqrt(squared[i]).tolist(), strict=True)
        return NearImage(int(asked[i]), tuple(Neighbour(row, distance) for row, distance in found))

    return [describe(i) for i in np.argsort(squared[:, 0], kind="stable")[:N_LISTED]]


def _find_uncovered_images(
    x: CenteredRows, y: CenteredRows, sampled: np.ndarray, threshold: float
) -> list[tuple[int, Neighbour]]:
    indices, squared = nearest_neighbours(_select(y, sampled), x, 1)
    distances = np.sqrt(squared[:, 0])
    furthest = np.argsort(-distances, kind="stable")[:N_LISTED]
    return [
        (int(sampled[i]), Neighbour(int(indices[i, 0]), float(distances[i])))
        for i in furthest
        if distances[i] > threshold
    ]


def _iter_notes(reference: FeatureStatistics, n: int, n_asked: int, n_candidates: int, n_sampled: int) -> Iterator[str]:
    if reference.features is None and reference.rows is not None:
        yield (
            f"{reference.label} contains the features of {len(reference.rows):,} of its images only: nearest reference images "
            "are the nearest of those, and copies of other reference images are not detected"
        )
    if n_asked < n:
        yield f"nearest references were searched for {n_asked:,} of the {n:,} generated images"
    if n_sampled < n_candidates:
        yield f"uncovered reference images were searched among {n_sampled:,} of the {n_candidates:,} reference images"


def _space_evenly(rows: np.ndarray) -> np.ndarray:
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), _MAX_ROWS)).round().astype(int)]


def _select(x: CenteredRows, rows: np.ndarray) -> CenteredRows:
    return CenteredRows(x.rows[rows], x.centered[rows], x.squared_norms[rows])
