"""Statistics files exactly as other tools write them."""

import os
import pickle

import numpy as np
import pytest
from toy import PIXELS, TOY, first_six_values

import frechet
from frechet.errors import RequestError, StatisticsError
from frechet.execution.settings import Settings
from frechet.statistics import safe_npz
from frechet.statistics.foreign_formats import SPATIAL_DIMS, is_statistics_file
from frechet.statistics.npz_format import read_features, read_statistics


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).standard_normal((300, 64)).astype(np.float32)


def moments(x):
    return x.astype(float).mean(0), np.cov(x.astype(float), rowvar=False)


def assert_read(path, x, n=None, dims=None):
    assert is_statistics_file(path)
    statistics = read_statistics(path, dims)
    mu, sigma = moments(x)
    np.testing.assert_allclose(statistics.mean, mu, atol=1e-6)
    np.testing.assert_allclose(statistics.covariance, sigma, atol=1e-6)
    assert statistics.n == n


def test_both_file_types_of_clean_fid(tmp_path, x):
    mu, sigma = moments(x)
    np.savez_compressed(tmp_path / "fid.npz", mu=mu.astype(np.float32), sigma=sigma)
    np.savez_compressed(tmp_path / "kid.npz", feats=x)
    assert_read(tmp_path / "fid.npz", x)
    assert_read(tmp_path / "kid.npz", x, n=300)


def test_imeanflow(tmp_path, x):
    mu, sigma = moments(x)
    np.savez(tmp_path / "ref.npz", ref_mu=mu, ref_sigma=sigma)
    assert_read(tmp_path / "ref.npz", x)


@pytest.mark.slow
def test_adm_batches_contain_two_statistics_and_images(tmp_path, x):
    mu, sigma = moments(x)
    spatial = np.random.default_rng(1).standard_normal(SPATIAL_DIMS)
    np.savez(
        tmp_path / "adm.npz",
        arr_0=np.zeros((3, 8, 8, 3), np.uint8), mu=mu, sigma=sigma, mu_s=spatial, sigma_s=np.eye(SPATIAL_DIMS),
    )  # fmt: skip
    assert_read(tmp_path / "adm.npz", x)
    found = read_statistics(tmp_path / "adm.npz", SPATIAL_DIMS)
    np.testing.assert_array_equal(found.mean, spatial)
    assert frechet.score(found, found)["sfid"].label == "sFID"
    np.savez(tmp_path / "samples.npz", arr_0=np.zeros((3, 8, 8, 3), np.uint8))
    assert not is_statistics_file(tmp_path / "samples.npz")


def test_metrics_of_all_features_use_the_images_in_adm_batches(tmp_path, monkeypatch):
    """As in ADM's evaluator: the distance is computed from mu and sigma, precision and recall from arr_0, with fewer images."""
    monkeypatch.setattr(Settings, "load", lambda *_: TOY)
    random = np.random.default_rng(2)
    generated, stored, whole = (random.integers(0, 256, (n, PIXELS, PIXELS, 3), np.uint8) for n in (40, 30, 90))
    np.savez(tmp_path / "samples.npz", arr_0=generated)
    mu, sigma = moments(first_six_values(whole))
    np.savez(tmp_path / "virtual.npz", arr_0=stored, mu=mu, sigma=sigma)
    metrics = ["fid", "kid", "precision", "recall", "mifid"]
    scores = frechet.score(tmp_path / "samples.npz", tmp_path / "virtual.npz", metrics=metrics, interval="none")
    assert list(scores) == metrics
    by_images = frechet.score(generated, stored, metrics=metrics, interval="none")
    for key in metrics[1:]:
        assert float(scores[key]) == float(by_images[key])
        assert (scores[key].n_reference, by_images[key].n_reference) == (30, 30)
        assert {key, "30", "images", str(tmp_path / "virtual.npz;")} <= set(scores[key].warnings[-1].split())
    by_moments = frechet.score(generated, whole, metrics=["fid"], interval="none")["fid"]
    assert float(scores["fid"]) == pytest.approx(float(by_moments), rel=1e-6)
    assert scores["fid"].n_reference is None
    assert not any("30 images" in warning for warning in scores["fid"].warnings)
    np.savez(
        tmp_path / "other.npz", arr_0=np.zeros((9, 6), np.float32), mu=mu, sigma=sigma
    )  # an arr_0 that is not images
    other = frechet.score(tmp_path / "samples.npz", tmp_path / "other.npz", metrics=["fid", "kid"], interval="none")
    for part in (str(tmp_path / "other.npz"), "pass the images"):
        assert part in other.unavailable["kid"]


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_edm2(tmp_path, x, protocol):
    mu, sigma = moments(x)
    other = {"mu": np.zeros(7), "sigma": np.eye(7)}
    content = {
        "num_images": np.int64(300) if protocol == 4 else 300,
        "fid": {"mu": mu, "sigma": sigma},
        "fd_dinov2": other,
    }
    (tmp_path / "ref.pkl").write_bytes(pickle.dumps(content, protocol))
    assert_read(tmp_path / "ref.pkl", x, n=300)
    assert_read(tmp_path / "ref.pkl", x, n=300, dims=64)
    assert read_statistics(tmp_path / "ref.pkl", 7).dims == 7
    with pytest.raises(StatisticsError, match="no statistics of 9 dimensions"):
        read_statistics(tmp_path / "ref.pkl", 9)


