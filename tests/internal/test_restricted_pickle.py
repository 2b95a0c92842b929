"""Pickles whose opcodes ask for more memory than the file has bytes."""

import io
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import pytest

from frechet.errors import StatisticsError, WeightsError
from frechet.networks.checkpoint import read_state_dict
from frechet.statistics.npz_format import read_statistics

torch = pytest.importorskip("torch")
FOUR_GB = 1 << 32
LARGE_DECLARATIONS = {
    "BYTEARRAY8": pickle.BYTEARRAY8 + struct.pack("<Q", FOUR_GB),
    "BINBYTES8": pickle.BINBYTES8 + struct.pack("<Q", FOUR_GB),
    "BINUNICODE8": pickle.BINUNICODE8 + struct.pack("<Q", FOUR_GB),
    "BINBYTES": pickle.BINBYTES + struct.pack("<I", FOUR_GB - 1),
    "BINUNICODE": pickle.BINUNICODE + struct.pack("<I", FOUR_GB - 1),
    "BINSTRING": pickle.BINSTRING + struct.pack("<i", 2**31 - 1),
    "LONG4": pickle.LONG4 + struct.pack("<i", 2**31 - 1),
    "FRAME": pickle.FRAME + struct.pack("<Q", FOUR_GB),
}
REPEATS = 20_000


class Global:
    """An object that is pickled as a call of a function of another module."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def measure_peak(read, path, error):
    tracemalloc.start()
    try:
        with pytest.raises(error):
            read(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("opcode", LARGE_DECLARATIONS)
@pytest.mark.parametrize(
    ("suffix", "read", "error"), [(".pkl", read_statistics, StatisticsError), (".pth", read_state_dict, WeightsError)]
)
def test_a_few_bytes_do_not_allocate_what_they_declare(tmp_path, opcode, suffix, read, error):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(pickle.PROTO + b"\x05" + LARGE_DECLARATIONS[opcode] + b"abc")
    assert measure_peak(read, path, error) < 1e6


def test_repeated_encoding_of_one_text_takes_the_memory_of_one(tmp_path):
    """Old protocols store bytes as a call of _codecs.encode; a call takes 10 bytes, and its result as much as the text."""
    text = pickle.BINUNICODE + struct.pack("<I", 100_000) + b"x" * 100_000 + pickle.BINPUT + b"\1" + pickle.POP
    encode = pickle.GLOBAL + b"_codecs\nencode\n" + pickle.BINPUT + b"\2" + pickle.POP
    latin1 = pickle.BINUNICODE + struct.pack("<I", 6) + b"latin1" + pickle.BINPUT + b"\3" + pickle.POP
    call = pickle.BINGET + b"\2" + pickle.BINGET + b"\1" + pickle.BINGET + b"\3" + pickle.TUPLE2 + pickle.REDUCE
    (tmp_path / "a.pkl").write_bytes(
        pickle.PROTO + b"\2" + text + encode + latin1 + pickle.MARK + call * REPEATS + pickle.TUPLE + pickle.STOP
    )
    assert measure_peak(read_statistics, tmp_path / "a.pkl", StatisticsError) < 20e6  # not 2 GB


@pytest.mark.slow
def test_repeated_copies_of_a_dict_are_rejected(tmp_path):
    pairs = [(number, number) for number in range(10_000)]
    copies = [Global(OrderedDict, pairs) for _ in range(1000)]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(copies, 2))
    assert measure_peak(read_statistics, tmp_path / "a.pkl", StatisticsError) < 50e6  # not 1 GB


def test_repeated_arrays_over_the_same_bytes_share_them(tmp_path):
    """The buffer of 1 MB is stored once, and 3,000 arrays refer to it."""
    from numpy._core.numeric import _frombuffer

    buffer = bytearray(1_000_000)
    arrays = [Global(_frombuffer, buffer, np.dtype("u1"), (1_000_000,), "C") for _ in range(3000)]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(arrays, 5))
    assert measure_peak(read_statistics, tmp_path / "a.pkl", StatisticsError) < 20e6  # not 3 GB


def test_expanded_tensors_share_their_storage(tmp_path):
    """A tensor of stride 0 is stored as one value for each of its rows; 500 of them would be 2 GB."""
    storage = torch.zeros(1_000_000)
    state = {str(number): storage.as_strided((1000, 1000), (0, 1)) for number in range(500)}
    torch.save(state, tmp_path / "a.pth")
    tracemalloc.start()
    tensors = read_state_dict(tmp_path / "a.pth")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(tensors) == 500
    assert peak < 20e6


@pytest.mark.parametrize("zipped", [True, False])
def test_strided_tensors_and_metadata_are_read_as_torch_reads_them(tmp_path, zipped):
    state = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).state_dict()
    state["transposed"] = torch.arange(12.0).reshape(3, 4).T
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    tensors = read_state_dict(tmp_path / "a.pth")
    assert list(tensors) == list(state)
    for name, expected in torch.load(tmp_path / "a.pth", weights_only=True).items():
        np.testing.assert_array_equal(tensors[name], expected.numpy())


def test_members_of_a_torch_file_that_overlap_are_rejected(tmp_path):
    """Each member contains the headers and data of all that follow it: 100 times 1 MB in a file of 1 MB (Fifield 2019)."""
    names = [f"a/data/{number:02d}" for number in range(100)]
    body, headers = bytes(1_000_000), []
    for name in reversed(names):
        sizes = struct.pack("<III", zlib.crc32(body), len(body), len(body))
        headers.insert(0, (name, sizes, len(body)))
        body = (
            b"PK\3\4"
            + struct.pack("<HHHHH", 20, 0, 0, 0, 33)
            + sizes
            + struct.pack("<HH", len(name), 0)
            + name.encode()
            + body
        )
    directory = b""
    for name, sizes, size in headers:
        offset = len(body) - size - 30 - len(name)
        directory += b"PK\1\2" + struct.pack("<HHHHHH", 20, 20, 0, 0, 0, 33) + sizes
        directory += struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, offset) + name.encode()
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, len(names), len(names), len(directory), len(body), 0)
    (tmp_path / "a.pth").write_bytes(body + directory + end)
    storages = [PersistentId(name[-2:], size) for name, _, size in headers]
    stream = io.BytesIO()
    StoragePickler(stream, 2).dump(storages)
    with zipfile.ZipFile(tmp_path / "a.pth", "a") as archive:
        archive.writestr("a/data.pkl", stream.getvalue())
    assert measure_peak(read_state_dict, tmp_path / "a.pth", WeightsError) < 5e6


class PersistentId(NamedTuple):
    key: str
    count: int


class StoragePickler(pickle.Pickler):
    """Write storages as torch.save does."""

    def persistent_id(self, value):
        return (
            ("storage", torch.ByteStorage, value.key, "cpu", value.count) if isinstance(value, PersistentId) else None
        )
