"""Damaged and hostile files are reported: no foreign exception, no hang, and no more memory than the file accounts for."""

import io
import os
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import lmdb
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from frechet.errors import ArchiveError, ImageDecodeError, RequestError, SourceError, StatisticsError
from frechet.images.decode import decode
from frechet.images.sources import native_process
from frechet.images.sources.files import read_image_file
from frechet.images.sources.hdf5 import Hdf5Reader
from frechet.images.sources.npy import NpyReader
from frechet.images.sources.registry import open_source
from frechet.statistics.npz_format import read_features, read_statistics

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), np.uint8)


def encode(image, kind="png"):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind)
    return stream.getvalue()


class FailingStream(io.BytesIO):
    """A stream whose bytes from `limit` on cannot be read."""

    limit = 0

    def read(self, size=-1):
        if self.tell() + size > self.limit:
            raise OSError("bad sector")
        return super().read(size)


@pytest.mark.parametrize("indices", [range(100), range(0, 100, 3), [5, 6, 7, 50, 51, 90]])
def test_images_of_an_array_are_read_in_blocks(indices):
    images = np.random.default_rng(0).integers(0, 256, (100, 2, 3, 3), np.uint8)
    stream = io.BytesIO()
    np.save(stream, images)
    data = stream.getvalue()
    found = list(NpyReader("a", lambda: io.BytesIO(data), len(data)).read(indices))
    np.testing.assert_array_equal(found, images[list(indices)])
    if indices == range(100):
        assert len({id(image.base) for image in found}) < len(found)


def test_images_before_the_damage_of_an_array_are_read_and_the_first_damaged_one_is_named():
    images = np.random.default_rng(0).integers(0, 256, (100, 2, 3, 3), np.uint8)
    stream = io.BytesIO()
    np.save(stream, images)
    data = stream.getvalue()
    FailingStream.limit = len(data) - 20 * images[0].size - 1
    reading = NpyReader("a", lambda: FailingStream(data), len(data)).read(range(100))
    np.testing.assert_array_equal([next(reading) for _ in range(79)], images[:79])
    with pytest.raises(ArchiveError, match=r"a is damaged at image 79 \(bad sector"):
        next(reading)


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


def test_an_image_in_a_zip_that_declares_gigabytes_is_not_allocated(tmp_path, peak_memory):
    """The directory at the end of the archive says that the stored image is larger than the archive."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("0.png", encode(PIXELS[0]))
        size = struct.pack("<II", archive.infolist()[0].compress_size, archive.infolist()[0].file_size)
    before, directory, after = (tmp_path / "a.zip").read_bytes().rpartition(b"PK\1\2")
    assert after.count(size) == 1
    declared = struct.pack("<II", 400_000_000, 400_000_000)
    (tmp_path / "a.zip").write_bytes(before + directory + after.replace(size, declared))
    with pytest.raises(ImageDecodeError):
        decode(next(open_source(tmp_path / "a.zip").iter_images([0])))
    assert peak_memory() < 1e7


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


@pytest.mark.slow
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


def read_all(source):
    return [decode(image_ref).rgb for image_ref in source.iter_images(range(len(source)))]


@pytest.fixture
def arrow_file(tmp_path):
    """A table of 100 images, which are read in four blocks."""
    table = pa.table({"image": [encode(PIXELS[0])] * 100})
    with pa.ipc.new_file(tmp_path / "good.arrow", table.schema) as writer:
        writer.write_table(table)
    return tmp_path / "good.arrow"


@pytest.fixture
def truncated_lmdb(tmp_path):
    """A database whose second half is missing; LMDB maps it into memory, and reading it is a bus error."""
    with (
        lmdb.open(str(tmp_path / "a.lmdb"), subdir=False, lock=False) as environment,
        environment.begin(write=True) as write,
    ):
        for number in range(300):
            write.put(b"%04d" % number, encode(PIXELS[0]))
    data = (tmp_path / "a.lmdb").read_bytes().rstrip(b"\0")
    (tmp_path / "a.lmdb").write_bytes(data[: len(data) // 2 // 4096 * 4096])
    return tmp_path / "a.lmdb"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_files_of_unknown_size_are_read_to_their_end():
    assert read_image_file("/proc/self/status").data.startswith(b"Name:")


@pytest.mark.subprocess
def test_a_file_that_crashes_its_library_is_damaged(truncated_lmdb):
    with pytest.raises((SourceError, ArchiveError), match=r"a\.lmdb is damaged: .*SIG(BUS|SEGV)"):
        read_all(open_source(truncated_lmdb))


@pytest.mark.subprocess
def test_a_crash_does_not_disturb_other_files(truncated_lmdb, arrow_file):
    good = open_source(arrow_file)
    images = iter(good.iter_images(range(100)))
    first = [decode(next(images)).rgb for _ in range(40)]
    with pytest.raises((SourceError, ArchiveError)):
        read_all(open_source(truncated_lmdb))
    assert len(first + [decode(image_ref).rgb for image_ref in images]) == 100


@pytest.mark.subprocess
def test_a_reader_that_was_killed_is_started_again(arrow_file):
    good = open_source(arrow_file)
    native_process._get_process(os.getpid()).process.kill()
    native_process._get_process(os.getpid()).process.wait()
    assert len(read_all(good)) == 100


@pytest.mark.subprocess
@pytest.mark.slow
def test_a_reader_that_does_not_end_is_ended():
    """The limit is processor time, so that a busy machine changes nothing."""
    program = "from frechet.images.sources import native_reader as m; m.SECONDS_PER_REQUEST = 0; m._limit_time(0)\nwhile True: pass"
    assert subprocess.run([sys.executable, "-c", program], timeout=100, check=False).returncode < 0


@pytest.mark.subprocess
@pytest.mark.parametrize("signature", [b"HEAP", b"SNOD", b"TREE"])
def test_a_damaged_hdf5_file_is_an_invalid_source(tmp_path, signature):
    with h5py.File(tmp_path / "a.h5", "w") as archive:
        archive.create_dataset("group/images", data=PIXELS)
    data = (tmp_path / "a.h5").read_bytes()
    assert signature in data
    (tmp_path / "a.h5").write_bytes(data.replace(signature, b"XXXX"))
    with pytest.raises(SourceError, match=r"a\.h5 cannot be read"):
        open_source(tmp_path / "a.h5")


@pytest.mark.subprocess
def test_hdf5_chunks_that_unpack_to_a_gigabyte_are_not_read(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as archive:
        archive.create_dataset("images", (2000, 600, 600, 3), np.uint8, chunks=(1000, 600, 600, 3), compression="gzip")
    with pytest.raises(SourceError, match="chunk"):
        open_source(tmp_path / "a.h5")


def test_encoded_images_in_a_large_hdf5_chunk_are_read_one_by_one(tmp_path, peak_memory):
    """200 images of 100 kB are one chunk."""
    with h5py.File(tmp_path / "a.h5", "w") as archive:
        rows = archive.create_dataset("images", (200,), h5py.vlen_dtype(np.uint8), chunks=(200,))
        for row in range(200):
            rows[row] = np.zeros(100_000, np.uint8)
    images = Hdf5Reader(tmp_path / "a.h5").iter_data(range(200))
    tracemalloc.reset_peak()
    assert len(next(images)) == 100_000
    assert peak_memory() < 5e6
