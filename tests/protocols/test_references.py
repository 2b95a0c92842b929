"""Named references, from a server in the test: the first fetch, changed files, the lock file, and ref:NAME as an input."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from helpers import make_image_folder, run
from statistics_server import npz, sha256

import frechet
from frechet.errors import MismatchError, RequestError, StatisticsError
from frechet.features.spec import FeatureSpec
from frechet.preprocessing.registry import PREPROCESSINGS
from frechet.protocols.references import add_reference, fetch, find_reference, resolve, verify
from frechet.protocols.references_lock import lock_path, read_lock, record_reference
from frechet.protocols.references_table import REFERENCES, Fingerprint, Reference
from frechet.statistics.download_cache import parse_statistics_url, statistics_cache_dir


@pytest.fixture
def published(server, monkeypatch):
    """Two published references at the server: `ours` without a sha256, and `pinned` with one."""
    fields = {"title": "noise", "url": server.url(), "dims": 64, "preprocessing": "tensorflow", "n": 500}
    monkeypatch.setitem(REFERENCES, "ours", Reference(**fields))
    monkeypatch.setitem(REFERENCES, "pinned", Reference(**fields, sha256=sha256(server.content)))
    return server


def test_the_first_fetch_records_and_shows_what_arrived(published):
    code, out, err = run("reference", "fetch", "ours")
    with np.load(resolve("ours")) as arrays:
        mu, sigma = arrays["mu"], arrays["sigma"]
    assert code == 0
    for part in (sha256(published.content), "500 images", f"{mu @ mu:.6g}", f"{np.trace(sigma):.6g}"):
        assert part in out
    for part in ("ref:ours", "no published sha256", sha256(published.content), str(lock_path())):
        assert part in err
    recorded = json.loads(lock_path().read_text())["references"]["ours"]
    assert recorded["sha256"] == sha256(published.content)
    assert recorded["url"] == published.url()
    assert (recorded["n"], recorded["dims"], recorded["preprocessing"]) == (500, 64, "tensorflow")
    assert recorded["fingerprint"]["mean_squared_norm"] == pytest.approx(mu @ mu, rel=1e-12)
    assert recorded["fingerprint"]["covariance_trace"] == pytest.approx(np.trace(sigma), rel=1e-12)
    assert "published" not in run("reference", "fetch", "ours")[2]  # said once
    assert published.count_downloads() == 1


def test_a_reference_that_was_fetched_needs_no_server(published):
    first = resolve("ref:ours")
    published.stop()
    assert resolve("ours") == first
    assert fetch("ours").notes == ()


def test_a_hash_that_differs_from_the_recorded_one_is_an_error(published):
    before = published.content
    resolve("ours")
    published.content, published.etag = npz(1), '"two"'
    for path in statistics_cache_dir().iterdir():
        path.unlink()
    with pytest.raises(StatisticsError) as caught:
        resolve("ours")
    for part in ("ref:ours", sha256(before), sha256(published.content), "frechet reference fetch ours --force"):
        assert part in str(caught.value)
    assert read_lock()["ours"].sha256 == sha256(before)
    code, out, err = run("reference", "fetch", "ours", "--force")
    assert (code, read_lock()["ours"].sha256) == (0, sha256(published.content))
    assert sha256(published.content) in out
    assert sha256(published.content) in err
    assert resolve("ours").read_bytes() == published.content


def test_a_hash_that_differs_from_the_published_one_is_an_error_even_with_force(published):
    assert fetch("pinned").notes == ()
    for path in statistics_cache_dir().iterdir():
        path.unlink()
    right = published.content
    published.content, published.etag = npz(1), '"two"'
    for options in ((), ("--force",)):
        code, _, err = run("reference", "fetch", "pinned", *options)
        assert code == 2
        for part in ("ref:pinned", sha256(right), sha256(published.content), "frechet reference add"):
            assert part in err
    assert read_lock()["pinned"].sha256 == sha256(right)


def test_another_file_behind_the_url_is_rejected_and_not_recorded(published):
    published.content = npz(mu=np.zeros(7), sigma=np.eye(7))
    with pytest.raises(MismatchError, match=r"dims 7; expected 64 for noise"):
        resolve("ours")
    published.content, published.etag = b"<html>log in</html>", '"two"'
    with pytest.raises(StatisticsError, match=r"ref:ours: .*cannot be read"):
        resolve("ours")
    assert read_lock() == {}


@pytest.mark.parametrize("name", ["jit-imagnet-256", "ref:jit-imagnet-256"])
def test_an_unknown_name_is_answered_with_the_nearest(name, server):
    with pytest.raises(RequestError, match=r"unknown reference 'jit-imagnet-256' \(did you mean jit-imagenet-256\?\)"):
        resolve(name)


def test_verify_compares_files_without_a_download(published):
    assert verify("ours") is None
    assert run("reference", "verify")[:2] == (0, "")
    code, _, err = run("reference", "verify", "ours")
    assert code == 2
    assert "frechet reference fetch ours" in err
    path = resolve("ours")
    published.stop()
    assert verify("ours") == path
    code, out, _ = run("reference", "verify")
    assert code == 0
    assert f"ours: {path}" in out
    path.write_bytes(npz(1))
    code, out, err = run("reference", "verify")
    assert code == 2
    for part in ("ref:ours", sha256(npz(1)), sha256(published.content)):
        assert part in err


def test_a_reference_in_a_bundle_is_selected_by_its_url(published, monkeypatch):
    zeros, ones = ({"mu": np.full(7, value), "sigma": np.eye(7)} for value in (0.0, 1.0))
    published.content = pickle.dumps({"zeros.npz": zeros, "ones.npz": ones})
    bundled = Reference(title="a bundle", url=published.url("bundle.pkl") + "#ones", extractor=None)
    monkeypatch.setitem(REFERENCES, "bundled", bundled)
    for _ in range(2):
        np.testing.assert_array_equal(frechet.read_statistics(resolve("bundled")).mean, np.ones(7))
    x = np.random.default_rng(0).standard_normal((300, 7))
    found = frechet.score(x, "ref:bundled", features=True, interval="none")["fd"]
    by_path = frechet.score(x, resolve("bundled"), features=True, interval="none")["fd"]
    assert float(found) == float(by_path)
    assert published.count_downloads() == 1


def test_a_local_file_gets_a_name(tmp_path, server, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.npz").write_bytes(npz())
    code, out, _ = run("reference", "add", "mine", "a.npz", "--size", 500, "--preprocessing", "clean")
    assert code == 0
    assert sha256(npz()) in out
    monkeypatch.chdir("/")
    assert resolve("mine") == tmp_path / "a.npz"
    (tmp_path / "a.npz").write_bytes(npz(1))
    with pytest.raises(StatisticsError) as caught:
        resolve("mine")
    for part in (sha256(npz()), sha256(npz(1)), "fetch mine --force"):
        assert part in str(caught.value)
    assert fetch("mine", accept_changed=True).reference.sha256 == sha256(npz(1))
    assert find_reference("mine").n == 500
    (tmp_path / "a.npz").unlink()
    with pytest.raises(StatisticsError, match=r"no such file: .*a\.npz"):
        resolve("mine")
    assert verify("mine") is None


def test_a_url_gets_a_name_with_the_sha256_that_it_states(server):
    digest = sha256(server.content)
    added = add_reference("mine", Reference(title="", url=f"{server.url()}#sha256={digest}", extractor=None))
    assert (added.reference.url, added.reference.sha256) == (server.url(), digest)
    with pytest.raises(StatisticsError, match="sha256 differs"):
        add_reference("other", Reference(title="", url=f"{server.url('b.npz')}#sha256={'0' * 64}", extractor=None))
    server.content, server.etag = npz(1), '"two"'
    again = Reference(title="", url=server.url(), extractor=None)
    with pytest.raises(StatisticsError, match=rf"recorded with the sha256 {digest}.*--force"):
        add_reference("mine", again)
    assert add_reference("mine", again, force=True).reference.sha256 == sha256(server.content)


def test_a_recorded_number_of_images_is_only_replaced_with_force(tmp_path, server):
    (tmp_path / "a.npz").write_bytes(npz())
    assert run("reference", "add", "mine", tmp_path / "a.npz", "--size", 4000)[0] == 0
    code, _, err = run("reference", "add", "mine", tmp_path / "a.npz", "--size", 256)
    assert code == 2
    assert "mine was recorded with 4,000 images, and now has 256. If" in err


@pytest.mark.parametrize(
    ("facts", "difference"), [({"preprocessing": "tensorflow"}, "and now has tensorflow"), ({}, "and now has none")]
)
def test_recorded_facts_are_only_replaced_with_force(facts, difference, tmp_path, server):
    (tmp_path / "a.npz").write_bytes(npz())

    def add(facts, **options):
        reference = Reference(title="", url=str(tmp_path / "a.npz"), extractor=None, **facts)
        return add_reference("mine", reference, **options)

    add({"preprocessing": "clean"})
    with pytest.raises(StatisticsError, match=f"recorded with the preprocessing clean, {difference}.*--force"):
        add(facts)
    assert find_reference("mine").preprocessing == "clean"
    add({"preprocessing": "clean"})
    add(facts, force=True)
    assert find_reference("mine").preprocessing == facts.get("preprocessing")


@pytest.mark.parametrize(
    ("name", "url", "facts", "parts"),
    [
        ("jit-imagenet-256", "own.npz", {}, ("published reference", "another name")),
        ("a/b", "own.npz", {}, ("not a valid name",)),
        ("mine", "https://me:secret@host/a.npz", {}, ("user or password",)),
        ("mine", "missing.npz", {}, ("no such file",)),
        ("mine", "own.npz", {"n": 301}, ("n 300", "expected 301")),
        ("mine", "own.npz", {"preprocessing": "clean"}, ("preprocessing tensorflow", "expected clean")),
    ],
)
def test_invalid_names_and_contradictions_are_rejected(name, url, facts, parts, tmp_path, server):
    spec = FeatureSpec(extractor="inception", preprocessing="tensorflow")
    x = np.random.default_rng(0).standard_normal((300, 5)).astype(np.float32)
    frechet.Statistics.from_features(x, spec=spec).save(tmp_path / "own.npz")
    address = url if "://" in url else str(tmp_path / url)
    with pytest.raises(RequestError) as caught:
        add_reference(name, Reference(title="mine", url=address, extractor=None, **facts))
    for part in parts:
        assert part in str(caught.value)
    assert "secret" not in str(caught.value)
    assert read_lock() == {}


# The lock file


def entry(letter):
    values = Fingerprint(n=3, dims=2, mean_squared_norm=1.0, covariance_trace=2.0, values_sha256="0" * 64)
    return Reference(title="ä", url=f"/{letter}.npz", sha256=letter * 64, fingerprint=values)


KILLED_WRITE = """
import json, os, signal
from test_references import entry
from frechet.protocols.references_lock import record_reference
whole = json.dumps
def dump(content, file, **options):
    file.write(whole(content)[:200])
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
json.dump = dump
record_reference("two", entry("b"))
"""


@pytest.mark.subprocess
def test_the_lock_file_survives_a_kill_during_a_write(server):
    record_reference("one", entry("a"))
    before = lock_path().read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WRITE],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [path.suffix for path in lock_path().parent.iterdir() if path.suffix == ".partial"]
    assert lock_path().read_bytes() == before
    record_reference("two", entry("b"))
    assert read_lock() == {"one": entry("a"), "two": entry("b")}


@pytest.mark.slow
def test_concurrent_writers_lose_nothing(server):
    names = [f"r{number}" for number in range(12)]
    threads = [threading.Thread(target=record_reference, args=(name, entry("a"))) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(read_lock()) == set(names)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "JSON"),
        ("[]", "expected the references"),
        ('{"format": 9, "references": {}}', "format is 9"),
        ('{"format": 1, "references": {"a": {"title": 3}}}', "cannot be read"),
        (
            '{"format": 1, "references": {"a": {"title": "", "url": "", "sha256": null, "fingerprint": {}}}}',
            "not a text",
        ),
    ],
)
def test_a_damaged_lock_file_is_an_error_that_names_it(content, reason, server):
    lock_path().parent.mkdir(parents=True)
    lock_path().write_text(content)
    with pytest.raises(StatisticsError, match=reason) as caught:
        find_reference("adm-imagenet-256")
    assert str(lock_path()) in str(caught.value)


# ref:NAME as an input


@pytest.mark.slow
def test_a_score_follows_the_preprocessing_of_a_named_reference(published, toy_options, tmp_path, monkeypatch):
    folders = [make_image_folder(tmp_path / name, 12, seed) for seed, name in enumerate(("generated", "reference"))]
    frechet.collect(folders[1], preprocessing="clean", **toy_options).save(tmp_path / "own.npz")
    with np.load(tmp_path / "own.npz") as arrays:
        published.content = npz(mu=arrays["mu"], sigma=arrays["sigma"])
    row = Reference(title="noise", url=published.url(), n=12, dims=5, extractor="toy-name", preprocessing="clean")
    monkeypatch.setitem(REFERENCES, "small", row)
    options = {"metrics": ["fd"], "interval": "none", **toy_options}
    score = frechet.score(folders[0], "ref:small", **options)["fd"]
    expected = frechet.score(folders[0], folders[1], preprocessing="clean", **options)["fd"]
    assert float(score) == pytest.approx(float(expected), rel=1e-9)
    assert score.provenance["preprocessing"] == "clean"
    reference = score.provenance["reference"]
    assert (reference["label"], reference["sha256"], reference["n"]) == ("ref:small", sha256(published.content), 12)
    assert any("no published sha256" in warning for warning in score.warnings)
    with pytest.raises(MismatchError, match=r"preprocessing pytorch-fid \(generated\) and clean \(reference\)"):
        frechet.score(folders[0], "ref:small", preprocessing="pytorch-fid", **options)


def test_a_named_reference_of_another_extractor_is_rejected(published, toy_options, tmp_path, monkeypatch):
    row = Reference(title="noise", url=published.url(), dims=64, extractor="vit@224", preprocessing="fdr6")
    monkeypatch.setitem(REFERENCES, "vit", row)
    with pytest.raises(MismatchError, match="was computed with vit@224"):
        frechet.score(make_image_folder(tmp_path / "images"), "ref:vit", metrics=["fd"], **toy_options)


# The table


@pytest.mark.slow
def test_rows_of_the_table_are_complete():
    for name, row in REFERENCES.items():
        assert re.fullmatch(r"[a-z0-9.-]+", name)
        assert row.title
        assert row.fingerprint is None
        parsed = parse_statistics_url(row.url)
        assert parsed.url.startswith(("https://", "http://bioinf.jku.at/"))
        assert "/blob/" not in parsed.url
        assert row.sha256 is None or re.fullmatch("[0-9a-f]{64}", row.sha256)
        assert row.extractor != "inception" or row.preprocessing in {*PREPROCESSINGS, "quantised-bicubic"}


def test_the_list_shows_what_is_known(published):
    resolve("ours")
    lines = {line.split()[0]: line for line in run("reference", "list")[1].splitlines()}
    assert {"64", "500", "tensorflow", "recorded"} <= set(lines["ours"].split())
    assert "published" in lines["pinned"].split()
    known = json.loads(run("reference", "list", "--json")[1])
    assert known["ours"]["sha256"] == sha256(published.content)
    assert known["pinned"]["fingerprint"] is None
