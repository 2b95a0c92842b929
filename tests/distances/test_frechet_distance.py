"""The Fréchet distance against closed forms and against high-precision arithmetic."""

from dataclasses import replace

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frechet.distances.frechet import frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.distances.transport import optimal_coupling, squared_frechet_distance
from frechet.errors import MismatchError, StatisticsError, TooFewImagesError


def by_moments(features):
    return Gaussian(features.mean(0), covariance=np.cov(features, rowvar=False))


def exact(p, q):
    """The squared distance of float64 features with 50 digits, by the singular values of C₁C₂ᵀ."""
    with mpmath.workdps(50):

        def centered(x):
            rows = mpmath.matrix(x.tolist())
            means = [mpmath.fsum(rows[:, j]) / rows.rows for j in range(rows.cols)]
            return mpmath.matrix(rows.rows, rows.cols), rows, means

        def parts(x):
            out, rows, means = centered(x)
            for i in range(rows.rows):
                for j in range(rows.cols):
                    out[i, j] = (rows[i, j] - means[j]) / mpmath.sqrt(rows.rows - 1)
            return out, means

        (c1, m1), (c2, m2) = parts(p), parts(q)
        product = c1 * c2.T
        singular = mpmath.svd_r(product, compute_uv=False)
        squares = mpmath.fsum(v**2 for v in c1) + mpmath.fsum(v**2 for v in c2)
        gap = mpmath.fsum((a - b) ** 2 for a, b in zip(m1, m2, strict=True))
        return float(gap + squares - 2 * mpmath.fsum(singular))


def features(seed, n, d, scale=1.0, shift=0.0):
    random = np.random.default_rng(seed)
    return random.standard_normal((n, d)) * np.linspace(0.2, 2, d) * scale + shift


@pytest.mark.parametrize(("n", "m", "d"), [(5, 7, 12), (12, 5, 12), (20, 6, 8), (6, 20, 8), (30, 25, 6), (2, 2, 5)])
def test_every_shape_agrees_with_fifty_digit_arithmetic(n, m, d):
    x, y = features(1, n, d), features(2, m, d, scale=1.3, shift=0.1)
    assert frechet_terms(Gaussian.from_features(x), Gaussian.from_features(y)).total == pytest.approx(
        exact(x, y), rel=1e-9
    )


@pytest.mark.parametrize(("n", "m"), [(5, 7), (5, 40), (40, 5)])
def test_stored_singular_covariances_agree_with_fifty_digit_arithmetic(n, m):
    x, y = features(1, n, 12), features(2, m, 12, scale=1.3)
    assert frechet_terms(by_moments(x), by_moments(y)).total == pytest.approx(exact(x, y), rel=1e-6)
    assert frechet_terms(Gaussian.from_features(x), by_moments(y)).total == pytest.approx(exact(x, y), rel=1e-6)
    assert frechet_terms(by_moments(x), Gaussian.from_features(y)).total == pytest.approx(exact(x, y), rel=1e-6)


def test_diagonal_gaussians_agree_with_the_closed_form():
    s, t = np.array([1.0, 2.0, 0.5]), np.array([3.0, 2.0, 0.25])
    p = Gaussian(np.zeros(3), covariance=np.diag(s**2))
    q = Gaussian(np.array([1.0, 0.0, 2.0]), covariance=np.diag(t**2))
    terms = frechet_terms(p, q)
    assert terms.mean == pytest.approx(5.0, rel=1e-12)
    assert terms.covariance == pytest.approx(((s - t) ** 2).sum(), rel=1e-12)


def test_a_shift_adds_its_squared_length():
    x = features(3, 50, 10)
    assert frechet_terms(by_moments(x), by_moments(x + 0.5)).total == pytest.approx(10 * 0.25, rel=1e-9)


@pytest.mark.parametrize("n", [5, 200])
def test_identical_sets_have_distance_zero(n):
    x = features(4, n, 20)
    p = Gaussian.from_features(x)
    assert 0 <= frechet_terms(p, Gaussian.from_features(x[::-1].copy())).total <= 1e-9 * p.trace


@pytest.mark.slow
def test_constant_features_agree_with_fifty_digit_arithmetic():
    x, y = features(5, 40, 6), features(6, 40, 6)
    x[:, 2] = y[:, 2] = 3.0
    x[:, 4] = 1.0
    assert frechet_terms(by_moments(x), by_moments(y)).total == pytest.approx(exact(x, y), rel=1e-8)


def test_a_gaussian_without_variance_contributes_only_its_mean():
    x = features(5, 40, 6)
    constant = Gaussian(np.zeros(6), covariance=np.zeros((6, 6)))
    for q in (constant, constant.with_factor()):
        for p in (by_moments(x), by_moments(x).with_factor(), Gaussian.from_features(x[:3])):
            expected = (p.mean**2).sum() + p.trace
            assert frechet_terms(p, q).total == frechet_terms(q, p).total == pytest.approx(expected)


