"""Statistics at a URL, from a server that drops connections, changes its file, refuses requests and disappears."""

import json
import pickle

import numpy as np
import pytest
from helpers import run
from statistics_server import Server, npz, sha256
from toy import PIXELS, TOY, first_six_values

import frechet
from frechet._internal import download
from frechet.errors import RequestError, StatisticsError
from frechet.execution.settings import Settings
from frechet.statistics.download_cache import is_url, parse_statistics_url, read_remote_statistics, statistics_cache_dir
from frechet.statistics.npz_format import read_statistics


def read(url, **changes):
    return read_remote_statistics(url, read_statistics, **{"timeout": 2.0, **changes})


def cached():
    return sorted(path for path in statistics_cache_dir().iterdir() if path.suffix != ".lock")


def test_score_reads_either_input_from_a_url(server, tmp_path):
    (tmp_path / "local.npz").write_bytes(server.content)
    other = tmp_path / "other.npz"
    other.write_bytes(npz(1))
    expected = float(frechet.score(tmp_path / "local.npz", other)["fid"])
    for inputs in ((server.url(), str(other)), (other, server.url())):
        score = frechet.score(*inputs)["fid"]
        assert float(score) == pytest.approx(expected, rel=1e-9)
    assert score.provenance["reference"]["label"] == server.url()
    assert score.provenance["reference"]["sha256"] == sha256(server.content)
    assert score.provenance["generated"]["sha256"] is None
    assert float(frechet.score(server.url(), server.url())["fid"]) == pytest.approx(0, abs=1e-9)


def test_an_unchanged_file_is_downloaded_once(server):
    for _ in range(3):
        read(server.url())
    assert server.count_downloads() == 1
    server.etag = None
    for _ in range(2):  # only its size is known
        read(server.url("other.npz"))
    read(server.url() + "?version=2")
    assert server.count_downloads() == 3
    assert len({path.name for path in cached()}) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"etag": '"two"'},
        {"etag": None, "modified": "Wed, 01 Jul 2026 00:00:00 GMT"},
        {"content": npz(1) + b"longer", "etag": None},
    ],
)
def test_a_changed_file_is_downloaded_again(server, change):
    server.etag = None if "etag" in change and change["etag"] is None else '"one"'
    read(server.url())
    vars(server).update(content=npz(1))
    vars(server).update(change)
    assert read(server.url()).sha256 == sha256(server.content)
    assert server.count_downloads() == 2


def test_a_file_without_validators_is_downloaded_each_time(server):
    server.etag, server.length, server.ranges = None, False, False
    read(server.url())
    server.content = npz(1)
    assert read(server.url()).sha256 == sha256(server.content)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_dropped_download_is_resumed(server, ranges):
    server.ranges, server.cuts = ranges, 2 if ranges else 1
    seen = []
    assert read(server.url(), progress=lambda *facts: seen.append(facts)).sha256 == sha256(server.content)
    assert seen[-1] == ("download ref.npz", len(server.content), len(server.content))
    assert [path.name.rpartition("-")[2] for path in cached()] == ["ref.npz"]


def test_a_dropped_download_of_unknown_size_is_detected_and_not_resumed(server, monkeypatch):
    server.etag, server.length, server.cuts = None, False, 1
    monkeypatch.setattr(download, "_MAX_ATTEMPTS", 1)
    monkeypatch.setattr(download, "_BLOCK_SIZE", 1000)
    with pytest.raises(StatisticsError, match="IncompleteRead"):
        read(server.url())
    server.content = npz(1)
    assert read(server.url()).sha256 == sha256(server.content)


def test_a_failed_download_reports_how_many_bytes_arrived(server):
    server.ranges, server.cuts = False, 99
    half, whole = len(server.content) // 2, len(server.content)
    with pytest.raises(StatisticsError, match=rf"ref\.npz: returned {half} of {whole} bytes"):
        read(server.url())


