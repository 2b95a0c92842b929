"""Values of every metric, compared with those of the reference implementations and with direct calculations.

tests/data/metrics.json: what torch-fidelity 0.4.0 (MIND: at 5e211a9), torchmetrics 1.9.0, prdc 0.2, dgm-eval (74c79f7),
Vendi-Score (c791c30) and cmmd-pytorch (f7673a9) computed from the features in tests/data/metrics.npz (make_metrics.py).
"""

import json

import numpy as np
import pytest
from helpers import DATA

from frechet.distances import pairwise
from frechet.distances.inception_score import legacy_permutation, split_inception_scores, vendi_score
from frechet.distances.kernel import gaussian_mmd, kid, kid_over_subsets, polynomial_mmd
from frechet.distances.memorisation import (
    data_copying_score,
    feature_likelihood_score,
    nearest_cosine_distance,
    penalise_distance,
)
from frechet.distances.prdc import Neighbourhood, authenticity, compute_prdc
from frechet.distances.sliced_wasserstein import monge_distance, sample_unit_directions
from frechet.errors import TooFewImagesError

PRDC, KYNKAANNIEMI = Neighbourhood(5, closed=False), Neighbourhood(3, closed=True)


@pytest.fixture(scope="module")
def samples():
    with np.load(DATA / "metrics.npz") as archive:
        return {key: archive[key].astype(np.float32) for key in archive}


@pytest.fixture(scope="module")
def expected_values():
    return json.loads((DATA / "metrics.json").read_text())


def test_inception_score_agrees_with_torch_fidelity(samples, expected_values):
    x = samples["generated"]
    shuffled = split_inception_scores(x, 10, legacy_permutation(len(x), 2020))
    assert shuffled.mean == pytest.approx(expected_values["is"]["inception_score_mean"], abs=1e-6)
    assert shuffled.std == pytest.approx(expected_values["is"]["inception_score_std"], abs=1e-6)
    unshuffled = split_inception_scores(x, 7)
    assert unshuffled.mean == pytest.approx(expected_values["is_unshuffled"]["inception_score_mean"], abs=1e-6)


def test_kid_over_subsets_agrees_with_torch_fidelity(samples, expected_values):
    ours = kid_over_subsets(samples["generated"], samples["reference"], subsets=20, subset_size=100, seed=2020)
    assert ours.value == pytest.approx(expected_values["kid"]["kernel_inception_distance_mean"], abs=2e-6)
    assert ours.std == pytest.approx(expected_values["kid"]["kernel_inception_distance_std"], abs=2e-6)


def test_kid_over_subsets_requires_enough_images(samples):
    with pytest.raises(TooFewImagesError, match="subsets of 1000"):
        kid_over_subsets(samples["generated"], samples["reference"])


@pytest.mark.parametrize("block", [2**24, 3000])
def test_kid_over_all_images_agrees_with_the_plain_estimator(samples, monkeypatch, block):
    monkeypatch.setattr(pairwise, "BLOCK_SIZE", block)  # several blocks of a few rows
    x, y = samples["generated"], samples["reference"]
    assert kid(x, y).value == pytest.approx(polynomial_mmd(x.astype(float), y.astype(float)), rel=1e-5)


