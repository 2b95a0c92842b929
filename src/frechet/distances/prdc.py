"""Who lies within whose neighbourhood: precision, recall, density, coverage, realism, authenticity.

A row's ball reaches to its k-th nearest neighbour among its own kind. All figures come from one pass over the distances of the
two sides; memory is bounded by a block of them, and decisions are those of float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
    """What counts as inside: within the k-th neighbour, on its sphere too (`closed`) or not."""

    k: int
    closed: bool


@dataclass(frozen=True)
class Membership:
    """Generated images (n) and reference images (m) in each other's balls.

    Attributes:
        holders: (n,) how many reference balls hold each generated image.
        visited: (m,) whether a generated image lies in the ball of each reference image.
        recalled: (m,) whether each reference image lies in the ball of a generated one.
        k: of the balls.
    """

    n_containing: np.ndarray
    covered: np.ndarray
    recalled: np.ndarray
    k: int

    @property
    def precision(self) -> float:
        """Share of generated images within a reference ball (Kynkäänniemi et al. 2019, arXiv:1904.06991)."""
        return float((self.n_containing > 0).mean())

    @property
    def recall(self) -> float:
        """Share of reference images within a generated ball (ibid.)."""
        return float(self.recalled.mean())

    @property
    def density(self) -> float:
        """Reference balls around a generated image over k, on average (Naeem et al. 2020, arXiv:2002.09797)."""
        return float(self.n_containing.mean() / self.k)

    @property
    def coverage(self) -> float:
        """Share of reference images with a generated one in their ball (ibid.)."""
        return float(self.covered.mean())


@dataclass(frozen=True)
class PrdcResult:
    """What two sets of features are to each other.

    Attributes:
        members: what is inside of what, by what counts as inside.
        realism: (n,) float64, of each generated image: the largest ratio of a reference ball's radius to its distance, over
            the balls smaller than the median; infinite for a copy (Kynkäänniemi et al. 2019, equation 3). None if not asked for.
    """

    memberships: dict[Neighbourhood, Membership]
    realism: np.ndarray | None = None


def compute_prdc(
    generated: np.ndarray,
    reference: np.ndarray,
    neighbourhoods: Sequence[Neighbourhood],
    *,
    realism_k: int | None = None,
) -> PrdcResult:
    """Both sets' memberships for each kind of ball.

    Args:
        generated, reference: (n, d) and (m, d) float32 features, n and m more than the largest k.
        balls: what counts as inside, each time.
        realism_k: the neighbour that radii of `realism` reach to, if it is asked for.

    Raises:
        TooFewImages: n or m is not more than the largest k.
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
    small = _small_neighbourhood_radii(other[:, realism_k - 1]) if realism_k else None
    realism = np.zeros(len(x)) if realism_k else None
    for selected, block, error_bound in iter_squared_distances(x, y):
        for neighbourhood, found in memberships.items():
            i, j = _find_inside(block, other[:, neighbourhood.k - 1], error_bound, neighbourhood, x, y, selected)
            found.n_containing[selected] = np.bincount(i, minlength=len(block))
            found.covered[j] = True
            _, j = _find_inside(
                block, own[selected, neighbourhood.k - 1, None], error_bound.max(), neighbourhood, x, y, selected
            )
            found.recalled[j] = True
        if realism is not None and small is not None:
            realism[selected] = _largest_ratio(np.where(block > error_bound, block, 0), *small)
    return PrdcResult(memberships, realism)


def authenticity(generated: np.ndarray, reference: np.ndarray) -> float:
    """AuthPct: the per cent of generated images that are no copies (Alaa et al. 2022, arXiv:2102.08921).

    One is a copy where it is nearer to its nearest reference image than that is to any other.

    Args:
        generated, reference: (n, d) and (m, d) features, m at least 2.

    Returns:
        0 to 100.
    """
    require_neighbours("reference", len(reference), 1)
    x, y = center_on_reference(generated, reference)
    indices, distance = nearest_neighbours(x, y, 1)
    _, nearest_reference_distance = nearest_neighbours_within(y, 1)
    return 100 * float((nearest_reference_distance[indices[:, 0], 0] < distance[:, 0]).mean())


def center_on_reference(generated: np.ndarray, reference: np.ndarray) -> tuple[CenteredRows, CenteredRows]:
    """Both sides about the reference's mean."""
    center = feature_mean(reference)
    return CenteredRows.from_rows(generated, center), CenteredRows.from_rows(reference, center)


def require_neighbours(name: str, n: int, k: int) -> None:
    """Raises: TooFewImages: n images have no k-th neighbour each."""
    if n <= k:
        raise TooFewImagesError(f"{n} {name} images have no {k}-th neighbour each: at least {k + 1} are needed")


def _find_inside(
    block: np.ndarray,
    radii: np.ndarray,
    error_bound: np.ndarray | float,
    neighbourhood: Neighbourhood,
    x: CenteredRows,
    y: CenteredRows,
    selected: slice,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a block whose squared distance is below a squared radius, (m,) or (b, 1)."""
    i, j = fast_nonzero(block <= (radii + error_bound).astype(np.float32))
    limits, slack = (np.broadcast_to(each, block.shape)[i, j] for each in (radii, error_bound))
    uncertain = np.flatnonzero(block[i, j] > limits - slack)
    exact = exact_squared_distances(x, y, i[uncertain] + selected.start, j[uncertain])
    outside = exact > limits[uncertain] if neighbourhood.closed else exact >= limits[uncertain]
    return np.delete(i, uncertain[outside]), np.delete(j, uncertain[outside])


def _small_neighbourhood_radii(squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which balls are smaller than the median, and their squared radii."""
    kept = np.flatnonzero(squared < np.median(squared))
    return kept, squared[kept].astype(np.float32)


def _largest_ratio(block: np.ndarray, kept: np.ndarray, squared: np.ndarray) -> np.ndarray:
    """(b,) the largest radius over distance."""
    if not len(kept):
        return np.zeros(len(block))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = squared / block[:, kept]
    return np.sqrt(np.nan_to_num(ratios, nan=1.0, posinf=np.inf).max(axis=1).astype(np.float64))
