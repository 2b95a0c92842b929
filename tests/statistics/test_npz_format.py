"""Statistics files: format 2 keeps everything, format 1 is still read, and damaged files are rejected."""

import hashlib
import json
from contextlib import nullcontext

import numpy as np
import pytest

import frechet
from frechet.errors import OutputError, RunError, StatisticsError
from frechet.features.spec import FeatureSpec
from frechet.statistics import row_sample
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.foreign_formats import is_statistics_file
from frechet.statistics.group_moments import GroupMoments, assign_groups
from frechet.statistics.moments import RunningMoments
from frechet.statistics.npz_format import read_features, read_statistics

FLOAT32_EPS, FLOAT64_EPS = 2.0**-23, 2.0**-52
SPEC = FeatureSpec(
    extractor="inception",
    layer="5",
    weights="ab" * 32,
    is_official=False,
    preprocessing="tensorflow",
    precision="float32",
)


def make_rows(n=50, d=5, seed=0):
    return (np.random.default_rng(seed).standard_normal((n, d)) + 100).astype(np.float32)


def make_statistics(x, **changes):
    fields = {
        "mean": x.astype(float).mean(0),
        "covariance": np.cov(x.astype(float), rowvar=False),
        "n": len(x),
        "rows": x,
        "indices": np.arange(len(x)),
        "spec": SPEC,
        "label": "somewhere",
        "n_source": len(x) + 1,
        "seed": 7,
        "skipped_images": ("a.png: broken",),
        "notes": ("alpha dropped",),
        "formats": {"PNG": len(x)},
    }
    return FeatureStatistics(**{**fields, **changes})


def moments(x=None):
    x = (make_rows() if x is None else x).astype(float)
    return {"mu": x.mean(0), "sigma": np.cov(x, rowvar=False)}


def format_1_arrays(x, **metadata):
    """A file as frechet 0.2 wrote it, by its documented keys."""
    description = {
        "format": 1,
        "version": "0.2.0",
        "n": len(x),
        "n_source": 60,
        "seed": 7,
        "source": "reference/",
        "recipe": {
            "extractor": "inception",
            "layer": "5",
            "weights": "ab" * 32,
            "official": False,
            "convention": "tensorflow",
            "precision": "float32",
        },
        "bad_images": ["a.png: broken"],
        "remarks": ["alpha dropped"],
        "formats": {"PNG": 50},
    } | metadata
    return moments(x) | {"rows": x, "places": np.arange(len(x)), "frechet": np.array(json.dumps(description))}


def rewrite(path, **changes):
    """Store the file again with some arrays replaced, or removed if they are None, and the checksums as they were."""
    with np.load(path) as archive:
        arrays = {key: archive[key] for key in archive.files}
    np.savez(path, **{key: value for key, value in (arrays | changes).items() if value is not None})


def seal(metadata):
    """Return the JSON object with its checksum, by the documented recipe."""
    content = {key: value for key, value in metadata.items() if key != "checksum"}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return np.array(json.dumps({**content, "checksum": digest}))


def read_metadata(path):
    with np.load(path) as archive:
        return json.loads(str(archive["frechet"]))


