"""What a report shows beside the scores: the curve, the directions, the images, and their neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from frechet.distances.frechet import frechet_terms
from frechet.distances.pairwise import CenteredRows, feature_mean, nearest_neighbours
from frechet.distances.transport import leading_directions, optimal_coupling
from frechet.errors import StatisticsError
from frechet.evaluation.compute import compute_image_influence
from frechet.execution.collect import ProgressCallback
from frechet.metrics import compute_frechet_interval, fit_gaussian
from frechet.statistics.feature_statistics import FeatureStatistics

N_CURVE_POINTS = 8  # of the curve
N_LISTED = 12  # images in each list
N_DIRECTIONS, N_EXTREMES = 5, 4  # axes, and images at each end of one
N_NEIGHBOURS = 3
NEIGHBOURHOOD_METRICS = {  # what counts neighbourhoods -> (the images of which side, what it tells)
    "precision": ("generated", "{:.1%} of the generated images lie where reference images are: how good they are"),
    "recall": (
        "reference",
        "{:.1%} of the reference images lie where generated ones are: how much of the variety is there",
    ),
    "density": (
        "generated",
        "a generated image has {:.2f} times as many reference images around it as a reference image would",
    ),
    "coverage": ("reference", "{:.1%} of the reference images have a generated one near: how little was left out"),
}
_MAX_REFERENCE_ROWS = 4096  # of the reference, whose nearest generated image is looked for


@dataclass(frozen=True)
class Neighbour:
    """A row of the other side, and how far away it is in feature space."""

    row: int
    distance: float


@dataclass(frozen=True)
class InfluentialImage:
    """A generated image: the change of the distance if it were removed, and what it is near to."""

    row: int
    change: float
    mean: float
    covariance: float
    nearest: tuple[Neighbour, ...] = ()


@dataclass(frozen=True)
class Direction:
    """An axis of feature space: its share of the distance, and rows of both sides at its two ends."""

    share: float
    generated: tuple[tuple[int, ...], tuple[int, ...]]
    reference: tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class CurvePoint:
    """The distance of so many generated images: the plain value, and where there are enough the corrected one and its interval."""

    images: int
    value: float
    corrected: float | None = None
    interval_95: tuple[float, float] | None = None


@dataclass
class Diagnostics:
    """Rows are places in `Statistics.rows`. What could not be found is None or empty, and `missing` says why.

    Attributes:
        curve: the distance of nested subsets of the generated images, and at last of all.
        directions: those that hold most of the distance.
        raising, lowering: the images that raise the distance most, and that lower it most.
        lonely: reference images that are further from every generated image than is usual, with the nearest one.
        usual: the median distance of a reference image to its nearest other one.
    """

    curve: list[CurvePoint] = field(default_factory=list)
    directions: list[Direction] = field(default_factory=list)
    raising: list[InfluentialImage] = field(default_factory=list)
    lowering: list[InfluentialImage] = field(default_factory=list)
    uncovered: list[tuple[int, Neighbour]] = field(default_factory=list)
    median_nn_distance: float | None = None
    notes: list[str] = field(default_factory=list)


def compute_diagnostics(
    generated: FeatureStatistics,
    reference: FeatureStatistics,
    *,
    seed: int = 0,
    compute_intervals: bool = True,
    full_point: CurvePoint | None = None,
    progress: ProgressCallback = lambda *_: None,
) -> Diagnostics:
    """All that these statistics can tell.

    Args:
        generated, reference: the two sides.
        seed: of the curve's subsets.
        intervals: whether the curve has the corrected value as well.
        known: the point of all generated images, where their score is there already.
        progress: called with ("curve", sizes done, sizes in all).
    """
    diagnostics = Diagnostics()
    _find_directions(diagnostics, generated, reference)
    if generated.features is None:
        diagnostics.notes.append(
            f"{generated.label} holds statistics without the features of every image: the curve and the images that raise "
            "or lower the distance are missing. Give the images themselves as the generated side"
        )
    else:
        diagnostics.curve = list(
            _compute_curve(generated.features, reference, seed, compute_intervals, full_point, progress)
        )
        _find_influential_images(diagnostics, generated, reference)
    if reference.rows is None:
        diagnostics.notes.append(
            f"{reference.label} kept no features: the nearest reference images are missing. frechet stats keeps some, the "
            "images themselves have all"
        )
    return diagnostics


def _compute_curve(
    features: np.ndarray,
    reference: FeatureStatistics,
    seed: int,
    compute_intervals: bool,
    full_point: CurvePoint | None,
    progress: ProgressCallback,
) -> Iterator[CurvePoint]:
    """Nested random subsets, and at last all, of which the point may be known."""
    n = len(features)
    order = np.random.default_rng(seed).permutation(n)
    sizes = np.unique(np.geomspace(max(2, n // 32), n, N_CURVE_POINTS).round().astype(int))
    other = fit_gaussian(reference).with_factor()
    for step, size in enumerate(sizes):
        if full_point is not None and size == n:
            progress("curve", step + 1, len(sizes))
            yield full_point
            return
        subset = FeatureStatistics.from_features(features[order[:size]], seed=seed)
        value = float(frechet_terms(fit_gaussian(subset), other).total)
        interval = compute_frechet_interval(subset, reference, seed, lambda *_: None) if compute_intervals else ""
        corrected_and_interval = (
            () if isinstance(interval, str) else (interval.corrected_value, (interval.low, interval.high))
        )
        progress("curve", step + 1, len(sizes))
        yield CurvePoint(int(size), value, *corrected_and_interval)


def _find_directions(diagnostics: Diagnostics, generated: FeatureStatistics, reference: FeatureStatistics) -> None:
    p, q = fit_gaussian(generated), fit_gaussian(reference)
    total = frechet_terms(p, q).total
    if total <= 0:
        return
    leading = leading_directions(p, q, optimal_coupling(p, q), N_DIRECTIONS)
    for axis, share in zip(leading.axes, leading.contributions, strict=True):
        ends = [_extreme_rows(side.rows, axis) for side in (generated, reference)]
        diagnostics.directions.append(Direction(float(share / total), *ends))


def _extreme_rows(rows: np.ndarray | None, axis: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The rows furthest along the axis one way, and the other way."""
    if rows is None:
        return (), ()
    order = np.argsort(rows @ axis.astype(np.float32), kind="stable")
    return tuple(map(int, order[:N_EXTREMES])), tuple(map(int, order[::-1][:N_EXTREMES]))


