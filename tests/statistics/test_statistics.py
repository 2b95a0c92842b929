"""Statistics stream, merge, and survive a file."""

import json

import numpy as np
import pytest

import frechet
from frechet.errors import OutputError, RunError, StatisticsError
from frechet.features.spec import FeatureSpec
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.foreign_formats import is_statistics_file
from frechet.statistics.moments import RunningMoments
from frechet.statistics.npz_format import read_statistics
from frechet.statistics.row_sample import RowSample, priorities

RECIPE = FeatureSpec(
    extractor="inception",
    layer="5",
    weights="ab" * 32,
    is_official=False,
    preprocessing="tensorflow",
    precision="float32",
)


def rows(n=50, d=5, seed=0):
    return (np.random.default_rng(seed).standard_normal((n, d)) + 100).astype(np.float32)


def statistics(x):
    return FeatureStatistics(
        mean=x.astype(float).mean(0),
        covariance=np.cov(x.astype(float), rowvar=False),
        n=len(x),
        rows=x,
        indices=np.arange(len(x)),
        spec=RECIPE,
        label="somewhere",
        n_source=len(x) + 1,
        seed=7,
        skipped_images=("a.png: broken",),
        notes=("alpha dropped",),
    )


@pytest.mark.parametrize("cuts", [[], [1], [10, 11, 40], [0, 25]])
def test_streaming_gives_the_moments_of_the_whole(cuts):
    x = rows()
    parts = [RunningMoments.from_features(part) for part in np.split(x, cuts)]
    merged = RunningMoments.empty(5)
    for part in parts:
        merged = merged.merge(part)
    updated = RunningMoments.empty(5)
    for part in np.split(x, cuts):
        updated = updated.update(part)
    for moments in (merged, updated):
        assert moments.n == 50
        np.testing.assert_allclose(moments.mean, x.astype(float).mean(0), rtol=1e-14)
        np.testing.assert_allclose(moments.covariance, np.cov(x.astype(float), rowvar=False), rtol=1e-12)


def test_merging_in_any_order_is_the_same_up_to_rounding():
    a, b, c = (RunningMoments.from_features(rows(seed=seed)) for seed in range(3))
    np.testing.assert_allclose(a.merge(b).merge(c).scatter, c.merge(a.merge(b)).scatter, rtol=1e-12)


def test_merge_leaves_its_inputs_alone():
    a, b = RunningMoments.from_features(rows()), RunningMoments.from_features(rows(seed=1))
    before = a.scatter.copy()
    a.merge(b)
    a.update(rows(seed=2))
    np.testing.assert_array_equal(a.scatter, before)


def test_the_sample_is_the_same_however_it_is_gathered():
    x = rows(n=100)
    indices = np.arange(100)
    whole = RowSample.empty(5, seed=3, limit=20).update(indices, x)
    pieces = RowSample.empty(5, seed=3, limit=20)
    for part in np.array_split(indices, 7)[::-1]:
        pieces = pieces.update(part, x[part])
    np.testing.assert_array_equal(whole.indices, pieces.indices)
    np.testing.assert_array_equal(whole.rows, pieces.rows)
    np.testing.assert_array_equal(whole.rows, x[whole.indices])
    assert len(whole.rows) == 20


def test_a_sample_smaller_than_its_limit_is_everything():
    x = rows(n=10)
    np.testing.assert_array_equal(RowSample.empty(5, seed=0).update(np.arange(10), x).rows, x)


def test_another_seed_takes_another_sample():
    assert set(np.argsort(priorities(np.arange(1000), 0))[:50]) != set(np.argsort(priorities(np.arange(1000), 1))[:50])


def test_every_place_is_equally_likely_to_be_sampled():
    counts = np.zeros(40)
    for seed in range(2000):
        counts[np.argsort(priorities(np.arange(40), seed))[:10]] += 1
    # 2000 draws at probability 1/4: standard deviation 19.4; six of them
    assert np.abs(counts - 500).max() < 6 * 19.4


