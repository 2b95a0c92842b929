"""Manipulated statistics files: each raises an error of the project or leaves the numbers as they were.

Arrays are changed in files of format 1, which has no checksums, and in files of format 2 with correct checksums, as a
program would write them that follows the documentation. The description is changed as an editor would.
"""

import json

import numpy as np
import pytest
from test_npz_format import read_metadata, seal

import frechet
from frechet.errors import FrechetError, StatisticsError
from frechet.statistics import row_sample
from frechet.statistics.array_checks import compute_array_sha256
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.npz_format import read_statistics

N, D = 400, 5


def make_features(seed, n=N):
    """Skewed features with a large mean, as those of a network are."""
    return (np.random.default_rng(seed).exponential(size=(n, D)) * [1, 2, 1, 5, 0.1] + 3).astype(np.float32)


X, OTHER = make_features(0), make_features(1)
REFERENCE = FeatureStatistics.from_features(make_features(2) * np.float32(1.1))


def score(statistics):
    """Return what a user sees: value, corrected value and interval."""
    scores = frechet.score(statistics, REFERENCE, metrics=["fd", "kid"])
    return {key: (each.value, each.corrected_value, each.interval_95) for key, each in scores.items()}


def other_moments(name):
    return {"mu": OTHER.astype(float).mean(0), "sigma": np.cov(OTHER.astype(float), rowvar=False)}[name]


def with_value(array, place, value):
    changed = np.array(array)
    changed[place] = value
    return changed


def permuted(array):
    return array[np.random.default_rng(5).permutation(len(array))]


ARRAYS = {
    "rows of other images": lambda a: {"rows": OTHER[: len(a["rows"])] + np.float32(2)},
    "rows doubled": lambda a: {"rows": 2 * a["rows"]},
    "rows shifted": lambda a: {"rows": a["rows"] + np.float32(9)},
    "columns of rows exchanged": lambda a: {"rows": a["rows"][:, ::-1].copy()},
    "rows of zeros": lambda a: {"rows": np.zeros_like(a["rows"])},
    "rows of 1e300": lambda a: {"rows": np.full(a["rows"].shape, 1e300)},
    "one row of 1e30": lambda a: {"rows": with_value(a["rows"], 3, 1e30)},
    "a row of infinity": lambda a: {"rows": with_value(a["rows"], 3, np.inf)},
    "a row of NaN": lambda a: {"rows": with_value(a["rows"], 3, np.nan)},
    "complex rows": lambda a: {"rows": a["rows"] + 1j},
    "rows of integers": lambda a: {"rows": a["rows"].astype(np.int64)},
    "a column of rows missing": lambda a: {"rows": a["rows"][:, 1:]},
    "twice as many rows": lambda a: {name: np.concatenate([a[name]] * 20) for name in ("rows", "indices")},
    "half of the rows": lambda a: {name: a[name][::2] for name in ("rows", "indices")},
    "one row": lambda a: {name: a[name][:1] for name in ("rows", "indices")},
    "no rows": lambda a: {name: a[name][:0] for name in ("rows", "indices")},
    "rows without indices": lambda a: {"indices": None},
    "repeated indices": lambda a: {"indices": with_value(a["indices"], 1, a["indices"][0])},
    "negative indices": lambda a: {"indices": a["indices"] - 7},
    "indices beyond n": lambda a: {"indices": a["indices"] + N},
    "an index of 2**62": lambda a: {"indices": with_value(a["indices"], -1, 2**62)},
    "indices out of order": lambda a: {"indices": permuted(a["indices"])},
    "indices that are not integers": lambda a: {"indices": a["indices"] + 0.5},
    "mu of other images": lambda a: {"mu": other_moments("mu")},
    "mu of 1e200": lambda a: {"mu": np.full(D, 1e200)},
    "mu of NaN": lambda a: {"mu": a["mu"] * np.nan},
    "complex mu": lambda a: {"mu": a["mu"] + 1j},
    "mu of another length": lambda a: {"mu": a["mu"][1:]},
    "sigma of other images": lambda a: {"sigma": other_moments("sigma")},
    "sigma doubled": lambda a: {"sigma": 2 * a["sigma"]},
    "sigma divided by n": lambda a: {"sigma": a["sigma"] * (N - 1) / N},
    "sigma without correlations": lambda a: {"sigma": np.diag(a["sigma"].diagonal())},
    "sigma of 1e200": lambda a: {"sigma": np.eye(D) * 1e200},
    "sigma that is not symmetric": lambda a: {"sigma": with_value(a["sigma"], (0, 1), 0.5)},
    "a negative variance": lambda a: {"sigma": with_value(a["sigma"], (0, 0), -1.0)},
    "a correlation of two": lambda a: {"sigma": a["sigma"] + 2 * np.eye(D)[::-1]},
    "mu and sigma of other images": lambda a: {name: other_moments(name) for name in ("mu", "sigma")},
}
SMALLER_SAMPLES = ("half of the rows", "one row", "no rows")
SIMILAR = (
    *("mu of other images", "sigma of other images", "mu and sigma of other images", "sigma doubled"),
    *("sigma divided by n", "sigma without correlations"),
)
GROUPS = {
    "groups of other images": lambda a: other_groups(),
    "means of groups shifted": lambda a: {"group_mean": a["group_mean"] + 0.01},
    "scatters of groups doubled": lambda a: {"group_scatter": 2 * a["group_scatter"]},
    "scatters of groups of zero": lambda a: {"group_scatter": 0 * a["group_scatter"]},
    "scatters of 1e30": lambda a: {"group_scatter": a["group_scatter"] + np.float32(1e30)},
    "sizes of groups permuted": lambda a: {"group_n": np.roll(a["group_n"], 1)},
    "a group counted twice": lambda a: {"group_n": with_value(a["group_n"], 0, 2 * a["group_n"][0])},
    "negative sizes of groups": lambda a: {
        "group_n": with_value(a["group_n"], [0, 1], [-1, a["group_n"][:2].sum() + 1])
    },
    "a group missing": lambda a: {name: a[name][1:] for name in ("group_n", "group_mean", "group_scatter")},
    "no groups": lambda a: dict.fromkeys(("group_n", "group_mean", "group_scatter")),
}
METADATA = {
    "more images": {"n": 2 * N},
    "fewer images": {"n": N - 1},
    "one image": {"n": 1},
    "10**40 images": {"n": 10**40},
    "half an image": {"n": N + 0.5},
    "no number of images": {"n": None},
    "fewer images in the source": {"n_source": 3},
    "another seed": {"seed": 5},
    "fewer sampling units": {"n_units": 60},
    "more sampling units": {"n_units": 2 * N},
    "another skewness": {"unit_skewness": 50.0},
    "another precision": {"covariance_eps": 0.5},
    "another unit": {"grouped_by": "pair"},
    "another extractor": {"spec": {"extractor": "inception", "layer": "5"}},
    "more skipped images": {"skipped_images": ["a.png: broken"] * 50},
}


