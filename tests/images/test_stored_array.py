"""Arrays that a file contains uncompressed: read in any order by several threads, and compared with the checksum of the archive."""

import io
import random
import struct
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import frechet
from frechet.errors import ArchiveError, ImageDecodeError, RequestError, SourceError
from frechet.images.decode import decode
from frechet.images.sources.checksum import join_crc32
from frechet.images.sources.registry import open_source
from frechet.images.sources.stored_array import find_stored_member

COUNT = 100
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 6, 5, 3), np.uint8)


def make_npz(path, images=IMAGES, **options):
    """Write an .npz file with zipfile, whose options numpy.savez does not pass on."""
    stream = io.BytesIO()
    np.save(stream, images)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("arr_0.npy", stream.getvalue(), **options)
    return path


def load(path, order):
    """Load these images in this order, in two threads."""
    loaders = list(open_source(path).iter_loaders(range(COUNT)))
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda index: loaders[index](), order))


@pytest.mark.parametrize("n_bytes", [0, 1, 2, 255, 65_537, 1_000_003])
def test_the_checksum_of_two_parts(n_bytes):
    first, second = b"the first part", random.Random(n_bytes).randbytes(n_bytes)
    assert join_crc32(zlib.crc32(first), zlib.crc32(second), n_bytes) == zlib.crc32(first + second)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_images_are_read_in_any_order(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    (np.save if suffix == ".npy" else np.savez)(path, IMAGES)
    assert open_source(path).reader.stored
    order = random.Random(0).sample(range(COUNT), COUNT)
    np.testing.assert_array_equal(load(path, order), IMAGES[order])


@pytest.mark.parametrize("indices", [[0], [3, 4, 5, 40, 99], range(31, 70)])
def test_some_of_the_images(tmp_path, indices):
    source = open_source(make_npz(tmp_path / "a.npz"))
    np.testing.assert_array_equal([load() for load in source.iter_loaders(indices)], IMAGES[list(indices)])


def test_compressed_arrays_are_read_as_a_stream(tmp_path):
    path = make_npz(tmp_path / "a.npz", compress_type=zipfile.ZIP_DEFLATED)
    assert not open_source(path).reader.stored
    np.testing.assert_array_equal(load(path, range(COUNT)), IMAGES)


def test_a_compressed_member_of_the_same_size_is_not_taken_for_an_uncompressed_one(tmp_path):
    info = zipfile.ZipInfo("arr_0.npy")
    info.compress_type, info.compress_size, info.file_size = zipfile.ZIP_DEFLATED, 100, 100
    assert find_stored_member(tmp_path / "a.npz", info) is None


def test_an_archive_behind_other_bytes(tmp_path):
    """zipfile reads such files, e.g. programs that unpack themselves."""
    path = make_npz(tmp_path / "a.npz")
    path.write_bytes(b"a program" + path.read_bytes())
    assert open_source(path).reader.stored
    np.testing.assert_array_equal(load(path, range(COUNT)), IMAGES)


def damage(path, index):
    """Change a pixel of an image."""
    data = bytearray(path.read_bytes())
    data[data.index(IMAGES.tobytes()) + index * IMAGES[0].size] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("index", [0, 50, 99])
@pytest.mark.parametrize("order", [1, -1])
def test_damage_is_found_when_the_last_image_is_read(tmp_path, index, order):
    path = make_npz(tmp_path / "a.npz")
    damage(path, index)
    with pytest.raises(SourceError, match=r"a\.npz is damaged: the CRC-32"):
        load(path, range(COUNT)[::order])


def test_damage_ends_a_run_that_skips_bad_images(tmp_path, toy_options):
    """The checksum does not say which image is damaged."""
    path = make_npz(tmp_path / "a.npz")
    damage(path, 50)
    with pytest.raises(RequestError, match="is damaged: the CRC-32"):
        frechet.score(path, IMAGES, **toy_options, on_bad_image="skip")


def test_a_file_that_becomes_shorter_is_noticed(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, IMAGES)
    refs = list(open_source(path).iter_images(range(COUNT)))
    path.write_bytes(path.read_bytes()[:-1])
    np.testing.assert_array_equal(decode(refs[0]).rgb, IMAGES[0])
    with pytest.raises(ImageDecodeError, match="is truncated"):
        decode(refs[-1])


def test_a_member_whose_sizes_contradict_each_other_is_not_read_beyond_its_end(tmp_path):
    """The bytes after it belong to something else."""
    path = make_npz(tmp_path / "a.npz")
    size = len(IMAGES.tobytes()) + 128
    before, directory, after = path.read_bytes().rpartition(b"PK\1\2")
    sizes = struct.pack("<II", size, size)
    assert after.count(sizes) == 1
    path.write_bytes(before + directory + after.replace(sizes, struct.pack("<II", size - 64, size)))
    assert not open_source(path).reader.stored
    with pytest.raises(ArchiveError, match="damaged at image"):
        load(path, range(COUNT))
