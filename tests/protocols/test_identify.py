"""Files of every format, recognised by their content after a reference with the same values was fetched."""

import json
import pickle

import numpy as np
import pytest
from helpers import run
from statistics_server import npz, sha256

import frechet
from frechet.errors import RequestError
from frechet.protocols.references import add_reference
from frechet.protocols.references_identify import identify
from frechet.protocols.references_table import REFERENCES, Reference

N, D = 300, 16
X = (np.random.default_rng(0).standard_normal((N, D)) + 1).astype(np.float32)
MU, SIGMA = X.astype(float).mean(0), np.cov(X.astype(float), rowvar=False)
OTHER = {"mu": np.zeros(7), "sigma": np.eye(7)}


def write_npz(**arrays):
    return lambda path: np.savez(path, **arrays)


def write_pickle(content):
    return lambda path: path.write_bytes(pickle.dumps(content))


def write_torch(make_content):
    def write(path):
        torch = pytest.importorskip("torch")
        torch.save(make_content(torch), path)

    return write


STYLEGAN = {
    "capture_all": False, "capture_mean_cov": True, "max_items": N, "num_items": N, "num_features": D, "all_features": [],
    "raw_mean": X.astype(float).sum(axis=0), "raw_cov": X.astype(float).T @ X.astype(float),
}  # fmt: skip
IMAGES = np.zeros((5, 4, 4, 3), np.uint8)
FORMATS = {  # format -> (file name, function that writes it, entry, images behind the statistics as recorded)
    "pytorch-fid, TTUR, EDM and others": ("a.npz", write_npz(mu=MU, sigma=SIGMA, n_images=N), "mu", None),
    "clean-fid (KID)": ("a.npz", write_npz(feats=X), "feats", N),
    "dgm-eval": ("a.npz", write_npz(reps=X, model="dinov2", hparams=np.array([{}])), "reps", N),
    "StudioGAN": ("a.npz", write_npz(real_feats=X, real_probs=X, real_labels=np.zeros(N)), "real_feats", N),
    "ADM": ("a.npz", write_npz(arr_0=IMAGES, mu=MU, sigma=SIGMA, mu_s=OTHER["mu"], sigma_s=OTHER["sigma"]), "mu", None),
    "imeanflow": ("a.npz", write_npz(ref_mu=MU, ref_sigma=SIGMA), "ref_mu", None),
    "EDM2": (
        "a.pkl",
        write_pickle({"num_images": N, "fid": {"mu": MU, "sigma": SIGMA}, "fd_dinov2": OTHER}),
        "fid",
        N,
    ),
    "FD-Loss": (
        "a.pkl",
        write_pickle({"inception.npz": {"mu": MU, "sigma": SIGMA, "avg_mu": MU}, "clip.npz": OTHER}),
        "inception.npz",
        None,
    ),
    "StyleGAN": ("a.pkl", write_pickle(STYLEGAN), "features", N),
    "torch-fidelity": ("a.pt", write_torch(lambda _: {"mu": MU.astype(np.float32), "sigma": SIGMA}), "mu", None),
    "frechet": ("a.npz", lambda path: frechet.Statistics.from_features(X).save(path), "mu", N),
}


@pytest.fixture
def known(server):
    """A reference at the server with the same values as the files."""
    server.content = npz(mu=MU, sigma=SIGMA)
    add_reference("known", Reference(title="", url=server.url(), extractor=None))
    server.content, server.etag = npz(mu=MU + 1e-3, sigma=SIGMA), '"two"'
    add_reference("similar", Reference(title="", url=server.url("similar.npz"), extractor=None))
    return server


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_recognised_by_its_content(name, known, tmp_path):
    file_name, write, entry, n = FORMATS[name]
    write(tmp_path / file_name)
    found = identify(tmp_path / file_name)
    assert found.format == name
    assert found.sha256 == sha256((tmp_path / file_name).read_bytes())
    assert found.same_file == ()
    assert found.n_images == (5 if name == "ADM" else 0)
    (statistics,) = (each for each in found.statistics if each.entry == entry)
    assert (statistics.fingerprint.n, statistics.fingerprint.dims) == (n, D)
    assert statistics.fingerprint.mean_squared_norm == pytest.approx(MU @ MU, rel=1e-6)
    assert statistics.fingerprint.covariance_trace == pytest.approx(np.trace(SIGMA), rel=1e-6)
    assert statistics.same_values + statistics.equal_sums == ("known",)
    others = [each for each in found.statistics if each.entry != entry]
    assert all(each.same_values == each.equal_sums == () and each.fingerprint.dims == 7 for each in others)
    assert len(others) == (name in ("ADM", "EDM2", "FD-Loss"))


def test_stored_moments_are_recognised_by_a_hash_of_their_values(known, tmp_path):
    for dtype in (np.float32, np.float64):
        np.savez(tmp_path / "a.npz", ref_mu=MU.astype(dtype), ref_sigma=SIGMA.astype(dtype))
        (statistics,) = identify(tmp_path / "a.npz").statistics
        assert statistics.same_values == ("known",)
    changed = SIGMA.copy()
    changed[0, 1] = changed[1, 0] = changed[0, 1] + 0.01  # neither the norm nor the trace changes
    np.savez(tmp_path / "a.npz", mu=MU, sigma=changed)
    (statistics,) = identify(tmp_path / "a.npz").statistics
    assert (statistics.same_values, statistics.equal_sums) == ((), ("known",))


def test_the_same_bytes_under_another_name_are_recognised(known, tmp_path):
    (tmp_path / "download (3).npz").write_bytes(known.content)
    assert identify(tmp_path / "download (3).npz").same_file == ("similar",)


def test_a_published_sha256_is_recognised_before_a_fetch(server, tmp_path, monkeypatch):
    row = Reference(title="noise", url=server.url(), sha256=sha256(server.content))
    monkeypatch.setitem(REFERENCES, "pinned", row)
    (tmp_path / "a.npz").write_bytes(server.content)
    assert identify(tmp_path / "a.npz").same_file == ("pinned",)
    assert server.requests == []


def test_images_are_recognised(server, tmp_path):
    np.savez(tmp_path / "samples.npz", arr_0=IMAGES)
    found = identify(tmp_path / "samples.npz")
    assert (found.format, found.n_images, found.statistics) == ("images", 5, ())


@pytest.mark.parametrize("content", [b"text", None])
def test_other_files_are_rejected(content, server, tmp_path):
    if content:
        (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(RequestError, match=r"a\.npz"):
        identify(tmp_path / "a.npz")


def test_the_command_shows_the_matches_of_each_entry(known, tmp_path):
    FORMATS["FD-Loss"][1](tmp_path / "a.pkl")
    code, out, _ = run("reference", "identify", tmp_path / "a.pkl")
    assert code == 0
    for part in ("FD-Loss", "inception.npz", "clip.npz", "16 dimensions", f"{MU @ MU:.6g}", "same values as ref:known"):
        assert part in out
    assert json.loads(run("reference", "identify", tmp_path / "a.pkl", "--json")[1])["format"] == "FD-Loss"
    np.savez(tmp_path / "b.npz", mu=np.zeros(3), sigma=np.eye(3))
    assert "not one of the references" in run("reference", "identify", tmp_path / "b.npz")[1]