def test_torch_fidelity_cache(tmp_path, x):
    torch = pytest.importorskip("torch")
    mu, sigma = moments(x)
    torch.save({"mu": mu.astype(np.float32), "sigma": sigma}, tmp_path / "stat.pt")
    torch.save(torch.from_numpy(x), tmp_path / "features.pt")
    assert_read(tmp_path / "stat.pt", x)
    assert_read(tmp_path / "features.pt", x, n=300)


def test_dgm_eval_representations_are_read_without_their_pickled_settings(tmp_path, x):
    bomb = np.array([{"batch_size": Bomb(tmp_path / "owned")}])
    np.savez(tmp_path / "reps_a_dinov2_nimage-300_train.npz", model="dinov2", reps=x.astype(np.float64), hparams=bomb)
    assert_read(tmp_path / "reps_a_dinov2_nimage-300_train.npz", x, n=300)
    assert not (tmp_path / "owned").exists()


def test_studiogan_features(tmp_path, x):
    np.savez(tmp_path / "a_feats.npz", real_feats=x, real_probs=x[:, :3], real_labels=np.zeros(300, int))
    assert_read(tmp_path / "a_feats.npz", x, n=300)


def stylegan(x, **changes):
    """The attributes of StyleGAN's FeatureStats, which it pickles as a dict."""
    x64 = x.astype(np.float64)
    content = {
        "capture_all": False,
        "capture_mean_cov": True,
        "max_items": len(x),
        "num_items": len(x),
        "num_features": x.shape[1],
        "all_features": [],
        "raw_mean": x64.sum(axis=0),
        "raw_cov": x64.T @ x64,
    }
    return pickle.dumps(content | changes)


def test_stylegan_sums_become_mean_and_covariance(tmp_path, x):
    (tmp_path / "a.pkl").write_bytes(stylegan(x + np.float32(3)))
    assert_read(tmp_path / "a.pkl", x + np.float32(3), n=300)


def test_stylegan_features_are_used_where_the_sums_are_zeros(tmp_path, x):
    zeros = {"capture_mean_cov": False, "raw_mean": np.zeros(64), "raw_cov": np.zeros((64, 64))}
    (tmp_path / "a.pkl").write_bytes(stylegan(x, capture_all=True, all_features=[x[:200], x[200:]], **zeros))
    assert_read(tmp_path / "a.pkl", x, n=300)
    (tmp_path / "b.pkl").write_bytes(stylegan(x, **zeros))
    (tmp_path / "c.pkl").write_bytes(stylegan(x[:1]))
    for name, problem in (("b.pkl", "capture_mean_cov"), ("c.pkl", "1 image; at least 2")):
        with pytest.raises(StatisticsError, match=problem):
            read_statistics(tmp_path / name)


@pytest.fixture
def bundle(tmp_path, x):
    """A bundle of FD-Loss: two statistics of the same dimension, and one of another."""
    content = {}
    for name, features in (("inception", x), ("jit_in256_stats", x + 1), ("siglip", x[:, :9])):
        mu, sigma = moments(features)
        content[f"{name}.npz"] = {"mu": mu, "sigma": sigma, "avg_mu": mu + 5, "avg_sigma": 2 * sigma}
    (tmp_path / "bundle.pkl").write_bytes(pickle.dumps(content))
    return tmp_path / "bundle.pkl"


def test_an_entry_of_a_bundle_is_selected_by_name_or_by_its_dimension(bundle, x):
    for name in ("jit_in256_stats", "jit_in256_stats.npz"):
        assert_read(bundle.with_name(f"bundle.pkl#{name}"), x + 1)
    assert read_statistics(f"{bundle}#inception").label == f"{bundle}#inception"
    assert read_statistics(f"{bundle}#inception").path == bundle
    assert_read(bundle, x[:, :9], dims=9)


