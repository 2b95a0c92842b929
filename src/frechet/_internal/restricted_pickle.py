"""Read pickles that hold arrays, and run nothing of what they name.

A pickle is a program; this reader interprets it with every name replaced by a harmless stand-in of ours and refuses any
other. What comes out is made of dicts, lists, plain values and NumPy arrays. Sizes are held against the bytes that are
there before anything is allocated.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np

from frechet.errors import UnsafeFile

_STORAGES = {
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
_NUMBERS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}


class _StandIn:
    """What a pickle may build; it cannot be altered by the pickle's BUILD instruction unless it says so itself."""

    def __setstate__(self, _state: Any) -> None:
        raise UnsafeFile("its pickle tries to alter a tensor; it was refused")


class Storage(_StandIn):
    """PyTorch's flat array, whose bytes a container brings separately."""

    def __init__(self, dtype: str, count: int) -> None:
        self.dtype = np.dtype(dtype)
        self.count = count
        self.data = np.empty(0, self.dtype)


class Tensor(_StandIn):
    """The stand-in for torch._utils._rebuild_tensor_v2: a view into a storage, resolved once its bytes are there."""

    def __init__(self, storage: Storage, offset: int, shape: Any, strides: Any, *_unused: Any) -> None:
        self.storage, self.offset = storage, int(offset)
        self.shape = tuple(int(size) for size in shape)
        self.strides = tuple(int(stride) for stride in strides)

    @classmethod
    def parameter(cls, data: Tensor, *_unused: Any) -> Tensor:
        """The stand-in for torch._utils._rebuild_parameter."""
        return data

    def resolve(self) -> np.ndarray:
        """The tensor as an array.

        Raises:
            UnsafeFile: it reaches outside its storage.
        """
        if min((*self.shape, *self.strides, self.offset, 0)) < 0:
            raise UnsafeFile("a tensor has a negative size, stride or offset; the file is damaged")
        if math.prod(self.shape) > self.storage.count:
            raise UnsafeFile("a tensor is larger than its storage; the file is damaged")
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if math.prod(self.shape) and last >= self.storage.data.size:
            raise UnsafeFile("a tensor reaches outside its storage; the file is damaged")
        item = self.storage.data.itemsize
        strides = tuple(stride * item for stride in self.strides)
        view = np.lib.stride_tricks.as_strided(self.storage.data[self.offset :], self.shape, strides, writeable=False)
        return np.ascontiguousarray(view).reshape(self.shape)


class _DType(_StandIn):
    """The stand-in for numpy.dtype: numbers only."""

    def __init__(self, code: Any, *_unused: Any) -> None:
        if code not in _NUMBERS:
            raise UnsafeFile(f"it holds an array of type {code!r}; expected numbers")
        self.code, self.order = code, "<"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1] if state[1] in ("<", ">", "|") else "<"

    @property
    def numpy(self) -> np.dtype[Any]:
        """The real dtype."""
        return np.dtype(self.order.replace("|", "") + self.code)


class _Array(_StandIn):
    """The stand-in for numpy.ndarray, filled by the pickle's BUILD instruction."""

    def __init__(self) -> None:
        self.value = np.empty(0)

    @classmethod
    def reconstruct(cls, *_unused: Any) -> _Array:
        """The stand-in for numpy's _reconstruct."""
        return cls()

    @classmethod
    def from_buffer(cls, raw: Any, dtype: _DType, shape: Any, order: str) -> _Array:
        """The stand-in for numpy's _frombuffer (pickle protocol 5)."""
        array = cls()
        array.__setstate__((1, shape, dtype, order == "F", raw))
        return array

    @classmethod
    def scalar(cls, dtype: _DType, raw: Any) -> _Array:
        """The stand-in for numpy's scalar."""
        return cls.from_buffer(raw, dtype, (), "C")

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _DType) or not isinstance(raw, (bytes, bytearray)):
            raise UnsafeFile("it holds an array of Python objects; expected numbers")
        flat = np.frombuffer(bytes(raw), dtype.numpy)
        self.value = flat.reshape(tuple(int(size) for size in shape), order="F" if fortran else "C")


class _Text:
    """The stand-in for _codecs.encode, by which old protocols write bytes."""

    @classmethod
    def encode(cls, text: str, encoding: str) -> bytes:
        """Latin-1 only."""
        if encoding != "latin1":
            raise UnsafeFile(f"its pickle asks for the encoding {encoding!r}")
        return text.encode("latin1")


_ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): Tensor,
    ("torch._utils", "_rebuild_parameter"): Tensor.parameter,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _Text.encode,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _Array.reconstruct),
            ("multiarray", "scalar", _Array.scalar),
            ("numeric", "_frombuffer", _Array.from_buffer),
        )
    },
}


class ArraysOnly(pickle._Unpickler):  # the one in Python: the one in C reserves memory as the file bids
    """An unpickler that can build plain containers and arrays, and nothing else.

    Args:
        file: where the pickle is read.
        storages: PyTorch storages by key; those that the pickle mentions are added, empty.
    """

    def __init__(self, file: Any, storages: dict[str, Storage] | None = None) -> None:
        super().__init__(file)
        self.storages = {} if storages is None else storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            if name in _STORAGES:
                return _STORAGES[name]
            raise UnsafeFile(f"it holds tensors of {name}, which are not read; save them as float32")
        raise UnsafeFile(
            f"its pickle asks for {module}.{name}, and only arrays are read; it was refused and nothing was run"
        )

    def persistent_load(self, pid: Any) -> Storage:
        kind, dtype, key, _location, count = pid[:5]
        if kind != "storage" or dtype not in _STORAGES.values() or not isinstance(count, int) or count < 0:
            raise UnsafeFile(f"unknown reference {kind!r} in its pickle")
        return self.storages.setdefault(str(key), Storage(dtype, count))


def plain(value: Any) -> Any:
    """What an `ArraysOnly` built, with every stand-in replaced by its array.

    What the pickle holds once and names in several places is made once: doubled often enough it would fill any memory.
    """
    made: dict[int, Any] = {}

    def of(value: Any) -> Any:
        if id(value) not in made:
            made[id(value)] = once(value)
        return made[id(value)]

    def once(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.resolve()
        if isinstance(value, _Array):
            return value.value
        if isinstance(value, dict):
            return {key: of(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [of(item) for item in value]
        return value

    return of(value)