def kid_by_definition(x, y):
    """The U-statistic in float64, and a worst-case bound of the error of any summation order in the dtype of x.

    An inner product has an error of at most γ_d |x|·|y|, Horner's scheme for (s + 1)³ - 1 of γ_6 times its value at |s|, and
    a sum of N numbers of γ_{N-1} times the sum of their magnitudes (Higham 2002, equations 3.5, 5.3 and 4.4), with
    γ_k = k u / (1 - k u).
    """
    unit, d = np.finfo(x.dtype).eps / 2, x.shape[1]

    def gamma(k):
        return k * unit / (1 - k * unit)

    def mean_and_bound(a, b):
        pairs = ~np.eye(len(a), dtype=bool) if a is b else np.ones((len(a), len(b)), bool)
        magnitude = (abs(a) @ abs(b).T / d)[pairs]
        error = gamma(d + 1) * 3 * (1 + magnitude) ** 2 * magnitude
        error += gamma(len(b) + 6) * ((1 + magnitude) ** 3 - 1)
        return ((a @ b.T / d + 1) ** 3)[pairs].mean(), 1.01 * error.mean()  # 1 %: products of rounding errors

    x, y = x.astype(float), y.astype(float).copy()  # a copy, so that x with itself counts all pairs
    parts = [mean_and_bound(x, x), mean_and_bound(y, y), mean_and_bound(x, y)]
    return np.dot([1, 1, -2], [mean for mean, _ in parts]), np.dot([1, 1, 2], [bound for _, bound in parts])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kid_of_a_set_with_itself_counts_every_pair(samples, dtype):
    """One array for both inputs, as in `frechet.score_statistics(s, s)`, is treated as two samples. BLAS computes x @ x.T of
    one array with another routine than of a copy, so that results agree up to rounding only."""
    x = samples["generated"].astype(dtype)
    expected, bound = kid_by_definition(x, x)
    assert bound < 0.05 * abs(expected)  # without the pairs of an image with itself, KID would be 0
    same, copied = kid(x, x), kid(x, x.copy())
    assert abs(same.value - expected) <= bound
    assert abs(copied.value - expected) <= bound
    if dtype == np.float64:  # cancellation in the variance costs at most 4 of the 11 digits of sums over all pairs
        assert same.standard_error == pytest.approx(copied.standard_error, rel=1e-7)


@pytest.mark.usefixtures("without_type_checks")
def test_standard_error_of_kid_agrees_with_its_spread_over_new_samples():
    """Samples of one distribution, where the second order dominates, and of two."""
    random = np.random.default_rng(3)
    for shift in (0.0, 0.5):
        found = []
        for _ in range(150):
            x, y = (
                random.standard_normal((60, 5)).astype(np.float32),
                random.standard_normal((50, 5)).astype(np.float32),
            )
            found.append(kid(x, y + np.float32(shift)))
        spread = np.std([one.value for one in found])
        reported = np.sqrt(np.mean([one.standard_error**2 for one in found]))
        # a standard deviation of 150 values has a standard error of 6 %, and more with the heavy tails here
        assert reported == pytest.approx(spread, rel=0.2)


@pytest.mark.slow
@pytest.mark.usefixtures("without_type_checks")
def test_kid_over_all_images_agrees_with_kid_over_subsets(samples):
    """For real features; the error of 100 subsets of 60 images is less than a standard error."""
    random = np.random.default_rng(1)
    names = ["generated", "reference", "held_out"]
    for pair in range(20):
        one, other = (samples[names[i]] for i in random.permutation(3)[:2])
        x, y = (z[random.permutation(len(z))[:200]] * np.float32(1 + 0.02 * pair) for z in (one, other))
        whole, parts = kid(x, y), kid_over_subsets(x, y, subsets=100, subset_size=60, seed=pair)
        assert abs(whole.value - parts.value) < 3 * whole.standard_error


@pytest.mark.slow
@pytest.mark.usefixtures("without_type_checks")
def test_standard_error_of_kid_agrees_with_the_bootstrap(samples):
    """For different distributions; for nearly equal ones, the bootstrap counts the degenerate part three times."""
    x, y = samples["generated"], samples["reference"] * np.float32(1.3)
    random = np.random.default_rng(0)
    picks = [(random.integers(0, len(x), len(x)), random.integers(0, len(y), len(y))) for _ in range(200)]
    spread = np.std([_kid_of_resampled_images(x[i].astype(float), y[j].astype(float), i, j) for i, j in picks])
    assert kid(x, y).standard_error == pytest.approx(spread, rel=0.15)


@pytest.mark.slow
@pytest.mark.usefixtures("without_type_checks")
def test_the_bootstrap_counts_the_degenerate_part_three_times():
    """For equal distributions the whole variance is degenerate, and resampled samples have three times as much: unlike those
    of the distribution, projections of a sample are not zero (Arcones & Giné 1992). New samples give the variance itself."""
    random = np.random.default_rng(4)
    resampled, fresh = [], []
    for _ in range(400):
        x, y = (random.standard_normal((40, 5)).astype(np.float32) for _ in range(2))
        fresh.append(kid(x, y).value)
        if len(resampled) == 50:
            continue
        picks = random.integers(0, 40, (60, 2, 40))
        resampled.append(
            np.var([_kid_of_resampled_images(x[i].astype(float), y[j].astype(float), i, j) for i, j in picks], ddof=1)
        )
    assert np.mean(resampled) / np.var(fresh) == pytest.approx(3, rel=0.25)


