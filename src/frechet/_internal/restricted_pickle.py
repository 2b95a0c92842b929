"""Read pickles that contain arrays without executing any code they refer to.

A pickle is a program. This reader interprets it with the classes and functions that arrays need replaced by harmless
stubs, and rejects any other name. The result consists of dicts, lists, plain values and NumPy arrays.

The memory that it takes is proportional to the size of the file: sizes are compared with the bytes in the file before memory
is allocated, and stubs return views of what was read instead of copies, because a pickle of a few bytes can repeat a call.
"""

from __future__ import annotations

import math
import os
import pickle
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from frechet.errors import UnsafeFileError

_STORAGE_DTYPES = {
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
_SMALL_READ = 4096  # bytes that are read without looking at the size of the file
_MAX_AXES = 32  # of an array
_NUMERIC_TYPE_CODES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}


class _Stub:
    """Base class of the objects that a pickle may create; subclasses decide whether the BUILD instruction may set state."""

    def __setstate__(self, _state: Any) -> None:
        raise UnsafeFileError("its pickle modifies a tensor, which state dicts never do; it was rejected")


class StorageStub(_Stub):
    """Stub for a PyTorch storage: a flat array whose bytes are stored separately in the file."""

    def __init__(self, dtype: str, count: int) -> None:
        self.dtype = np.dtype(dtype)
        self.count = count
        self.data = np.empty(0, self.dtype)


class TensorStub(_Stub):
    """Stub for torch._utils._rebuild_tensor_v2: a view of a storage, resolved when the bytes have been read."""

    def __init__(self, storage: StorageStub, offset: int, shape: Any, strides: Any, *_unused: Any) -> None:
        self.storage = storage
        (self.offset,), self.shape, self.strides = _to_sizes((offset,)), _to_sizes(shape), _to_sizes(strides)

    @classmethod
    def from_parameter(cls, data: TensorStub, *_unused: Any) -> TensorStub:
        """Stub for torch._utils._rebuild_parameter."""
        return data

    def resolve(self) -> np.ndarray:
        """Return the tensor as an array: a view of its storage that cannot be written.

        Raises:
            UnsafeFileError: the tensor exceeds its storage.
        """
        if math.prod(self.shape) > self.storage.count:
            raise UnsafeFileError("a tensor is larger than its storage; the file is damaged")
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if math.prod(self.shape) and last >= self.storage.data.size:
            raise UnsafeFileError("a tensor exceeds its storage; the file is damaged")
        item = self.storage.data.itemsize
        strides = tuple(stride * item for stride in self.strides)
        return np.lib.stride_tricks.as_strided(self.storage.data[self.offset :], self.shape, strides, writeable=False)


class _DTypeStub(_Stub):
    """Stub for numpy.dtype, for numeric types only."""

    def __init__(self, code: Any, *_unused: Any) -> None:
        if code not in _NUMERIC_TYPE_CODES:
            raise UnsafeFileError(f"it contains an array of type {code!r}; expected numbers")
        self.code, self.order = code, "<"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1] if state[1] in ("<", ">", "|") else "<"

    def to_numpy(self) -> np.dtype[Any]:
        """Return the NumPy dtype."""
        return np.dtype(self.order.replace("|", "") + self.code)


class _ArrayStub(_Stub):
    """Stub for numpy.ndarray, filled by the BUILD instruction."""

    def __init__(self) -> None:
        self.value = np.empty(0)

    @classmethod
    def reconstruct(cls, *_unused: Any) -> _ArrayStub:
        """Stub for numpy's _reconstruct."""
        return cls()

    @classmethod
    def from_buffer(cls, raw: Any, dtype: _DTypeStub, shape: Any, order: str) -> _ArrayStub:
        """Stub for numpy's _frombuffer (pickle protocol 5)."""
        array = cls()
        array.__setstate__((1, shape, dtype, order == "F", raw))
        return array

    @classmethod
    def from_scalar(cls, dtype: _DTypeStub, raw: Any) -> _ArrayStub:
        """Stub for numpy's scalar."""
        return cls.from_buffer(raw, dtype, (), "C")

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _DTypeStub) or not isinstance(raw, (bytes, bytearray)):
            raise UnsafeFileError("it contains an array of Python objects; expected numbers")
        flat = np.frombuffer(raw, dtype.to_numpy())
        self.value = flat.reshape(_to_sizes(shape), order="F" if fortran else "C")


class _OrderedDictStub(_Stub, OrderedDict[Any, Any]):
    """Stub for collections.OrderedDict; the attributes that PyTorch sets (`_metadata`) are dropped."""

    def __setstate__(self, _state: Any) -> None:
        pass


def _to_sizes(values: Any) -> tuple[int, ...]:
    """Return the sizes, strides or offset of an array.

    Raises:
        UnsafeFileError: they are not a few whole numbers of at least 0.
    """
    if (
        not isinstance(values, Sequence)
        or len(values) > _MAX_AXES
        or not all(isinstance(value, int) and 0 <= value < 2**63 for value in values)
    ):
        raise UnsafeFileError(
            "an array has a size, stride or offset that is not a whole number of at least 0; the file is damaged"
        )
    return tuple(values)


