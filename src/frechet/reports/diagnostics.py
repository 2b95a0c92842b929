"""Compute what a report shows besides the scores: sample-size curve, leading directions, influential images, neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from frechet.distances.frechet import frechet_terms
from frechet.distances.pairwise import CenteredRows, feature_mean, nearest_neighbours
from frechet.distances.transport import leading_directions, optimal_coupling
from frechet.errors import StatisticsError
from frechet.evaluation.compute import compute_image_influence
from frechet.execution.collect import ProgressCallback
from frechet.metrics import compute_frechet_interval, fit_gaussian, get_reference_kind
from frechet.statistics.feature_statistics import FeatureStatistics

N_CURVE_POINTS = 8
N_LISTED = 12  # images in each list
N_DIRECTIONS, N_EXTREMES = 5, 4  # directions, and images at each end of a direction
N_NEIGHBOURS = 3
_MAX_REFERENCE_ROWS = 4096  # reference images whose nearest generated image is searched


class NeighbourhoodMetric(NamedTuple):
    """What a metric of precision and recall counts ("generated" or "reference" images), and a sentence for its value."""

    counted: str
    sentence: str


NEIGHBOURHOOD_METRICS = {
    "precision": NeighbourhoodMetric(
        "generated", "{:.1%} of the generated images fall within the estimated reference manifold (fidelity)"
    ),
    "recall": NeighbourhoodMetric(
        "reference", "{:.1%} of the reference images fall within the estimated generated manifold (diversity)"
    ),
    "density": NeighbourhoodMetric(
        "generated",
        "on average, a generated image falls within {:.2f} times as many reference neighbourhoods as a reference image is "
        "expected to (fidelity)",
    ),
    "coverage": NeighbourhoodMetric(
        "reference", "{:.1%} of the reference images have a generated image in their neighbourhood (diversity)"
    ),
}


@dataclass(frozen=True)
class Neighbour:
    """A row of the other input, and its Euclidean distance in feature space."""

    row: int
    distance: float


@dataclass(frozen=True)
class InfluentialImage:
    """A generated image, by its row.

    Attributes:
        row: row of `FeatureStatistics.rows`.
        change: change of the Fréchet distance if the image were removed.
        mean, covariance: the parts of `change` through the difference of the means and through the covariances.
        nearest: the nearest reference images, nearest first; empty if not searched.
    """

    row: int
    change: float
    mean: float
    covariance: float
    nearest: tuple[Neighbour, ...] = ()


@dataclass(frozen=True)
class Direction:
    """A direction in feature space: its share of the distance, and the most extreme rows of each input at its two ends."""

    share: float
    generated: tuple[tuple[int, ...], tuple[int, ...]]
    reference: tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class CurvePoint:
    """The Fréchet distance of `n_generated` images; corrected value and interval are None if there are too few images."""

    n_generated: int
    value: float
    corrected_value: float | None = None
    interval_95: tuple[float, float] | None = None


@dataclass
class Diagnostics:
    """Diagnostics of a Fréchet distance. Images are given as rows of `FeatureStatistics.rows`.

    Attributes:
        curve: the distance of nested random subsets of the generated images, by increasing size.
        directions: the directions that contribute most to the distance.
        raising, lowering: the images that raise and that lower the distance most.
        uncovered: reference images that are further from every generated image than `median_nn_distance`, furthest first,
            each with the nearest generated image.
        median_nn_distance: median distance of a reference image to its nearest other reference image, or None.
        notes: caveats, and why a part is missing.
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
    reference_is: str | None = None,
    full_point: CurvePoint | None = None,
    progress: ProgressCallback = lambda *_: None,
) -> Diagnostics:
    """Compute all diagnostics that the statistics allow.

    Args:
        generated, reference: statistics of the two inputs.
        seed: random seed of the subsets of the curve.
        compute_intervals: whether the points of the curve get a corrected value and an interval. For pairs, only the point for
            all images has them, because parts of the generated images are not paired with all reference images.
        reference_is: as in `ScoreRequest`.
        full_point: the point for all generated images, if it is already known.
        progress: called with ("curve", points done, total number of points).

    Returns:
        The diagnostics; `notes` states why a part is missing.
    """
    diagnostics = Diagnostics(directions=list(_find_directions(generated, reference)))
    if generated.features is None:
        diagnostics.notes.append(
            f"{generated.label} contains statistics without per-image features, so the sample-size curve and the most "
            "influential images are missing. Pass the generated images instead of statistics to see them"
        )
    else:
        diagnostics.curve = list(
            _compute_curve(
                generated,
                reference,
                seed,
                (reference_is or get_reference_kind(reference))
                if compute_intervals and generated.grouped_by != "pair"
                else None,
                full_point,
                progress,
            )
        )
        _find_influential_images(diagnostics, generated, reference)
    if reference.rows is None:
        diagnostics.notes.append(
            f"{reference.label} contains no features, so the nearest reference images are missing. Pass the reference images, "
            "or a file written by frechet stats, to see them"
        )
    return diagnostics