def _kid_of_resampled_images(x, y, i, j):
    """KID over pairs of different images, because a bootstrap sample contains images repeatedly."""

    def mean_within(a, indices):
        different = indices[:, None] != indices
        return ((a @ a.T / a.shape[1] + 1) ** 3)[different].mean()

    return mean_within(x, i) + mean_within(y, j) - 2 * ((x @ y.T / x.shape[1] + 1) ** 3).mean()


@pytest.mark.parametrize("block", [2**24, 4096])
def test_prdc_and_realism_agree_with_the_reference_implementations(samples, expected_values, monkeypatch, block):
    monkeypatch.setattr(pairwise, "BLOCK_SIZE", block)
    found = compute_prdc(samples["generated"], samples["reference"], [PRDC, KYNKAANNIEMI], realism_k=5)
    ours = found.memberships[PRDC]
    assert {key: getattr(ours, key) for key in expected_values["prdc"]} == pytest.approx(
        expected_values["prdc"], abs=1e-12
    )
    ours = found.memberships[KYNKAANNIEMI]
    assert (ours.precision, ours.recall) == pytest.approx(
        (expected_values["prc"]["precision"], expected_values["prc"]["recall"]), abs=1e-7
    )
    assert found.realism[:240] == pytest.approx(np.array(expected_values["realism"]), rel=1e-5)
    assert np.isinf(found.realism[240:]).any()  # copies of reference images


def test_prdc_decides_in_float64_far_from_the_origin():
    """Float32 cannot distinguish these distances, many of which are equal."""
    random = np.random.default_rng(5)
    x, y = (random.integers(0, 3, (n, 4)).astype(np.float32) + 1000 for n in (150, 130))
    found = compute_prdc(x, y, [PRDC, KYNKAANNIEMI])

    def plain(a, b):
        return ((a[:, None].astype(float) - b) ** 2).sum(2)

    for neighbourhood in (PRDC, KYNKAANNIEMI):
        radii, own = (np.sort(plain(z, z), axis=1)[:, neighbourhood.k] for z in (y, x))
        inside = np.less_equal if neighbourhood.closed else np.less
        held = inside(plain(x, y), radii)
        ours = found.memberships[neighbourhood]
        assert (ours.n_containing == held.sum(1)).all()
        assert (ours.covered == held.any(0)).all()
        assert (ours.recalled == inside(plain(x, y), own[:, None]).any(0)).all()


def test_neighbours_among_many_equal_rows_need_few_exact_distances(monkeypatch):
    """Neighbours agree with those of all distances, with equal rows in their order; 4,000 equal images once took 1.4 GB."""
    random = np.random.default_rng(6)
    x = random.standard_normal((900, 5)).astype(np.float32)
    x[random.permutation(900)[:700]] = x[17]
    x[40:44] = x[40]  # no more than k + 1
    n_exact = []
    real = pairwise.exact_squared_distances
    monkeypatch.setattr(
        pairwise, "exact_squared_distances", lambda a, b, i, j: n_exact.append(len(i)) or real(a, b, i, j)
    )
    apart = ((x[:, None].astype(float) - x) ** 2).sum(2)
    np.fill_diagonal(apart, np.inf)
    for k in (1, 3):
        expected = np.argsort(apart, axis=1, kind="stable")[:, :k]
        indices, squared = pairwise.nearest_neighbours_within(pairwise.CenteredRows.from_rows(x, x.mean(0)), k)
        np.testing.assert_array_equal(indices, expected)
        np.testing.assert_allclose(squared, np.take_along_axis(apart, expected, axis=1), rtol=1e-12)
    assert sum(n_exact) < 20 * len(x)


