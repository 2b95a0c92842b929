"""Standard error of a squared Fréchet distance from its influence function ψ, summed over each sampling unit.

ψ is evaluated in float32 from the symmetric matrix I - T₁, of which nothing cancels if the two distributions are similar.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from frechet.distances.error_curvature import WeightedRows, curvature_along_error
from frechet.distances.gaussian import Gaussian
from frechet.distances.interval_input import NUM_DELETIONS, IntervalInput
from frechet.distances.transport import Coupling, optimal_coupling
from frechet.statistics.row_sample import choose_rows, priorities

NUM_INFLUENCE_GROUPS = 64  # groups of images for which ψ is averaged; its variance is then known to √(2/64)
_MAX_NOISE = 0.05  # of a variance from sampled clusters; a kurtosis of 15 makes the error four times as large
Z_95 = 1.959963984540054  # 97.5 % quantile of the standard normal: half the width of a 95 % interval in standard errors
# weight of the fit to all images next to that without one of the parts, whose error is larger by 1 / (1 - 1 / NUM_DELETIONS)
_FITTED_SHARE = NUM_DELETIONS / (2 * NUM_DELETIONS - 1)
# 97.5 % quantiles of Student's distribution with 1 to 9 degrees of freedom
_T_95 = (12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157)


class SamplingError(NamedTuple):
    """What the images of both inputs contribute to the error of their distance.

    Attributes:
        variance_components: contributions of p's and q's images to the squared standard error; 0 for a fixed distribution.
        third_cumulant: third cumulant of the error; 0 if it is symmetric.
        curvature: κ, in inverse squared feature units: how the standard error changes with the estimate (see `error_curvature`).
        generated_groups, reference_groups: means of ψ over random groups of p's and q's images (see `Interval`).
    """

    variance_components: tuple[float, float]
    third_cumulant: float
    curvature: float
    generated_groups: tuple[float, ...] | None
    reference_groups: tuple[float, ...] | None

    @property
    def standard_error(self) -> float:
        """Standard error of the distance."""
        return float(sum(self.variance_components) ** 0.5)

    def quantiles(self, z: float = Z_95) -> tuple[float, float]:
        """Return the numbers of standard errors below and above the estimate at which an interval ends, z or more.

        An error with a long tail on one side makes the estimate of its own variance depend on the error. By the first term of
        Edgeworth's expansion, the quantiles of a mean divided by its estimated standard error are z - γ (2 z² + 1) / (6 √n) with
        the skewness γ of one image (Hall 1992, section 2.6). Where this is less than z, z is kept.

        Args:
            z: the quantile of the standard normal distribution that belongs to the confidence level.
        """
        shift = self._shift_by_skewness(z)
        return z + max(0.0, -shift), z + max(0.0, shift)

    def upper_quantile_with_curvature(self, z: float = Z_95) -> float:
        """Return the number of standard errors above the estimate at which an ABC interval ends (DiCiccio & Efron 1992).

        The standard error grows with the estimate, so that estimates below the population value seem too certain. With the curvature κ
        of the distance along its error, the quantile grows by κσ (z² + 1) in the second order, and with the skewness as in `quantiles`.

        Args:
            z: as in `quantiles`.
        """
        return z + self._shift_by_skewness(z) + self.curvature * self.standard_error * (z**2 + 1)

    def _shift_by_skewness(self, z: float) -> float:
        error = self.standard_error
        return (2 * z**2 + 1) / 6 * self.third_cumulant / error**3 if error else 0.0


def sampling_error(p: IntervalInput, q: IntervalInput, coupling: Coupling) -> SamplingError:
    """Estimate the error of the distance between two inputs that were sampled independently of each other.

    Args:
        p, q: the two inputs.
        coupling: the coupling of their Gaussians.
    """
    one, other = _influence_of_input(p, q, coupling), _influence_of_input(q, p, coupling.swap())
    variances = _sampling_variance(p, q, coupling, one), _sampling_variance(q, p, coupling.swap(), other)
    changed = _weight_rows(p, one), _weight_rows(q, other)
    return SamplingError(
        variances,
        _third_cumulant(p, one) + _third_cumulant(q, other),
        curvature_along_error(p.gaussian, q.gaussian, coupling, *changed),
        _average_over_groups(p, one, variances[0]),
        _average_over_groups(q, other, variances[1]),
    )


def sampling_error_of_pairs(p: IntervalInput, q: IntervalInput, coupling: Coupling) -> SamplingError:
    """Estimate the error of the distance between images and their reconstructions.

    ψ of a pair is the sum of both images'. It is small compared with either, so that the difference between the fitted
    transport maps and those of the populations matters. From the Gaussians of all pairs, the variance of ψ is too small,
    and from those that a pair was left out of, it is too large. To first order, both are wrong in proportion to the inverse of the
    number of pairs that the maps were fitted to, so that a weighted mean is right, that of ψ as well as the geometric mean of
    the variances. Higher orders make either too large, and the smaller one is used.

    Args:
        p, q: the two inputs, with the same pairs in the rows and groups of both.
        coupling: the coupling of their Gaussians.

    Returns:
        The error, attributed to q as a whole.
    """
    assert p.n is not None
    assert p.rows is not None
    assert q.rows is not None
    assert p.row_groups is not None
    chosen = choose_rows(len(p.rows))
    one, other, parts = p.rows[chosen], q.rows[chosen], p.row_groups[chosen] % NUM_DELETIONS
    fitted = _influence_of_pairs(one, other, p.gaussian, q.gaussian, coupling)
    left_out = np.empty_like(fitted)
    for part in range(NUM_DELETIONS):
        rest, other_rest, mask = p.leave_out(part)[0], q.leave_out(part)[0], parts == part
        left_out[mask] = _influence_of_pairs(
            one[mask], other[mask], rest, other_rest, optimal_coupling(rest, other_rest)
        )
    psi = _FITTED_SHARE * fitted + (1 - _FITTED_SHARE) * left_out
    psi, fitted, left_out = (each - each.mean() for each in (psi, fitted, left_out))
    of_psi, of_fit, of_rest = (_variance_of_mean(each, None, p.n) for each in (psi, fitted, left_out))
    variance = min(of_psi, of_fit**_FITTED_SHARE * of_rest ** (1 - _FITTED_SHARE))
    psi *= (variance / of_psi) ** 0.5 if of_psi else 0.0
    changed = (
        WeightedRows(one, psi / 2, psi, p.n),
        WeightedRows(other, psi / 2, psi, p.n),
    )  # only the sum of both matters
    return SamplingError(
        (0.0, variance),
        _third_cumulant(q, psi),
        curvature_along_error(p.gaussian, q.gaussian, coupling, *changed),
        None,
        _average_over_groups(q, psi, variance),
    )


def _influence_of_pairs(
    rows: Float[np.ndarray, "r d"], others: Float[np.ndarray, "r d"], p: Gaussian, q: Gaussian, coupling: Coupling
) -> Float[np.ndarray, " r"]:
    return _influence(rows, p, q, coupling) + _influence(others, q, p, coupling.swap())


def _influence_of_input(p: IntervalInput, q: IntervalInput, coupling: Coupling) -> Float[np.ndarray, " r"] | None:
    """Compute ψ of p's rows, or of a random sample if each image is a unit; return None if p is fixed."""
    if p.groups is None or p.rows is None:
        return None
    chosen = choose_rows(len(p.rows)) if p.units is None else slice(None)
    psi = _influence(p.rows[chosen], p.gaussian, q.gaussian, coupling)
    return psi - psi.mean() if p.strata is None else _center_within_strata(psi, p.strata[chosen])


