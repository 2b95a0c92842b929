"""Classes of images come from the source that read them: folders, members of archives, or arr_1 of an .npz file."""

import base64
import functools
import http.server
import io
import tarfile
import threading
import zipfile
from contextlib import closing, contextmanager
from pathlib import Path

import fsspec
import h5py
import lmdb
import numpy as np
import pytest
from PIL import Image
from toy import TOY

import frechet
from frechet.errors import RequestError
from frechet.execution.settings import Settings
from frechet.images.sources.folder import FolderSource
from frechet.images.sources.generator import GeneratorSource
from frechet.images.sources.registry import open_source

NAMES = ["cat/0.png", "cat/deep/er/1.png", "dog/2.png", "dog/3.png"]  # in the order of folders and zip files
CLASSES = ["cat", "cat", "dog", "dog"]
PIXELS = np.arange(4 * 2 * 2 * 3, dtype=np.uint8).reshape(4, 2, 2, 3)


def make_png(value):
    stream = io.BytesIO()
    Image.new("L", (2, 2), value).save(stream, "png")
    return stream.getvalue()


def make_folder(folder, names=NAMES):
    for value, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(make_png(value))
    return folder


def make_zip(path, names=NAMES):
    with zipfile.ZipFile(path, "w") as archive:
        for value, name in enumerate(names):
            archive.writestr(name, make_png(value))
    return path


def make_tar(path, names=NAMES):
    with tarfile.open(path, "w") as archive:
        for value, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = len(make_png(value))
            archive.addfile(info, io.BytesIO(make_png(value)))
    return path


def make_npz(path, labels=(7, 3, 3, 0)):
    np.savez(path, arr_0=PIXELS, arr_1=np.array(labels))
    return path


def make_lmdb(folder):
    with closing(lmdb.open(str(folder), map_size=1 << 20)) as base, base.begin(write=True) as transaction:
        for value, name in enumerate(NAMES):
            transaction.put(name.encode(), make_png(value))
    return folder


def upload(path, name):
    """Copy a file or folder to fsspec's memory file system and return its URL."""
    url = f"memory://class-names/{name}"
    fsspec.filesystem("memory").put(f"{path}/" if path.is_dir() else str(path), url, recursive=path.is_dir())
    return url


def get_classes(location, indices=range(4)):
    return open_source(location).get_class_names(indices)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: make_folder(path / "images"),
        lambda path: make_zip(path / "a.zip"),
        lambda path: make_tar(path / "a.tar"),
        lambda path: make_tar(path / "a.tar", [f"./{name}" for name in NAMES]),
        lambda path: make_lmdb(path / "a.lmdb"),
        lambda path: upload(make_folder(path / "images"), path.name),
        lambda path: upload(make_zip(path / "a.zip"), f"{path.name}.zip"),
        lambda path: upload(make_tar(path / "a.tar"), f"{path.name}.tar"),
    ],
    ids=["folder", "zip", "tar", "tar of ./", "lmdb", "remote folder", "remote zip", "remote tar"],
)
def test_the_class_is_the_first_folder_below_the_source(tmp_path, make):
    location = make(tmp_path)
    assert get_classes(location) == CLASSES
    assert get_classes(location, [1, 3]) == ["cat", "dog"]


@pytest.mark.parametrize("make", [lambda path: path, lambda path: upload(path, f"{path.parent.name}.npz")])
def test_the_classes_of_an_npz_are_its_second_array(tmp_path, make):
    location = make(make_npz(tmp_path / "a.npz"))
    assert get_classes(location) == ["7", "3", "3", "0"]
    assert get_classes(location, [0, 3]) == ["7", "0"]
    assert all(type(name) is str for name in get_classes(location))


@pytest.mark.parametrize("labels", [(1, 2, 3), (1.0, 2.0, 3.0, 4.0), ((1,), (2,), (3,), (4,))])
def test_an_npz_with_invalid_labels_is_rejected(tmp_path, labels):
    make_npz(tmp_path / "a.npz", labels)
    with pytest.raises(RequestError, match=r"a\.npz: .*arr_1.* expected \(4,\), one integer per image"):
        get_classes(tmp_path / "a.npz")


def test_labels_that_would_need_a_pickle_are_rejected(tmp_path):
    np.savez(tmp_path / "a.npz", arr_0=PIXELS, arr_1=np.array([object()] * 4))
    with pytest.raises(RequestError, match=r"a\.npz: .*arr_1 .*one integer per image"):
        get_classes(tmp_path / "a.npz")


def test_a_class_is_looked_up_in_the_archive_of_the_image(tmp_path):
    make_tar(tmp_path / "s-0.tar")
    make_zip(tmp_path / "s-1.zip", ["bird/0.png", "dog/1.png"])
    make_npz(tmp_path / "s-2.npz")
    make_folder(tmp_path / "s-3", ["cat/0.png"])
    pattern = str(tmp_path / "{s-0.tar,s-1.zip,s-2.npz,s-3}")
    assert get_classes(pattern, range(11)) == [*CLASSES, "bird", "dog", "7", "3", "3", "0", "cat"]
    assert get_classes(pattern, [1, 4, 9, 10]) == ["cat", "bird", "0", "cat"]