def test_a_partial_download_is_only_resumed_with_the_same_version(server, monkeypatch):
    monkeypatch.setattr(download, "_MAX_ATTEMPTS", 1)
    for etag, resumed in (('"one"', True), ('"two"', False)):
        server.etag, server.content, server.cuts = '"one"', npz(), 1
        with pytest.raises(StatisticsError, match="the download failed"):
            read(server.url())
        (left,) = cached()
        server.etag, server.content = etag, npz() if resumed else npz(1)
        assert read(server.url()).sha256 == sha256(server.content)
        assert (server.requests[-1][1].get("Range") is not None) == resumed
        assert left.exists() != resumed
        for path in cached():
            path.unlink()


def test_the_cached_copy_is_used_offline_with_a_warning(server):
    before = read(server.url())
    server.status = 503
    broken = read(server.url())
    server.garbage = True
    malformed = read(server.url())
    server.stop()
    unreachable = read(server.url())
    for after in (broken, malformed, unreachable):
        np.testing.assert_array_equal(after.mean, before.mean)
        (note,) = after.notes
        assert "could not be reached" in note
        assert "the copy downloaded earlier was used" in note
        assert after.path == before.path
    assert any("earlier was used" in warning for warning in frechet.score(before, server.url())["fid"].warnings)
    with pytest.raises(StatisticsError, match=r"never\.npz could not be downloaded: .*refused"):
        read(server.url("never.npz"))


def test_a_refused_request_does_not_fall_back_to_the_cache(server):
    read(server.url())
    server.status = 404
    with pytest.raises(StatisticsError, match=r"ref\.npz could not be downloaded: .*404 Not Found"):
        read(server.url())


@pytest.mark.parametrize(
    ("status", "reason", "fix"),
    [
        (401, "Unauthorized", "check the credentials"),
        (403, "Forbidden", "check the credentials"),
        (429, "Too Many Requests", "try again later"),
        (503, "Service Unavailable", "try again later"),
    ],
)
def test_an_error_status_is_reported_with_the_fix(server, status, reason, fix):
    read(server.url())
    server.status = status
    with pytest.raises(StatisticsError, match=rf"other\.npz could not be downloaded: .*{status} {reason}.*{fix}"):
        read(server.url("other.npz"))
    if status in (429, 503):  # temporary, so the cached copy is used
        assert "the copy downloaded earlier was used" in read(server.url()).notes[0]


def test_a_url_records_its_cached_download(server):
    statistics = read(server.url() + f"#sha256={sha256(server.content)}")
    assert statistics.path == cached()[0]
    assert statistics.path.read_bytes() == server.content
    assert statistics.path.suffix == ".npz"
    assert statistics.url == server.url() + f"#sha256={sha256(server.content)}"
    assert statistics.sha256 == sha256(server.content)


def test_images_stored_next_to_statistics_are_found_by_url(server, tmp_path, monkeypatch):
    """A file in ADM's format gives the same scores from a disk and from a server."""
    monkeypatch.setattr(Settings, "load", lambda *_: TOY)
    random = np.random.default_rng(2)
    generated, stored = (random.integers(0, 256, (n, PIXELS, PIXELS, 3), np.uint8) for n in (40, 30))
    x = first_six_values(stored).astype(float)
    server.content = npz(arr_0=stored, mu=x.mean(0), sigma=np.cov(x, rowvar=False))
    (tmp_path / "local.npz").write_bytes(server.content)
    url = server.url(host="me:secret@127.0.0.1")
    local, remote = (
        frechet.score(generated, reference, metrics=["fid", "kid"], interval="none")
        for reference in (tmp_path / "local.npz", url)
    )
    assert list(remote) == ["fid", "kid"]
    for key in remote:
        assert float(remote[key]) == float(local[key])
    assert "secret" not in remote.to_json()