def test_a_file_keeps_every_field(tmp_path):
    before = make_statistics(make_rows())
    before.save(tmp_path / "s.npz")
    after = read_statistics(tmp_path / "s.npz")
    for name in ("mean", "covariance", "rows", "indices"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    for name in ("n", "spec", "n_source", "seed", "skipped_images", "notes", "formats"):
        assert getattr(after, name) == getattr(before, name)
    assert after.made_by == f"frechet {frechet.__version__}"
    assert (after.label, after.path, after.url) == (str(tmp_path / "s.npz"), tmp_path / "s.npz", None)
    assert is_statistics_file(tmp_path / "s.npz")


def test_format_2_has_snake_case_keys_and_no_pickles(tmp_path):
    make_statistics(make_rows(), labels=("private.png",) * 50, url="https://me:secret@host/s.npz").save(
        tmp_path / "s.npz"
    )
    with np.load(tmp_path / "s.npz", allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    assert set(arrays) == {"mu", "sigma", "rows", "indices", "frechet"}
    metadata = json.loads(str(arrays["frechet"]))
    assert set(metadata) == {
        *("format", "version", "label", "n", "n_source", "seed", "spec", "skipped_images", "notes", "formats"),
        *("crop", "sizes", "covariance_eps", "checksums", "checksum", "grouped_by", "n_units", "unit_skewness"),
        "assumed_extractor",
    }
    assert (metadata["format"], metadata["label"]) == (2, "somewhere")
    assert metadata["spec"]["preprocessing"] == "tensorflow"
    assert metadata["spec"]["is_official"] is False
    assert set(metadata["checksums"]) == {"mu", "sigma", "rows", "indices"}
    content = (tmp_path / "s.npz").read_bytes()
    assert b"secret" not in content
    assert "private" not in str(metadata)


def test_pytorch_fid_reads_our_files(tmp_path):
    """Its own lines: np.load without pickle, then mu and sigma."""
    before = make_statistics(make_rows())
    before.save(tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz") as file:
        m, s = file["mu"][:], file["sigma"][:]
    np.testing.assert_array_equal(m, before.mean)
    np.testing.assert_array_equal(s, before.covariance)


def test_format_1_is_still_read(tmp_path):
    x = make_rows()
    ignored = {"labels": np.zeros(3), "group_n": np.zeros(3), "thumbnails": np.zeros(2), "indices": np.zeros(3)}
    np.savez(tmp_path / "old.npz", **format_1_arrays(x), **ignored)
    old = read_statistics(tmp_path / "old.npz")
    np.testing.assert_array_equal(old.mean, x.astype(float).mean(0))
    np.testing.assert_array_equal(old.covariance, np.cov(x.astype(float), rowvar=False))
    np.testing.assert_array_equal(old.rows, x)
    np.testing.assert_array_equal(old.indices, np.arange(50))
    assert old.spec == SPEC
    assert (old.n, old.n_source, old.seed, old.made_by) == (50, 60, 7, "frechet 0.2.0")
    assert (old.skipped_images, old.notes, old.formats) == (("a.png: broken",), ("alpha dropped",), {"PNG": 50})
    assert (old.label, old.path) == (str(tmp_path / "old.npz"), tmp_path / "old.npz")
    assert (old.labels, old.thumbnails) == (None, None)
    assert (old.grouped_by, old.n_units, old.units) == ("image", 50, None)
    assigned = assign_groups(np.arange(50), 7)  # a file of format 1 has no groups, but all rows
    assert old.group_moments.n.tolist() == [(assigned == group).sum() for group in range(10)]
    for group in range(10):
        np.testing.assert_allclose(old.group_moments.mean[group], x[assigned == group].astype(float).mean(0))


@pytest.mark.parametrize("k", [49, 0])
def test_format_1_with_a_sample_of_rows_has_no_groups(tmp_path, k):
    x = make_rows()
    np.savez(tmp_path / "old.npz", **format_1_arrays(x) | {"rows": x[:k], "places": np.arange(k)})
    old = read_statistics(tmp_path / "old.npz")
    assert (old.group_moments, old.n_units) == (None, None)


def test_format_1_without_optional_keys_is_read(tmp_path):
    np.savez(tmp_path / "old.npz", **moments(), frechet=np.array(json.dumps({"format": 1, "n": 50})))
    old = read_statistics(tmp_path / "old.npz")
    assert (old.n, old.n_source, old.seed, old.spec, old.rows) == (50, None, 0, FeatureSpec(), None)
    assert (old.skipped_images, old.notes, old.formats) == ((), (), {})


@pytest.mark.parametrize("file_format", [0, 3, 17])
def test_another_format_is_rejected_with_its_number_and_the_fix(tmp_path, file_format):
    description = json.dumps({"format": file_format, "version": "9.9.0"})  # its other keys are not known yet
    np.savez(tmp_path / "new.npz", **moments(), frechet=np.array(description))
    with pytest.raises(StatisticsError) as caught:
        read_statistics(tmp_path / "new.npz")
    for part in (f"format {file_format}", "frechet 9.9.0", "formats 1 and 2", "Upgrade frechet", "frechet stats"):
        assert part in str(caught.value)


def test_files_without_metadata_have_no_spec_and_no_n(tmp_path):
    x = make_rows().astype(float)
    np.savez_compressed(tmp_path / "peer.npz", mu=x.mean(0), sigma=np.cov(x, rowvar=False), rows=x, labels=[None])
    read = read_statistics(str(tmp_path / "peer.npz"))  # a string works as well
    assert (read.n, read.rows, read.labels, read.made_by) == (None, None, None, None)
    assert read.spec == FeatureSpec()
    assert (read.label, read.path) == (str(tmp_path / "peer.npz"), tmp_path / "peer.npz")


def test_statistics_of_unknown_size_survive_a_file(tmp_path):
    """Those of pytorch-fid record no n; frechet 0.2 wrote them and could not read them back."""
    np.savez(tmp_path / "peer.npz", **moments())
    read_statistics(tmp_path / "peer.npz").save(tmp_path / "own.npz")
    own = read_statistics(tmp_path / "own.npz")
    assert own.n is None
    np.testing.assert_array_equal(own.covariance, moments()["sigma"])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_precision_of_a_stored_covariance_is_recorded(tmp_path, dtype):
    """Also after it was stored again in float64, which does not bring the lost digits back."""
    sigma = np.diag([0.5, 1.0, 2.0]).astype(dtype)
    np.savez(tmp_path / "peer.npz", mu=np.zeros(3), sigma=sigma)
    np.savez(tmp_path / "old.npz", mu=np.zeros(3), sigma=sigma, frechet=np.array(json.dumps({"format": 1, "n": 9})))
    peer = read_statistics(tmp_path / "peer.npz")
    peer.save(tmp_path / "own.npz")
    for found in (peer, read_statistics(tmp_path / "old.npz"), read_statistics(tmp_path / "own.npz")):
        assert found.covariance.dtype == np.float64
        assert found.covariance_eps == {np.float16: 2.0**-10, np.float32: FLOAT32_EPS, np.float64: FLOAT64_EPS}[dtype]


@pytest.mark.parametrize("stored_again", [False, True])
def test_rounding_of_a_stored_float32_covariance_does_not_count_as_variance(tmp_path, stored_again):
    """The reference has rank 3 of 64. Its Fréchet distance is known: N(0, I) against N(0, P) with a projection P.

    tr I + tr P - 2 tr P = 64 - 3. Rounding to float32 leaves eigenvalues of about 1e-7 in all other dimensions, whose
    square roots of about 3e-4 are not those of any image.
    """
    d, rank = 64, 3
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((d, rank)))[0]
    np.savez(tmp_path / "low.npz", mu=np.zeros(d), sigma=(basis @ basis.T).astype(np.float32))
    np.savez(tmp_path / "full.npz", mu=np.zeros(d), sigma=np.eye(d))
    low = read_statistics(tmp_path / "low.npz")
    if stored_again:
        low.save(tmp_path / "again.npz")
        low = read_statistics(tmp_path / "again.npz")
    value = float(frechet.score(low, tmp_path / "full.npz", interval="none")["fid"])
    assert value == pytest.approx(d - rank, abs=1e-5)


def test_an_existing_file_is_kept(tmp_path):
    (tmp_path / "s.npz").write_text("precious")
    with pytest.raises(OutputError, match="--force"):
        make_statistics(make_rows()).save(tmp_path / "s.npz")
    assert (tmp_path / "s.npz").read_text() == "precious"
    make_statistics(make_rows()).save(tmp_path / "s.npz", force=True)
    assert is_statistics_file(tmp_path / "s.npz")


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    (tmp_path / "s.npz").write_text("precious")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(RunError, match="the disk is full"):
        make_statistics(make_rows()).save(tmp_path / "s.npz", force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["s.npz"]
    assert (tmp_path / "s.npz").read_text() == "precious"


def described(**metadata):
    return {"frechet": np.array(json.dumps({"format": 1, "n": 5} | metadata))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("mu"), "has no mu"),
        (lambda a: a.pop("sigma"), "has no sigma"),
        (lambda a: a["mu"].__setitem__(0, np.nan), "mu contains NaN"),
        (lambda a: a["sigma"].__setitem__((0, 0), np.inf), "sigma contains NaN or infinity"),
        (lambda a: a.update(sigma=np.eye(4)), r"shape \(5,\) and sigma \(4, 4\)"),
        (lambda a: a.update(mu=np.zeros((2, 5))), r"shape \(2, 5\) and sigma \(5, 5\)"),
        (lambda a: a.update(mu=np.zeros((2, 5)), sigma=np.eye(2)), r"shape \(2, 5\) and sigma \(2, 2\)"),
        (lambda a: a.update(mu=np.zeros(0), sigma=np.zeros((0, 0))), r"shape \(0,\) and sigma \(0, 0\)"),
        (lambda a: a["sigma"].__setitem__((0, 1), 9.0), "not a covariance"),
        (lambda a: a["sigma"].__setitem__((0, 0), -1.0), "not a covariance"),
        (lambda a: a.update(mu=a["mu"].astype(int)), "mu is int64; expected floating point"),
        (lambda a: a.update(sigma=a["sigma"].astype(int)), "sigma is int64; expected floating point"),
        (lambda a: a.update(mu=np.array([object()] * 5)), "Python objects"),
        (lambda a: a.update(frechet=np.array("nonsense")), "description"),
        (lambda a: a.update(frechet=np.array("[1]")), "description"),
        (lambda a: a.update(described(n="many")), "description"),
        (lambda a: a.update(described(n_source="<b>")), "description"),
        (lambda a: a.update(described(n=1)), "n = 1 .* at least two"),
        (lambda a: a.update(described(seed=-1)), "seed is -1"),
        (lambda a: a.update(described(seed=2**63)), f"seed is {2**63}"),
        (lambda a: a.update(described(recipe={"x": 1})), r"spec \{'x': 1\} .*Upgrade frechet"),
        (lambda a: a.update(described(recipe={"layer": 5})), "spec {'layer': 5}"),
        (lambda a: a.update(described(recipe={"official": "yes"})), "spec {'is_official': 'yes'}"),
        (lambda a: a.update(described(recipe=[])), "spec"),
        (lambda a: a.update(described(covariance_eps=1.0)), "covariance_eps = 1"),
        (lambda a: a.update(described(covariance_eps=-0.1)), "covariance_eps = -0.1"),
        (lambda a: a.update(described(covariance_eps=float("nan"))), "covariance_eps = nan"),
        (lambda a: a.update(described(format=2)), "no checksums"),
        (
            lambda a: a.update(described(n_units=6)),
            "6 sampling units .* of 5 images; expected at most .* frechet stats",
        ),
        (lambda a: a.update(described(n_units=-1)), "-1 sampling units"),
        (lambda a: a.update(described(grouped_by="folder")), "'folder'.*expected .* image, pair, cluster or stratum"),
    ],
)
def test_invalid_statistics_are_rejected_with_the_reason(tmp_path, change, message):
    arrays = moments()
    change(arrays)
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(StatisticsError, match=message) as caught:
        read_statistics(tmp_path / "s.npz")
    assert str(tmp_path / "s.npz") in str(caught.value)


def test_the_smallest_valid_metadata_values_are_read(tmp_path):
    np.savez(tmp_path / "s.npz", **moments(), **described(n=2, seed=2**63 - 1))
    read = read_statistics(tmp_path / "s.npz")
    assert (read.n, read.seed) == (2, 2**63 - 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": make_rows(51), "places": np.arange(51)}, r"\(51, 5\).* 50 images"),
        ({"rows": make_rows(50, 6)}, r"\(50, 6\).* expected floating point \(k, 5\)"),
        ({"rows": make_rows(49)}, r"\(49, 5\)\) and indices \(50,\)"),
        ({"rows": make_rows()[0]}, r"float32 \(5,\)"),
        ({"rows": make_rows().astype(int)}, r"int64 \(50, 5\)"),
        ({"rows": np.where(np.arange(250).reshape(50, 5) == 77, np.nan, make_rows())}, "rows contain NaN"),
    ],
)
def test_rows_that_do_not_fit_the_images_are_rejected(tmp_path, changes, message):
    np.savez(tmp_path / "s.npz", **format_1_arrays(make_rows()) | changes)
    with pytest.raises(StatisticsError, match=message):
        read_statistics(tmp_path / "s.npz")


