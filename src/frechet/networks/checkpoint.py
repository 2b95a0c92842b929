"""Read files written by torch.save with NumPy only; nothing in the file is executed (see `restricted_pickle`).

Both layouts are supported: the zip archive of torch >= 1.6, and the older sequence of pickles followed by raw storages.
"""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from frechet._internal.restricted_pickle import RestrictedUnpickler, StorageStub, resolve_stubs
from frechet._internal.special_files import describe_special_file
from frechet.errors import UnsafeFileError, WeightsError

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of a .pth file.

    Args:
        path: a file written by `torch.save(module.state_dict(), path)`, in either layout.

    Returns:
        name -> array of the stored shape and dtype.

    Raises:
        WeightsError: the file is of another kind or truncated, or its pickle refers to anything but tensors (the message
            gives that name).
    """
    if problem := describe_special_file(path):
        raise WeightsError(problem)
    try:
        state = read_torch_file(path)
        if not isinstance(state, dict):
            raise UnsafeFileError(f"contains a {type(state).__name__}; expected a state dict (name -> tensor)")
    except FileNotFoundError:
        raise WeightsError(f"weights file {path} does not exist; check the path") from None
    except UnsafeFileError as error:
        raise WeightsError(f"{path}: {error}") from None
    except Exception as error:  # a damaged pickle or zip archive can raise any exception
        raise WeightsError(
            f"{path} cannot be read as a PyTorch state dict ({type(error).__name__}: {error}). "
            "It may be truncated or another kind of file; download it again."
        ) from error
    return {str(name): value for name, value in state.items() if isinstance(value, np.ndarray)}


def read_torch_file(path: Path) -> Any:
    """Read a file written by torch.save that contains dicts, lists, plain values, tensors and NumPy arrays.

    Returns:
        The stored object, with tensors and arrays as NumPy arrays and tuples as lists.

    Raises:
        UnsafeFileError: the file refers to anything else.
        Exception: a damaged file can raise any exception; callers convert it.
    """
    with open(path, "rb") as file:
        return _read_zip(file) if zipfile.is_zipfile(file) else _read_legacy(file)


def _read_zip(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise UnsafeFileError(
                "is a zip archive that does not contain exactly one data.pkl; expected a PyTorch file"
            )
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise UnsafeFileError(
                "contains compressed members; expected a PyTorch file, whose members are stored uncompressed"
            )
        if any(
            member.compress_size != member.file_size for member in archive.infolist()
        ):  # zipfile allocates the former
            raise UnsafeFileError("has uncompressed members of two different sizes; the file is damaged")
        if sum(member.file_size for member in archive.infolist()) > file.seek(0, os.SEEK_END):
            raise UnsafeFileError("has members that overlap; the file is damaged")
        folder = pickles[0].removesuffix("data.pkl")
        storages: dict[str, StorageStub] = {}
        state = RestrictedUnpickler(io.BytesIO(archive.read(pickles[0])), storages).load()
        for key, storage in storages.items():
            member = archive.getinfo(f"{folder}data/{key}")
            if member.file_size != storage.count * storage.dtype.itemsize:
                raise UnsafeFileError(
                    f"storage {key} has {member.file_size} bytes, expected {storage.count * storage.dtype.itemsize}; the file is damaged"
                )
            storage.data = np.frombuffer(archive.read(member), storage.dtype)
    return resolve_stubs(state)


def _read_legacy(file: BinaryIO) -> Any:
    file.seek(0)
    storages: dict[str, StorageStub] = {}

    def load() -> Any:
        return RestrictedUnpickler(file, storages).load()

    if load() != _LEGACY_MAGIC:
        raise UnsafeFileError("is not a PyTorch file (its first value is not PyTorch's magic number)")
    _protocol, _system = load(), load()
    state = load()
    for key in load():
        storage = storages[str(key)]
        (count,) = np.frombuffer(file.read(8), "<i8")
        if count != storage.count:
            raise UnsafeFileError(f"storage {key} has {count} values, expected {storage.count}; the file is damaged")
        size = storage.count * storage.dtype.itemsize
        if file.tell() + size > os.fstat(file.fileno()).st_size:
            raise UnsafeFileError("ends in the middle of a tensor; it is truncated. Download it again.")
        storage.data = np.frombuffer(file.read(size), storage.dtype)
    return resolve_stubs(state)
