"""Read what torch.save wrote, with numpy alone; nothing in the file is ever executed (see `frechet._internal.restricted_pickle`).

Both layouts are read: the zip of torch >= 1.6, and the older run of pickles followed by raw storages.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from frechet._internal.restricted_pickle import RestrictedUnpickler, StorageStub, resolve_stubs
from frechet.errors import UnsafeFileError, WeightsError

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


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
        state = read_torch_file(path)
        if not isinstance(state, dict):
            raise UnsafeFileError(f"holds a {type(state).__name__}; expected a state dict (name -> tensor)")
    except FileNotFoundError:
        raise WeightsError(f"no weights file at {path}") from None
    except UnsafeFileError as error:
        raise WeightsError(f"{path}: {error}") from None
    except Exception as error:  # a damaged pickle or zip can fail in any way at all
        raise WeightsError(
            f"{path} cannot be read as a PyTorch state dict ({type(error).__name__}: {error}). "
            "It may be cut short or be another kind of file; fetch it again."
        ) from error
    return {str(name): value for name, value in state.items() if isinstance(value, np.ndarray)}


def read_torch_file(path: Path) -> Any:
    """Whatever torch.save wrote of dicts, lists, plain values, tensors and NumPy arrays; the last two as arrays.

    Raises:
        UnsafeFile: the file asks for anything else.
        Exception: a damaged file may fail in any way; callers say so in their own words.
    """
    with open(path, "rb") as file:
        return _read_zip(file) if zipfile.is_zipfile(file) else _read_legacy(file)


def _read_zip(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise UnsafeFileError("is a zip without the one data.pkl of a PyTorch file")
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise UnsafeFileError("is compressed inside, which PyTorch's files never are")
        folder = pickles[0].removesuffix("data.pkl")
        storages: dict[str, StorageStub] = {}
        state = RestrictedUnpickler(io.BytesIO(archive.read(pickles[0])), storages).load()
        for key, storage in storages.items():
            member = archive.getinfo(f"{folder}data/{key}")
            if member.file_size != storage.count * storage.dtype.itemsize:
                raise UnsafeFileError(f"storage {key} has {member.file_size} bytes; the file is damaged")
            storage.data = np.frombuffer(archive.read(member), storage.dtype)
    return resolve_stubs(state)


def _read_legacy(file: BinaryIO) -> Any:
    file.seek(0)
    storages: dict[str, StorageStub] = {}

    def load() -> Any:
        return RestrictedUnpickler(file, storages).load()

    if load() != _LEGACY_MAGIC:
        raise UnsafeFileError("is not a PyTorch file (its first value is not PyTorch's mark)")
    _protocol, _system = load(), load()
    state = load()
    for key in load():
        storage = storages[str(key)]
        (count,) = np.frombuffer(file.read(8), "<i8")
        if count != storage.count:
            raise UnsafeFileError(f"storage {key} has {count} values, expected {storage.count}; the file is damaged")
        data = file.read(storage.count * storage.dtype.itemsize)
        if len(data) != storage.count * storage.dtype.itemsize:
            raise UnsafeFileError("ends in the middle of a tensor; it was cut short. Fetch it again.")
        storage.data = np.frombuffer(data, storage.dtype)
    return resolve_stubs(state)