@pytest.mark.parametrize("k", [1, 49, 50])
def test_a_sample_of_at_most_n_rows_is_read(tmp_path, k):
    x = make_rows()
    np.savez(tmp_path / "s.npz", **format_1_arrays(x) | {"rows": x[:k].astype(float), "places": np.arange(k)})
    read = read_statistics(tmp_path / "s.npz")
    np.testing.assert_array_equal(read.rows, x[:k])
    assert read.rows.dtype == np.float32
    assert (read.features is not None) == (k == 50)


@pytest.mark.parametrize("missing", ["rows", "places"])
def test_rows_without_indices_are_ignored(tmp_path, missing):
    arrays = format_1_arrays(make_rows())
    del arrays[missing]
    np.savez(tmp_path / "s.npz", **arrays)
    read = read_statistics(tmp_path / "s.npz")
    assert (read.rows, read.indices) == (None, None)


def test_rows_of_an_unknown_number_of_images_and_labels_without_rows_are_ignored(tmp_path):
    make_statistics(make_rows(), n=None).save(tmp_path / "s.npz")
    assert read_statistics(tmp_path / "s.npz").rows is None
    make_statistics(make_rows(), rows=None).save(tmp_path / "s.npz", force=True)
    add_arrays(tmp_path / "s.npz", labels=np.array(["a.png"] * 50))
    assert read_statistics(tmp_path / "s.npz").labels is None