@pytest.mark.parametrize("address", ["{server}/me/model/resolve/main/samples.npz", "hf://me/model/samples.npz"])
def test_an_array_of_images_is_scored_by_its_url(server, monkeypatch, address):
    monkeypatch.setattr(Settings, "load", lambda *_: TOY)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    generated, stored = np.random.default_rng(2).integers(0, 256, (2, 40, PIXELS, PIXELS, 3), np.uint8)
    server.content = npz(arr_0=generated)
    url = address.format(server=f"http://127.0.0.1:{server.server_port}")
    score = frechet.score(url, stored, interval="none")["fid"]
    assert float(score) == float(frechet.score(generated, stored, interval="none")["fid"])
    assert score.provenance["generated"]["label"] == url


def test_a_file_with_a_verified_sha256_needs_no_server(server):
    right = f"{server.url()}#sha256={sha256(server.content).upper()}"
    assert read(right).label == server.url()
    wrong = f"{server.url()}#sha256={'0' * 64}"
    with pytest.raises(StatisticsError, match=f"sha256 differs: {sha256(server.content)}, not {'0' * 64}"):
        read(wrong)
    read(right)
    server.stop()
    assert read(right).notes == ()
    with pytest.raises(StatisticsError, match="could not be downloaded"):
        read(wrong)


def test_credentials_are_sent_to_the_server_and_never_displayed(server, tmp_path):
    other = Server()
    server.moved = other.url()
    url = server.url(host="me:s%40cret@127.0.0.1") + "?token=hidden"
    statistics = read(url)
    other.stop()
    assert [headers["Authorization"] for _, headers in server.requests] == ["Basic bWU6c0BjcmV0"] * 2  # me:s@cret
    assert [headers["Authorization"] for _, headers in other.requests] == [None] * 2
    assert server.requests[0][0] == "/some/ref.npz?token=hidden"
    assert (statistics.label, statistics.url) == (server.url() + "?...", url)
    for shown in (repr(statistics), str(statistics.path)):
        assert "cret" not in shown
        assert "hidden" not in shown
    server.status, server.moved = 403, None
    with pytest.raises(StatisticsError, match="403") as caught:
        read(server.url("new.npz", "me:s%40cret@127.0.0.1") + "?token=hidden")
    assert "cret" not in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_proxies_are_used(server, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("no_proxy", "")
    read("http://frechet.invalid/ref.npz")
    assert server.requests[0][0] == "http://frechet.invalid/ref.npz"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npz", npz(arr_1=np.zeros((3, 4, 4, 3), np.uint8)), "has no mu; expected"),
        ("a.npz", npz(arr_0=np.zeros((9, 6))), "has no mu; expected"),
        ("a.npz", b"<html>log in</html>", "cannot be read as statistics"),
        ("a.npz", npz()[:-200], "truncated"),
        ("a.pkl", b"cos\nmkdir\n(S'owned'\ntR.", r"refers to os\.mkdir"),
        ("a.pt", b"text", "cannot be read|not a"),
    ],
)
def test_other_files_are_rejected_with_their_url_and_not_cached(server, name, content, message):
    server.content = content
    with pytest.raises(RequestError, match=message) as caught:
        frechet.score(server.url(name), frechet.collect(np.ones((2, 3)) * [[1], [2]], features=True))
    assert server.url(name) in str(caught.value)
    assert str(statistics_cache_dir()) not in str(caught.value)
    assert not cached()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://host/a.png?x=ref.npz", "is one image"),
        ("nonsense://bucket/ref.npz", "nonsense://bucket/ref.npz cannot be read"),
        ("https://host/a.npz#sha256=12", "64 hexadecimal digits"),
        ("https://host/a.npz#md5=12", "64 hexadecimal digits"),
    ],
)
def test_other_urls_are_rejected_before_anything_is_downloaded(url, message):
    with pytest.raises(RequestError, match=message):
        frechet.score(url, url)


def test_names_in_the_cache_are_safe_paths():
    parsed = parse_statistics_url("https://host/a/..%2f..%2fevil name\u0000.npz")
    assert set("/\\ \0%") & set(parsed.name) == set()
    assert parse_statistics_url("https://host/a/ref.npz").key != parse_statistics_url("https://host/b/ref.npz").key
    assert "%20" in parse_statistics_url("https://host/a b.npz").url
    assert not is_url("folder/ref.npz")
    assert not is_url("C:\\ref.npz")


