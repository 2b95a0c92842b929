"""The jackknife of precision, recall, density and coverage: against leaving out each image in turn, and its coverage."""

import numpy as np
import pytest
from helpers import DATA

from frechet.distances.prdc import Neighbourhood, compute_prdc
from frechet.evaluation.compute import score_statistics
from frechet.statistics.feature_statistics import FeatureStatistics

VALUES = ("precision", "recall", "density", "coverage")
DEFAULTS = {
    name: Neighbourhood(*(3, True) if name in ("precision", "recall") else (5, False)) for name in VALUES
}  # of the papers


@pytest.fixture(scope="module")
def features():
    with np.load(DATA / "metrics.npz") as archive:
        return archive["generated"].astype(np.float32)[:50], archive["reference"].astype(np.float32)[:40]


def with_duplicates(x, y):
    """The same images with copies within and between both sets, so that distances are tied and 0."""
    return np.concatenate([x[:30], x[:8], y[:12]]), np.concatenate([y[:30], y[5:15]])


def jackknife_variance(values):
    values = np.asarray(values)
    return (len(values) - 1) / len(values) * ((values - values.mean()) ** 2).sum()


@pytest.mark.slow
@pytest.mark.parametrize("neighbourhood", [Neighbourhood(3, closed=True), Neighbourhood(5, closed=False)], ids=str)
@pytest.mark.parametrize("prepare", [lambda x, y: (x, y), with_duplicates], ids=["distinct", "duplicates"])
@pytest.mark.parametrize("block_size", [2**24, 200])
def test_jackknife_equals_leaving_out_each_image(features, neighbourhood, prepare, block_size, monkeypatch):
    monkeypatch.setattr("frechet.distances.pairwise.BLOCK_SIZE", block_size)
    monkeypatch.setattr("frechet.distances.prdc_jackknife.MIN_COUNT", 0)
    monkeypatch.setattr("frechet.distances.prdc.MIN_COUNT", 0)
    x, y = prepare(*features)
    found = compute_prdc(x, y, [neighbourhood]).memberships[neighbourhood]
    monkeypatch.setattr("frechet.distances.pairwise.BLOCK_SIZE", 2**24)
    without_generated, without_reference = (
        [compute_prdc(*pair, [neighbourhood]).memberships[neighbourhood] for pair in pairs]
        for pairs in (
            [(np.delete(x, i, 0), y) for i in range(len(x))],
            [(x, np.delete(y, j, 0)) for j in range(len(y))],
        )
    )
    for name in VALUES:
        variance = getattr(found, f"{name}_variance")
        expected = jackknife_variance([getattr(each, name) for each in without_generated])
        assert variance.generated == pytest.approx(expected, rel=1e-9, abs=1e-15)
        expected = jackknife_variance([getattr(each, name) for each in without_reference])
        assert variance.reference == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_no_variance_with_few_images_inside_or_outside(features):
    x, y = features
    prdc = Neighbourhood(3, closed=True)
    copies = compute_prdc(y, y, [prdc]).memberships[prdc]
    assert copies.precision == copies.recall == copies.coverage == 1
    assert copies.precision_variance is copies.recall_variance is copies.coverage_variance is None
    assert copies.density_variance.generated > 0
    far = compute_prdc(x + 100, y, [prdc]).memberships[prdc]
    assert far.density == 0
    assert far.density_variance is None
    few = Neighbourhood(3, closed=True)
    assert compute_prdc(x[:4], y, [few]).memberships[few].density_variance is None  # no fourth neighbour


@pytest.mark.slow
def test_intervals_cover_the_expected_value():
    """Gaussians in 12 dimensions; the expected value is the mean of the same samples. Efron & Stein 1981: at least 95 %."""
    random = np.random.default_rng(0)
    found = {name: [] for name in VALUES}
    for _ in range(250):
        x, y = (
            random.standard_normal((150, 12)).astype(np.float32),
            random.standard_normal((120, 12)).astype(np.float32),
        )
        x += np.float32(0.8)
        for name in VALUES:
            found[name].append(_value_and_error(x, y, DEFAULTS[name], name))
    for values, errors in (np.transpose(each) for each in found.values()):
        covered = np.abs(values - values.mean()) <= 1.96 * errors
        assert covered.mean() > 0.93
        assert errors.mean() < 2 * values.std()


def _value_and_error(x, y, neighbourhood, name):
    membership = compute_prdc(x, y, [neighbourhood]).memberships[neighbourhood]
    variance = getattr(membership, f"{name}_variance")
    return getattr(membership, name), (variance.generated + variance.reference) ** 0.5


@pytest.mark.parametrize("reference_is", [None, "fixed"])
def test_scores_have_intervals_of_the_jackknife(features, reference_is):
    generated, reference = (FeatureStatistics.from_features(each) for each in features)
    scores = score_statistics(generated, reference, metrics=VALUES, reference_is=reference_is)
    for name, score in scores.items():
        membership = compute_prdc(*features, [DEFAULTS[name]]).memberships[DEFAULTS[name]]
        variance = getattr(membership, f"{name}_variance")
        if name == "coverage":  # 69 of 70 reference images are covered
            assert score.interval_95 is variance is None
            assert "fewer than 10" in score.interval_unavailable_reason
            continue
        error = (variance.generated + (variance.reference if reference_is is None else 0)) ** 0.5
        assert score.standard_error == pytest.approx(error, rel=1e-12)
        low, high = score.interval_95
        assert low == pytest.approx(max(0, score.value - 1.96 * error), abs=1e-4)
        assert high == pytest.approx(min(score.value + 1.96 * error, 9 if name == "density" else 1), abs=1e-4)
        assert score.corrected_value is None
        assert "expected value" in score.estimand


def test_no_interval_for_dependent_images(features):
    x, y = (np.concatenate([each, each[:20]]) for each in features)
    generated, reference = (
        FeatureStatistics.from_features(each, units=np.arange(len(each)) // 2, grouped_by="cluster") for each in (x, y)
    )
    score = score_statistics(generated, reference, metrics="precision")["precision"]
    assert score.interval_95 is None
    assert "independent" in score.interval_unavailable_reason