@pytest.mark.parametrize(
    ("entry", "dims", "parts"),
    [
        ("", None, ("several statistics", "inception", "jit_in256_stats", "siglip", "bundle.pkl#NAME")),
        ("", 64, ("several statistics of 64 dimensions", "bundle.pkl#NAME")),
        ("", 7, ("no statistics of 7 dimensions", "siglip.npz (9)")),
        ("#jit_in26_stats", None, ("did you mean jit_in256_stats?", "siglip")),
    ],
)
def test_an_ambiguous_or_unknown_entry_is_rejected_with_the_candidates(bundle, entry, dims, parts):
    with pytest.raises(RequestError) as caught:
        read_statistics(f"{bundle}{entry}", dims)
    for part in parts:
        assert part in str(caught.value)


def test_entries_of_other_files_are_selected_by_name(tmp_path, x):
    mu, sigma = moments(x)
    small = {"mu": np.zeros(7), "sigma": np.eye(7)}
    (tmp_path / "ref.pkl").write_bytes(
        pickle.dumps({"num_images": 300, "fid": {"mu": mu, "sigma": sigma}, "fd_dinov2": small})
    )
    assert read_statistics(tmp_path / "ref.pkl#fd_dinov2").dims == 7
    np.savez(
        tmp_path / "adm.npz", mu=mu, sigma=sigma, mu_s=np.zeros(7), sigma_s=np.eye(7), mu_clip=mu + 1, sigma_clip=sigma
    )
    assert read_statistics(tmp_path / "adm.npz#mu_s").dims == 7
    np.testing.assert_array_equal(read_statistics(tmp_path / "adm.npz#mu_clip").mean, mu + 1)
    assert_read(tmp_path / "adm.npz", x, dims=64)  # not mu_clip, which has as many dimensions


def test_a_file_whose_name_contains_the_sign_of_an_entry_is_read(tmp_path, x):
    mu, sigma = moments(x)
    np.savez(tmp_path / "a.npz#b.npz", mu=mu, sigma=sigma)
    assert_read(tmp_path / "a.npz#b.npz", x)
    frechet.read_statistics(tmp_path / "a.npz#b.npz").save(tmp_path / "own.npz")
    with pytest.raises(StatisticsError, match="leave #b out"):
        read_statistics(tmp_path / "own.npz#b")


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_no_format_executes_pickled_code(tmp_path):
    torch = pytest.importorskip("torch")
    bomb = {"fid": {"mu": Bomb(tmp_path / "owned"), "sigma": np.eye(3)}, "mu": Bomb(tmp_path / "owned")}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(bomb))
    torch.save(bomb, tmp_path / "zip.pt")
    torch.save(bomb, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    np.savez(tmp_path / "a.npz", mu=np.array([Bomb(tmp_path / "owned")]), sigma=np.eye(1))
    (tmp_path / "b.npz").write_bytes(pickle.dumps(bomb))
    for name in ("a.pkl", "zip.pt", "old.pt"):
        with pytest.raises(StatisticsError, match=r"refers to (posix|nt)\.mkdir"):
            read_statistics(tmp_path / name)
    for name in ("a.npz", "b.npz"):
        with pytest.raises(StatisticsError):
            read_statistics(tmp_path / name)
    assert not (tmp_path / "owned").exists()


def test_a_decompression_bomb_is_rejected(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", mu=np.zeros(400), sigma=np.zeros((400, 400)))
    np.savez_compressed(tmp_path / "b.npz", features=np.zeros((2000, 100)))
    assert read_statistics(tmp_path / "a.npz").dims == 400
    monkeypatch.setattr(safe_npz, "_MAX_UNCHECKED_BYTES", 1 << 20)
    for read in (lambda: read_statistics(tmp_path / "a.npz"), lambda: read_features(tmp_path / "b.npz")):
        with pytest.raises(StatisticsError, match=r"would unpack to 1[26]"):
            read()


def test_a_pickle_with_exponentially_many_references_is_read_quickly(tmp_path):
    lists = ["ha"]
    for _ in range(60):
        lists = [lists, lists]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"fid": {"mu": np.ones(2), "sigma": np.eye(2)}, "laughs": lists}))
    assert read_statistics(tmp_path / "a.pkl").dims == 2


def test_object_arrays_in_a_pickle_are_rejected(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"fid": {"mu": np.array([1, "x"], object), "sigma": np.eye(2)}}))
    with pytest.raises(StatisticsError, match="expected numbers"):
        read_statistics(tmp_path / "a.pkl")


def test_non_finite_features_are_rejected_with_their_row(tmp_path, x):
    broken = x.copy()
    broken[17, 3] = np.nan
    np.savez(tmp_path / "kid.npz", feats=broken)
    with pytest.raises(StatisticsError, match="row 17"):
        read_statistics(tmp_path / "kid.npz")