def _compute_curve(
    generated: FeatureStatistics,
    reference: FeatureStatistics,
    seed: int,
    reference_is: str | None,
    full_point: CurvePoint | None,
    progress: ProgressCallback,
) -> Iterator[CurvePoint]:
    """Yield the points for nested random subsets, and last the point for all images; without intervals if `reference_is` is None."""
    features, units = generated.features, generated.units
    assert features is not None
    n = len(features)
    order = np.random.default_rng(seed).permutation(n)
    sizes = np.unique(np.geomspace(max(2, n // 32), n, N_CURVE_POINTS).round().astype(int))
    q = fit_gaussian(reference).with_factor()
    for step, size in enumerate(sizes):
        if full_point is not None and size == n:
            progress("curve", step + 1, len(sizes))
            yield full_point
            return
        chosen = order[:size]
        subset = FeatureStatistics.from_features(
            features[chosen], seed=seed, units=None if units is None else units[chosen], grouped_by=generated.grouped_by
        )
        value = float(frechet_terms(fit_gaussian(subset), q).total)
        interval = compute_frechet_interval(subset, reference, reference_is, lambda *_: None) if reference_is else ""
        corrected_and_interval = (
            () if isinstance(interval, str) else (interval.corrected_value, (interval.low, interval.high))
        )
        progress("curve", step + 1, len(sizes))
        yield CurvePoint(int(size), value, *corrected_and_interval)


def _find_directions(generated: FeatureStatistics, reference: FeatureStatistics) -> Iterator[Direction]:
    p, q = fit_gaussian(generated), fit_gaussian(reference)
    total = frechet_terms(p, q).total
    if total <= 0:
        return
    leading = leading_directions(p, q, optimal_coupling(p, q), N_DIRECTIONS)
    for axis, contribution in zip(leading.axes, leading.contributions, strict=True):
        ends = [_find_extreme_rows(statistics.rows, axis) for statistics in (generated, reference)]
        yield Direction(float(contribution / total), *ends)


def _find_extreme_rows(rows: np.ndarray | None, axis: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the rows with the smallest projections onto the axis, and those with the largest."""
    if rows is None:
        return (), ()
    order = np.argsort(rows @ axis.astype(np.float32), kind="stable")
    return tuple(map(int, order[:N_EXTREMES])), tuple(map(int, order[::-1][:N_EXTREMES]))


def _find_influential_images(
    diagnostics: Diagnostics, generated: FeatureStatistics, reference: FeatureStatistics
) -> None:
    """Set `raising` and `lowering`, and what depends on nearest neighbours."""
    influence = compute_image_influence(generated, reference)
    assert generated.rows is not None
    raising, lowering = (order[:N_LISTED] for order in influence.rank_images())
    nearest: Sequence[tuple[Neighbour, ...]] = [()] * len(raising)
    if reference.rows is not None:
        try:
            nearest = _compare_rows(diagnostics, generated.rows, raising, reference)
        except StatisticsError as error:  # moments are finite, but squared distances overflow
            diagnostics.notes.append(f"the nearest images are missing: {error}")

    def describe(i: int, nearest: tuple[Neighbour, ...]) -> InfluentialImage:
        return InfluentialImage(
            int(i), float(influence.change[i]), float(influence.mean[i]), float(influence.covariance[i]), nearest
        )

    diagnostics.raising = [describe(i, neighbours) for i, neighbours in zip(raising, nearest, strict=True)]
    diagnostics.lowering = [describe(i, ()) for i in lowering]


def _compare_rows(
    diagnostics: Diagnostics, generated_rows: np.ndarray, raising: np.ndarray, reference: FeatureStatistics
) -> Sequence[tuple[Neighbour, ...]]:
    """Set `uncovered` and `median_nn_distance`; return the nearest reference images of each image in `raising`."""
    rows = reference.rows
    assert rows is not None
    center = feature_mean(rows)
    x, y = CenteredRows.from_rows(generated_rows, center), CenteredRows.from_rows(rows, center)
    _find_uncovered_images(diagnostics, x, y, rows, center)
    if reference.features is None:
        diagnostics.notes.append(
            f"{reference.label} contains the features of {len(rows):,} of its images only: nearest reference images are the "
            "nearest of those, and copies of other reference images are not detected"
        )
    queries = CenteredRows.from_rows(generated_rows[raising], center)
    indices, squared = nearest_neighbours(queries, y, min(N_NEIGHBOURS, len(rows)))
    return [
        tuple(Neighbour(int(j), float(d2**0.5)) for j, d2 in zip(*neighbours, strict=True))
        for neighbours in zip(indices, squared, strict=True)
    ]


def _find_uncovered_images(
    diagnostics: Diagnostics, x: CenteredRows, y: CenteredRows, rows: np.ndarray, center: np.ndarray
) -> None:
    """Search the reference images furthest from all generated images.

    At most `_MAX_REFERENCE_ROWS` reference images are searched. They are spaced evenly, because images are often sorted by
    class.

    Args:
        diagnostics: receives `uncovered` and `median_nn_distance`.
        x, y: all generated and all reference rows.
        rows: (m, d) all reference rows.
        center: (d,) the center of x and y.
    """
    sampled = np.linspace(0, len(rows) - 1, min(len(rows), _MAX_REFERENCE_ROWS)).round().astype(int)
    sampled_rows = CenteredRows.from_rows(rows[sampled], center)
    if len(rows) > 1:  # column 0 is the image itself or a duplicate
        diagnostics.median_nn_distance = float(np.median(np.sqrt(nearest_neighbours(sampled_rows, y, 2)[1][:, 1])))
    indices, squared = nearest_neighbours(sampled_rows, x, 1)
    distances = np.sqrt(squared[:, 0])
    furthest = np.argsort(-distances, kind="stable")[:N_LISTED]
    diagnostics.uncovered = [
        (int(sampled[i]), Neighbour(int(indices[i, 0]), float(distances[i])))
        for i in furthest
        if distances[i] > (diagnostics.median_nn_distance or 0)
    ]
    if len(sampled) < len(rows):
        diagnostics.notes.append(
            f"uncovered reference images were searched among {len(sampled):,} of the {len(rows):,} reference images"
        )
