"""A permutation test of the hypothesis that two sets of images have the same distribution, from the moments of groups.

Each set consists of G random groups, and group g of one set may change places with group g of the other. The statistic is
the squared Fréchet distance to second order around the pooled Gaussian of both sets,

    t = |δμ|² + ½ Σᵢⱼ Δᵢⱼ² / (λᵢ + λⱼ),   Δ = Vᵀ (Σ₁ - Σ₂) V,   Σ = V diag(λ) Vᵀ,

which is a square |v₁ + ... + v_G|² of contributions of the pairs of groups. Without the terms |v_g|², whose expectation is the
bias, it is Σ_{g≠h} v_g·v_h, and changing places reverses the sign of v_g. All 2^(G-1) arrangements are enumerated from the
Gram matrix of the contributions. The test is exact if the groups of both sets have equal sizes (Lehmann & Romano 2005,
chapter 15); otherwise, and against a fixed distribution, it relies on the symmetry of the contributions' distribution, each of
which is a mean over many images.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32

from frechet.distances.gaussian import Gaussian
from frechet.distances.transport import inverse_sums
from frechet.statistics.group_moments import GroupMoments, pack_symmetric, unpack_rows

NUM_AXES = 256  # leading principal axes of the pooled set in which covariances are compared
_MIN_EIGENVALUE = 1e-6  # of the largest; covariances of groups are compared in float32
_NUM_ITERATIONS = 3  # of the subspace iteration; the axes need not be exact


def swap_test(p: Gaussian, p_groups: GroupMoments | None, q: Gaussian, q_groups: GroupMoments | None) -> float:
    """Test whether two sets of images have the same distribution.

    Args:
        p, q: Gaussians of both sets, with their covariances as matrices.
        p_groups, q_groups: moments of random groups of both sets; None for a fixed distribution (one of them at most).

    Returns:
        The p-value, a multiple of 2^(1-G).
    """
    gram = compute_gram_matrix(p, p_groups, q, q_groups)
    products = gram - np.diag(np.diag(gram))
    signs = enumerate_signs(len(gram))
    statistics = np.einsum("sg,gh,sh->s", signs, products, signs)
    rounding = 1e-12 * float(np.abs(products).sum())
    return float(np.mean(statistics >= statistics[0] - rounding))


def enumerate_signs(count: int) -> Float[np.ndarray, "s g"]:
    """Return all vectors of `count` signs whose first one is +1; the first vector consists of +1 only."""
    bits = np.arange(2 ** (count - 1))[:, None] >> np.arange(count - 1)
    return np.hstack([np.ones((len(bits), 1)), 1.0 - 2 * (bits & 1)])


def compute_gram_matrix(
    p: Gaussian, p_groups: GroupMoments | None, q: Gaussian, q_groups: GroupMoments | None
) -> Float[np.ndarray, "g g"]:
    """Compute the scalar products of the contributions of each pair of groups to the statistic."""
    assert p.covariance is not None
    assert q.covariance is not None
    # With these shares, the difference of both sets is uncorrelated with the pooled Gaussian, whose axes it is measured in.
    share = _pooling_share(p_groups, q_groups)
    mean, difference = share * p.mean + (1 - share) * q.mean, p.mean - q.mean
    pooled = share * p.covariance + (1 - share) * q.covariance + share * (1 - share) * np.outer(difference, difference)
    eigenvalues, axes = principal_axes(pooled, NUM_AXES)
    one, other = _as_groups(p, p_groups), _as_groups(q, q_groups)
    spreads = _project_differences(one, other, axes)
    for groups, sign in ((one, 1), (other, -1)):
        shifts = (groups.mean - mean) @ axes
        spreads += sign * shifts[:, :, None] * shifts[:, None, :]
    spreads *= np.sqrt(inverse_sums(eigenvalues) / 2)
    filled = (one.n > 0) & (other.n > 0)
    shifts, spreads = (one.mean - other.mean)[filled], spreads[filled].reshape(filled.sum(), -1)
    return shifts @ shifts.T + spreads @ spreads.T


def _pooling_share(p_groups: GroupMoments | None, q_groups: GroupMoments | None) -> float:
    """Return the share of p's images among all; a fixed distribution counts as infinitely many."""
    if p_groups is None:
        return 1.0
    if q_groups is None:
        return 0.0
    return float(p_groups.n.sum() / (p_groups.n.sum() + q_groups.n.sum()))


def _as_groups(gaussian: Gaussian, groups: GroupMoments | None) -> GroupMoments:
    """Return the groups; a fixed distribution is one group, which every group of the other set is compared with."""
    if groups is not None:
        return groups
    assert gaussian.covariance is not None
    return GroupMoments(np.ones(1, np.int64), gaussian.mean[None], pack_symmetric(gaussian.covariance)[None])


def _project_differences(
    one: GroupMoments, other: GroupMoments, axes: Float32[np.ndarray, "d k"]
) -> Float[np.ndarray, "g k k"]:
    """Compute VᵀΔV for the difference Δ of the covariances of each pair of groups, from the upper half of Δ."""
    sizes = [np.maximum(groups.n, 1).astype(np.float32)[:, None, None] for groups in (one, other)]
    blocks = zip(*(unpack_rows(groups.scatter, len(axes)) for groups in (one, other)), strict=True)
    product = np.empty((max(len(one), len(other)), *axes.shape), np.float32)
    for (rows, first), (_, second) in blocks:
        difference = first / sizes[0] - second / sizes[1]
        np.einsum("gbb->gb", difference[:, :, : rows.stop - rows.start])[:] /= 2
        product[:, rows] = difference @ axes[rows.start :]
    half = (axes.T @ product).astype(np.float64)
    return half + half.swapaxes(1, 2)


def principal_axes(
    covariance: Float[np.ndarray, "d d"], count: int
) -> tuple[Float[np.ndarray, " k"], Float32[np.ndarray, "d k"]]:
    """Compute the leading eigenvalues and eigenvectors of a covariance by subspace iteration (Halko et al. 2011).

    Returns:
        At most `count` eigenvalues, ascending, with 0 for those that float32 cannot distinguish from it, and their
        eigenvectors as columns.
    """
    d, covariance = len(covariance), covariance.astype(np.float32)
    basis = np.random.default_rng(0).standard_normal((d, min(count, d)), np.float32)
    for _ in range(_NUM_ITERATIONS):
        basis = np.linalg.qr(covariance @ basis)[0]
    eigenvalues, vectors = np.linalg.eigh((basis.T @ (covariance @ basis)).astype(np.float64))
    kept = np.where(eigenvalues > _MIN_EIGENVALUE * eigenvalues[-1], eigenvalues, 0.0)
    return kept, basis @ vectors.astype(np.float32)
