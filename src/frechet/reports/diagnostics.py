"""What a report shows beside the scores: the curve, the directions, the images, and their neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from frechet.distances.frechet import frechet_terms
from frechet.distances.pairwise import Cloud, mean_of, nearest
from frechet.distances.transport import couple, leading_directions
from frechet.errors import StatisticsError
from frechet.evaluation.compute import influences_of
from frechet.execution.collect import Progress
from frechet.metrics import frechet_interval, normal_of
from frechet.statistics.feature_statistics import Statistics

SIZES = 8  # of the curve
LISTED = 12  # images in each list
DIRECTIONS, ENDS = 5, 4  # axes, and images at each end of one
NEIGHBOURS = 3
SHARES = {  # what counts neighbourhoods -> (the images of which side, what it tells)
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
_ROWS = 4096  # of the reference, whose nearest generated image is looked for


@dataclass(frozen=True)
class Neighbour:
    """A row of the other side, and how far away it is in feature space."""

    row: int
    distance: float


@dataclass(frozen=True)
class Influential:
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
class Point:
    """The distance of so many generated images: the plain value, and where there are enough the corrected one and its interval."""

    images: int
    value: float
    corrected: float | None = None
    interval_95: tuple[float, float] | None = None


@dataclass
class Findings:
    """Rows are places in `Statistics.rows`. What could not be found is None or empty, and `missing` says why.

    Attributes:
        curve: the distance of nested subsets of the generated images, and at last of all.
        directions: those that hold most of the distance.
        raising, lowering: the images that raise the distance most, and that lower it most.
        lonely: reference images that are further from every generated image than is usual, with the nearest one.
        usual: the median distance of a reference image to its nearest other one.
    """

    curve: list[Point] = field(default_factory=list)
    directions: list[Direction] = field(default_factory=list)
    raising: list[Influential] = field(default_factory=list)
    lowering: list[Influential] = field(default_factory=list)
    lonely: list[tuple[int, Neighbour]] = field(default_factory=list)
    usual: float | None = None
    missing: list[str] = field(default_factory=list)


def findings_of(
    generated: Statistics,
    reference: Statistics,
    *,
    seed: int = 0,
    intervals: bool = True,
    known: Point | None = None,
    progress: Progress = lambda *_: None,
) -> Findings:
    """All that these statistics can tell.

    Args:
        generated, reference: the two sides.
        seed: of the curve's subsets.
        intervals: whether the curve has the corrected value as well.
        known: the point of all generated images, where their score is there already.
        progress: called with ("curve", sizes done, sizes in all).
    """
    found = Findings()
    _find_directions(found, generated, reference)
    if generated.features is None:
        found.missing.append(
            f"{generated.source} holds statistics without the features of every image: the curve and the images that raise "
            "or lower the distance are missing. Give the images themselves as the generated side"
        )
    else:
        found.curve = list(_curve(generated.features, reference, seed, intervals, known, progress))
        _find_influential(found, generated, reference)
    if reference.rows is None:
        found.missing.append(
            f"{reference.source} kept no features: the nearest reference images are missing. frechet stats keeps some, the "
            "images themselves have all"
        )
    return found


def _curve(
    features: np.ndarray, reference: Statistics, seed: int, intervals: bool, last: Point | None, progress: Progress
) -> Iterator[Point]:
    """Nested random subsets, and at last all, of which the point may be known."""
    n = len(features)
    order = np.random.default_rng(seed).permutation(n)
    sizes = np.unique(np.geomspace(max(2, n // 32), n, SIZES).round().astype(int))
    other = normal_of(reference).factored()
    for step, size in enumerate(sizes):
        if last is not None and size == n:
            progress("curve", step + 1, len(sizes))
            yield last
            return
        subset = Statistics.of_features(features[order[:size]], seed=seed)
        value = float(frechet_terms(normal_of(subset), other).total)
        found = frechet_interval(subset, reference, seed, lambda *_: None) if intervals else ""
        known = () if isinstance(found, str) else (found.corrected, (found.low, found.high))
        progress("curve", step + 1, len(sizes))
        yield Point(int(size), value, *known)


def _find_directions(found: Findings, generated: Statistics, reference: Statistics) -> None:
    p, q = normal_of(generated), normal_of(reference)
    total = frechet_terms(p, q).total
    if total <= 0:
        return
    told = leading_directions(p, q, couple(p, q), DIRECTIONS)
    for axis, share in zip(told.axes, told.shares, strict=True):
        ends = [_ends(side.rows, axis) for side in (generated, reference)]
        found.directions.append(Direction(float(share / total), *ends))


def _ends(rows: np.ndarray | None, axis: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The rows furthest along the axis one way, and the other way."""
    if rows is None:
        return (), ()
    order = np.argsort(rows @ axis.astype(np.float32), kind="stable")
    return tuple(map(int, order[:ENDS])), tuple(map(int, order[::-1][:ENDS]))


def _find_influential(found: Findings, generated: Statistics, reference: Statistics) -> None:
    told = influences_of(generated, reference)
    assert generated.rows is not None
    worst, best = (order[:LISTED] for order in told.ordered())
    near: Sequence[tuple[Neighbour, ...]] = [()] * len(worst)
    if reference.rows is not None:
        try:
            near = _find_near(found, generated.rows, worst, reference)
        except StatisticsError as error:  # too large for distances of rows, not for moments
            found.missing.append(f"the nearest images are missing: {error}")

    def row(i: int, nearest: tuple[Neighbour, ...]) -> Influential:
        return Influential(int(i), float(told.change[i]), float(told.mean[i]), float(told.covariance[i]), nearest)

    found.raising = [row(i, neighbours) for i, neighbours in zip(worst, near, strict=True)]
    found.lowering = [row(i, ()) for i in best]


def _find_near(
    found: Findings, generated: np.ndarray, worst: np.ndarray, reference: Statistics
) -> Sequence[tuple[Neighbour, ...]]:
    """The reference images nearest to the worst generated ones; and `lonely` and `usual`.

    Reference images are spread evenly over all of them where there are many: they come class by class.
    """
    rows = reference.rows
    assert rows is not None
    centre = mean_of(rows)
    some = np.linspace(0, len(rows) - 1, min(len(rows), _ROWS)).round().astype(int)
    x, y, few = (Cloud.of(side, centre) for side in (generated, rows, rows[some]))
    if len(rows) > 1:  # the nearest of all is the image itself, or one like it
        found.usual = float(np.median(np.sqrt(nearest(few, y, 2)[1][:, 1])))
    places, squared = nearest(few, x, 1)
    apart = np.sqrt(squared[:, 0])
    order = [i for i in np.argsort(-apart, kind="stable")[:LISTED] if apart[i] > (found.usual or 0)]
    found.lonely = [(int(some[i]), Neighbour(int(places[i, 0]), float(apart[i]))) for i in order]
    if len(some) < len(rows):
        found.missing.append(
            f"{len(some):,} of the {len(rows):,} reference images were looked at for those that nothing generated is near to"
        )
    if reference.features is None:
        found.missing.append(
            f"{reference.source} kept the features of {len(rows):,} of its images: the nearest reference images are the "
            "nearest of those, and copies of others are not seen"
        )
    places, squared = nearest(Cloud.of(generated[worst], centre), y, min(NEIGHBOURS, len(rows)))
    return [
        tuple(Neighbour(int(j), float(gap**0.5)) for j, gap in zip(*line, strict=True))
        for line in zip(places, squared, strict=True)
    ]