def test_shards_may_be_remote(tmp_path):
    urls = [upload(make_tar(tmp_path / f"{index}.tar"), f"{tmp_path.name}-{index}.tar") for index in range(2)]
    assert get_classes(urls[0].replace("-0.tar", "-{0..1}.tar"), range(8)) == CLASSES * 2


def make_hdf5(path):
    with h5py.File(path, "w") as archive:
        archive["group/images"] = PIXELS
    return path


@pytest.mark.parametrize(
    ("make", "label"),
    [
        (lambda path: make_folder(path / "images", ["a.png", "b.png"]), r"images/a\.png"),
        (lambda path: make_folder(path / "images", ["cat/a.png", "b.png"]), r"images/b\.png"),
        (lambda path: make_zip(path / "a.zip", ["a.png", "b.png"]), r"a\.zip:a\.png"),
        (lambda path: make_tar(path / "cat.tar", ["a.png", "b.png"]), r"cat\.tar:a\.png"),
        (lambda path: make_hdf5(path / "a.h5"), r"a\.h5:/group/images\[0\]"),
        (lambda path: np.save(path / "a.npy", PIXELS) or path / "a.npy", r"a\.npy"),
        (lambda path: np.savez(path / "a.npz", PIXELS) or path / "a.npz", r"a\.npz"),
        (lambda path: PIXELS, "image 0"),
    ],
)
def test_a_source_without_classes_is_rejected_with_the_name_of_the_image_and_a_fix(tmp_path, make, label):
    source = open_source(make(tmp_path))
    with pytest.raises(
        RequestError,
        match=f"{label} has no class.*one folder per class.*arr_1|{label} has no classes.*arr_1.*per class",
    ):
        source.get_class_names(range(len(source)))


def test_generated_images_and_lists_of_files_have_no_classes(tmp_path):
    make_folder(tmp_path, ["cat/a.png", "cat/b.png"])
    for source in (
        GeneratorSource(lambda n: PIXELS[:n], 4),
        FolderSource.from_files([tmp_path / "cat/a.png", tmp_path / "cat/b.png"]),
    ):
        with pytest.raises(RequestError, match="has no class"):
            source.get_class_names([0, 1])


# --- a server with user names -----------------------------------------------------------------------------------------


class AuthenticatingHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files, whole or in ranges, to the user "me" with the password "secret" only."""

    def do_HEAD(self):
        self.reply()

    def do_GET(self):
        self.reply()

    def reply(self):
        if self.headers.get("Authorization") != f"Basic {base64.b64encode(b'me:secret').decode()}":
            self.send_error(401)
            return
        content = Path(self.translate_path(self.path)).read_bytes()
        byte_range = self.headers.get("Range")
        if byte_range:
            first, last = map(int, byte_range.removeprefix("bytes=").split("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{min(last, len(content) - 1)}/{len(content)}")
            content = content[first : last + 1]
        else:
            self.send_response(200)
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *args): ...


@contextmanager
def serve(folder):
    handler = functools.partial(AuthenticatingHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://me:secret@127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
def test_classes_are_read_from_a_url_with_a_user_name(tmp_path):
    make_npz(tmp_path / "a.npz")
    make_zip(tmp_path / "b.zip")
    make_tar(tmp_path / "s-0.tar")
    make_tar(tmp_path / "s-1.tar")
    with serve(tmp_path) as url:
        source = open_source(f"{url}/a.npz")
        assert source.get_class_names(range(4)) == ["7", "3", "3", "0"]
        assert get_classes(f"{url}/b.zip") == CLASSES
        assert get_classes(f"{url}/s-{{0..1}}.tar", range(8)) == CLASSES * 2
        (image_ref,) = source.iter_images([2])
        assert image_ref.url == f"{url}/a.npz"
        assert image_ref.label == f"{url.replace('me:secret@', '')}/a.npz[2]"
        with pytest.raises(RequestError, match="has no class") as caught:
            open_source(f"{url}/{make_tar(tmp_path / 'c.tar', ['0.png', '1.png']).name}").get_class_names([0])
        assert "secret" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["npz", "zip"])
def test_scores_per_class_are_the_same_from_a_url_with_a_user_name(tmp_path, monkeypatch, kind):
    """An .npz of images is read from any file system except HTTP, where .npz files are statistics."""
    monkeypatch.setattr(Settings, "load", lambda *_: TOY)
    random = np.random.default_rng(0)
    for name in "ab":
        images = random.integers(0, 256, (40, 4, 4, 3), np.uint8)
        if kind == "npz":
            np.savez(tmp_path / f"{name}.npz", arr_0=images, arr_1=np.arange(40) % 2)
        else:
            make_zip(tmp_path / f"{name}.zip", [f"{index % 2}/{index:02d}.png" for index in range(40)])
    options = {"metrics": ["fid"], "per_class": True, "interval": "none"}
    local = frechet.score(tmp_path / f"a.{kind}", tmp_path / f"b.{kind}", **options)
    with serve(tmp_path) as url:
        if kind == "npz":
            url = f"memory://me:secret@{tmp_path.name}"
            fsspec.filesystem("memory").put(f"{tmp_path}/", url, recursive=True)
        remote = frechet.score(f"{url}/a.{kind}", f"{url}/b.{kind}", **options)
    assert set(remote["fid"].per_class) == {"0", "1"}
    assert remote["fid"].per_class == local["fid"].per_class
    assert "secret" not in repr(remote)
