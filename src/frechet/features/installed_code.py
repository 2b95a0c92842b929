"""Whether code belongs to Python or an installed package, of which only names are part of an identity."""

from __future__ import annotations

import functools
import sys
import sysconfig
from pathlib import Path, PurePath
from types import FunctionType, ModuleType

_LIBRARIES = (
    str(Path(__file__).parents[1]),
    *{sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")},
)
_FOLDERS_OF_LIBRARIES = {"site-packages", "dist-packages"}


def is_code_of_library(function: FunctionType) -> bool:
    """Return whether the code of a function belongs to Python or an installed package, whatever a decorator has called it."""
    file = function.__code__.co_filename
    return is_of_library(function) if file.startswith("<") else _is_file_of_library(file)


def is_of_library(code: FunctionType | type) -> bool:
    """Return whether a function or class belongs to Python or an installed package."""
    return code.__module__ != "__main__" and is_library(sys.modules.get(code.__module__))


def is_library(module: ModuleType | None) -> bool:
    """Return whether a module belongs to Python or an installed package."""
    file = getattr(module, "__file__", None)
    return module is not None and (file is None or _is_file_of_library(file))


@functools.cache
def _is_file_of_library(file: str) -> bool:
    path = PurePath(file)
    return any(path.is_relative_to(folder) for folder in _LIBRARIES) or not _FOLDERS_OF_LIBRARIES.isdisjoint(path.parts)


def has_file(cls: type) -> bool:
    """Return whether a class is defined in a file."""
    return getattr(sys.modules.get(cls.__module__), "__file__", None) is not None