def test_asymmetry_and_negative_variance_within_rounding_are_accepted(tmp_path):
    """float32 rounds to 1.2e-7; a hundred times that is the tolerance, relative to the largest variance."""
    sigma = np.diag([1.0, 0.0]).astype(np.float32)
    for index, value, is_valid in (((1, 1), -1e-6, True), ((1, 1), -1e-4, False), ((0, 1), 1e-6, True)):
        changed = sigma.copy()
        changed[index] = value
        np.savez(tmp_path / "s.npz", mu=np.zeros(2), sigma=changed)
        if is_valid:
            assert read_statistics(tmp_path / "s.npz").covariance[index] == np.float32(value)
        else:
            with pytest.raises(StatisticsError, match="not a covariance"):
                read_statistics(tmp_path / "s.npz")


@pytest.mark.parametrize(("asymmetry", "is_valid"), [(1e-4, True), (1e-2, False)])
def test_the_tolerance_of_asymmetry_grows_with_the_number_of_dimensions(tmp_path, asymmetry, is_valid):
    """100 · 1.2e-7 · 64 = 7.6e-4 for 64 dimensions in float32: the rounding of a product grows with its length."""
    sigma = np.eye(64, dtype=np.float32)
    sigma[0, 1] = asymmetry
    np.savez(tmp_path / "s.npz", mu=np.zeros(64), sigma=sigma)
    with nullcontext() if is_valid else pytest.raises(StatisticsError, match="not a covariance"):
        read_statistics(tmp_path / "s.npz")


