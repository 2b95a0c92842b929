"""The Fréchet distance of a population of which one batch changes, and its gradient with respect to that batch.

A population is many weighted rows, of which only the moments are needed. The covariance term of the squared distance to q is
a convex function of the covariance Σ of the population, with the gradient I - T (`frechet.distances.transport`). With T and
tr √(Σ₁Σ₂) of an earlier covariance Σ₁,

    |μ - μ₂|² + tr Σ - tr TΣ + tr Σ₂ - tr √(Σ₁Σ₂)

is equal to the squared distance, and so is its gradient, for Σ = Σ₁, and a lower bound for other Σ if Σ₁ has full rank. T may
therefore be kept for several batches: value and gradient still belong together, and differ from those of the distance by the
change of T.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxtyping import Bool, Float

from frechet.distances.gaussian import Array, Gaussian, get_namespace
from frechet.distances.transport import Coupling

MIN_RELATIVE_ROOT = (
    1e-6  # of the roots from which a map is made: the square of a smaller one has a relative error above 1e-4
)


class PopulationMoments(NamedTuple):
    """Moments of rows whose weights add up to 1.

    Attributes:
        mean: (d,) weighted mean.
        covariance: (d, d) Σ wᵢ (xᵢ - mean)(xᵢ - mean)ᵀ, without a correction for the number of rows.
        weight_squares: Σ wᵢ², 1/n for n equal weights.
    """

    mean: Float[Array, " d"]
    covariance: Float[Array, "d d"]
    weight_squares: Any

    def to_gaussian(self) -> Gaussian:
        """Return the Gaussian with the unbiased covariance, with n - 1 in the denominator for n equal weights."""
        return Gaussian(self.mean, covariance=self.covariance / (1 - self.weight_squares))


class TransportMap(NamedTuple):
    """What the distance of later populations to q needs of an earlier one.

    Attributes:
        matrix: (d, d) the symmetric matrix T.
        offset: tr Σ₂ - tr √(Σ₁Σ₂).
    """

    matrix: Float[Array, "d d"]
    offset: Float[Array, ""]


def compute_moments(rows: Float[Array, "n d"], included: Bool[Array, " n"] | None = None) -> PopulationMoments:
    """Compute the moments of equally weighted rows.

    Args:
        rows: (n, d) rows, n >= 1.
        included: (n,) which rows count; None for all. Without any, the moments are those of one row of zeros.
    """
    xp = get_namespace(rows)
    if included is None:
        n, mean = rows.shape[0], xp.mean(rows, axis=0)
        centered = rows - mean
    else:
        count = xp.sum(xp.astype(included, rows.dtype))
        n = xp.where(count > 0, count, xp.ones_like(count))
        mean = xp.sum(xp.where(included[:, None], rows, xp.zeros_like(rows)), axis=0) / n
        centered = xp.where(included[:, None], rows - mean, xp.zeros_like(rows))
    return PopulationMoments(mean, centered.T @ centered / n, 1 / n)


def mix(rest: PopulationMoments, batch: PopulationMoments, share: Any) -> PopulationMoments:
    """Compute the moments of a population of which `share`, in 0..1, is a batch.

    Args:
        rest: moments of the other rows.
        batch: moments of the batch.
        share: sum of the weights of the batch.
    """
    delta = batch.mean - rest.mean
    return PopulationMoments(
        rest.mean + share * delta,
        (1 - share) * rest.covariance
        + share * batch.covariance
        + (share * (1 - share)) * (delta[:, None] * delta[None, :]),
        (1 - share) ** 2 * rest.weight_squares + share**2 * batch.weight_squares,
    )


def remove(whole: PopulationMoments, part: PopulationMoments, share: Any) -> PopulationMoments:
    """Compute the moments of the rest of a population, the inverse of `mix`.

    Args:
        whole: moments of the population.
        part: moments of the rows to remove.
        share: sum of their weights, below 1.
    """
    kept = 1 - share
    delta = (part.mean - whole.mean) / kept
    return PopulationMoments(
        whole.mean - share * delta,
        (whole.covariance - share * part.covariance) / kept - share * (delta[:, None] * delta[None, :]),
        (whole.weight_squares - share**2 * part.weight_squares) / kept**2,
    )


def make_transport_map(q: Gaussian, coupling: Coupling) -> TransportMap:
    """Return the map from p to q, given their coupling."""
    xp = get_namespace(q.mean)
    return TransportMap(coupling.onto_q.T @ coupling.onto_q, q.trace - xp.sum(coupling.roots))


def linearised_distance(p: Gaussian, q: Gaussian, transport: TransportMap) -> Float[Array, ""]:
    """Compute the squared distance of p to q to first order; exactly if the map belongs to p."""
    xp = get_namespace(p.mean)
    carried = xp.sum(transport.matrix * p.covariance)
    return xp.sum((p.mean - q.mean) ** 2) + p.trace - carried + transport.offset


def is_outdated(distance: Float[Array, ""], exact: Any) -> Bool[Array, ""]:
    """Return whether a linearised distance is so far below the last exact one that its map should be computed again.

    It is a lower bound, and becomes zero or negative if the population approaches q under one map.

    Args:
        distance: the linearised distance.
        exact: the distance when the map was computed.
    """
    return (distance <= 0) | (distance < 0.5 * exact)


def population_gradient(
    rows: Float[Array, "n d"], p: Gaussian, q: Gaussian, transport: TransportMap, weight: Any
) -> Float[Array, "n d"]:
    """Compute the gradient of the linearised distance with respect to some rows of a population.

    Args:
        rows: (n, d) rows.
        p: Gaussian of the population, of which the rows are a part.
        q: the other Gaussian.
        transport: a map to q.
        weight: weight w of each row in the covariance and mean, as a pair: w / (1 - Σ wᵢ²), w.
    """
    in_covariance, in_mean = weight
    centered = rows - p.mean
    return 2 * in_mean * (p.mean - q.mean) + 2 * in_covariance * (centered - centered @ transport.matrix)
