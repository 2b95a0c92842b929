"""Read a PyTorch state dict (.pth) with numpy alone; nothing in the file is ever executed.

A .pth holds a pickle. `_TensorsOnly` interprets it with every global replaced by a harmless stand-in of ours and refuses
any other name; sizes are held against the bytes that are there before anything is allocated. Both layouts are read: the zip of torch >= 1.6
and the older run of pickles followed by raw storages.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from frechet.errors import WeightsError

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Tensors of a .pth file by name.

    Args:
        path: a file written by `torch.save(module.state_dict(), path)`, in either layout.

    Returns:
        name -> array of the stored shape and dtype.

    Raises:
        WeightsError: not such a file, cut short, or its pickle names anything but tensors (the name is told).
    """
    try:
        with open(path, "rb") as file:
            tensors = _read_zip(file) if zipfile.is_zipfile(file) else _read_legacy(file)
    except FileNotFoundError:
        raise WeightsError(f"no weights file at {path}") from None
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except Exception as error:  # a damaged pickle or zip can fail in any way at all
        raise WeightsError(
            f"{path} cannot be read as a PyTorch state dict ({type(error).__name__}: {error}). "
            "It may be cut short or be another kind of file; fetch it again."
        ) from error
    return tensors


class _Storage:
    """A flat array whose bytes may arrive later (the legacy layout puts them at the end)."""

    def __init__(self, dtype: str, count: int) -> None:
        self.dtype = np.dtype(dtype)
        self.count = count
        self.data = np.empty(0, self.dtype)

    def __setstate__(self, _state: Any) -> None:
        raise WeightsError("its pickle tries to alter a tensor; it was refused")


class _Tensor:
    """The stand-in for torch._utils._rebuild_tensor_v2: a view into a storage, resolved once its bytes are there."""

    def __init__(self, storage: _Storage, offset: int, shape: Any, strides: Any, *_unused: Any) -> None:
        self.storage, self.offset = storage, int(offset)
        self.shape = tuple(int(size) for size in shape)
        self.strides = tuple(int(stride) for stride in strides)

    def __setstate__(self, _state: Any) -> None:
        raise WeightsError("its pickle tries to alter a tensor; it was refused")

    @classmethod
    def parameter(cls, data: _Tensor, *_unused: Any) -> _Tensor:
        """The stand-in for torch._utils._rebuild_parameter."""
        return data

    def resolve(self) -> np.ndarray:
        if math.prod(self.shape) > self.storage.count:
            raise WeightsError("a tensor is larger than its storage; the file is damaged")
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if math.prod(self.shape) and not 0 <= self.offset <= last < self.storage.data.size:
            raise WeightsError("a tensor reaches outside its storage; the file is damaged")
        if min((*self.shape, *self.strides, 0)) < 0:
            raise WeightsError("a tensor has a negative size or stride; the file is damaged")
        item = self.storage.data.itemsize
        view = np.lib.stride_tricks.as_strided(
            self.storage.data[self.offset :],
            self.shape,
            tuple(stride * item for stride in self.strides),
            writeable=False,
        )
        return np.ascontiguousarray(view).reshape(self.shape)


class _TensorsOnly(pickle._Unpickler):  # the one in Python: the one in C reserves memory as the file bids
    """An unpickler that can build plain containers and tensors, and nothing else."""

    def __init__(self, file: Any, storages: dict[str, _Storage]) -> None:
        super().__init__(file)
        self.storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _Tensor.parameter
        if module in ("torch", "torch.storage") and name in _DTYPES:
            return _DTYPES[name]
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            raise WeightsError(f"it holds tensors of {name}, which are not read; save them as float32")
        raise WeightsError(
            f"its pickle asks for {module}.{name}, and weights need only tensors; it was refused and nothing was run"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _location, count = pid[:5]
        if kind != "storage" or dtype not in _DTYPES.values() or not isinstance(count, int) or count < 0:
            raise WeightsError(f"unknown reference {kind!r} in its pickle")
        return self.storages.setdefault(str(key), _Storage(dtype, count))


def _tensors_of(state: Any) -> dict[str, np.ndarray]:
    if not isinstance(state, dict):
        raise WeightsError(f"holds a {type(state).__name__}; expected a state dict (name -> tensor)")
    return {str(name): value.resolve() for name, value in state.items() if isinstance(value, _Tensor)}


def _read_zip(file: BinaryIO) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise WeightsError("is a zip without the one data.pkl of a PyTorch file")
        folder = pickles[0].removesuffix("data.pkl")
        storages: dict[str, _Storage] = {}
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise WeightsError("is compressed inside, which PyTorch's files never are")
        state = _TensorsOnly(io.BytesIO(archive.read(pickles[0])), storages).load()
        for key, storage in storages.items():
            member = archive.getinfo(f"{folder}data/{key}")
            if member.file_size != storage.count * storage.dtype.itemsize:
                raise WeightsError(f"storage {key} has {member.file_size} bytes; the file is damaged")
            storage.data = np.frombuffer(archive.read(member), storage.dtype)
    return _tensors_of(state)


def _read_legacy(file: BinaryIO) -> dict[str, np.ndarray]:
    file.seek(0)
    storages: dict[str, _Storage] = {}

    def load() -> Any:
        return _TensorsOnly(file, storages).load()

    if load() != _LEGACY_MAGIC:
        raise WeightsError("is not a PyTorch file (its first value is not PyTorch's mark)")
    _protocol, _system = load(), load()
    state = load()
    for key in load():
        storage = storages[str(key)]
        (count,) = np.frombuffer(file.read(8), "<i8")
        if count != storage.count:
            raise WeightsError(f"storage {key} has {count} values, expected {storage.count}; the file is damaged")
        data = file.read(storage.count * storage.dtype.itemsize)
        storage.data = np.frombuffer(data, storage.dtype)
        if storage.data.size != storage.count:
            raise WeightsError("ends in the middle of a tensor; it was cut short. Fetch it again.")
    return _tensors_of(state)