@pytest.mark.parametrize("known", ["moments", "factor"])
def test_an_indefinite_matrix_is_rejected_in_many_dimensions(known):
    """Two features have a correlation of 3: one of 800 eigenvalues is -2, which the roots of the others would hide."""
    damaged = np.eye(800)
    damaged[0, 1] = damaged[1, 0] = 3.0
    x = features(5, 1700, 800)
    q = by_moments(x) if known == "moments" else by_moments(x).with_factor()
    p = Gaussian(np.zeros(800), covariance=damaged)
    for inputs in ((p, q), (q, p)):
        with pytest.raises(StatisticsError, match="not positive semidefinite"):
            frechet_terms(*inputs)


@pytest.mark.parametrize("n", [2, 30, 400])
def test_covariances_that_are_indefinite_by_rounding_are_accepted(n):
    """Singular covariances in float64, stored in float32, and computed in float32; tiny variances; no variance."""
    x = features(7, n, 200, shift=3.0)
    exact_sigma = np.cov(x, rowvar=False)
    single = np.cov(x.astype(np.float32), rowvar=False, dtype=np.float32).astype(np.float64)
    stored = exact_sigma.astype(np.float32).astype(np.float64)
    for sigma in (exact_sigma, stored, single, 1e-30 * exact_sigma, 0 * exact_sigma):
        Gaussian(x.mean(0), covariance=sigma).require_valid_covariance()


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_negative_eigenvalue_beyond_rounding_is_rejected(scale):
    axes = np.linalg.qr(features(1, 50, 50))[0]
    values = np.linspace(0, 1, 50)
    values[0] = -1e-3
    with pytest.raises(StatisticsError, match=r"-0\.001 times the largest.*recompute.*frechet stats"):
        Gaussian(np.zeros(50), covariance=scale * (axes * values) @ axes.T).require_valid_covariance()


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-60, 1e-20, 1e20, 1e60])
@pytest.mark.parametrize("n", [7, 30])
def test_features_of_any_scale_agree_with_fifty_digit_arithmetic(scale, n):
    x, y = features(1, n, 9, scale=scale), features(2, 30, 9, scale=1.3 * scale)
    for q in (by_moments(y), by_moments(y).with_factor()):
        assert frechet_terms(Gaussian.from_features(x), q).total == pytest.approx(exact(x, y), rel=1e-9)


@pytest.mark.parametrize("scale", [1e-100, 1e100])
def test_variances_whose_product_exceeds_float64_are_rejected(scale):
    """Without the check, the last term of the distance would be 0."""
    x, y = features(1, 30, 9, scale=scale), features(2, 30, 9, scale=scale)
    with pytest.raises(StatisticsError, match="product beyond float64"):
        frechet_terms(by_moments(x), by_moments(y))


@pytest.mark.slow
@pytest.mark.parametrize("known", ["moments", "a factor", "two factors"])
def test_blocks_of_triangular_factors_do_not_change_the_distance(known):
    """From 512 dimensions on, products with a triangular factor are computed in eight blocks; here the last is narrower."""
    x, y = features(7, 700, 517), features(8, 800, 517, scale=0.7)
    a, b = (np.linalg.qr(z - z.mean(0))[1] / (len(z) - 1) ** 0.5 for z in (x, y))
    expected = (a**2).sum() + (b**2).sum() - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum()
    p, q = by_moments(x), by_moments(y)
    if known != "moments":
        p = replace(p, covariance=None, factor=a)
    if known == "two factors":
        q = replace(q, covariance=None, factor=b)
    assert frechet_terms(p, q).covariance == pytest.approx(expected, rel=1e-10)
    coupling = optimal_coupling(p, q)
    assert squared_frechet_distance(p, q, coupling) == pytest.approx(frechet_terms(p, q).total, rel=1e-10)
    there = coupling.onto_q.T @ coupling.onto_q
    np.testing.assert_allclose(there @ (a.T @ a) @ there, b.T @ b, atol=1e-9)


@pytest.mark.slow
@settings(deadline=None)  # the first example may wait for other processes
@given(st.integers(2, 12), st.integers(2, 12), st.integers(1, 10), st.integers(0, 99))
def test_the_distance_is_symmetric_and_not_negative(n, m, d, seed):
    p, q = Gaussian.from_features(features(seed, n, d)), Gaussian.from_features(features(seed + 1, m, d))
    one, other = frechet_terms(p, q).total, frechet_terms(q, p).total
    assert one == pytest.approx(other, rel=1e-9, abs=1e-9)
    assert one > -1e-9


def test_different_dimensions_are_rejected():
    with pytest.raises(MismatchError, match="3 and 4 dimensions"):
        frechet_terms(Gaussian(np.zeros(3), np.eye(3)), Gaussian(np.zeros(4), np.eye(4)))


def test_one_image_is_rejected_rather_than_scored():
    with pytest.raises(TooFewImagesError, match="got 1 image; at least 2 are required"):
        Gaussian.from_features(np.ones((1, 4)))