def _weight_rows(p: IntervalInput, psi: Float[np.ndarray, " r"] | None) -> WeightedRows | None:
    """Return the rows of which ψ is known, each with ψ of its sampling unit; None if p is fixed."""
    if psi is None or p.rows is None or p.n is None:
        return None
    if p.units is None:
        return WeightedRows(p.rows[choose_rows(len(p.rows))], psi, psi, p.n)
    totals, members = _sum_over_units(psi, p.units)
    return WeightedRows(p.rows, psi, totals[members], p.n)


def _sum_over_units(
    psi: Float[np.ndarray, " r"], units: Integer[np.ndarray, " r"]
) -> tuple[Float[np.ndarray, " u"], Integer[np.ndarray, " r"]]:
    """Return the sum of ψ over each sampling unit, and the number of each row's unit."""
    members = np.unique(units, return_inverse=True)[1]
    return np.bincount(members, weights=psi), members


def _center_within_strata(psi: Float[np.ndarray, " r"], strata: Integer[np.ndarray, " r"]) -> Float[np.ndarray, " r"]:
    """Subtract the mean of each stratum, and enlarge the rest so that its mean square estimates the variance within strata.

    Strata of which there is one row count as one stratum (Cochran 1977, section 5A.12).
    """
    _, numbers, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    numbers = np.where(sizes[numbers] > 1, numbers, len(sizes))
    sizes = np.bincount(numbers)
    means = np.bincount(numbers, weights=psi) / np.maximum(sizes, 1)
    return (psi - means[numbers]) * np.sqrt(sizes / np.maximum(sizes - 1, 1))[numbers]