def test_features_are_read_from_a_url(server):
    x = np.random.default_rng(0).standard_normal((300, 64))
    server.content = npz(features=x)
    assert float(frechet.score(server.url(), x, features=True)["fd"]) == pytest.approx(0, abs=1e-9)


def test_the_command_line_reads_a_url(server, tmp_path):
    (tmp_path / "a.npz").write_bytes(npz(1))
    code, out, err = run("score", tmp_path / "a.npz", server.url(), "--json", "--reference-size", "500")
    assert code == 0
    reference = json.loads(out)["provenance"]["reference"]
    assert (reference["label"], reference["n"]) == (server.url(), 500)
    for part in (server.url(), "preprocessing", "--reference-preprocessing"):
        assert part in err
    code, _, err = run("score", tmp_path / "a.npz", server.url("a.pkl"))
    assert code == 2


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("hf://me/model/stats/ref.npz", "/me/model/resolve/main/stats/ref.npz"),
        ("hf://datasets/me/data@v1.0/ref.npz", "/datasets/me/data/resolve/v1.0/ref.npz"),
        ("hf://datasets/me/data@refs/pr/3/ref.npz", "/datasets/me/data/resolve/refs%2Fpr%2F3/ref.npz"),
        ("{hub}/me/model/blob/main/ref.npz", "/me/model/resolve/main/ref.npz"),
        ("{hub}/datasets/me/data/blob/main/blob/ref.npz", "/datasets/me/data/resolve/main/blob/ref.npz"),
        ("{hub}/gpt2/raw/main/ref.npz", "/gpt2/resolve/main/ref.npz"),
        ("{hub}/me/model/resolve/main/ref.npz", "/me/model/resolve/main/ref.npz"),
    ],
)
def test_addresses_and_pages_of_the_hub_are_resolved(server, monkeypatch, address, path):
    hub = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", hub)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    url = address.format(hub=hub)
    statistics = read(url)
    assert {requested for requested, _ in server.requests} == {path}
    assert (statistics.label, statistics.url) == (url, url)
    assert all(headers["Authorization"] is None for _, headers in server.requests)


def test_the_hubs_token_is_sent_to_the_hub_alone(server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    read(server.url())
    assert server.requests[-1][1]["Authorization"] is None
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    other = Server()
    server.moved = other.url()
    assert "secret" not in repr(read("hf://me/model/ref.npz"))
    other.stop()
    assert server.requests[-1][1]["Authorization"] == "Bearer secret"
    assert other.requests[-1][1]["Authorization"] is None


def test_pages_of_github_are_resolved():
    page = "https://github.com/me/project/blob/main/fid_stats/ref.npz"
    assert parse_statistics_url(page).url == "https://github.com/me/project/raw/main/fid_stats/ref.npz"
    with pytest.raises(RequestError, match="hf://OWNER/NAME/PATH"):
        parse_statistics_url("hf://ref.npz")


def test_a_url_selects_one_of_several_statistics(server):
    stored = {"mu": np.zeros(2), "sigma": np.eye(2)}
    server.content = pickle.dumps({"a.npz": stored, "b.npz": {"mu": np.ones(2), "sigma": np.eye(2)}})
    url = server.url("bundle.pkl")
    statistics = read(f"{url}#b&sha256={sha256(server.content)}")
    np.testing.assert_array_equal(statistics.mean, np.ones(2))
    assert statistics.label == f"{url}#b"
    np.testing.assert_array_equal(read(f"{url}#a.npz").mean, np.zeros(2))
    for address, part in ((url, "several statistics; it has a.npz"), (f"{url}#c", "choose from a, b")):
        with pytest.raises(RequestError, match=part):
            read(address)
    assert server.count_downloads() == 1