def other_groups():
    groups = FeatureStatistics.from_features(OTHER).group_moments
    return {"group_n": groups.n, "group_mean": groups.mean, "group_scatter": groups.scatter}


@pytest.fixture(params=["all rows", "a sample"])
def statistics(request, monkeypatch):
    if request.param == "a sample":
        monkeypatch.setattr(row_sample, "MAX_SAMPLE_ROWS", 100)
        monkeypatch.setattr(row_sample.RowSample.empty.__func__, "__defaults__", (100,))
    statistics = FeatureStatistics.from_features(X)
    assert len(statistics.rows) == (N if request.param == "all rows" else 100)
    return statistics


def read_arrays(path):
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files if name != "frechet"}


def write(path, arrays, metadata):
    arrays = {name: array for name, array in arrays.items() if array is not None}
    if metadata["format"] == 1:
        arrays = {{"indices": "places"}.get(name, name): array for name, array in arrays.items() if "group" not in name}
        metadata = {key: metadata[key] for key in ("format", "version", "n", "n_source", "seed", "covariance_eps")}
        np.savez(path, **arrays, frechet=np.array(json.dumps(metadata)))
    else:
        checksums = {name: compute_array_sha256(array) for name, array in arrays.items()}
        np.savez(path, **arrays, frechet=seal(metadata | {"checksums": checksums}))


