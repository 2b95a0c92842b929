"""Every metric's mathematics against the numbers of those who defined it, and against plain calculation.

tests/data/metrics.json: what torch-fidelity 0.4.0 (MIND: at 5e211a9), torchmetrics 1.9.0, prdc 0.2, dgm-eval (74c79f7),
Vendi-Score (c791c30) and cmmd-pytorch (f7673a9) gave on the features in tests/data/metrics.npz (make_metrics.py).
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
def sides():
    with np.load(DATA / "metrics.npz") as archive:
        return {key: archive[key].astype(np.float32) for key in archive}


@pytest.fixture(scope="module")
def theirs():
    return json.loads((DATA / "metrics.json").read_text())


def test_inception_score_is_torch_fidelitys(sides, theirs):
    x = sides["generated"]
    shuffled = split_inception_scores(x, 10, legacy_permutation(len(x), 2020))
    assert shuffled.mean == pytest.approx(theirs["is"]["inception_score_mean"], abs=1e-6)
    assert shuffled.std == pytest.approx(theirs["is"]["inception_score_std"], abs=1e-6)
    as_they_come = split_inception_scores(x, 7)
    assert as_they_come.mean == pytest.approx(theirs["is_unshuffled"]["inception_score_mean"], abs=1e-6)


def test_kid_of_subsets_is_torch_fidelitys(sides, theirs):
    ours = kid_over_subsets(sides["generated"], sides["reference"], subsets=20, subset_size=100, seed=2020)
    assert ours.value == pytest.approx(theirs["kid"]["kernel_inception_distance_mean"], abs=2e-6)
    assert ours.std == pytest.approx(theirs["kid"]["kernel_inception_distance_std"], abs=2e-6)


def test_kid_of_subsets_wants_enough_images(sides):
    with pytest.raises(TooFewImagesError, match="subsets of 1000"):
        kid_over_subsets(sides["generated"], sides["reference"])


@pytest.mark.parametrize("block", [2**24, 3000])
def test_exact_kid_is_the_plain_estimator(sides, monkeypatch, block):
    monkeypatch.setattr(pairwise, "BLOCK_SIZE", block)  # several blocks of a few rows
    x, y = sides["generated"], sides["reference"]
    assert kid(x, y).value == pytest.approx(polynomial_mmd(x.astype(float), y.astype(float)), rel=1e-5)


def test_kid_of_a_side_with_itself_counts_every_pair(sides):
    """One array on both sides, as `frechet.score(statistics, statistics)` gives it, is still two samples."""
    x = sides["generated"]
    assert kid(x, x).value == pytest.approx(polynomial_mmd(x.astype(float), x.astype(float)), rel=1e-4)
    assert kid(x, x) == kid(x, x.copy())


def test_kids_standard_error_is_its_spread_over_fresh_samples():
    """Independent samples of one distribution, and of two: the second order decides in the first case."""
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
        told = np.sqrt(np.mean([one.standard_error**2 for one in found]))
        assert told == pytest.approx(
            spread, rel=0.2
        )  # a deviation of 150 values is known to 6 %, of the heavy tails here less


def test_kid_of_all_images_is_that_of_subsets_over_twenty_pairs(sides):
    """Of real features; 100 subsets of 60 images leave less than a standard error between the two."""
    random = np.random.default_rng(1)
    names = ["generated", "reference", "held_out"]
    for pair in range(20):
        one, other = (sides[names[i]] for i in random.permutation(3)[:2])
        x, y = (side[random.permutation(len(side))[:200]] * np.float32(1 + 0.02 * pair) for side in (one, other))
        whole, parts = kid(x, y), kid_over_subsets(x, y, subsets=100, subset_size=60, seed=pair)
        assert abs(whole.value - parts.value) < 3 * whole.standard_error


def test_kid_moves_with_the_standard_error_of_the_bootstrap(sides):
    """Of different distributions: where they are nearly equal the bootstrap counts the degenerate part three times."""
    x, y = sides["generated"], sides["reference"] * np.float32(1.3)
    random = np.random.default_rng(0)
    picks = [(random.integers(0, len(x), len(x)), random.integers(0, len(y), len(y))) for _ in range(200)]
    spread = np.std([_with_repeats(x[i].astype(float), y[j].astype(float), i, j) for i, j in picks])
    assert kid(x, y).standard_error == pytest.approx(spread, rel=0.15)


def test_the_bootstrap_counts_the_degenerate_part_three_times():
    """Of equal distributions all variance is degenerate, and resampled samples have twice of it in addition: images of a
    sample, unlike their distribution, have projections that are not zero (Arcones & Giné 1992). The truth is fresh samples."""
    random = np.random.default_rng(4)
    resampled, fresh = [], []
    for _ in range(400):
        x, y = (random.standard_normal((40, 5)).astype(np.float32) for _ in range(2))
        fresh.append(kid(x, y).value)
        if len(resampled) == 50:
            continue
        picks = random.integers(0, 40, (60, 2, 40))
        resampled.append(
            np.var([_with_repeats(x[i].astype(float), y[j].astype(float), i, j) for i, j in picks], ddof=1)
        )
    assert np.mean(resampled) / np.var(fresh) == pytest.approx(3, rel=0.25)


def _with_repeats(x, y, i, j):
    """The estimator over pairs of different images: a bootstrap repeats images, and a pair of twins says nothing."""

    def among(a, who):
        different = who[:, None] != who
        return ((a @ a.T / a.shape[1] + 1) ** 3)[different].mean()

    return among(x, i) + among(y, j) - 2 * ((x @ y.T / x.shape[1] + 1) ** 3).mean()


@pytest.mark.parametrize("block", [2**24, 4096])
def test_neighbours_are_those_of_the_peers(sides, theirs, monkeypatch, block):
    monkeypatch.setattr(pairwise, "BLOCK_SIZE", block)
    found = compute_prdc(sides["generated"], sides["reference"], [PRDC, KYNKAANNIEMI], realism_k=5)
    ours = found.memberships[PRDC]
    assert {key: getattr(ours, key) for key in theirs["prdc"]} == pytest.approx(theirs["prdc"], abs=1e-12)
    ours = found.memberships[KYNKAANNIEMI]
    assert (ours.precision, ours.recall) == pytest.approx(
        (theirs["prc"]["precision"], theirs["prc"]["recall"]), abs=1e-7
    )
    assert found.realism[:240] == pytest.approx(np.array(theirs["realism"]), rel=1e-5)
    assert np.isinf(found.realism[240:]).any()  # copies of reference images


def test_far_from_the_origin_decisions_are_those_of_float64():
    """Where float32 cannot tell two distances apart, and many are equal."""
    random = np.random.default_rng(5)
    x, y = (random.integers(0, 3, (n, 4)).astype(np.float32) + 1000 for n in (150, 130))
    found = compute_prdc(x, y, [PRDC, KYNKAANNIEMI])

    def plain(a, b):
        return ((a[:, None].astype(float) - b) ** 2).sum(2)

    for neighbourhood in (PRDC, KYNKAANNIEMI):
        radii, own = (np.sort(plain(side, side), axis=1)[:, neighbourhood.k] for side in (y, x))
        inside = np.less_equal if neighbourhood.closed else np.less
        held = inside(plain(x, y), radii)
        ours = found.memberships[neighbourhood]
        assert (ours.n_containing == held.sum(1)).all()
        assert (ours.covered == held.any(0)).all()
        assert (ours.recalled == inside(plain(x, y), own[:, None]).any(0)).all()


def test_the_images_of_a_collapsed_generator_are_not_each_a_candidate_for_all_others(monkeypatch):
    """Against all distances, places of equal rows in their order; 4,000 equal images took 1.4 GB."""
    random = np.random.default_rng(6)
    x = random.standard_normal((900, 5)).astype(np.float32)
    x[random.permutation(900)[:700]] = x[17]
    x[40:44] = x[40]  # no more than k + 1
    asked = []
    real = pairwise.exact_squared_distances
    monkeypatch.setattr(
        pairwise, "exact_squared_distances", lambda a, b, i, j: asked.append(len(i)) or real(a, b, i, j)
    )
    apart = ((x[:, None].astype(float) - x) ** 2).sum(2)
    np.fill_diagonal(apart, np.inf)
    for k in (1, 3):
        expected = np.argsort(apart, axis=1, kind="stable")[:, :k]
        indices, squared = pairwise.nearest_neighbours_within(pairwise.CenteredRows.from_rows(x, x.mean(0)), k)
        np.testing.assert_array_equal(indices, expected)
        np.testing.assert_allclose(squared, np.take_along_axis(apart, expected, axis=1), rtol=1e-12)
    assert sum(asked) < 20 * len(x)


def test_gaussians_of_prdcs_readme():
    """N(0, 1) against itself, 10,000 images of 1,000 dimensions, k = 5: its README gives these, of other draws.

    Between seven draws the four have standard deviations of 0.007, 0.014, 0.048 and 0.003 (in 1,000 dimensions a few
    hubs are near to everything, and density counts them again and again); three of these are allowed.
    """
    random = np.random.default_rng(0)
    x, y = (random.standard_normal((10_000, 1000), np.float32) for _ in range(2))
    ours = compute_prdc(x, y, [PRDC]).memberships[PRDC]
    found = ours.precision, ours.recall, ours.density, ours.coverage
    expected = (0.4772, 0.4705, 1.0555, 0.9735)
    for ours, theirs, spread in zip(found, expected, (0.007, 0.014, 0.048, 0.003), strict=True):
        assert ours == pytest.approx(theirs, abs=3 * spread * 2**0.5)  # both are draws


def test_too_few_images_for_neighbours(sides):
    with pytest.raises(TooFewImagesError, match="5 generated images have no 5-th neighbour"):
        compute_prdc(sides["generated"][:5], sides["reference"], [PRDC])


def test_mifids_penalty_is_torchmetrics_in_its_direction_and_the_papers_in_the_other(sides, theirs):
    x, y = sides["generated"], sides["reference"]
    ours = [nearest_cosine_distance(y, x), nearest_cosine_distance(x, y)]
    expected = [theirs["mifid_cosine_torchmetrics"], theirs["mifid_cosine"]]
    assert [one if one < 0.1 else 1.0 for one in ours] == pytest.approx(expected, rel=1e-4)
    assert ours[0] != pytest.approx(ours[1], rel=0.01)
    assert penalise_distance(3.0, 0.2) == 3.0
    assert penalise_distance(3.0, 0.05) == pytest.approx(60)


def test_cmmd_is_that_of_its_authors(sides, theirs):
    assert 1000 * gaussian_mmd(sides["generated"], sides["reference"]) == pytest.approx(theirs["cmmd"], rel=1e-9)


def test_vendi_is_that_of_its_authors(sides, theirs):
    assert vendi_score(sides["generated"]) == pytest.approx(theirs["vendi"], rel=1e-9)
    few = sides["generated"][:20]  # by the other Gram matrix
    assert vendi_score(few) == pytest.approx(vendi_score(np.concatenate([few] * 10)), rel=1e-6)
    assert vendi_score(np.eye(7)) == pytest.approx(7)


def test_vendi_counts_images_whose_features_are_all_zero():
    """Of orthogonal directions, and of rows like nothing else, the score is their number: exp of a uniform entropy."""
    assert vendi_score(np.diag([1.0, 2.0, 3.0, 0.0])) == pytest.approx(4)
    assert vendi_score(np.eye(6)[[0, 0, 1, 1]]) == pytest.approx(2)
    assert vendi_score(np.zeros((5, 3))) == pytest.approx(5)


def test_authpct_is_dgm_evals(sides, theirs):
    assert authenticity(sides["generated"], sides["reference"]) == pytest.approx(theirs["authpct"], abs=1e-4)


def test_ct_is_dgm_evals_within_the_spread_of_its_clusterings(sides, theirs):
    ours = data_copying_score(sides["reference"], sides["held_out"], sides["generated"])
    assert min(theirs["ct"]) - 0.3 <= ours <= max(theirs["ct"]) + 0.3
    assert data_copying_score(sides["reference"], sides["held_out"], sides["reference"][:200]) < -5  # copies


def test_fls_is_dgm_evals(sides, theirs):
    reference = sides["reference"]
    ours = feature_likelihood_score(reference[:200], reference[200:], sides["held_out"], sides["generated"])
    assert ours == pytest.approx(theirs["fls"], rel=1e-3)


def test_mind_is_torch_fidelitys(sides, theirs):
    torch = pytest.importorskip("torch")
    directions = torch.randn(1000, 80, generator=torch.Generator().manual_seed(2020))
    directions = (directions / directions.norm(dim=1, keepdim=True)).numpy()
    x, y = sides["generated"], sides["reference"][:300]
    expected = theirs["mind"]["monge_inception_distance"]
    assert monge_distance(x, y, directions) == pytest.approx(expected, rel=1e-5)
    other = sample_unit_directions(1000, 80, np.random.default_rng(1))
    assert monge_distance(x, y, other) == pytest.approx(expected, rel=0.05)
