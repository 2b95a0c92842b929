"""Moments of random groups of images, and the sampling units that decide the group of an image."""

import tracemalloc

import numpy as np
import pytest

from frechet.errors import StatisticsError
from frechet.statistics import group_accumulator
from frechet.statistics.accumulator import Accumulator
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.group_accumulator import GroupAccumulator
from frechet.statistics.group_moments import (
    GroupMoments,
    assign_groups,
    pack_symmetric,
    unpack_rows,
    unpack_symmetric,
)
from frechet.statistics.npz_format import read_statistics

D = 6


def make_rows(n=200, seed=0):
    return (np.random.default_rng(seed).standard_normal((n, D)) * np.arange(1, D + 1) + 5).astype(np.float32)


def assert_moments_of(groups, x, assigned):
    """Compare with NumPy's moments of the rows of each group."""
    for group in range(10):
        rows = x[assigned == group].astype(float)
        found = groups.get(group)
        assert found.n == len(rows)
        np.testing.assert_allclose(found.mean, rows.mean(0), rtol=1e-6)
        np.testing.assert_allclose(found.scatter, (len(rows) - 1) * np.cov(rows, rowvar=False), rtol=1e-5, atol=1e-4)


def test_the_merge_of_all_groups_has_the_moments_of_all_images():
    x = make_rows()
    groups = GroupMoments.from_features(x, np.arange(200), seed=3)
    merged = groups.merge_groups(range(10))
    assert merged.n == groups.n.sum() == 200
    np.testing.assert_allclose(merged.mean, x.astype(float).mean(0), rtol=1e-6)
    np.testing.assert_allclose(merged.covariance, np.cov(x.astype(float), rowvar=False), rtol=1e-5, atol=1e-5)
    assert groups.scatter.dtype == np.float32
    assert groups.scatter.shape == (10, D * (D + 1) // 2)
    assert (len(groups), groups.dims) == (10, D)
    assert_moments_of(groups, x, assign_groups(np.arange(200), 3))


def test_images_of_one_unit_are_in_one_group():
    units = np.random.default_rng(0).integers(0, 40, 500)
    groups = assign_groups(units, seed=0)
    for unit in range(40):
        assert len(set(groups[units == unit].tolist())) == 1
    np.testing.assert_array_equal(assign_groups(units[::-1], seed=0), groups[::-1])  # whatever comes before it


def test_groups_have_about_equal_sizes_and_depend_on_the_seed():
    units = np.arange(10_000)
    one, other = (assign_groups(units, seed) for seed in (0, 1))
    for groups in (one, other):
        assert np.abs(np.bincount(groups, minlength=10) - 1000).max() < 5 * 30  # a standard deviation is √(npq) = 30
    assert np.mean(one == other) == pytest.approx(0.1, abs=0.02)
    pair = 10 * one + other
    assert np.bincount(pair, minlength=100).min() > 50  # 100 expected


@pytest.mark.parametrize("max_pending", [2, 256])
@pytest.mark.parametrize("chunk_size", [1, 7, 64, 200])
def test_groups_do_not_depend_on_the_chunks(chunk_size, max_pending, monkeypatch):
    """Some chunks are added as rows, and others as moments by group."""
    monkeypatch.setattr(group_accumulator, "_MAX_PENDING_MEANS", max_pending)
    x, units = make_rows(), np.repeat(np.arange(100), 2)
    found = Accumulator(D, 200, 3, keep_all=False)
    for number, start in enumerate(range(0, 200, chunk_size)):
        indices = np.arange(start, min(200, start + chunk_size))
        if number % 2:
            part = Accumulator(D, 200, 3, keep_all=False)
            part.update(indices, x[indices], units[indices])
            found.merge(part.to_summary(), units[indices])
        else:
            found.update(indices, x[indices], units[indices])
    assert found.n == 200
    assert_moments_of(found.group_moments, x, assign_groups(units, 3))
    np.testing.assert_allclose(found.moments.covariance, np.cov(x.astype(float), rowvar=False), rtol=1e-12, atol=1e-12)
    assert found.group_moments.scatter.dtype == np.float32
    assert found.to_summary().stored_groups.scatter.dtype == np.float64


def test_too_few_images_for_a_jackknife_have_no_groups():
    for n, has_groups in ((8, False), (9, True)):  # 1.5 per dimension
        x = make_rows(n)
        assert (GroupMoments.from_features(x, np.arange(n), seed=0) is not None) == has_groups
        statistics = FeatureStatistics.from_features(x)
        assert (statistics.group_moments is not None) == has_groups
        np.testing.assert_allclose(statistics.covariance, np.cov(x.astype(float), rowvar=False), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("d", [1, 6, 64, 65, 200])
def test_triangles_are_in_the_order_of_numpy(d):
    rows = np.random.default_rng(0).standard_normal((20, d))
    matrix = rows.T @ rows
    packed = pack_symmetric(matrix, np.float64)
    np.testing.assert_array_equal(packed, matrix[np.triu_indices(d)])
    np.testing.assert_array_equal(unpack_symmetric(packed, d), matrix)
    assert pack_symmetric(matrix).dtype == np.float32


@pytest.mark.parametrize("d", [1, 64, 200])
def test_rows_of_triangles_are_those_of_the_matrices(d):
    matrices = np.random.default_rng(0).standard_normal((3, d, d))
    found = np.zeros_like(matrices)
    for rows, block in unpack_rows(np.stack([pack_symmetric(each, np.float64) for each in matrices]), d):
        found[:, rows, rows.start :] = block
    np.testing.assert_array_equal(found, np.triu(matrices))


def test_an_empty_group_has_no_effect():
    x = make_rows(30)
    units = np.zeros(30, int)
    groups = GroupMoments.from_features(x, units, seed=0)
    assert sorted(groups.n.tolist()) == [0] * 9 + [30]
    np.testing.assert_allclose(groups.merge_groups(range(10)).mean, x.astype(float).mean(0), rtol=1e-6)


@pytest.mark.parametrize(
    ("sizes", "n_units", "skewness"),
    [
        ([1] * 12, 12, 1),
        ([2] * 6, 6, 1),
        ([12], 1, 1),
        ([3] + [1] * 9, 8, 4 / 3),  # 144 / (9 + 9), not the number of units, 10; and 12 (27 + 9) / 18²
    ],
)
def test_the_number_of_units_is_that_of_kish(sizes, n_units, skewness):
    """n² / Σ m² for clusters of m images (Kish 1965), and n Σ m³ / (Σ m²)²."""
    units = np.repeat(np.arange(len(sizes)) * 5, sizes)
    found = FeatureStatistics.from_features(make_rows(12), units=units, grouped_by="cluster")
    assert (found.n, found.n_units, found.grouped_by) == (12, n_units, "cluster")
    assert found.unit_skewness == pytest.approx(skewness)
    if n_units == 12:
        assert found.units is None
    else:
        np.testing.assert_array_equal(found.units, units)


@pytest.mark.parametrize("n", [200, 8])  # with groups, and with too few images for them
def test_groups_and_units_survive_a_file(tmp_path, n):
    units = np.repeat(np.arange(n // 2), 2)
    before = FeatureStatistics.from_features(make_rows(n), units=units, grouped_by="cluster", seed=5)
    before.save(tmp_path / "s.npz")
    after = read_statistics(tmp_path / "s.npz")
    assert (after.grouped_by, after.n_units, after.seed) == ("cluster", n // 2, 5)
    np.testing.assert_array_equal(after.units, before.units)
    assert (after.group_moments is None) == (before.group_moments is None) == (n == 8)
    for name in ("n", "mean", "scatter") if n == 200 else ():
        np.testing.assert_array_equal(getattr(after.group_moments, name), getattr(before.group_moments, name))


def test_units_of_a_row_sample_are_those_of_its_images(monkeypatch):
    monkeypatch.setattr("frechet.statistics.row_sample.MAX_SAMPLE_ROWS", 20)
    units = np.repeat(np.arange(100) * 3, 2)
    found = FeatureStatistics.from_features(make_rows(), units=units, grouped_by="cluster")
    assert len(found.rows) == 20
    np.testing.assert_array_equal(found.units, units[found.indices])


def test_one_unit_per_row_is_required():
    with pytest.raises(StatisticsError) as caught:
        FeatureStatistics.from_features(make_rows(12), units=np.arange(11))
    assert all(part in str(caught.value) for part in ("12 rows", "11 clusters", "expected one per row"))


@pytest.mark.slow
def test_accumulating_groups_takes_less_memory_than_their_matrices():
    """Ten matrices of 1000 x 1000 in float64 take 80 MB, and their triangles 40 MB, next to 10 MB of rows that wait."""
    d, rows = 1000, np.random.default_rng(0).standard_normal((500, 1000)).astype(np.float32)
    tracemalloc.start()
    try:
        groups = GroupAccumulator(10, d)
        for start in range(0, 4000, 500):
            groups.add_rows(rows, assign_groups(np.arange(start, start + 500), 0))
        assert groups.finish().n.sum() == 4000
        assert tracemalloc.get_traced_memory()[1] < 70e6
    finally:
        tracemalloc.stop()
