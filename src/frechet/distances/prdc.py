"""Precision, recall, density, coverage, realism and authenticity: which images are in which neighbourhoods.

The neighbourhood of an image is a ball that reaches to its k-th nearest neighbour in its own set. All values come from
one pass over the distances between both sets. Memory is bounded by one block of distances, and decisions are those of
float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
from frechet.errors import TooFewImagesError


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
        n_containing: (n,) number of reference neighbourhoods that contain each generated image.
        covered: (m,) whether the neighbourhood of each reference image contains a generated image.
        recalled: (m,) whether each reference image is in the neighbourhood of a generated image.
        k: number of neighbours that defines a neighbourhood.
    """

    n_containing: Int[np.ndarray, " n"]
    covered: Bool[np.ndarray, " m"]
    recalled: Bool[np.ndarray, " m"]
    k: int

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
        StatisticsError: squared lengths of the features exceed the range of float32.
    """
    most = max([neighbourhood.k for neighbourhood in neighbourhoods] + ([realism_k] if realism_k else []))
    for name, features in (("generated", generated), ("reference", reference)):
        require_neighbours(name, len(features), most)
    x, y = center_on_reference(generated, reference)
    (_, own), (_, other) = nearest_neighbours_within(x, most), nearest_neighbours_within(y, most)
    memberships = {
        neighbourhood: Membership(
            np.zeros(len(x), np.int64), np.zeros(len(y), bool), np.zeros(len(y), bool), neighbourhood.k
        )
        for neighbourhood in neighbourhoods
    }
    small = _small_neighbourhoods(other[:, realism_k - 1]) if realism_k else None
    realism = np.zeros(len(x)) if realism_k else None
    for selected, block, error_bound in iter_squared_distances(x, y):
        for neighbourhood, membership in memberships.items():
            i, j = _find_inside(block, other[:, neighbourhood.k - 1], error_bound, neighbourhood, x, y, selected)
            membership.n_containing[selected] = np.bincount(i, minlength=len(block))
            membership.covered[j] = True
            _, j = _find_inside(
                block, own[selected, neighbourhood.k - 1, None], error_bound.max(), neighbourhood, x, y, selected
            )
            membership.recalled[j] = True
        if realism is not None and small is not None:
            realism[selected] = _largest_ratio(np.where(block > error_bound, block, 0), *small)
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
    center = feature_mean(reference)
    return CenteredRows.from_rows(generated, center), CenteredRows.from_rows(reference, center)


def require_neighbours(name: str, n: int, k: int) -> None:
    """Check that each of n images has k neighbours.

    Raises:
        TooFewImagesError: n <= k.
    """
    if n <= k:
        raise TooFewImagesError(f"nearest neighbours with k = {k} need at least {k + 1} {name} images; got {n}")


def _find_inside(
    block: Float32[np.ndarray, "b m"],
    squared_radii: Float64[np.ndarray, " m"] | Float64[np.ndarray, "b 1"],
    error_bound: Float32[np.ndarray, " m"] | np.float32,
    neighbourhood: Neighbourhood,
    x: CenteredRows,
    y: CenteredRows,
    selected: slice,
) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]:
    """Find the pairs of a block whose distance is below a radius.

    Args:
        block: (b, m) squared distances of the selected rows of x to all rows of y.
        squared_radii: (m,) radii of balls around rows of y, or (b, 1) of balls around the selected rows of x.
        error_bound: bounds of the errors of the squared distances.
        neighbourhood: whether balls are closed.
        x, y: rows.
        selected: slice of b rows of x.

    Returns:
        (p,) rows and (p,) columns of the block.
    """
    i, j = fast_nonzero(block <= (squared_radii + error_bound).astype(np.float32))
    limits, slack = (np.broadcast_to(each, block.shape)[i, j] for each in (squared_radii, error_bound))
    uncertain = np.flatnonzero(block[i, j] > limits - slack)
    exact = exact_squared_distances(x, y, i[uncertain] + selected.start, j[uncertain])
    outside = exact > limits[uncertain] if neighbourhood.closed else exact >= limits[uncertain]
    return np.delete(i, uncertain[outside]), np.delete(j, uncertain[outside])


def _small_neighbourhoods(
    squared_radii: Float64[np.ndarray, " m"],
) -> tuple[Int[np.ndarray, " k"], Float32[np.ndarray, " k"]]:
    """Return indices and squared radii of the neighbourhoods smaller than the median."""
    kept = np.flatnonzero(squared_radii < np.median(squared_radii))
    return kept, squared_radii[kept].astype(np.float32)


def _largest_ratio(
    block: Float32[np.ndarray, "b m"], kept: Int[np.ndarray, " k"], squared_radii: Float32[np.ndarray, " k"]
) -> Float64[np.ndarray, " b"]:
    """Compute, for each row of a block of squared distances, the largest ratio of radius to distance."""
    if not len(kept):
        return np.zeros(len(block))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = squared_radii / block[:, kept]
    return np.sqrt(np.nan_to_num(ratios, nan=1.0, posinf=np.inf).max(axis=1).astype(np.float64))