_ALLOWED_GLOBALS = {
    ("torch._utils", "_rebuild_tensor_v2"): TensorStub,
    ("torch._utils", "_rebuild_parameter"): TensorStub.from_parameter,
    ("numpy", "ndarray"): _ArrayStub,
    ("numpy", "dtype"): _DTypeStub,
    **{
        (f"numpy.{core}.{module}", name): stub
        for core in ("core", "_core")
        for module, name, stub in (
            ("multiarray", "_reconstruct", _ArrayStub.reconstruct),
            ("multiarray", "scalar", _ArrayStub.from_scalar),
            ("numeric", "_frombuffer", _ArrayStub.from_buffer),
        )
    },
}


class _BoundedFile:
    """A file whose reads are compared with the bytes that are left; CPython's allocate what they are asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        position = file.tell()
        self.size = file.seek(0, os.SEEK_END)
        file.seek(position)
        self.readline = file.readline

    def read(self, count: int) -> bytes:
        if count > _SMALL_READ and count > self.size - self.file.tell():
            raise UnsafeFileError(f"its pickle declares {count} bytes, but fewer are left in the file; it is damaged")
        return self.file.read(count)


class RestrictedUnpickler(pickle._Unpickler):  # the one in Python, because methods of the one in C cannot be replaced
    """An unpickler that can create plain containers and arrays only.

    Args:
        file: the open binary file that contains the pickle.
        storages: PyTorch storages by key; empty ones are added for those that the pickle refers to.
    """

    def __init__(self, file: Any, storages: dict[str, StorageStub] | None = None) -> None:
        self.file = _BoundedFile(file)
        super().__init__(self.file)
        self.storages = {} if storages is None else storages
        self._encoded_texts: dict[str, bytes] = {}
        self._n_dict_entries = 0

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        if (module, name) == ("collections", "OrderedDict"):
            return self._make_ordered_dict
        if (module, name) in _ALLOWED_GLOBALS:
            return _ALLOWED_GLOBALS[module, name]
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            if name in _STORAGE_DTYPES:
                return _STORAGE_DTYPES[name]
            raise UnsafeFileError(f"it contains tensors of type {name}, which is not supported; save them as float32")
        raise UnsafeFileError(
            f"its pickle refers to {module}.{name}, but only arrays are supported; it was rejected and no code was executed"
        )

    def persistent_load(self, pid: Any) -> StorageStub:
        kind, dtype, key, _location, count = pid[:5]
        if kind != "storage" or dtype not in _STORAGE_DTYPES.values() or not isinstance(count, int) or count < 0:
            raise UnsafeFileError(f"its pickle contains an invalid storage reference {kind!r}; the file is damaged")
        return self.storages.setdefault(str(key), StorageStub(dtype, count))

    def _encode(self, text: str, encoding: str) -> bytes:
        """Encode text as old protocols store bytes; the same text gives the same object."""
        if encoding != "latin1":
            raise UnsafeFileError(f"its pickle uses the encoding {encoding!r}; expected latin1")
        if text not in self._encoded_texts:
            self._encoded_texts[text] = text.encode("latin1")
        return self._encoded_texts[text]

    def _make_ordered_dict(self, items: Sequence[Any] = ()) -> OrderedDict[Any, Any]:
        """Create a dict with fewer entries, all such dicts together, than the file has bytes."""
        self._n_dict_entries += len(items)
        if self._n_dict_entries > self.file.size:
            raise UnsafeFileError("its pickle has more entries than bytes; the file is damaged")
        return _OrderedDictStub(items)


def resolve_stubs(value: Any) -> Any:
    """Replace every stub in the result of a `RestrictedUnpickler` by its array.

    An object to which the pickle refers several times is converted once. Otherwise a small file with nested references
    could fill any memory.
    """
    resolved: dict[int, Any] = {}

    def resolve(value: Any) -> Any:
        if id(value) not in resolved:
            resolved[id(value)] = resolve_uncached(value)
        return resolved[id(value)]

    def resolve_uncached(value: Any) -> Any:
        if isinstance(value, TensorStub):
            return value.resolve()
        if isinstance(value, _ArrayStub):
            return value.value
        if isinstance(value, dict):
            return {key: resolve(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [resolve(item) for item in value]
        return value

    return resolve(value)


def _load_bytearray8(unpickler: Any) -> None:
    """Read a bytearray; the method of the base class allocates it before it reads the data."""
    size = int.from_bytes(unpickler.read(8), "little")
    unpickler.append(bytearray(unpickler.read(size)))


RestrictedUnpickler.dispatch = {**pickle._Unpickler.dispatch, pickle.BYTEARRAY8[0]: _load_bytearray8}
