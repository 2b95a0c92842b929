"""RunningMoments: streaming and merging give the moments of all features."""

import numpy as np
import pytest

from frechet.statistics.moments import RunningMoments


def make_rows(n=50, d=5, seed=0):
    return (np.random.default_rng(seed).standard_normal((n, d)) + 100).astype(np.float32)


@pytest.mark.parametrize("splits", [[], [1], [10, 11, 40], [0, 25]])
def test_streaming_gives_the_moments_of_all_features(splits):
    x = make_rows()
    merged = updated = RunningMoments.empty(5)
    for part in np.split(x, splits):
        merged = merged.merge(RunningMoments.from_features(part))
        updated = updated.update(part)
    for moments in (merged, updated):
        assert moments.n == 50
        np.testing.assert_allclose(moments.mean, x.astype(float).mean(0), rtol=1e-14)
        np.testing.assert_allclose(moments.covariance, np.cov(x.astype(float), rowvar=False), rtol=1e-12)


def test_merging_is_associative_and_commutative_up_to_rounding():
    a, b, c = (RunningMoments.from_features(make_rows(seed=seed)) for seed in range(3))
    np.testing.assert_allclose(a.merge(b).merge(c).scatter, c.merge(a.merge(b)).scatter, rtol=1e-12)


def test_merge_does_not_modify_its_inputs():
    a, b = RunningMoments.from_features(make_rows()), RunningMoments.from_features(make_rows(seed=1))
    before = a.scatter.copy()
    a.merge(b)
    a.update(make_rows(seed=2))
    np.testing.assert_array_equal(a.scatter, before)