def _influence(rows: Float[np.ndarray, "r d"], p: Gaussian, q: Gaussian, coupling: Coupling) -> Float[np.ndarray, " r"]:
    """Compute 2 (μ₁-μ₂)·(x-μ₁) + (x-μ₁)ᵀ(I-T₁)(x-μ₁) - tr((I-T₁)Σ₁), as `influence_function` does in float64."""
    assert p.covariance is not None
    a = _gradient(coupling)
    centered = np.subtract(rows, p.mean, out=np.empty(rows.shape, np.float32), casting="same_kind")
    spread = np.einsum("rd,rd->r", centered @ a.astype(np.float32), centered)
    linear = centered @ (2 * (p.mean - q.mean)).astype(np.float32)
    return spread.astype(np.float64) + linear - float(np.vdot(a, p.covariance))


def _gradient(coupling: Coupling) -> Float[np.ndarray, "d d"]:
    """Compute I - T₁, the derivative of the squared distance with respect to the covariance of p."""
    a = coupling.onto_q.T @ coupling.onto_q
    np.negative(a, out=a)
    np.einsum("dd->d", a)[:] += 1
    return a


def _sampling_variance(
    p: IntervalInput, q: IntervalInput, coupling: Coupling, psi: Float[np.ndarray, " r"] | None
) -> float:
    """Compute the variance of the distance that is due to the sampling of p; 0 if p is fixed."""
    if psi is None or p.n is None or p.groups is None:
        return 0.0
    if p.units is None or p.has_all_rows:
        return _variance_of_mean(psi, p.units, p.n)
    if _noise_of_sampled_clusters(p.n, p.n_units or p.n, len(psi)) <= _MAX_NOISE:
        return _variance_from_sampled_clusters(psi, p.units, p.n)
    return _variance_over_groups(p, q.gaussian, coupling)


def _variance_of_mean(psi: Float[np.ndarray, " r"], units: Integer[np.ndarray, " r"] | None, n: int) -> float:
    """Compute the variance of the mean of ψ over n images, of which r rows are a random sample or all.

    The values of one sampling unit are added before they are squared.
    """
    totals = psi if units is None else _sum_over_units(psi, units)[0]
    return float(totals @ totals) * len(totals) / (len(totals) - 1) / (n * len(psi))


def _third_cumulant(p: IntervalInput, psi: Float[np.ndarray, " r"] | None) -> float:
    """Compute the third cumulant of the mean of ψ over p's images; 0 if p is fixed."""
    if psi is None or p.n is None:
        return 0.0
    totals = psi if p.units is None else _sum_over_units(psi, p.units)[0]
    return float((totals**3).sum()) / (p.n**2 * len(psi))


