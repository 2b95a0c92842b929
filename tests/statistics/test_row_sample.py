"""RowSample: the same seeded sample in whatever order and in whatever parts the features arrive."""

import numpy as np

from frechet.statistics.row_sample import RowSample, priorities


def make_rows(n=50, d=5, seed=0):
    return (np.random.default_rng(seed).standard_normal((n, d)) + 100).astype(np.float32)


def test_sample_does_not_depend_on_the_order_of_parts():
    x = make_rows(n=100)
    indices = np.arange(100)
    whole = RowSample.empty(5, seed=3, limit=20).update(indices, x)
    merged = RowSample.empty(5, seed=3, limit=20)
    for part in np.array_split(indices, 7)[::-1]:
        merged = merged.update(part, x[part])
    np.testing.assert_array_equal(whole.indices, merged.indices)
    np.testing.assert_array_equal(whole.rows, merged.rows)
    np.testing.assert_array_equal(whole.rows, x[whole.indices])
    assert len(whole.rows) == 20


def test_sample_below_its_limit_contains_all_rows():
    x = make_rows(n=10)
    np.testing.assert_array_equal(RowSample.empty(5, seed=0).update(np.arange(10), x).rows, x)


def test_another_seed_selects_another_sample():
    assert set(np.argsort(priorities(np.arange(1000), 0))[:50]) != set(np.argsort(priorities(np.arange(1000), 1))[:50])


def test_every_index_is_equally_likely_to_be_sampled():
    counts = np.zeros(40)
    for seed in range(2000):
        counts[np.argsort(priorities(np.arange(40), seed))[:10]] += 1
    # 2000 draws at probability 1/4: standard deviation 19.4; six of them
    assert np.abs(counts - 500).max() < 6 * 19.4


def test_merged_prefiltered_parts_give_the_sample_of_all_images():
    """Of 3,000 images at least half of which have features; with fewer, a smaller sample of the same rows."""
    x, limit = make_rows(n=3000), 50
    ranks = priorities(np.arange(3000), 3)

    def merge_prefiltered(indices):
        merged, most = RowSample.empty(5, seed=3, limit=limit), 0
        for part in np.array_split(indices, 10):
            prefilter = RowSample.empty(5, seed=3, limit=limit).update(part, x[part]).prefilter(3000)
            merged, most = merged.update(prefilter.indices, prefilter.rows), max(most, len(prefilter.indices))
        np.testing.assert_array_equal(merged.rows, x[merged.indices])
        return merged.indices, most

    indices, most = merge_prefiltered(np.arange(3000))
    np.testing.assert_array_equal(indices, np.sort(np.argsort(ranks)[:limit]))
    assert most < limit / 2
    few = np.arange(0, 3000, 5)
    indices, _ = merge_prefiltered(few)
    assert 0 < len(indices) < limit
    np.testing.assert_array_equal(indices, np.sort(few[np.argsort(ranks[few])[: len(indices)]]))


def test_prefilter_keeps_all_rows_if_the_sample_is_at_least_half_of_the_images():
    sample = RowSample.empty(5, seed=0, limit=20).update(np.arange(20), make_rows(n=20))
    assert len(sample.prefilter(40).indices) == 20
    assert len(sample.prefilter(400).indices) < 20