def test_a_covariance_of_zero_is_read(tmp_path):
    """Constant features have one."""
    np.savez(tmp_path / "s.npz", mu=np.ones(3), sigma=np.zeros((3, 3)))
    np.testing.assert_array_equal(read_statistics(tmp_path / "s.npz").covariance, np.zeros((3, 3)))


def test_tensorflows_mean_of_shape_1_d_is_read(tmp_path):
    np.savez(tmp_path / "s.npz", mu=np.zeros((1, 3)), sigma=np.eye(3))
    assert read_statistics(tmp_path / "s.npz").mean.shape == (3,)
    np.savez(tmp_path / "one.npz", mu=np.zeros(1), sigma=np.eye(1))
    assert read_statistics(tmp_path / "one.npz").mean.shape == (1,)


@pytest.mark.parametrize("name", ["mu", "sigma", "rows", "indices"])
def test_an_array_that_does_not_match_its_checksum_is_rejected(tmp_path, name):
    make_statistics(make_rows()).save(tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz") as archive:
        changed = archive[name].copy()
    changed.flat[0] += 1
    rewrite(tmp_path / "s.npz", **{name: changed})
    with pytest.raises(StatisticsError) as caught:
        read_statistics(tmp_path / "s.npz")
    recorded = read_metadata(tmp_path / "s.npz")["checksums"][name]
    for part in (str(tmp_path / "s.npz"), f"array {name}", recorded, "damaged or was edited", "frechet stats"):
        assert part in str(caught.value)


def test_checksums_cover_dtype_and_shape(tmp_path):
    make_statistics(make_rows()).save(tmp_path / "s.npz")
    for changes in ({"rows": make_rows().view(np.int32)}, {"rows": make_rows().reshape(5, 50)}):
        rewrite(tmp_path / "s.npz", **changes)
        with pytest.raises(StatisticsError, match="array rows has the sha256"):
            read_statistics(tmp_path / "s.npz")


def test_checksums_are_those_of_the_documented_bytes(tmp_path):
    make_statistics(make_rows()).save(tmp_path / "s.npz")
    expected = hashlib.sha256(b"<f4 (50, 5)" + make_rows().astype("<f4").tobytes()).hexdigest()
    assert read_metadata(tmp_path / "s.npz")["checksums"]["rows"] == expected


def test_arrays_may_be_stored_in_fortran_order(tmp_path):
    make_statistics(make_rows()).save(tmp_path / "s.npz")
    rewrite(tmp_path / "s.npz", rows=np.asfortranarray(make_rows()))
    np.testing.assert_array_equal(read_statistics(tmp_path / "s.npz").rows, make_rows())


def test_a_missing_array_or_checksum_is_rejected(tmp_path):
    make_statistics(make_rows()).save(tmp_path / "s.npz")
    rewrite(tmp_path / "s.npz", rows=None)
    with pytest.raises(StatisticsError, match="does not contain: rows"):
        read_statistics(tmp_path / "s.npz")
    make_statistics(make_rows()).save(tmp_path / "s.npz", force=True)
    rewrite(tmp_path / "s.npz", labels=np.array(["a"] * 50))
    with pytest.raises(StatisticsError, match=r"array labels has the sha256 .* one that the file records"):
        read_statistics(tmp_path / "s.npz")


def test_unknown_arrays_and_keys_of_format_2_are_ignored(tmp_path):
    make_statistics(make_rows()).save(tmp_path / "s.npz")
    metadata = read_metadata(tmp_path / "s.npz")
    metadata |= {"later": {"x": 1}}
    metadata["checksums"]["later"] = "0" * 64
    rewrite(tmp_path / "s.npz", later=np.ones(3), frechet=seal(metadata))
    assert read_statistics(tmp_path / "s.npz").n == 50


def add_arrays(path, **arrays):
    """Add arrays to a file of format 2 with correct checksums, by the documented recipe."""
    metadata = read_metadata(path)
    for name, array in arrays.items():
        content = f"{array.dtype.str} {array.shape}".encode() + array.tobytes()
        metadata["checksums"][name] = hashlib.sha256(content).hexdigest()
    rewrite(path, **arrays, frechet=seal(metadata))


def group_arrays(x, dtype=np.float64):
    groups = np.array_split(x.astype(float), 3)
    scatters = [np.cov(group, rowvar=False, bias=True) * len(group) for group in groups]
    upper = [[scatter[i, j] for i in range(5) for j in range(i, 5)] for scatter in scatters]
    return {
        "group_n": np.array([len(group) for group in groups]),
        "group_mean": np.array([group.mean(0) for group in groups], dtype),
        "group_scatter": np.array(upper, dtype),
    }, scatters


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_optional_arrays_are_read(tmp_path, dtype):
    x = make_rows() - 100
    make_statistics(x).save(tmp_path / "s.npz")
    groups, scatters = group_arrays(x, dtype)
    labels = np.array([f"{i}.png" for i in range(50)])
    thumbnails = np.arange(2 * 4 * 3 * 3, dtype=np.uint8).reshape(2, 4, 3, 3)
    add_arrays(tmp_path / "s.npz", **groups, labels=labels, thumbnails=thumbnails, thumbnail_indices=np.array([0, 49]))
    read = read_statistics(tmp_path / "s.npz")
    assert read.labels == tuple(labels.tolist())
    np.testing.assert_array_equal(read.thumbnails, thumbnails)
    np.testing.assert_array_equal(read.thumbnail_indices, [0, 49])
    assert read.group_moments.n.tolist() == [17, 17, 16]
    for group, scatter in enumerate(scatters):
        np.testing.assert_allclose(read.group_moments.get(group).scatter, scatter, rtol=1e-5, atol=1e-5)
    merged = read.group_moments.merge_groups(range(3))
    np.testing.assert_allclose(merged.covariance, read.covariance, rtol=1e-5, atol=1e-6)


def test_group_moments_units_and_thumbnails_survive_a_file(tmp_path):
    x = make_rows()
    groups = GroupMoments.from_moments([RunningMoments.from_features(part) for part in np.array_split(x, 4)])
    thumbnails = np.full((3, 2, 2, 3), 9, np.uint8)
    sampling = {
        "grouped_by": "cluster",
        "n_units": 25,
        "unit_skewness": 1.25,
        "units": np.repeat(np.arange(25, dtype=np.uint64) + 2**63, 2),
    }
    before = make_statistics(x, group_moments=groups, thumbnails=thumbnails, thumbnail_indices=np.arange(3), **sampling)
    before.save(tmp_path / "s.npz")
    after = read_statistics(tmp_path / "s.npz")
    for name in ("n", "mean", "scatter"):
        np.testing.assert_array_equal(getattr(after.group_moments, name), getattr(groups, name))
    assert after.group_moments.scatter.dtype == np.float32
    assert (after.grouped_by, after.n_units, after.unit_skewness) == ("cluster", 25, 1.25)
    np.testing.assert_array_equal(after.units, sampling["units"])
    np.testing.assert_array_equal(after.thumbnails, thumbnails)
    np.testing.assert_array_equal(after.thumbnail_indices, np.arange(3))


GROUPS = group_arrays(make_rows())[0]
THUMBNAILS = {"thumbnails": np.zeros((2, 4, 3, 3), np.uint8), "thumbnail_indices": np.array([0, 49])}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": np.array(["a"] * 49)}, r"labels are <U1 \(49,\); expected text \(50,\)"),
        ({"labels": np.arange(50)}, r"labels are int64"),
        (GROUPS | {"group_n": np.array([17, 17, 17])}, "group_n .* add up to n"),
        (GROUPS | {"group_n": np.array([67, -17, 0])}, "group_n"),
        (
            GROUPS | {"group_n": np.array([50, 0, 0])},
            r"groups together have a mean that differs from mu by 0\.\d+",
        ),  # other images
        (
            GROUPS | {"group_mean": GROUPS["group_mean"] + 0.1},
            r"groups together have a mean that differs from mu by 0\.1",
        ),
        ({"units": np.arange(49)}, r"units are int64 \(49,\); expected integers \(50,\)"),
        ({"units": np.arange(50.0)}, r"units are float64 \(50,\)"),
        (GROUPS | {"group_n": np.array([17.0, 17.0, 16.0])}, "group_n"),
        (GROUPS | {"group_n": np.array([[17, 17, 16]])}, "group_n"),
        (GROUPS | {"group_mean": GROUPS["group_mean"][:2]}, r"group_mean \(float64 \(2, 5\)\)"),
        (GROUPS | {"group_mean": GROUPS["group_mean"].astype(int)}, "group_mean"),
        (
            GROUPS | {"group_scatter": GROUPS["group_scatter"][:, :14]},
            r"group_scatter \(float64 \(3, 14\)\) .* \(g, 15\)",
        ),
        (GROUPS | {"group_scatter": GROUPS["group_scatter"] * np.nan}, "group moments contain NaN"),
        (GROUPS | {"group_mean": GROUPS["group_mean"] * np.inf}, "group moments contain NaN"),
        (THUMBNAILS | {"thumbnails": np.zeros((2, 4, 3, 3))}, r"thumbnails \(float64"),
        (THUMBNAILS | {"thumbnails": np.zeros((2, 4, 3), np.uint8)}, "thumbnails"),
        (THUMBNAILS | {"thumbnails": np.zeros((2, 4, 3, 1), np.uint8)}, "thumbnails"),
        (THUMBNAILS | {"thumbnail_indices": np.array([0, 50])}, "from 0 to n - 1"),
        (THUMBNAILS | {"thumbnail_indices": np.array([-1, 0])}, "from 0 to n - 1"),
        (THUMBNAILS | {"thumbnail_indices": np.array([0.0, 1.0])}, "thumbnail_indices"),
        (THUMBNAILS | {"thumbnail_indices": np.array([0])}, "thumbnail_indices"),
    ],
)
def test_optional_arrays_that_do_not_fit_are_rejected(tmp_path, arrays, message):
    make_statistics(make_rows()).save(tmp_path / "s.npz")
    add_arrays(tmp_path / "s.npz", **arrays)
    with pytest.raises(StatisticsError, match=message):
        read_statistics(tmp_path / "s.npz")


