"""Read pickles that contain arrays without executing any code they refer to.

A pickle is a program. This reader interprets it with the classes and functions that arrays need replaced by harmless
stubs, and rejects any other name. The result consists of dicts, lists, plain values and NumPy arrays. Sizes are compared
with the bytes in the file before memory is allocated.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from typing import Any

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
        self.storage, self.offset = storage, int(offset)
        self.shape = tuple(int(size) for size in shape)
        self.strides = tuple(int(stride) for stride in strides)

    @classmethod
    def from_parameter(cls, data: TensorStub, *_unused: Any) -> TensorStub:
        """Stub for torch._utils._rebuild_parameter."""
        return data

    def resolve(self) -> np.ndarray:
        """Return the tensor as an array.

        Raises:
            UnsafeFileError: the tensor exceeds its storage.
        """
        if min((*self.shape, *self.strides, self.offset, 0)) < 0:
            raise UnsafeFileError("a tensor has a negative size, stride or offset; the file is damaged")
        if math.prod(self.shape) > self.storage.count:
            raise UnsafeFileError("a tensor is larger than its storage; the file is damaged")
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if math.prod(self.shape) and last >= self.storage.data.size:
            raise UnsafeFileError("a tensor exceeds its storage; the file is damaged")
        item = self.storage.data.itemsize
        strides = tuple(stride * item for stride in self.strides)
        view = np.lib.stride_tricks.as_strided(self.storage.data[self.offset :], self.shape, strides, writeable=False)
        return np.ascontiguousarray(view).reshape(self.shape)


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
        flat = np.frombuffer(bytes(raw), dtype.to_numpy())
        self.value = flat.reshape(tuple(int(size) for size in shape), order="F" if fortran else "C")


class _CodecStub:
    """Stub for _codecs.encode, which old protocols use to store bytes."""

    @classmethod
    def encode(cls, text: str, encoding: str) -> bytes:
        """Encode text as Latin-1, the only encoding that is supported."""
        if encoding != "latin1":
            raise UnsafeFileError(f"its pickle uses the encoding {encoding!r}; expected latin1")
        return text.encode("latin1")


_ALLOWED_GLOBALS = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): TensorStub,
    ("torch._utils", "_rebuild_parameter"): TensorStub.from_parameter,
    ("numpy", "ndarray"): _ArrayStub,
    ("numpy", "dtype"): _DTypeStub,
    ("_codecs", "encode"): _CodecStub.encode,
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


class RestrictedUnpickler(
    pickle._Unpickler
):  # written in Python; the one in C allocates as much memory as the file claims to need
    """An unpickler that can create plain containers and arrays only.

    Args:
        file: the open binary file that contains the pickle.
        storages: PyTorch storages by key; empty ones are added for those that the pickle refers to.
    """

    def __init__(self, file: Any, storages: dict[str, StorageStub] | None = None) -> None:
        super().__init__(file)
        self.storages = {} if storages is None else storages

    def find_class(self, module: str, name: str) -> Any:
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
