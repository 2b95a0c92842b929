"""Statistics at a URL, against a server that cuts, changes its file, refuses and goes away."""

import contextlib
import hashlib
import http.server
import io
import json
import threading
import urllib.request

import numpy as np
import pytest
from helpers import run

import frechet
from frechet._internal import download
from frechet.errors import RequestError, StatisticsError
from frechet.statistics.download_cache import is_url, parse_statistics_url, read_remote_statistics, statistics_cache_dir
from frechet.statistics.npz_format import read_statistics


def npz(seed=0, **arrays):
    random = np.random.default_rng(seed)
    x = random.standard_normal((500, 64))
    file = io.BytesIO()
    np.savez(file, **(arrays or {"mu": x.mean(0), "sigma": np.cov(x, rowvar=False)}))
    return file.getvalue()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """A server of one file, whose attributes a test changes as it goes.

    Attributes:
        content: the bytes of the file.
        etag, modified: what it says of its version.
        ranges: whether it knows spans of bytes.
        length: whether it says how many bytes there are; if not, it sends them in chunks.
        garbage: whether it answers in another protocol.
        cuts: how many whole answers it will break off in the middle.
        status: an error that it answers with, or None.
        moved: where it sends those who ask, or None.
        asked: (path, headers) of every request.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.modified = npz(), '"one"', None
        self.ranges, self.length, self.cuts, self.status, self.moved = True, True, 0, None, None
        self.garbage = False
        self.asked = []
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, name="ref.npz", host="127.0.0.1"):
        return f"http://{host}:{self.server_port}/some/{name}"

    def fetched(self):
        """How often the file itself was asked for, not just its first byte."""
        return sum(headers.get("Range") != "bytes=0-0" for _, headers in self.asked)

    def stop(self):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server, span = self.server, self.headers.get("Range")
        server.asked.append((self.path, self.headers))
        if server.garbage:
            self.wfile.write(b"220 ftp at your service\r\n")
            return
        if server.moved:
            self.send_response(302)
            self.send_header("Location", server.moved)
            self.end_headers()
            return
        if server.status:
            self.send_error(server.status)
            return
        first, last = 0, len(server.content) - 1
        if span and server.ranges:
            first, last = (int(end) if end else last for end in span.removeprefix("bytes=").split("-"))
        body = server.content[first : last + 1]
        self.send_response(206 if span and server.ranges else 200)
        if span and server.ranges:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(server.content) if server.length else '*'}")
        if server.length:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        for name, value in (("ETag", server.etag), ("Last-Modified", server.modified)):
            if value:
                self.send_header(name, value)
        self.end_headers()
        if server.cuts and span != "bytes=0-0":
            server.cuts -= 1
            body = body[: len(body) // 2]
        with contextlib.suppress(OSError):  # whoever wanted the headers alone has gone
            self.wfile.write(body)
        self.close_connection = True


@pytest.fixture
def server(monkeypatch, tmp_path):
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    started = Server()
    yield started
    started.stop()


def read(url, **changes):
    return read_remote_statistics(url, read_statistics, **{"timeout": 2.0, **changes})


def cached():
    return sorted(path for path in statistics_cache_dir().iterdir() if path.suffix != ".lock")


def test_a_score_takes_either_side_from_a_url(server, tmp_path):
    (tmp_path / "local.npz").write_bytes(server.content)
    other = tmp_path / "other.npz"
    other.write_bytes(npz(1))
    expected = float(frechet.score(tmp_path / "local.npz", other)["fid"])
    for sides in ((server.url(), str(other)), (other, server.url())):
        score = frechet.score(*sides)["fid"]
        assert float(score) == pytest.approx(expected, rel=1e-9)
    assert score.provenance["reference"]["label"] == server.url()
    assert score.provenance["reference"]["sha256"] == sha256(server.content)
    assert score.provenance["generated"]["sha256"] is None
    assert float(frechet.score(server.url(), server.url())["fid"]) == pytest.approx(0, abs=1e-9)


def test_what_is_unchanged_is_fetched_once(server):
    for _ in range(3):
        read(server.url())
    assert server.fetched() == 1
    server.etag = None
    for _ in range(2):  # its size is all that is known
        read(server.url("other.npz"))
    read(server.url() + "?version=2")
    assert server.fetched() == 3
    assert len({path.name for path in cached()}) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"etag": '"two"'},
        {"etag": None, "modified": "Wed, 01 Jul 2026 00:00:00 GMT"},
        {"content": npz(1) + b"longer", "etag": None},
    ],
)
def test_what_changed_is_fetched_anew(server, change):
    server.etag = None if "etag" in change and change["etag"] is None else '"one"'
    read(server.url())
    vars(server).update(content=npz(1))
    vars(server).update(change)
    assert read(server.url()).sha256 == sha256(server.content)
    assert server.fetched() == 2


def test_a_server_that_says_nothing_is_asked_each_time(server):
    server.etag, server.length, server.ranges = None, False, False
    read(server.url())
    server.content = npz(1)
    assert read(server.url()).sha256 == sha256(server.content)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_download_arrives_whole(server, ranges):
    server.ranges, server.cuts = ranges, 2 if ranges else 1
    seen = []
    assert read(server.url(), progress=lambda *facts: seen.append(facts)).sha256 == sha256(server.content)
    assert seen[-1] == ("ref.npz", len(server.content), len(server.content))
    assert [path.name.rpartition("-")[2] for path in cached()] == ["ref.npz"]


def test_a_cut_is_noticed_where_the_size_is_unknown_and_nothing_is_mixed(server, monkeypatch):
    server.etag, server.length, server.cuts = None, False, 1
    monkeypatch.setattr(download, "_MAX_ATTEMPTS", 1)
    monkeypatch.setattr(download, "_BLOCK_SIZE", 1000)
    with pytest.raises(StatisticsError, match="IncompleteRead"):
        read(server.url())
    server.content = npz(1)
    assert read(server.url()).sha256 == sha256(server.content)


def test_a_download_that_never_arrives_says_how_far_it_came(server):
    server.ranges, server.cuts = False, 99
    half, whole = len(server.content) // 2, len(server.content)
    with pytest.raises(StatisticsError, match=rf"ref\.npz: gave {half} of {whole} bytes"):
        read(server.url())


def test_what_an_earlier_run_left_is_continued_with_the_same_version_alone(server, monkeypatch):
    monkeypatch.setattr(download, "_MAX_ATTEMPTS", 1)
    for etag, resumed in (('"one"', True), ('"two"', False)):
        server.etag, server.content, server.cuts = '"one"', npz(), 1
        with pytest.raises(StatisticsError, match="the download failed"):
            read(server.url())
        (left,) = cached()
        server.etag, server.content = etag, npz() if resumed else npz(1)
        assert read(server.url()).sha256 == sha256(server.content)
        assert (server.asked[-1][1].get("Range") is not None) == resumed
        assert left.exists() != resumed
        for path in cached():
            path.unlink()


def test_without_network_the_copy_is_used_and_told(server):
    before = read(server.url())
    server.status = 503
    broken = read(server.url())
    server.garbage = True
    babbling = read(server.url())
    server.stop()
    gone = read(server.url())
    for after in (broken, babbling, gone):
        np.testing.assert_array_equal(after.mean, before.mean)
        (note,) = after.notes
        assert "could not be reached" in note
        assert "the copy downloaded earlier is used" in note
    assert any("earlier is used" in told for told in frechet.score(before, server.url())["fid"].warnings)
    with pytest.raises(StatisticsError, match=r"never\.npz cannot be had: .*refused"):
        read(server.url("never.npz"))


def test_a_server_that_refuses_is_believed(server):
    read(server.url())
    server.status = 404
    with pytest.raises(StatisticsError, match=r"ref\.npz cannot be had: the server says 404 Not Found"):
        read(server.url())


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "401 Unauthorized; check the credentials"),
        (403, "403 Forbidden; check the credentials"),
        (429, "429 Too Many Requests; it is asked too often; try again later"),
        (503, "503 Service Unavailable; that is the server's own fault; try again later"),
    ],
)
def test_a_servers_answer_is_told_with_what_to_do(server, status, told):
    read(server.url())
    server.status = status
    with pytest.raises(StatisticsError, match=f"cannot be had: the server says {told}"):
        read(server.url("other.npz"))
    if status in (429, 503):  # what was downloaded serves meanwhile
        assert "the copy downloaded earlier is used" in read(server.url()).notes[0]


def test_the_sha256_is_verified_and_then_needs_no_server(server):
    right = f"{server.url()}#sha256={sha256(server.content).upper()}"
    assert read(right).source == server.url()
    wrong = f"{server.url()}#sha256={'0' * 64}"
    with pytest.raises(StatisticsError, match=f"sha256 differs: {sha256(server.content)}, not {'0' * 64}"):
        read(wrong)
    read(right)
    server.stop()
    assert read(right).notes == ()
    with pytest.raises(StatisticsError, match="cannot be had"):
        read(wrong)


def test_user_and_password_go_to_the_server_alone(server, tmp_path):
    other = Server()
    server.moved = other.url()
    statistics = read(server.url(host="me:s%40cret@127.0.0.1") + "?token=hidden")
    other.stop()
    assert [headers["Authorization"] for _, headers in server.asked] == ["Basic bWU6c0BjcmV0"] * 2  # me:s@cret
    assert [headers["Authorization"] for _, headers in other.asked] == [None] * 2
    assert server.asked[0][0] == "/some/ref.npz?token=hidden"
    assert statistics.source == server.url() + "?..."
    server.status, server.moved = 403, None
    with pytest.raises(StatisticsError, match="403") as caught:
        read(server.url("new.npz", "me:s%40cret@127.0.0.1") + "?token=hidden")
    assert "cret" not in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_a_proxy_is_asked(server, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("no_proxy", "")
    read("http://frechet.invalid/ref.npz")
    assert server.asked[0][0] == "http://frechet.invalid/ref.npz"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npz", npz(arr_0=np.zeros((3, 4, 4, 3), np.uint8)), "has no mu; expected mu"),
        ("a.npz", b"<html>log in</html>", "cannot be read as statistics"),
        ("a.npz", npz()[:-200], "cut short"),
        ("a.pkl", b"cos\nmkdir\n(S'owned'\ntR.", r"asks for os\.mkdir"),
        ("a.pt", b"text", "cannot be read|not a"),
    ],
)
def test_what_is_no_statistics_is_refused_by_its_url_and_not_kept(server, name, content, message):
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
def test_other_urls_are_refused_before_anything_is_fetched(url, message):
    with pytest.raises(RequestError, match=message):
        frechet.score(url, url)


def test_names_in_the_cache_are_safe():
    address = parse_statistics_url("https://host/a/..%2f..%2fevil name\u0000.npz")
    assert set("/\\ \0%") & set(address.name) == set()
    assert parse_statistics_url("https://host/a/ref.npz").key != parse_statistics_url("https://host/b/ref.npz").key
    assert "%20" in parse_statistics_url("https://host/a b.npz").url
    assert not is_url("folder/ref.npz")
    assert not is_url("C:\\ref.npz")


def test_features_may_come_from_a_url_too(server):
    x = np.random.default_rng(0).standard_normal((300, 64))
    server.content = npz(features=x)
    assert float(frechet.score(server.url(), x, features=True)["fid"]) == pytest.approx(0, abs=1e-9)


def test_the_command_takes_a_url(server, tmp_path):
    (tmp_path / "a.npz").write_bytes(npz(1))
    code, out, err = run("score", tmp_path / "a.npz", server.url(), "--json", "--reference-size", "500")
    assert code == 0
    reference = json.loads(out)["provenance"]["reference"]
    assert (reference["label"], reference["n"]) == (server.url(), 500)
    assert "does not say how it was made" in err
    code, _, err = run("score", tmp_path / "a.npz", server.url("a.pkl"))
    assert code == 2
