"""Damaged and hostile files are reported: no foreign exception, no hang, and no more memory than the file accounts for."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

from frechet.errors import RequestError, SourceError, StatisticsError
from frechet.images.sources.registry import open_source
from frechet.statistics.npz_format import read_features, read_statistics

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), np.uint8)


def encode(image, kind="png"):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def peak_memory():
    """A function that returns the largest number of bytes that Python has allocated since the test started."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["\0.png", "\0a/b.png"])
def test_a_member_without_a_name_is_skipped(tmp_path, name):
    """zipfile cuts names at their first NUL."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(2):
            archive.writestr(f"{number}.png", encode(PIXELS[number]))
        archive.writestr("X" + name[1:], encode(PIXELS[2]))
    data = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(data.replace(b"X" + name[1:].encode(), name.encode()))
    source = open_source(tmp_path / "a.zip")
    assert [source.get_member_name(index) for index in range(len(source))] == ["0.png", "1.png"]


@pytest.mark.parametrize(("read", "error"), [(open_source, SourceError), (read_features, StatisticsError)])
def test_a_header_that_declares_gigabytes_is_not_allocated(tmp_path, peak_memory, read, error):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\2\0" + (2**32 - 1).to_bytes(4, "little") + b"{'descr': '|u1'}")
    with pytest.raises(error, match="header"):
        read(tmp_path / "a.npy")
    assert peak_memory() < 1e6


def test_an_array_that_declares_gigabytes_is_not_allocated(tmp_path, peak_memory):
    """NumPy allocates an array in an archive before it reads the data."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (10**8,)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("mu.npy", stream.getvalue())
        archive.writestr("sigma.npy", stream.getvalue())
    with pytest.raises(StatisticsError, match="800000128"):
        read_statistics(tmp_path / "a.npz")
    assert peak_memory() < 1e6


def test_class_labels_that_declare_gigabytes_are_not_allocated(tmp_path, peak_memory):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<i8", "fortran_order": False, "shape": (10**8,)})
    np.savez(tmp_path / "a.npz", arr_0=PIXELS)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("arr_1.npy", stream.getvalue())
    with pytest.raises(RequestError, match="one integer per image"):
        open_source(tmp_path / "a.npz").get_class_names([0])
    assert peak_memory() < 1e6


def test_many_arrays_that_unpack_to_much_more_are_rejected_together(tmp_path):
    """Eleven arrays of 40 MB in a file of 0.4 MB; each alone would be small enough."""
    zeros = np.zeros(5_000_000)
    names = (
        "rows",
        "indices",
        "labels",
        "units",
        "group_n",
        "group_mean",
        "group_scatter",
        "thumbnails",
        "a",
        "b",
        "c",
    )
    np.savez_compressed(tmp_path / "a.npz", mu=np.zeros(2), sigma=np.eye(2), **dict.fromkeys(names, zeros))
    with pytest.raises(StatisticsError, match="would unpack to"):
        read_statistics(tmp_path / "a.npz")
