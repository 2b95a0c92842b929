"""What identifies a network that is Python code: the sha256 (hex) of the code and of everything that it computes with."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from frechet.features.spec import get_qualified_name

_LIBRARIES = (
    str(Path(__file__).parents[1]),
    *{sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")},
)
_STATE_OF_MODULES = ("_parameters", "_buffers")


def hash_code(function: Callable[..., Any]) -> str:
    """Return the sha256 of a function or torch.nn.Module: its source code, settings and tensors, and those of what it uses.

    These are its attributes, defaults and closure, and the functions, classes, modules and tensors that its code names, except
    the code of installed packages. What the function reads on each call, such as a file, is not known.
    """
    digest = hashlib.sha256(get_qualified_name(function).encode())
    for part in _Walk().iter_parts(function):
        digest.update(part)
    return digest.hexdigest()


class _Walk:
    """Yields what identifies a value and, once each, the values that it consists of."""

    def __init__(self) -> None:
        self.visited: dict[int, Any] = {}  # the values too, so that no other one gets the id of one of them
        self.files: set[str] = set()

    def iter_parts(self, value: Any) -> Iterator[bytes]:
        """Yield what identifies a value, unless it was visited before."""
        if id(value) not in self.visited:
            self.visited[id(value)] = value
            yield from self._iter_code(value) if _is_code(value) else self._iter_data(value)

    def _iter_code(self, value: Any) -> Iterator[bytes]:
        if inspect.isfunction(value):
            yield from self._iter_function(value)
        elif isinstance(value, type):
            yield from self._iter_class(value)
        elif inspect.ismethod(value):
            yield from self._iter_all([value.__func__, value.__self__])
        else:
            yield repr([each for each in (*value.args, *value.keywords.items()) if _is_setting(each)]).encode()
            yield from self._iter_all([value.func, value.args, value.keywords])

    def _iter_data(self, value: Any) -> Iterator[bytes]:
        if isinstance(value, np.ndarray) or _is_tensor(value):
            yield from _iter_array(value)
        elif isinstance(value, Mapping):
            for name in list(value):
                yield str(name).encode()
                yield from self.iter_parts(value[name])
        elif isinstance(value, (list, tuple)):
            yield from self._iter_all(value)
        elif hasattr(value, "named_modules"):
            for name, module in value.named_modules():
                yield name.encode()
                yield from self._iter_instance(module)
        elif not _is_of_library(type(value)):
            yield from self._iter_instance(value)

    def _iter_all(self, values: Iterable[Any]) -> Iterator[bytes]:
        for value in values:
            yield from self.iter_parts(value)

    def _iter_function(self, function: FunctionType) -> Iterator[bytes]:
        if not _is_of_library(function):
            yield from self._iter_source(function.__module__, [function.__code__])
            yield from self._iter_all(_list_used(function))

    def _iter_class(self, cls: type) -> Iterator[bytes]:
        for base in (each for each in cls.__mro__ if not _is_of_library(each)):
            functions = [each for each in vars(base).values() if inspect.isfunction(each)]
            yield from self._iter_source(base.__module__, [each.__code__ for each in functions])
            yield from self._iter_all(functions)

    def _iter_instance(self, instance: Any) -> Iterator[bytes]:
        """Yield the class and the attributes of an object; of a torch.nn.Module without the modules that it contains."""
        attributes = {
            name: each
            for name, each in getattr(instance, "__dict__", {}).items()
            if name in _STATE_OF_MODULES or not (name.startswith("_") or name == "training")
        }
        yield get_qualified_name(type(instance)).encode()
        yield repr([item for item in attributes.items() if _is_setting(item[1])]).encode()
        yield from self._iter_class(type(instance))
        yield from self.iter_parts(attributes)

    def _iter_source(self, module_name: str, codes: Iterable[CodeType]) -> Iterator[bytes]:
        """Yield the file of a module, or the instructions if there is none, as in an interactive session."""
        file = getattr(sys.modules.get(module_name), "__file__", None)
        if file is None or not Path(file).is_file():
            for code in codes:
                yield code.co_code + repr([code.co_names, *filter(_is_setting, code.co_consts)]).encode()
        elif file not in self.files:
            self.files.add(file)
            yield Path(file).read_bytes()


def _list_used(function: FunctionType) -> list[Any]:
    """Return the defaults and closure of a function, and the global values that its code names."""
    names = list(dict.fromkeys(_iter_names(function.__code__)))
    used = [function.__globals__[name] for name in names if name in function.__globals__]
    own_modules = [each for each in used if isinstance(each, ModuleType) and not _is_library(each)]
    of_modules = [vars(module)[name] for module in own_modules for name in names if name in vars(module)]
    closure = [
        cell.cell_contents for cell in function.__closure__ or () if cell != CellType()
    ]  # an empty cell has none
    return [function.__defaults__, function.__kwdefaults__, closure, used, of_modules]


def _iter_names(code: CodeType) -> Iterator[str]:
    """Yield the names that a function, and the functions within it, refer to."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _iter_names(constant)


def _is_of_library(code: FunctionType | type) -> bool:
    """Return whether a function or class belongs to Python or an installed package."""
    return code.__module__ != "__main__" and _is_library(sys.modules.get(code.__module__))


def _is_library(module: ModuleType | None) -> bool:
    file = getattr(module, "__file__", None)
    return module is not None and (file is None or file.startswith(_LIBRARIES))


def _is_code(value: Any) -> bool:
    return inspect.isfunction(value) or inspect.ismethod(value) or isinstance(value, (type, functools.partial))


def _is_tensor(value: Any) -> bool:
    return not isinstance(value, type) and hasattr(value, "detach") and hasattr(value, "element_size")


def _iter_array(value: Any) -> Iterator[bytes]:
    """Yield dtype, shape and bytes of an array or tensor."""
    yield f"{value.dtype} {tuple(value.shape)}".encode()
    if _is_tensor(value):
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() and value.element_size() < 4 else value).numpy()
    yield np.ascontiguousarray(value).tobytes()


def _is_setting(value: Any) -> bool:
    """Return whether a value has a representation that is the same in each process."""
    return (
        value is None
        or isinstance(value, (bool, int, float, str))
        or (isinstance(value, (list, tuple)) and all(map(_is_setting, value)))
    )