def _noise_of_sampled_clusters(n: int, n_units: int, r: int) -> float:
    """Return about how large the random error of `_variance_from_sampled_clusters` is, relative to the variance.

    It is that of the products of ψ of two rows of one cluster, whose share of the variance is at most 1 - n_units / n.
    """
    num_pairs = r**2 * (1 / n_units - 1 / n) / 2
    return (1 - n_units / n) / num_pairs**0.5 if num_pairs else 0.0


def _variance_from_sampled_clusters(psi: Float[np.ndarray, " r"], units: Integer[np.ndarray, " r"], n: int) -> float:
    """Compute the variance of the mean of ψ over n images from r of them, a random sample without regard to the clusters.

    The square of the sum of ψ over a cluster consists of squares and of products of two images. A sample contains the former
    with probability r/n and the latter with probability r (r-1) / (n (n-1)); see Horvitz & Thompson (1952).
    """
    r, totals = len(psi), _sum_over_units(psi, units)[0]
    squares = float(psi @ psi)
    products = float(totals @ totals) - squares
    return max(squares, squares + products * (n - 1) / (r - 1)) / (n * r)


def _variance_over_groups(p: IntervalInput, q: Gaussian, coupling: Coupling) -> float:
    """Compute the variance of the mean of ψ from the means of the groups.

    It is needed if the rows are a sample with hardly any two of the same cluster. Because few groups determine it only
    roughly, it is increased so that 1.96 standard errors are the quantile of Student's distribution.
    """
    assert p.groups is not None
    assert p.gaussian.covariance is not None
    a = _gradient(coupling)
    center = float(np.vdot(a, p.gaussian.covariance))
    totals = []
    for group in np.flatnonzero(p.groups.n):
        moments = p.groups.get(int(group))
        shift = moments.mean - p.gaussian.mean
        spread = float(np.vdot(a, moments.scatter)) / moments.n + shift @ a @ shift - center
        totals.append(moments.n * (2 * shift @ (p.gaussian.mean - q.mean) + spread))
    centered = np.array(totals) - p.groups.n[p.groups.n > 0] * (sum(totals) / p.groups.n.sum())
    count = len(totals)
    variance = float(centered @ centered) * count / (count - 1) / p.groups.n.sum() ** 2
    return variance * (student_quantile_95(count - 1) / Z_95) ** 2


def student_quantile_95(degrees_of_freedom: int) -> float:
    """Return the 97.5 % quantile of Student's distribution, with an error of less than 2e-4.

    Source: for ten degrees of freedom or more, the expansion of Fisher and Cornish 1960 (doi:10.2307/1266546).
    """
    if degrees_of_freedom <= len(_T_95):
        return _T_95[degrees_of_freedom - 1]
    z, x = Z_95, 1 / degrees_of_freedom
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + x * (z**3 + z) / 4 + x**2 * (5 * z**5 + 16 * z**3 + 3 * z) / 96 + x**3 * third


def _find_first_members(units: Integer[np.ndarray, " r"]) -> Integer[np.ndarray, " r"]:
    """Return the first row of each row's unit, so that rows without copies have the same groups in every run."""
    _, first, inverse = np.unique(units, return_index=True, return_inverse=True)
    return first[inverse]


def _average_over_groups(
    p: IntervalInput, psi: Float[np.ndarray, " r"] | None, variance: float
) -> tuple[float, ...] | None:
    """Average ψ over random groups of p's sampling units, which are the same for every comparison, scaled to the variance."""
    if psi is None or p.n is None or len(psi) < 2 * NUM_INFLUENCE_GROUPS:
        return None
    units = np.arange(len(psi)) if p.units is None else _find_first_members(p.units)
    groups = (priorities(units, seed=1) % np.uint64(NUM_INFLUENCE_GROUPS)).astype(np.int64)
    totals = np.bincount(groups, weights=psi, minlength=NUM_INFLUENCE_GROUPS)
    unscaled = _variance_of_mean(psi, p.units, p.n)
    scale = (variance / unscaled * NUM_INFLUENCE_GROUPS / (len(psi) * p.n)) ** 0.5 if unscaled else 0.0
    return tuple((totals * scale).tolist())
