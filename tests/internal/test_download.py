"""Downloads from a server that cuts connections, stalls, sends wrong headers or returns wrong bytes."""

import hashlib
import http.server
import subprocess
import sys
import threading
import time

import pytest
from helpers import run, run_process

from frechet._internal import download as module
from frechet._internal.download import download
from frechet.errors import WeightsError

DATA = bytes(range(256)) * 4000  # 1 MB
SHA256 = hashlib.sha256(DATA).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *behaviours):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviours, self.ranges = list(behaviours), []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/file.bin"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):  # the name is given by the base class
        byte_range = self.headers.get("Range")
        self.server.ranges.append(byte_range)
        behaviour = self.server.behaviours.pop(0) if len(self.server.behaviours) > 1 else self.server.behaviours[0]
        start = int(byte_range.removeprefix("bytes=").rstrip("-")) if byte_range and behaviour != "no ranges" else 0
        body = {"wrong": DATA[::-1], "longer": DATA + b"more"}.get(behaviour, DATA)[start:]
        if behaviour == "missing":
            self.send_error(404)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        if behaviour == "short content length":
            self.send_header("Content-Length", str(len(body) // 3))
            body = body[: len(body) // 3]
        elif behaviour != "no length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if behaviour == "cuts":
            body = body[: len(DATA) // 3]
        self.wfile.write(body[: len(DATA) // 3] if behaviour == "stalls" else body)
        self.wfile.flush()
        if behaviour == "stalls":
            time.sleep(1.5)
        self.close_connection = True


@pytest.fixture
def serve():
    servers = []

    def start(*behaviours):
        servers.append(Server(*behaviours))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def fetch(target, *servers, **changes):
    settings = {"size": len(DATA), "sha256": SHA256, "timeout": 0.5, **changes}
    return download([server.url for server in servers], target, **settings)


@pytest.mark.parametrize(
    "behaviours",
    [
        ["good"],
        ["cuts", "cuts", "good"],
        ["stalls", "good"],
        ["no length"],
        ["short content length", "short content length", "good"],
        ["cuts", "no ranges"],
    ],
)
def test_a_download_is_correct_after_interruptions(serve, tmp_path, behaviours):
    calls = []
    target = fetch(tmp_path / "cache" / "file.bin", serve(*behaviours), progress=lambda *call: calls.append(call))
    assert target.read_bytes() == DATA
    assert calls[-1] == ("download file.bin", len(DATA), len(DATA))
    assert not (tmp_path / "cache" / "file.bin.partial").exists()


def test_an_interrupted_download_is_resumed(serve, tmp_path):
    server = serve("cuts", "cuts", "good")
    fetch(tmp_path / "file.bin", server)
    assert server.ranges == [None, f"bytes={len(DATA) // 3}-", f"bytes={2 * (len(DATA) // 3)}-"]


def test_the_next_run_resumes_a_partial_file(serve, tmp_path):
    (tmp_path / "file.bin.partial").write_bytes(DATA[:1000])
    server = serve("good")
    fetch(tmp_path / "file.bin", server)
    assert server.ranges == ["bytes=1000-"]


@pytest.mark.parametrize(
    ("behaviour", "message"), [("wrong", "sha256 differs"), ("longer", "more than"), ("missing", "Not Found")]
)
def test_wrong_bytes_are_rejected_and_deleted(serve, tmp_path, behaviour, message):
    server = serve(behaviour)
    with pytest.raises(WeightsError, match=message) as caught:
        fetch(tmp_path / "file.bin", server)
    assert server.url in str(caught.value)
    assert not (tmp_path / "file.bin").exists()
    assert not (tmp_path / "file.bin.partial").exists()


def test_the_second_url_is_used_if_the_first_fails(serve, tmp_path):
    assert fetch(tmp_path / "file.bin", serve("wrong"), serve("good")).read_bytes() == DATA


def test_a_missing_network_is_reported_with_the_url(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MAX_ATTEMPTS", 2)
    with pytest.raises(WeightsError, match=r"the download failed(.|\n)*http://127\.0\.0\.1:9/file\.bin: .*refused"):
        download(["http://127.0.0.1:9/file.bin"], tmp_path / "file.bin", size=1, sha256="", timeout=0.5)


def test_an_unwritable_folder_is_reported_with_a_fix(tmp_path):
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(WeightsError, match="XDG_CACHE_HOME"):
        download(["http://127.0.0.1:9/"], tmp_path / "cache" / "file.bin", size=1, sha256="")


def test_a_server_that_always_ends_early_is_reported_with_the_number_of_bytes(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MAX_ATTEMPTS", 1)
    with pytest.raises(WeightsError, match=f"returned {len(DATA) // 3} of {len(DATA)} bytes"):
        fetch(tmp_path / "file.bin", serve("short content length"))


@pytest.mark.slow
def test_concurrent_processes_download_once(serve, tmp_path):
    server = serve("good")
    code = (
        "import sys, pathlib\nfrom frechet._internal.download import download\n"
        "download([sys.argv[1]], pathlib.Path(sys.argv[2]), size=int(sys.argv[3]), sha256=sys.argv[4])"
    )
    command = [sys.executable, "-c", code, server.url, str(tmp_path / "file.bin"), str(len(DATA)), SHA256]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert (tmp_path / "file.bin").read_bytes() == DATA
    assert len(server.ranges) == 1


@pytest.mark.subprocess
def test_the_proxy_is_taken_from_the_environment(tmp_path):
    home = {name: str(tmp_path) for name in ("HOME", "XDG_CACHE_HOME", "TORCH_HOME")}
    code, _, err = run_process(
        "weights", "fetch", **home, FRECHET_WEIGHTS="", https_proxy="http://127.0.0.1:9", no_proxy=""
    )
    assert code == 2
    assert "Connection refused" in err
    assert " bytes" not in err, "a server that was never reached returned nothing to count"
    assert "https://github.com/" in err


def test_verify_distinguishes_the_published_file_from_others(tmp_path):
    (tmp_path / "junk.pth").write_text("junk")
    code, _, err = run("weights", "verify", tmp_path / "junk.pth")
    assert code == 2
    assert "is not the published pt_inception-2015-12-05-6726825d.pth" in err
    code, out, _ = run("weights", "verify", "--extractor", "efficientnet-lite0")
    assert code == 0
    assert "the published efficientnet-lite0-57934424.pth" in out


def test_list_contains_every_extractor():
    out = run("weights", "list")[1]
    for word in ("inception", "efficientnet-lite0", "sha256", "licence", "github.com"):
        assert word in out