def test_a_file_brings_everything_back(tmp_path):
    before = statistics(rows())
    before.save(tmp_path / "s.npz")
    after = read_statistics(tmp_path / "s.npz")
    for name in ("mean", "covariance", "rows", "indices"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    for name in ("n", "spec", "n_source", "seed", "skipped_images", "notes"):
        assert getattr(after, name) == getattr(before, name)
    assert after.made_by == f"frechet {frechet.__version__}"
    assert is_statistics_file(tmp_path / "s.npz")


def test_pytorch_fid_reads_what_we_write(tmp_path):
    """Its own lines: np.load without pickle, then mu and sigma."""
    before = statistics(rows())
    before.save(tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz") as file:
        m, s = file["mu"][:], file["sigma"][:]
    np.testing.assert_array_equal(m, before.mean)
    np.testing.assert_array_equal(s, before.covariance)


def test_peers_files_are_read_and_say_nothing(tmp_path):
    x = rows().astype(float)
    np.savez_compressed(tmp_path / "peer.npz", mu=x.mean(0), sigma=np.cov(x, rowvar=False))
    read = read_statistics(str(tmp_path / "peer.npz"))  # a string as well
    assert read.n is None
    assert read.spec == FeatureSpec()


def test_an_existing_file_is_kept(tmp_path):
    (tmp_path / "s.npz").write_text("precious")
    with pytest.raises(OutputError, match="--force"):
        statistics(rows()).save(tmp_path / "s.npz")
    assert (tmp_path / "s.npz").read_text() == "precious"
    statistics(rows()).save(tmp_path / "s.npz", force=True)
    assert is_statistics_file(tmp_path / "s.npz")


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    (tmp_path / "s.npz").write_text("precious")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(RunError, match="the disk is full"):
        statistics(rows()).save(tmp_path / "s.npz", force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["s.npz"]
    assert (tmp_path / "s.npz").read_text() == "precious"


def good():
    x = rows().astype(float)
    return {"mu": x.mean(0), "sigma": np.cov(x, rowvar=False)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("mu"), "has no mu"),
        (lambda a: a.pop("sigma"), "has no sigma"),
        (lambda a: a["mu"].__setitem__(0, np.nan), "mu holds NaN"),
        (lambda a: a["sigma"].__setitem__((0, 0), np.inf), "sigma holds NaN or infinity"),
        (lambda a: a.update(sigma=np.eye(4)), r"shape \(5,\) and sigma \(4, 4\)"),
        (lambda a: a["sigma"].__setitem__((0, 1), 9.0), "not a covariance"),
        (lambda a: a["sigma"].__setitem__((0, 0), -1.0), "not a covariance"),
        (lambda a: a.update(mu=a["mu"].astype(int)), "expected floating point"),
        (lambda a: a.update(mu=np.array([object()] * 5)), "Python objects"),
        (lambda a: a.update(frechet=np.array("nonsense")), "description"),
        (lambda a: a.update(frechet=np.array(json.dumps({"format": 2, "n": 5}))), "format 2"),
        (lambda a: a.update(frechet=np.array(json.dumps({"format": 1, "n": 1}))), "at least two"),
        (lambda a: a.update(frechet=np.array(json.dumps({"format": 1, "n": 5, "recipe": {"x": 1}}))), "recipe"),
        (lambda a: a.update(frechet=np.array(json.dumps({"format": 1, "n": 5, "seed": -1}))), "seed is -1"),
        (lambda a: a.update(frechet=np.array(json.dumps({"format": 1, "n": 5, "n_source": "<b>"}))), "description"),
    ],
)
def test_what_is_no_statistic_is_refused_with_its_reason(tmp_path, change, message):
    arrays = good()
    change(arrays)
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(StatisticsError, match=message):
        read_statistics(tmp_path / "s.npz")


def test_a_file_cut_short_is_refused(tmp_path):
    statistics(rows()).save(tmp_path / "s.npz")
    whole = (tmp_path / "s.npz").read_bytes()
    (tmp_path / "s.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StatisticsError, match="cut short"):
        read_statistics(tmp_path / "s.npz")


def test_a_flipped_bit_is_noticed(tmp_path):
    statistics(rows()).save(tmp_path / "s.npz")
    raw = bytearray((tmp_path / "s.npz").read_bytes())
    raw[300] ^= 1
    (tmp_path / "s.npz").write_bytes(raw)
    with pytest.raises(StatisticsError):
        read_statistics(tmp_path / "s.npz")


def test_likely_rows_of_pieces_make_the_sample_of_the_whole():
    """Of 3,000 images, where at most half have no features; where more have none, a smaller one of the same rows."""
    x, limit = rows(n=3000), 50
    ranks = priorities(np.arange(3000), 3)

    def gathered(indices):
        kept, most = RowSample.empty(5, seed=3, limit=limit), 0
        for part in np.array_split(indices, 10):
            prefilter = RowSample.empty(5, seed=3, limit=limit).update(part, x[part]).prefilter(3000)
            kept, most = kept.update(prefilter.indices, prefilter.rows), max(most, len(prefilter.indices))
        np.testing.assert_array_equal(kept.rows, x[kept.indices])
        return kept.indices, most

    indices, most = gathered(np.arange(3000))
    np.testing.assert_array_equal(indices, np.sort(np.argsort(ranks)[:limit]))
    assert most < limit / 2
    few = np.arange(0, 3000, 5)
    indices, _ = gathered(few)
    assert 0 < len(indices) < limit
    np.testing.assert_array_equal(indices, np.sort(few[np.argsort(ranks[few])[: len(indices)]]))


def test_all_rows_are_likely_where_the_sample_is_nearly_everything():
    sample = RowSample.empty(5, seed=0, limit=20).update(np.arange(20), rows(n=20))
    assert len(sample.prefilter(40).indices) == 20
    assert len(sample.prefilter(400).indices) < 20


def test_doubles_of_one_value_are_scored_as_the_single_precision_that_is_kept_of_them():
    """0.1 is no float32: a spread of its rounding would be carried onto the other side's, 10¹⁶ times as large."""
    constant, other = np.full((100, 4), 0.1), rows(120, 4) - 100
    double, single = (frechet.score(x, other, features=True)["fd"] for x in (constant, constant.astype(np.float32)))
    assert (double.value, double.corrected_value) == (single.value, single.corrected_value)
    assert 0 < double.corrected_value < double.value


def test_features_of_which_float32_makes_zeros_are_refused():
    """Their squares are zeros in float64 too, as if nothing varied."""
    with pytest.raises(StatisticsError, match=r"column 0 .* float32 does not hold"):
        FeatureStatistics.from_features(1e-200 * np.random.default_rng(0).standard_normal((50, 4)))


@pytest.mark.parametrize("other", [1.0, -1.0, 0.0])
def test_the_largest_numbers_of_single_precision_are_features(other):
    largest = float(np.finfo(np.float32).max)
    assert FeatureStatistics.from_features(np.array([[largest], [other * largest]])).mean == largest * (1 + other) / 2


@pytest.mark.parametrize(("spread", "about"), [(1e-10, 0.1), (1.0, 1e9), (1e-3, -5e4)])
def test_doubles_whose_spread_single_precision_loses_are_refused(spread, about):
    features = np.random.default_rng(0).standard_normal((30, 3))
    FeatureStatistics.from_features(features)
    features[:, 1] = about + spread * features[:, 1]
    with pytest.raises(StatisticsError, match=r"column 1 .* float32 does not hold"):
        FeatureStatistics.from_features(features)
