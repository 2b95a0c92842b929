"""A server of one statistics file, which drops connections, changes its file or refuses requests as tests ask."""

import contextlib
import hashlib
import http.server
import io
import threading
import urllib.request

import numpy as np
import pytest

from frechet._internal import download


def npz(seed=0, **arrays):
    random = np.random.default_rng(seed)
    x = random.standard_normal((500, 64))
    file = io.BytesIO()
    np.savez(file, **(arrays or {"mu": x.mean(0), "sigma": np.cov(x, rowvar=False)}))
    return file.getvalue()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """A server of one file, whose attributes tests change.

    Attributes:
        content: the bytes of the file.
        etag, modified: validators that it sends, or None.
        ranges: whether it supports byte ranges.
        length: whether it sends Content-Length; if not, it uses chunked encoding.
        garbage: whether it answers in another protocol.
        cuts: number of complete responses that it will drop halfway.
        status: error status that it answers with, or None.
        moved: URL that it redirects to, or None.
        requests: (path, headers) of every request.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.modified = npz(), '"one"', None
        self.ranges, self.length, self.cuts, self.status, self.moved = True, True, 0, None, None
        self.garbage = False
        self.requests = []
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, name="ref.npz", host="127.0.0.1"):
        return f"http://{host}:{self.server_port}/some/{name}"

    def count_downloads(self):
        """Number of requests for the file itself, not only its first byte."""
        return sum(headers.get("Range") != "bytes=0-0" for _, headers in self.requests)

    def stop(self):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server, span = self.server, self.headers.get("Range")
        server.requests.append((self.path, self.headers))
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
        with contextlib.suppress(OSError):  # a client that only wanted the headers has closed the connection
            self.wfile.write(body)
        self.close_connection = True


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server of one statistics file, and an empty cache and data folder of the user."""
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    started = Server()
    yield started
    started.stop()