@pytest.mark.parametrize("name", [*GROUPS, *THUMBNAILS])
def test_incomplete_optional_arrays_are_ignored(tmp_path, name):
    make_statistics(make_rows()).save(tmp_path / "s.npz")
    add_arrays(tmp_path / "s.npz", **{key: value for key, value in (GROUPS | THUMBNAILS).items() if key != name})
    read = read_statistics(tmp_path / "s.npz")
    sizes = None if read.group_moments is None else read.group_moments.n.tolist()
    assert (sizes == [17, 17, 16]) == (name not in GROUPS)
    assert (read.thumbnails is None) == (name in THUMBNAILS)
    assert (read.thumbnail_indices is None) == (name in THUMBNAILS)


def test_a_truncated_file_is_rejected(tmp_path):
    make_statistics(make_rows()).save(tmp_path / "s.npz")
    content = (tmp_path / "s.npz").read_bytes()
    (tmp_path / "s.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(StatisticsError, match="truncated"):
        read_statistics(tmp_path / "s.npz")


def test_a_flipped_bit_is_detected(tmp_path):
    make_statistics(make_rows()).save(tmp_path / "s.npz")
    raw = bytearray((tmp_path / "s.npz").read_bytes())
    raw[300] ^= 1
    (tmp_path / "s.npz").write_bytes(raw)
    with pytest.raises(StatisticsError):
        read_statistics(tmp_path / "s.npz")


def test_a_folder_is_rejected_with_the_command_that_makes_statistics(tmp_path):
    with pytest.raises(StatisticsError, match=f"is a folder; .* frechet stats {tmp_path}"):
        read_statistics(tmp_path)


def test_features_in_a_file_record_their_path(tmp_path):
    x = make_rows()
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "kid.npz", feats=x)
    for found in (read_features(tmp_path / "x.npy", seed=3), read_statistics(tmp_path / "kid.npz")):
        assert found.path in (tmp_path / "x.npy", tmp_path / "kid.npz")
        assert (found.label, found.url, found.made_by) == (str(found.path), None, None)
        assert found.n == 50
    assert read_features(tmp_path / "x.npy", seed=3).seed == 3


def test_keep_all_keeps_every_row_of_a_file_of_features(tmp_path, monkeypatch):
    monkeypatch.setattr(row_sample, "MAX_SAMPLE_ROWS", 10)
    np.save(tmp_path / "x.npy", make_rows())
    np.savez(tmp_path / "kid.npz", feats=make_rows())
    for keep_all, k in ((False, 10), (True, 50)):
        assert len(read_features(tmp_path / "x.npy", keep_all=keep_all).rows) == k
        assert len(read_statistics(tmp_path / "kid.npz", keep_all=keep_all).rows) == k
