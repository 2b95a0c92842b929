"""Precision, recall, density, coverage, realism and authenticity: which images are in which neighbourhoods.

The neighbourhood of an image is a ball that reaches to its k-th nearest neighbour in its own set. All values come from
one pass over the distances between both sets. Memory is bounded by one block of distances, and decisions are those of
float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int

from frechet.distances.pairwise import (
    CenteredRows,
    exact_squared_distances,
    fast_nonzero,
    feature_mean,
    iter_squared_distances,
    nearest_neighbours,
    nearest_neighbours_within,
)
from frechet.distances.prdc_jackknife import MIN_COUNT, BallCounts, JackknifeVariance
from frechet.errors import StatisticsError, TooFewImagesError

_SMALLEST_NORMAL, _LARGEST_NORMAL = 1e-8, 1e15  # of features whose squared distances are well within float32

_PRECISE_ERRORS = 1000  # a distance in float32 is precise enough for a ratio if it is this many times its error

_PairsInside: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Neighbourhood:
    """The definition of a neighbourhood.

    Attributes:
        k: the ball around an image reaches to its k-th nearest neighbour.
        closed: whether images at exactly that distance are inside.
    """

    k: int
    closed: bool


@dataclass(frozen=True)
class Membership:
    """Which of n generated and m reference images are in each other's neighbourhoods.

    Attributes:
        reference_balls: the generated images in the neighbourhoods of reference images.
        generated_balls: the reference images in the neighbourhoods of generated images.
        k: number of neighbours that defines a neighbourhood.
        has_shells: whether both sets have a (k + 1)-th neighbour, which variances need.
    """

    reference_balls: BallCounts
    generated_balls: BallCounts
    k: int
    has_shells: bool

    @property
    def n_containing(self) -> Int[np.ndarray, " n"]:
        """(n,) number of reference neighbourhoods that contain each generated image."""
        return self.reference_balls.n_containing

    @property
    def covered(self) -> Bool[np.ndarray, " m"]:
        """(m,) whether the neighbourhood of each reference image contains a generated image."""
        return self.reference_balls.n_inside > 0

    @property
    def recalled(self) -> Bool[np.ndarray, " m"]:
        """(m,) whether each reference image is in the neighbourhood of a generated image."""
        return self.generated_balls.n_containing > 0

    @property
    def precision(self) -> float:
        """Fraction of generated images in a reference neighbourhood (Kynkäänniemi et al. 2019, arXiv:1904.06991)."""
        return float((self.n_containing > 0).mean())

    @property
    def recall(self) -> float:
        """Fraction of reference images in a generated neighbourhood (Kynkäänniemi et al. 2019, arXiv:1904.06991)."""
        return float(self.recalled.mean())

    @property
    def density(self) -> float:
        """Mean number of reference neighbourhoods per generated image, over k (Naeem et al. 2020, arXiv:2002.09797)."""
        return float(self.n_containing.mean() / self.k)

    @property
    def coverage(self) -> float:
        """Fraction of reference neighbourhoods with a generated image (Naeem et al. 2020, arXiv:2002.09797)."""
        return float(self.covered.mean())

    @property
    def precision_variance(self) -> JackknifeVariance | None:
        """Variance of the precision over samples of these sizes; None with fewer than 10 images inside or outside."""
        if not self._allows_variance(self.n_containing > 0):
            return None
        return JackknifeVariance(*self.reference_balls.variance_of_fraction_inside())

    @property
    def recall_variance(self) -> JackknifeVariance | None:
        """Variance of the recall over samples of these sizes; None with fewer than 10 images inside or outside."""
        if not self._allows_variance(self.recalled):
            return None
        reference, generated = self.generated_balls.variance_of_fraction_inside()
        return JackknifeVariance(generated, reference)

    @property
    def density_variance(self) -> JackknifeVariance | None:
        """Variance of the density over samples of these sizes; None with fewer than 10 generated images inside."""
        if not self.has_shells or (self.n_containing > 0).sum() < MIN_COUNT:
            return None
        return JackknifeVariance(*self.reference_balls.variance_of_density(), largest_value=np.inf)

    @property
    def coverage_variance(self) -> JackknifeVariance | None:
        """Variance of the coverage over samples of these sizes; None with fewer than 10 images covered or not."""
        if not self._allows_variance(self.covered):
            return None
        return JackknifeVariance(*self.reference_balls.variance_of_coverage())

    def _allows_variance(self, holds: Bool[np.ndarray, " _"]) -> bool:
        return self.has_shells and min(int(holds.sum()), int((~holds).sum())) >= MIN_COUNT


@dataclass(frozen=True)
class PrdcResult:
    """Memberships of two sets of images in each other's neighbourhoods.

    Attributes:
        memberships: the memberships for each definition of a neighbourhood.
        realism: (n,) realism of each generated image, or None if not requested: the largest ratio of the radius of a
            reference neighbourhood to the distance of its centre, over the neighbourhoods smaller than the median;
            infinite for a copy (Kynkäänniemi et al. 2019, arXiv:1904.06991, equation 3).
    """

    memberships: dict[Neighbourhood, Membership]
    realism: Float64[np.ndarray, " n"] | None = None


def compute_prdc(
    generated: Float[np.ndarray, "n d"],
    reference: Float[np.ndarray, "m d"],
    neighbourhoods: Sequence[Neighbourhood],
    *,
    realism_k: int | None = None,
) -> PrdcResult:
    """Compute which images are in which neighbourhoods, from which precision, recall, density and coverage follow.

    Args:
        generated: (n, d) features of generated images, n > k.
        reference: (m, d) features of reference images, m > k.
        neighbourhoods: definitions of neighbourhoods.
        realism_k: number of neighbours that defines the radii for the realism; None does not compute it.

    Raises:
        TooFewImagesError: n or m is not more than the largest k.
        StatisticsError: no neighbourhood is smaller than the median, which the realism needs.
    """
    most = max([neighbourhood.k for neighbourhood in neighbourhoods] + ([realism_k] if realism_k else []))
    for name, features in (("generated", generated), ("reference", reference)):
        require_neighbours(name, len(features), most)
    x, y = center_on_reference(generated, reference)
    searched = min(most + 1, len(x) - 1, len(y) - 1)  # one more than the largest k, if there are enough images
    own_neighbours, own = nearest_neighbours_within(x, searched)
    other_neighbours, other = nearest_neighbours_within(y, searched)
    memberships = {
        each: Membership(
            reference_balls=BallCounts(len(x), other_neighbours[:, : each.k]),
            generated_balls=BallCounts(len(y), own_neighbours[:, : each.k]),
            k=each.k,
            has_shells=each.k < searched,
        )
        for each in neighbourhoods
    }
    small = _small_neighbourhoods(other[:, realism_k - 1]) if realism_k else None
    realism = np.zeros(len(x)) if realism_k else None
    for selected, block, error_bound in iter_squared_distances(x, y):
        for neighbourhood, membership in memberships.items():
            ball, shell = neighbourhood.k - 1, min(neighbourhood.k, searched - 1)
            pairs = _Pairs(block, neighbourhood, x, y, selected)
            membership.reference_balls.add(*pairs.find(other[:, ball], other[:, shell], error_bound))
            radii = own[selected]
            i, j, shell_i, shell_j = pairs.find(radii[:, ball, None], radii[:, shell, None], error_bound.max())
            membership.generated_balls.add(j, i, shell_j, shell_i)
        if realism is not None and small is not None:
            realism[selected] = _largest_ratio(block, error_bound, small, x, y, selected.start)
    return PrdcResult(memberships, realism)


def authenticity(generated: Float[np.ndarray, "n d"], reference: Float[np.ndarray, "m d"]) -> float:
    """Compute AuthPct, the percentage of generated images that are not copies (Alaa et al. 2022, arXiv:2102.08921).

    An image counts as a copy if it is nearer to its nearest reference image than any other reference image is.

    Args:
        generated: (n, d) features of generated images.
        reference: (m, d) features of reference images, m >= 2.

    Returns:
        A percentage, 0 to 100.

    Raises:
        TooFewImagesError: m < 2.
        StatisticsError: squared lengths of the features exceed the range of float32.
    """
    require_neighbours("reference", len(reference), 1)
    x, y = center_on_reference(generated, reference)
    indices, distance = nearest_neighbours(x, y, 1)
    _, nearest_reference_distance = nearest_neighbours_within(y, 1)
    return 100 * float((nearest_reference_distance[indices[:, 0], 0] < distance[:, 0]).mean())


def center_on_reference(
    generated: Float[np.ndarray, "n d"], reference: Float[np.ndarray, "m d"]
) -> tuple[CenteredRows, CenteredRows]:
    """Prepare both sets for distances, centred on the mean of the reference.

    Raises:
        StatisticsError: squared lengths of the features exceed the range of float32.
    """
    generated, reference = _scale_to_normal_range(generated, reference)
    center = feature_mean(reference)
    return CenteredRows.from_rows(generated, center), CenteredRows.from_rows(reference, center)


def _scale_to_normal_range(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "m d"]]:
    """Return both sets, multiplied by a power of two if their squared distances would underflow or overflow in float32.

    Neighbourhoods and ratios of distances do not depend on the scale.
    """
    largest = max(float(np.abs(features).max(initial=0.0)) for features in (x, y))
    if largest == 0 or not np.isfinite(largest) or _SMALLEST_NORMAL < largest < _LARGEST_NORMAL:
        return x, y
    scale = np.float32(2.0 ** -np.clip(np.floor(np.log2(largest)), -126, 126))
    return x * scale, y * scale


def require_neighbours(name: str, n: int, k: int) -> None:
    """Check that each of n images has k neighbours.

    Raises:
        TooFewImagesError: n <= k.
    """
    if n <= k:
        raise TooFewImagesError(f"nearest neighbours with k = {k} need at least {k + 1} {name} images; got {n}")


@dataclass(frozen=True)
class _Pairs:
    """Pairs of a block of squared distances, by whether they are within a radius.

    Radii and bounds of errors have the shape (m,) for balls around the rows of y, or (b, 1) for balls around the selected
    rows of x.

    Attributes:
        block: (b, m) squared distances of the selected rows of x to all rows of y.
        neighbourhood: whether balls are closed.
        x, y: rows.
        selected: slice of b rows of x.
    """

    block: Float32[np.ndarray, "b m"]
    neighbourhood: Neighbourhood
    x: CenteredRows
    y: CenteredRows
    selected: slice

    def find(self, inner: np.ndarray, outer: np.ndarray, error_bound: np.ndarray | np.float32) -> _PairsInside:
        """Return the rows of x and of y of the pairs within the inner radius, and of those only within the outer one."""
        i, j = fast_nonzero(self.block <= (outer + error_bound).astype(np.float32))
        values = self.block[i, j]
        smaller, larger, slack = (np.broadcast_to(each, self.block.shape)[i, j] for each in (inner, outer, error_bound))
        is_uncertain = (np.abs(values - smaller) <= slack) | (np.abs(values - larger) <= slack)
        i += self.selected.start
        uncertain = np.flatnonzero(is_uncertain)
        distances = values.astype(np.float64)
        distances[uncertain] = exact_squared_distances(self.x, self.y, i[uncertain], j[uncertain])
        is_inside, is_within = self._is_inside(distances, smaller), self._is_inside(distances, larger)
        is_between = is_within & ~is_inside
        return i[is_inside], j[is_inside], i[is_between], j[is_between]

    def _is_inside(self, distances: np.ndarray, squared_radii: np.ndarray) -> np.ndarray:
        return distances <= squared_radii if self.neighbourhood.closed else distances < squared_radii


def _small_neighbourhoods(
    squared_radii: Float64[np.ndarray, " m"],
) -> tuple[Int[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
    """Return indices and squared radii of the neighbourhoods smaller than the median.

    Raises:
        StatisticsError: none is smaller.
    """
    kept = np.flatnonzero(squared_radii < np.median(squared_radii))
    if not len(kept):
        raise StatisticsError(
            "realism uses the reference neighbourhoods that are smaller than the median, but none is smaller, because many have the "
            "same size; remove duplicates from the reference, or use precision and density"
        )
    return kept, squared_radii[kept]


def _largest_ratio(
    block: Float32[np.ndarray, "b m"],
    error_bound: Float32[np.ndarray, " m"],
    small: tuple[Int[np.ndarray, " k"], Float64[np.ndarray, " k"]],
    x: CenteredRows,
    y: CenteredRows,
    start: int,
) -> Float64[np.ndarray, " b"]:
    """Compute, for each row of a block of squared distances, the largest ratio of radius to distance.

    Distances that are not much larger than their errors are computed in float64; equal rows have an infinite ratio.
    """
    kept, squared_radii = small
    block = block[:, kept]
    close = block <= _PRECISE_ERRORS * error_bound[kept]
    with np.errstate(divide="ignore", invalid="ignore"):
        largest = np.where(close, 0, squared_radii.astype(np.float32) / block).max(axis=1).astype(np.float64)
        i, j = np.nonzero(close)
        distances = exact_squared_distances(x, y, i + start, kept[j])
        np.maximum.at(largest, i, np.nan_to_num(squared_radii[j] / distances, nan=1.0, posinf=np.inf))
    return np.sqrt(largest)