def assert_rejected_or_unchanged(path, expected, *, is_smaller_sample):
    """A number may be missing (a metric needs what is gone), but it must not differ.

    A smaller sample of rows is a valid one, from which the width of an interval is estimated differently.
    """
    try:
        found = score(path)
    except FrechetError:
        return
    for key, (value, corrected, interval) in found.items():
        assert value == pytest.approx(expected[key][0], rel=1e-12)
        assert corrected is None or corrected == pytest.approx(expected[key][1], rel=1e-9)
        assert interval is None or is_smaller_sample or interval == pytest.approx(expected[key][2], rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("file_format", [1, 2])
@pytest.mark.parametrize("name", [*ARRAYS, *GROUPS])
def test_manipulated_arrays(tmp_path, statistics, name, file_format):
    if file_format == 1 and name in GROUPS:
        pytest.skip("format 1 has no groups")
    if file_format == 1 and name in SIMILAR and len(statistics.rows) < N:
        pytest.skip("neither checksums nor groups nor all rows: a sample is consistent with moments of similar images")
    path = tmp_path / "s.npz"
    statistics.save(path)
    arrays, metadata = read_arrays(path), read_metadata(path) | {"format": file_format}
    write(path, arrays, metadata)
    expected = score(path)
    write(path, arrays | (ARRAYS | GROUPS)[name](arrays), metadata)
    assert_rejected_or_unchanged(path, expected, is_smaller_sample=name in SMALLER_SAMPLES)


@pytest.mark.parametrize("name", METADATA)
def test_a_manipulated_description_is_rejected(tmp_path, statistics, name):
    path = tmp_path / "s.npz"
    statistics.save(path)
    np.savez(path, **read_arrays(path), frechet=np.array(json.dumps(read_metadata(path) | METADATA[name])))
    with pytest.raises(StatisticsError, match=r"description .* sha256"):
        read_statistics(path)


@pytest.mark.parametrize("name", ["10**40 images", "half an image", "one image", "fewer images in the source"])
def test_a_description_out_of_range_is_rejected_whatever_its_checksum(tmp_path, statistics, name):
    statistics.save(tmp_path / "s.npz")
    for file_format in (1, 2):
        write(
            tmp_path / "f.npz",
            read_arrays(tmp_path / "s.npz"),
            read_metadata(tmp_path / "s.npz") | METADATA[name] | {"format": file_format},
        )
        with pytest.raises(StatisticsError):
            read_statistics(tmp_path / "f.npz")


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "kind", ["heavy tails", "large mean", "constant columns", "float16", "one outlier", "duplicates"]
)
def test_statistics_of_any_images_are_read_back(tmp_path, monkeypatch, kind, seed):
    """Consistency must not be mistaken for a distribution: any features, all of them or a sample, are consistent."""
    rng = np.random.default_rng(seed)
    x = {
        "heavy tails": lambda: rng.standard_cauchy((N, D)) * 10.0 ** rng.uniform(-10, 10, D),
        "large mean": lambda: 1e4 + rng.normal(size=(N, D)),
        "constant columns": lambda: rng.normal(size=(N, D)) * [1, 0, 1e-6, 0, 1] + [5, 7, 0, 0, -3],
        "float16": lambda: rng.normal(size=(N, D)).astype(np.float16),
        "one outlier": lambda: with_value(rng.normal(size=(N, D)) * 1e-3, rng.integers(N), 1e5),
        "duplicates": lambda: rng.normal(size=(3, D))[rng.integers(0, 3, N)],
    }[kind]().astype(np.float32)
    for limit in (N, 1, 2, 50, N - 1):
        monkeypatch.setattr(row_sample, "MAX_SAMPLE_ROWS", limit)
        monkeypatch.setattr(row_sample.RowSample.empty.__func__, "__defaults__", (limit,))
        before = FeatureStatistics.from_features(x, seed=seed)
        before.save(tmp_path / "s.npz", force=True)
        after = read_statistics(tmp_path / "s.npz")
        np.testing.assert_array_equal(after.rows, before.rows)
        assert len(after.rows) == limit


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("scale", [1, 100])
def test_arrays_may_be_stored_in_another_precision(tmp_path, statistics, dtype, scale):
    """Also those of features with a mean of a hundred standard deviations."""
    x = make_features(3) / np.float32(scale) + np.float32(3)
    FeatureStatistics.from_features(x).save(tmp_path / "s.npz")
    arrays, metadata = read_arrays(tmp_path / "s.npz"), read_metadata(tmp_path / "s.npz")
    changed = {name: array.astype(dtype) for name, array in arrays.items() if array.dtype.kind == "f"}
    for file_format in (1, 2):
        write(tmp_path / "s.npz", arrays | changed, metadata | {"format": file_format})
        assert len(read_statistics(tmp_path / "s.npz").rows) == len(arrays["rows"])


def test_features_with_masked_values_are_rejected():
    masked = np.ma.masked_array(X, X > 8)
    with pytest.raises(StatisticsError, match=r"masked values; .*np\.ma\.compress_rows"):
        FeatureStatistics.from_features(masked)
    unmasked = FeatureStatistics.from_features(np.ma.masked_array(X, False))
    np.testing.assert_array_equal(unmasked.mean, FeatureStatistics.from_features(X).mean)


def test_means_whose_difference_cannot_be_squared_are_rejected():
    far = FeatureStatistics(mean=np.full(D, 1e200), covariance=np.eye(D), n=9, spec=REFERENCE.spec, label="far")
    with (
        np.errstate(over="ignore"),
        pytest.raises(StatisticsError, match=r"means .* 1e\+200, whose square is beyond float64"),
    ):
        frechet.score(far, REFERENCE, metrics=["fd"])
