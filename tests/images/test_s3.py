"""An object store that fails and is slow: moto's S3 server behind a proxy. Skipped if moto and s3fs are not installed."""

import threading
import time

import numpy as np
import pytest
from test_sources import COUNT, make_png, make_shards
from toy import TOY, first_six_values

from frechet._internal import remote_files
from frechet.errors import SourceError
from frechet.execution.collect import collect_statistics
from frechet.execution.settings import Settings
from frechet.images.sources.registry import open_source

pytest.importorskip("s3fs")
pytest.importorskip("moto")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # warnings of moto and s3fs

SLOW_DOWN = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>'


class UnreliableProxy:
    """Wraps a server: every seventh read fails with 503, every eleventh is slow, one path is forbidden."""

    def __init__(self, app):
        self.app = app
        self.reads = self.failed = self.slow = 0

    def __call__(self, environ, start_response):
        if environ["REQUEST_METHOD"] == "GET":
            self.reads += 1
            if "forbidden" in environ["PATH_INFO"]:
                start_response("403 Forbidden", [("Content-Type", "application/xml")])
                return [SLOW_DOWN.replace(b"SlowDown", b"AccessDenied")]
            if self.reads % 7 == 0:
                self.failed += 1
                start_response("503 Slow Down", [("Content-Type", "application/xml")])
                return [SLOW_DOWN]
            if self.reads % 11 == 0:
                self.slow += 1
                time.sleep(0.3)
        return self.app(environ, start_response)


@pytest.fixture
def store(monkeypatch):
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    proxy = UnreliableProxy(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, proxy, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(remote_files, "_RETRY_DELAYS", (0.05,) * 8)
    yield proxy
    server.shutdown()
    thread.join()


def test_an_object_store_that_fails_and_is_slow_gives_the_same_statistics(store, tmp_path):
    import s3fs

    images = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 3), np.uint8)
    files = {f"{index:04d}.png": make_png(image) for index, image in enumerate(images)}
    make_shards(tmp_path, files, images)
    system = s3fs.S3FileSystem(skip_instance_cache=True)
    system.mkdir("bucket")
    for path in sorted(tmp_path.iterdir()):
        system.put_file(str(path), f"bucket/shards/{path.name}")
    for name, data in list(files.items())[:300]:
        system.pipe_file(f"bucket/folder/{name}", data)
    store.reads = 0
    found = collect_statistics(open_source("s3://bucket/shards/s-{000..002}.tar"), Settings(), TOY)
    np.testing.assert_array_equal(found.rows, first_six_values(images))
    found = collect_statistics(open_source("s3://bucket/folder"), Settings(), TOY)
    np.testing.assert_array_equal(found.rows, first_six_values(images[:300]))
    assert store.failed > 30
    assert store.slow > 20
    with pytest.raises(SourceError, match="there is no such file in the store"):
        open_source("s3://bucket/shards/s-{000..003}.tar")
    system.pipe_file("bucket/forbidden/a.npy", b"x")
    with pytest.raises(SourceError, match="access is refused"):
        open_source("s3://bucket/forbidden/a.npy")