@pytest.mark.slow
def test_prdc_agrees_with_the_example_of_its_readme():
    """N(0, 1) against itself, 10,000 images with 1,000 features, k = 5; the README's values are for other draws.

    Between seven draws, the four values have standard deviations of 0.007, 0.014, 0.048 and 0.003 (in 1,000 dimensions, a
    few hubs are near to all images, and density counts them repeatedly); differences of three of these are accepted.
    """
    random = np.random.default_rng(0)
    x, y = (random.standard_normal((10_000, 1000), np.float32) for _ in range(2))
    ours = compute_prdc(x, y, [PRDC]).memberships[PRDC]
    found = ours.precision, ours.recall, ours.density, ours.coverage
    expected = (0.4772, 0.4705, 1.0555, 0.9735)
    for ours, expected_values, spread in zip(found, expected, (0.007, 0.014, 0.048, 0.003), strict=True):
        assert ours == pytest.approx(expected_values, abs=3 * spread * 2**0.5)  # both are draws


def test_prdc_requires_more_images_than_neighbours(samples):
    with pytest.raises(TooFewImagesError, match="k = 5 need at least 6 generated images; got 5"):
        compute_prdc(samples["generated"][:5], samples["reference"], [PRDC])


def test_the_penalty_of_mifid_agrees_with_torchmetrics_in_one_direction_and_the_paper_in_the_other(
    samples, expected_values
):
    x, y = samples["generated"], samples["reference"]
    ours = [nearest_cosine_distance(y, x), nearest_cosine_distance(x, y)]
    expected = [expected_values["mifid_cosine_torchmetrics"], expected_values["mifid_cosine"]]
    assert [one if one < 0.1 else 1.0 for one in ours] == pytest.approx(expected, rel=1e-4)
    assert ours[0] != pytest.approx(ours[1], rel=0.01)
    assert penalise_distance(3.0, 0.2) == 3.0
    assert penalise_distance(3.0, 0.05) == pytest.approx(60)


def test_cmmd_agrees_with_its_authors(samples, expected_values):
    assert 1000 * gaussian_mmd(samples["generated"], samples["reference"]) == pytest.approx(
        expected_values["cmmd"], rel=1e-9
    )


def test_the_vendi_score_agrees_with_its_authors(samples, expected_values):
    assert vendi_score(samples["generated"]) == pytest.approx(expected_values["vendi"], rel=1e-9)
    few = samples["generated"][:20]  # n < d uses the other Gram matrix
    assert vendi_score(few) == pytest.approx(vendi_score(np.concatenate([few] * 10)), rel=1e-6)
    assert vendi_score(np.eye(7)) == pytest.approx(7)


def test_the_vendi_score_counts_each_row_of_zeros():
    """For n orthogonal or zero rows, the score is n, the exponential of a uniform entropy."""
    assert vendi_score(np.diag([1.0, 2.0, 3.0, 0.0])) == pytest.approx(4)
    assert vendi_score(np.eye(6)[[0, 0, 1, 1]]) == pytest.approx(2)
    assert vendi_score(np.zeros((5, 3))) == pytest.approx(5)


def test_authpct_agrees_with_dgm_eval(samples, expected_values):
    assert authenticity(samples["generated"], samples["reference"]) == pytest.approx(
        expected_values["authpct"], abs=1e-4
    )


def test_ct_agrees_with_dgm_eval_within_the_spread_of_its_clusterings(samples, expected_values):
    ours = data_copying_score(samples["reference"], samples["held_out"], samples["generated"])
    assert min(expected_values["ct"]) - 0.3 <= ours <= max(expected_values["ct"]) + 0.3
    assert data_copying_score(samples["reference"], samples["held_out"], samples["reference"][:200]) < -5  # copies


@pytest.mark.slow
def test_fls_agrees_with_dgm_eval(samples, expected_values):
    reference = samples["reference"]
    ours = feature_likelihood_score(reference[:200], reference[200:], samples["held_out"], samples["generated"])
    assert ours == pytest.approx(expected_values["fls"], rel=1e-3)


def test_mind_agrees_with_torch_fidelity(samples, expected_values):
    torch = pytest.importorskip("torch")
    directions = torch.randn(1000, 80, generator=torch.Generator().manual_seed(2020))
    directions = (directions / directions.norm(dim=1, keepdim=True)).numpy()
    x, y = samples["generated"], samples["reference"][:300]
    expected = expected_values["mind"]["monge_inception_distance"]
    assert monge_distance(x, y, directions) == pytest.approx(expected, rel=1e-5)
    other = sample_unit_directions(1000, 80, np.random.default_rng(1))
    assert monge_distance(x, y, other) == pytest.approx(expected, rel=0.05)
