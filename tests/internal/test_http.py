"""Servers that stall, trickle, never end or redirect elsewhere: an error with the address, after a bounded time."""

import contextlib
import http.server
import threading
import time

import fsspec
import numpy as np
import pytest

import frechet
from frechet._internal import download as download_module
from frechet._internal import http as policy
from frechet._internal import remote_files
from frechet._internal.download import download
from frechet.errors import FrechetError, RequestError, SourceError, StatisticsError, WeightsError
from frechet.images.sources.registry import open_source
from frechet.statistics.download_cache import read_remote_statistics


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        with contextlib.suppress(OSError):  # the client has closed the connection
            getattr(self, self.server.behaviour)()
        self.close_connection = True

    def stalls(self):
        self.server.released.wait(20)

    def trickles(self):
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        while not self.server.released.wait(0.05):
            self.wfile.write(b"x")

    def never_ends(self):
        self.send_response(200)
        self.end_headers()
        while not self.server.released.is_set():
            self.wfile.write(bytes(1 << 16))

    def redirects(self):
        self.send_response(302)
        self.send_header("Location", "ftp://127.0.0.1/stats.npz")
        self.end_headers()


@pytest.fixture
def serve(monkeypatch):
    """A function that starts a server of one behaviour and returns its address; nothing waits longer than a second."""
    servers = []

    def start(behaviour):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.behaviour, server.released = behaviour, threading.Event()
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    monkeypatch.setattr(policy, "SLOW_SECONDS", 0.5)
    monkeypatch.setattr(policy, "STALL_SECONDS", 0.5)
    monkeypatch.setattr(policy, "_HEADER_SECONDS", 1.0)
    monkeypatch.setattr(remote_files, "_RETRY_DELAYS", (0.01,))
    policy._client_options.cache_clear()
    yield start
    policy._client_options.cache_clear()
    fsspec.filesystem("http").clear_instance_cache()
    for server in servers:
        server.released.set()
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("behaviour", ["stalls", "trickles", "redirects"])
def test_weights_are_given_up_with_the_address(serve, tmp_path, behaviour):
    address, start = serve(behaviour), time.monotonic()
    with pytest.raises(WeightsError, match=address):
        download([f"{address}/a.pth"], tmp_path / "a.pth", size=100_000, sha256=None)
    assert time.monotonic() - start < 15
    assert not (tmp_path / "a.pth").exists()


@pytest.mark.parametrize("behaviour", ["stalls", "trickles", "redirects"])
def test_statistics_are_given_up_with_the_address(serve, no_weights, behaviour):
    address, start = serve(behaviour), time.monotonic()
    with pytest.raises(StatisticsError, match=address):
        read_remote_statistics(f"{address}/stats.npz", lambda _: None)
    assert time.monotonic() - start < 15


@pytest.mark.parametrize("behaviour", ["stalls", "redirects"])
def test_images_are_given_up_with_the_address(serve, behaviour):
    address, start = serve(behaviour), time.monotonic()
    with pytest.raises(SourceError, match=address):
        open_source(f"{address}/images.zip")
    assert time.monotonic() - start < 15


def test_a_download_without_a_size_is_bounded(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, "_MAX_UNKNOWN_SIZE", 1 << 20)
    address = serve("never_ends")
    with pytest.raises(WeightsError, match="more than 1048576 bytes without stating"):
        download([f"{address}/a.pth"], tmp_path / "a.pth", size=None, sha256=None)
    assert not list(tmp_path.glob("*.partial"))


def test_messages_of_a_slow_server_say_how_much_arrived(serve, tmp_path):
    with pytest.raises(WeightsError, match=r"only \d+ bytes arrived in 1 s \(\d+ of 100000 bytes received\)"):
        download([f"{serve('trickles')}/a.pth"], tmp_path / "a.pth", size=100_000, sha256=None)


@pytest.mark.parametrize(
    ("source", "target", "is_allowed"),
    [
        ("https://a/x", "https://b/y", True),
        ("http://a/x", "http://b/y", True),
        ("http://a/x", "https://a/x", True),
        ("https://a/x", "http://a/x", False),
        ("http://a/x", "ftp://a/x", False),
        ("https://a/x", "file:///etc/passwd", False),
    ],
)
def test_redirects_keep_the_scheme_or_add_encryption(source, target, is_allowed):
    assert policy._is_allowed_redirect(source, target) is is_allowed


def test_no_error_class_is_foreign(serve, no_weights):
    with pytest.raises(RequestError, match="another scheme"):
        read_remote_statistics(f"{serve('redirects')}/stats.npz", lambda _: None)


@pytest.mark.parametrize("name", ["x.npz", "x.zip", "x.tar"])
def test_an_invalid_host_name_is_an_error_of_the_address(name):
    with pytest.raises(FrechetError) as caught:
        frechet.score(f"http://a..b/{name}", np.eye(3), features=True)
    assert "a..b" in str(caught.value)
    assert "attempts" not in str(caught.value)