def _find_influential_images(
    diagnostics: Diagnostics, generated: FeatureStatistics, reference: FeatureStatistics
) -> None:
    influence = compute_image_influence(generated, reference)
    assert generated.rows is not None
    worst, best = (order[:N_LISTED] for order in influence.rank_images())
    near: Sequence[tuple[Neighbour, ...]] = [()] * len(worst)
    if reference.rows is not None:
        try:
            near = _find_neighbours(diagnostics, generated.rows, worst, reference)
        except StatisticsError as error:  # too large for distances of rows, not for moments
            diagnostics.notes.append(f"the nearest images are missing: {error}")

    def row(i: int, nearest: tuple[Neighbour, ...]) -> InfluentialImage:
        return InfluentialImage(
            int(i), float(influence.change[i]), float(influence.mean[i]), float(influence.covariance[i]), nearest
        )

    diagnostics.raising = [row(i, neighbours) for i, neighbours in zip(worst, near, strict=True)]
    diagnostics.lowering = [row(i, ()) for i in best]


def _find_neighbours(
    diagnostics: Diagnostics, generated: np.ndarray, worst: np.ndarray, reference: FeatureStatistics
) -> Sequence[tuple[Neighbour, ...]]:
    """The reference images nearest to the worst generated ones; and `lonely` and `usual`.

    Reference images are spread evenly over all of them where there are many: they come class by class.
    """
    rows = reference.rows
    assert rows is not None
    center = feature_mean(rows)
    sampled = np.linspace(0, len(rows) - 1, min(len(rows), _MAX_REFERENCE_ROWS)).round().astype(int)
    x, y, sampled_rows = (CenteredRows.from_rows(side, center) for side in (generated, rows, rows[sampled]))
    if len(rows) > 1:  # the nearest of all is the image itself, or one like it
        diagnostics.median_nn_distance = float(np.median(np.sqrt(nearest_neighbours(sampled_rows, y, 2)[1][:, 1])))
    indices, squared = nearest_neighbours(sampled_rows, x, 1)
    distances = np.sqrt(squared[:, 0])
    order = [
        i
        for i in np.argsort(-distances, kind="stable")[:N_LISTED]
        if distances[i] > (diagnostics.median_nn_distance or 0)
    ]
    diagnostics.uncovered = [(int(sampled[i]), Neighbour(int(indices[i, 0]), float(distances[i]))) for i in order]
    if len(sampled) < len(rows):
        diagnostics.notes.append(
            f"{len(sampled):,} of the {len(rows):,} reference images were looked at for those that nothing generated is near to"
        )
    if reference.features is None:
        diagnostics.notes.append(
            f"{reference.label} kept the features of {len(rows):,} of its images: the nearest reference images are the "
            "nearest of those, and copies of others are not seen"
        )
    indices, squared = nearest_neighbours(
        CenteredRows.from_rows(generated[worst], center), y, min(N_NEIGHBOURS, len(rows))
    )
    return [
        tuple(Neighbour(int(j), float(gap**0.5)) for j, gap in zip(*line, strict=True))
        for line in zip(indices, squared, strict=True)
    ]
