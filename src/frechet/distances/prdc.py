"""Who lies within whose neighbourhood: precision, recall, density, coverage, realism, authenticity.

A row's ball reaches to its k-th nearest neighbour among its own kind. All figures come from one pass over the distances of the
two sides; memory is bounded by a block of them, and decisions are those of float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from frechet.distances.pairwise import (
    Cloud,
    exact_distances,
    mean_of,
    nearest,
    nearest_others,
    places_of,
    squared_distances,
)
from frechet.errors import TooFewImages


@dataclass(frozen=True)
class Ball:
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

    holders: np.ndarray
    visited: np.ndarray
    recalled: np.ndarray
    k: int

    @property
    def precision(self) -> float:
        """Share of generated images within a reference ball (Kynkäänniemi et al. 2019, arXiv:1904.06991)."""
        return float((self.holders > 0).mean())

    @property
    def recall(self) -> float:
        """Share of reference images within a generated ball (ibid.)."""
        return float(self.recalled.mean())

    @property
    def density(self) -> float:
        """Reference balls around a generated image over k, on average (Naeem et al. 2020, arXiv:2002.09797)."""
        return float(self.holders.mean() / self.k)

    @property
    def coverage(self) -> float:
        """Share of reference images with a generated one in their ball (ibid.)."""
        return float(self.visited.mean())


@dataclass(frozen=True)
class Neighbourhoods:
    """What two sets of features are to each other.

    Attributes:
        members: what is inside of what, by what counts as inside.
        realism: (n,) float64, of each generated image: the largest ratio of a reference ball's radius to its distance, over
            the balls smaller than the median; infinite for a copy (Kynkäänniemi et al. 2019, equation 3). None if not asked for.
    """

    members: dict[Ball, Membership]
    realism: np.ndarray | None = None


def neighbourhoods(
    generated: np.ndarray, reference: np.ndarray, balls: Sequence[Ball], *, realism_k: int | None = None
) -> Neighbourhoods:
    """Both sets' memberships for each kind of ball.

    Args:
        generated, reference: (n, d) and (m, d) float32 features, n and m more than the largest k.
        balls: what counts as inside, each time.
        realism_k: the neighbour that radii of `realism` reach to, if it is asked for.

    Raises:
        TooFewImages: n or m is not more than the largest k.
    """
    most = max([ball.k for ball in balls] + ([realism_k] if realism_k else []))
    for name, side in (("generated", generated), ("reference", reference)):
        require_neighbours(name, len(side), most)
    x, y = clouds(generated, reference)
    (_, own), (_, other) = nearest_others(x, most), nearest_others(y, most)
    members = {
        ball: Membership(np.zeros(len(x), np.int64), np.zeros(len(y), bool), np.zeros(len(y), bool), ball.k)
        for ball in balls
    }
    small = _radii_of_small(other[:, realism_k - 1]) if realism_k else None
    realism = np.zeros(len(x)) if realism_k else None
    for some, block, doubt in squared_distances(x, y):
        for ball, found in members.items():
            i, j = _inside(block, other[:, ball.k - 1], doubt, ball, x, y, some)
            found.holders[some] = np.bincount(i, minlength=len(block))
            found.visited[j] = True
            _, j = _inside(block, own[some, ball.k - 1, None], doubt.max(), ball, x, y, some)
            found.recalled[j] = True
        if realism is not None and small is not None:
            realism[some] = _largest_ratio(np.where(block > doubt, block, 0), *small)
    return Neighbourhoods(members, realism)


def authenticity(generated: np.ndarray, reference: np.ndarray) -> float:
    """AuthPct: the per cent of generated images that are no copies (Alaa et al. 2022, arXiv:2102.08921).

    One is a copy where it is nearer to its nearest reference image than that is to any other.

    Args:
        generated, reference: (n, d) and (m, d) features, m at least 2.

    Returns:
        0 to 100.
    """
    require_neighbours("reference", len(reference), 1)
    x, y = clouds(generated, reference)
    places, distance = nearest(x, y, 1)
    _, apart = nearest_others(y, 1)
    return 100 * float((apart[places[:, 0], 0] < distance[:, 0]).mean())


def clouds(generated: np.ndarray, reference: np.ndarray) -> tuple[Cloud, Cloud]:
    """Both sides about the reference's mean."""
    centre = mean_of(reference)
    return Cloud.of(generated, centre), Cloud.of(reference, centre)


def require_neighbours(name: str, n: int, k: int) -> None:
    """Raises: TooFewImages: n images have no k-th neighbour each."""
    if n <= k:
        raise TooFewImages(f"{n} {name} images have no {k}-th neighbour each: at least {k + 1} are needed")


def _inside(
    block: np.ndarray, radii: np.ndarray, doubt: np.ndarray | float, ball: Ball, x: Cloud, y: Cloud, some: slice
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a block whose squared distance is below a squared radius, (m,) or (b, 1)."""
    i, j = places_of(block <= (radii + doubt).astype(np.float32))
    limits, slack = (np.broadcast_to(each, block.shape)[i, j] for each in (radii, doubt))
    doubtful = np.flatnonzero(block[i, j] > limits - slack)
    exact = exact_distances(x, y, i[doubtful] + some.start, j[doubtful])
    outside = exact > limits[doubtful] if ball.closed else exact >= limits[doubtful]
    return np.delete(i, doubtful[outside]), np.delete(j, doubtful[outside])


def _radii_of_small(squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
