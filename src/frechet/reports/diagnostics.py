"""Compute what a report shows besides the scores: sample-size curve, leading directions, influential images, neighbours.

With no more images than feature dimensions, a covariance is singular, and the distance, its parts and the influence of single
images are dominated by small-sample bias. They are not computed then, except for influential images that were requested; nearest
neighbours are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from frechet.distances.frechet import frechet_terms
from frechet.distances.transport import leading_directions, optimal_coupling
from frechet.errors import StatisticsError
from frechet.evaluation.influence import compute_image_influence
from frechet.execution.collect import ProgressCallback
from frechet.metrics import compute_frechet_interval, fit_gaussian, get_reference_kind
from frechet.reports.near_images import N_LISTED, Neighbours, find_neighbours
from frechet.statistics.feature_statistics import FeatureStatistics

N_CURVE_POINTS = 8
N_DIRECTIONS, N_EXTREMES = 5, 4  # directions, and images at each end of a direction
_MIN_SHARE = 0.01  # of the distance: directions that contribute less are not shown


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
        "the mean number of reference neighbourhoods around a generated image is {:.2f} times the number that is expected if both "
        "inputs have the same distribution (fidelity)",
    ),
    "coverage": NeighbourhoodMetric(
        "reference", "{:.1%} of the reference images have a generated image in their neighbourhood (diversity)"
    ),
}


@dataclass(frozen=True)
class InfluentialImage:
    """A generated image, by its row.

    Attributes:
        row: row of `FeatureStatistics.rows`.
        change: change of the Fréchet distance if the image were removed.
        mean, covariance: the parts of `change` through the difference of the means and through the covariances.
    """

    row: int
    change: float
    mean: float
    covariance: float


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
        neighbours: the nearest generated and reference images.
        has_enough_images: whether both inputs have more images than feature dimensions; otherwise, `curve` and `directions`
            are empty, and `raising` and `lowering` are empty unless they were requested.
        notes: caveats, and why a part is missing.
    """

    curve: list[CurvePoint] = field(default_factory=list)
    directions: list[Direction] = field(default_factory=list)
    raising: list[InfluentialImage] = field(default_factory=list)
    lowering: list[InfluentialImage] = field(default_factory=list)
    neighbours: Neighbours = field(default_factory=Neighbours)
    has_enough_images: bool = True
    notes: list[str] = field(default_factory=list)


def compute_diagnostics(
    generated: FeatureStatistics,
    reference: FeatureStatistics,
    *,
    seed: int = 0,
    compute_intervals: bool = True,
    reference_is: str | None = None,
    full_point: CurvePoint | None = None,
    shown_reference_rows: np.ndarray | None = None,
    influence_is_requested: bool = False,
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
        shown_reference_rows: (r,) the rows of the reference whose images can be shown, to which all lists of reference images
            are limited; None for all rows.
        influence_is_requested: whether influential images are listed even if the inputs have too few images for a reliable list.
        progress: called with ("curve", points done, total number of points).

    Returns:
        The diagnostics; `notes` states why a part is missing.
    """
    diagnostics = Diagnostics(has_enough_images=all(_has_enough_images(each) for each in (generated, reference)))
    candidates = _get_candidates(diagnostics, reference, shown_reference_rows)
    if diagnostics.has_enough_images:
        diagnostics.directions = list(_find_directions(generated, reference, candidates))
    if generated.features is None:
        diagnostics.notes.append(
            f"{generated.label} contains statistics without per-image features, so the sample-size curve and the most "
            "influential images are missing. Pass the generated images instead of statistics to see them."
        )
    elif diagnostics.has_enough_images:
        intervals_for = reference_is or get_reference_kind(reference)
        use_intervals = compute_intervals and generated.grouped_by != "pair"
        diagnostics.curve = list(
            _compute_curve(generated, reference, seed, intervals_for if use_intervals else None, full_point, progress)
        )
    if generated.features is not None and (diagnostics.has_enough_images or influence_is_requested):
        _find_influential_images(diagnostics, generated, reference)
    if reference.rows is None:
        diagnostics.notes.append(
            f"{reference.label} contains no features, so the nearest reference images are missing. Pass the reference images, "
            "or a file written by frechet stats, to see them."
        )
    elif generated.features is not None:
        try:
            diagnostics.neighbours = find_neighbours(generated, reference, candidates)
            diagnostics.notes += diagnostics.neighbours.notes
        except StatisticsError as error:  # moments are finite, but squared distances overflow
            diagnostics.notes.append(f"the nearest images are missing: {error}")
    return diagnostics


def _has_enough_images(statistics: FeatureStatistics) -> bool:
    return statistics.n is None or statistics.n > statistics.dims


def _get_candidates(diagnostics: Diagnostics, reference: FeatureStatistics, shown: np.ndarray | None) -> np.ndarray:
    """Return the rows of the reference that may be listed; add a note if these are not all."""
    if reference.rows is None:
        return np.empty(0, np.int64)
    if shown is None:
        return np.arange(len(reference.rows))
    if len(shown) < len(reference.rows):
        diagnostics.notes.append(
            f"{reference.label} contains thumbnails of {len(shown):,} of its images; the nearest and the uncovered reference images "
            "are chosen among these"
        )
    return shown


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
    smallest = max(2, n // 32, generated.dims + 1)  # with fewer images, the covariance is singular
    sizes = np.unique(np.geomspace(smallest, n, N_CURVE_POINTS).round().astype(int))
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


def _find_directions(
    generated: FeatureStatistics, reference: FeatureStatistics, candidates: np.ndarray
) -> Iterator[Direction]:
    p, q = fit_gaussian(generated), fit_gaussian(reference)
    total = frechet_terms(p, q).total
    if total <= 0:
        return
    leading = leading_directions(p, q, optimal_coupling(p, q), N_DIRECTIONS)
    all_rows = np.arange(0 if generated.rows is None else len(generated.rows))
    for axis, contribution in zip(leading.axes, leading.contributions, strict=True):
        if contribution < _MIN_SHARE * total:
            return
        ends = [
            _find_extreme_rows(statistics.rows, axis, rows)
            for statistics, rows in ((generated, all_rows), (reference, candidates))
        ]
        yield Direction(float(contribution / total), *ends)


def _find_extreme_rows(
    rows: np.ndarray | None, axis: np.ndarray, candidates: np.ndarray
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the candidates with the smallest projections onto the axis, and those with the largest."""
    if rows is None:
        return (), ()
    order = candidates[np.argsort(rows[candidates] @ axis.astype(np.float32), kind="stable")]
    return tuple(map(int, order[:N_EXTREMES])), tuple(map(int, order[::-1][:N_EXTREMES]))


def _find_influential_images(
    diagnostics: Diagnostics, generated: FeatureStatistics, reference: FeatureStatistics
) -> None:
    """Set `raising` and `lowering`."""
    influence = compute_image_influence(generated, reference)
    raising, lowering = (order[:N_LISTED] for order in influence.rank_images())

    def describe(i: int) -> InfluentialImage:
        return InfluentialImage(
            int(i), float(influence.change[i]), float(influence.mean[i]), float(influence.covariance[i])
        )

    diagnostics.raising, diagnostics.lowering = [*map(describe, raising)], [*map(describe, lowering)]
