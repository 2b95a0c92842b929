"""What identifies a network that is Python code: the sha256 (hex) of the code and of everything that it computes with."""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib.util
import inspect
import operator
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from types import CellType, FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from frechet.features.code_source import Chain, find_used_names, hash_source, iter_stored_attributes
from frechet.features.identity_parts import get_parts, record_parts
from frechet.features.plain_values import describe_plain
from frechet.features.spec import get_qualified_name

_LIBRARIES = (
    str(Path(__file__).parents[1]),
    *{sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")},
)
_FOLDERS_OF_LIBRARIES = {"site-packages", "dist-packages"}
_STATE_OF_MODULES = ("_parameters", "_buffers", "_modules")
_HOOKS_OF_MODULES = ("_forward_pre_hooks", "_forward_hooks")
_NAMESPACES = (argparse.Namespace, SimpleNamespace)
_OPERATORS = (operator.attrgetter, operator.itemgetter, operator.methodcaller)
_MAX_SHOWN, _MAX_SHOWN_TEXT = 60, 20  # characters of a value in a message; longer strings may be paths or passwords
_DETAILS = "the content of tensors and layers"
_MISSING = object()


def hash_code(function: Callable[..., Any], call: Callable[[], Any] | None = None) -> str:
    """Return the sha256 of a function or torch.nn.Module: its code, settings and tensors, and those of what it uses.

    These are its attributes, defaults and closure, and the functions, classes, modules, tensors and plain values that its code
    loads, except the code of installed packages. What the function reads on each call, such as a file, is not known.

    Args:
        function: the function, which was called before, so that it has loaded its weights.
        call: calls it once more. Values that this changes, such as a counter of its calls, are not part of the identity.
    """
    walk = _Walk(ignored=frozenset() if call is None else _find_state(function, call))
    digest = walk.hash_root(function)
    record_parts(digest, walk.summarise())
    return digest


def add_code(digest: str, function: Callable[..., Any]) -> str:
    """Return the sha256 of weights together with the function that computes with them; that of the weights for code of a library."""
    if inspect.isfunction(function) and _is_code_of_library(function):
        return digest
    code = hash_code(function)
    combined = hashlib.sha256(f"{digest} {code}".encode()).hexdigest()
    record_parts(combined, {**(get_parts(code) or {}), "the content of the weights": f"sha256 {digest[:12]}"})
    return combined


def _find_state(function: Callable[..., Any], call: Callable[[], Any]) -> frozenset[str]:
    """Return the paths of the values that a call changes."""
    before, after = _Walk(is_snapshot=True), _Walk(is_snapshot=True)
    before.hash_root(function)
    call()
    after.hash_root(function)
    return frozenset(path for path in before.found.keys() & after.found if before.found[path] != after.found[path])


class _Walk:
    """Computes digests of values from those of the values that they consist of.

    Args:
        ignored: paths of values that are not part of the identity.
        is_snapshot: whether tensors are recognised by their place in memory instead of their content.

    Attributes:
        found: path -> content of the values that consist of no others.
    """

    def __init__(self, ignored: frozenset[str] = frozenset(), *, is_snapshot: bool = False) -> None:
        self.ignored, self.is_snapshot = ignored, is_snapshot
        self.found: dict[str, str] = {}
        self._details: set[str] = set()  # paths of tensors and of settings of layers, too many to be named
        self._digests: dict[int, bytes] = {}
        self._kept: list[Any] = []  # so that no other value gets the id of one that was visited

    def hash_root(self, function: Callable[..., Any]) -> str:
        """Return the hex digest of an extractor."""
        return _hash([get_qualified_name(function).encode(), self.digest(function, "")]).hex()

    def summarise(self) -> dict[str, str]:
        """Return the parts of the identity by name, each with its value or a digest of it."""
        details = _hash(f"{path}={self.found[path]}".encode() for path in self.found if path in self._details)
        named = {path: text for path, text in self.found.items() if path not in self._details}
        return {**{path: _show(text) for path, text in named.items()}, _DETAILS: f"sha256 {details.hex()[:12]}"}

    def digest(self, value: Any, path: str) -> bytes:
        """Return the digest of a value.

        Args:
            value: any object.
            path: what the value is called in messages.
        """
        if path in self.ignored:
            return b"state"
        if (plain := describe_plain(value)) is not None:
            self.found[path] = plain
            return _hash([plain.encode("utf-8", "surrogatepass")])
        key = id(value)
        if key not in self._digests:
            self._kept.append(value)
            self._digests[key] = b"cycle"
            self._digests[key] = _hash(self._iter_content(value, path))
        return self._digests[key]

    def _iter_content(self, value: Any, path: str) -> Iterator[bytes]:
        if _is_array(value):
            yield self._digest_array(value, path)
            return
        yield _describe_kind(value).encode()
        if inspect.isfunction(value):
            yield from self._iter_function(value)
        elif isinstance(value, type):
            yield from self._iter_class(value)
        elif isinstance(value, Mapping):
            yield from self._iter_items([(key, value[key]) for key in list(value)], path)
        elif isinstance(value, (list, tuple)):
            yield from self._iter_items(enumerate(value), path)
        elif isinstance(value, (set, frozenset)):
            yield from sorted(self.digest(each, f"an element of {path}") for each in value)
        else:
            yield from self._iter_object(value, path)

    def _iter_object(self, value: Any, path: str) -> Iterator[bytes]:
        used = _list_used_by_wrapper(value)
        if hasattr(value, "named_modules"):
            yield from self._iter_module(value, path)
        elif used is not None:
            for name, each in used:
                yield name.encode()
                yield self.digest(each, f"the {name}{f' of {path}' if path else ''}")
        elif isinstance(value, _OPERATORS):
            yield repr(value).encode()
        elif isinstance(value, _NAMESPACES):
            yield from self._iter_attributes(vars(value), path)
        elif not _is_of_library(type(value)):
            yield self.digest(type(value), path)
            yield from self._iter_attributes(_get_attributes(value), path)
        elif callable(value) and not isinstance(value, ModuleType):  # such as a composition of transforms
            public = {name: each for name, each in getattr(value, "__dict__", {}).items() if not name.startswith("_")}
            yield from self._iter_attributes(public, path)

    def _iter_items(self, items: Iterable[tuple[Any, Any]], path: str) -> Iterator[bytes]:
        known = [(describe_plain(key), key, each) for key, each in items]
        self.found[path] = str([key for key, _, _ in known])
        self._details.add(path)
        for text, key, each in known:
            yield self.digest(key, f"a key of {path}") if text is None else text.encode("utf-8", "surrogatepass")
            yield self.digest(each, f"{path}[{text}]")

    def _iter_attributes(self, attributes: Mapping[str, Any], path: str) -> Iterator[bytes]:
        for name in sorted(attributes):
            yield name.encode()
            yield self.digest(attributes[name], f"the attribute {name}{f' of {path}' if path else ''}")

    def _digest_array(self, value: Any, path: str) -> bytes:
        if self.is_snapshot:
            self.found[path] = f"{id(value)} {_get_version(value)}"
            return b""
        if isinstance(value, np.ndarray) and value.dtype.hasobject:
            return self.digest(value.tolist(), path)
        content = _hash(_iter_array(value))
        self.found[path] = content.hex()
        self._details.add(path)
        return content

    def _iter_function(self, function: FunctionType) -> Iterator[bytes]:
        name = function.__qualname__
        if not _is_code_of_library(function):
            code = hash_source(function.__code__, function.__globals__)
            self.found[f"the code of {name}"] = f"sha256 {code[:12]}"
            yield code.encode()
        elif function.__closure__ is None:
            return
        for label, value in _list_used(function):
            yield label.encode()
            yield self.digest(value, f"{label} of {name}")

    def _iter_class(self, cls: type) -> Iterator[bytes]:
        for base in cls.__mro__:
            yield get_qualified_name(base).encode() if _is_of_library(base) else b"own"
            for name, value in [] if _is_of_library(base) else _list_class_attributes(base):
                yield name.encode()
                yield self.digest(value, f"{base.__qualname__}.{name}")

    def _iter_module(self, module: Any, path: str) -> Iterator[bytes]:
        """Yield what identifies a torch.nn.Module: its class, attributes, tensors, layers and hooks."""
        is_of_library = _is_of_library(type(module))
        yield b"" if is_of_library else self.digest(type(module), path)
        if isinstance(code := getattr(module, "code", None), str):  # of TorchScript and torch.fx
            self.found[f"the code of {path or 'the module'}"] = _shorten(code.encode())
            yield code.encode()
        before = set(self.found)
        yield from self._iter_attributes(_get_attributes(module), path)
        if is_of_library:
            self._details |= self.found.keys() - before
        for kind in _STATE_OF_MODULES:
            for name, each in getattr(module, kind, {}).items():
                yield name.encode()
                yield self.digest(each, f"{path}.{name}" if path else name)
        for kind in _HOOKS_OF_MODULES:
            for number, hook in enumerate(getattr(module, kind, {}).values()):
                yield kind.encode()
                yield self.digest(hook, f"hook {number} of {path or 'the module'}")


def _list_used(function: FunctionType) -> list[tuple[str, Any]]:
    """Return what a function computes with, each with a label: defaults, attributes, closure, and global values that it loads."""
    code, used = function.__code__, find_used_names(function.__code__)
    first = code.co_argcount - len(function.__defaults__ or ())
    defaults = {
        **dict(zip(code.co_varnames[first : code.co_argcount], function.__defaults__ or (), strict=True)),
        **(function.__kwdefaults__ or {}),
    }
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    closure = {name: cell.cell_contents for name, cell in cells.items() if cell != CellType()}  # an empty cell has none
    found = [(f"the default of {name}", value) for name, value in defaults.items()]
    found += [(f"the attribute {name}", value) for name, value in sorted(vars(function).items())]
    if _is_code_of_library(function):  # made by a decorator
        wrapped = vars(function).get("__wrapped__")
        return [
            *([] if wrapped is None else [("the wrapped function", wrapped)]),
            *(
                (f"the closure variable {name}", each)
                for name, each in closure.items()
                if wrapped is None or _is_data(each)
            ),
        ]
    for kind, names, values in (
        ("closure variable", used.free_names, closure),
        ("global", used.global_names, function.__globals__),
    ):
        for name in sorted(names.keys() & values.keys()):
            chains = {()} if () in names[name] and not isinstance(values[name], ModuleType) else names[name]
            for chain in sorted(chains, key=repr):
                found += _resolve(f"the {kind} {name}", values[name], chain, used.attributes)
    for (name, level), imported in sorted(used.imports.items()):
        module = sys.modules.get(_resolve_module(name, level, function.__globals__))
        if module is not None and not _is_library(module):
            steps: list[Chain] = [(("attribute", each),) for each in sorted(imported)]
            for chain in steps or [()]:
                found += _resolve(f"the module {name}", module, chain, used.attributes)
    return list(dict(found).items())


def _resolve(label: str, value: Any, chain: Chain, attributes: set[str]) -> list[tuple[str, Any]]:
    """Return the value that code loads through attributes and items, or the innermost object that is needed for it."""
    for kind, key in chain:
        inner = _load_item(value, key) if kind == "item" else _load_attribute(value, key)
        if inner is _MISSING:
            break
        label, value = label + (f"[{key!r}]" if kind == "item" else f".{key}"), inner
    if isinstance(value, ModuleType) and not _is_library(value):  # such as one that was given to a function
        return [(f"{label}.{name}", vars(value)[name]) for name in sorted(attributes & vars(value).keys())]
    return [(label, value)]


def _load_item(value: Any, key: Any) -> Any:
    try:
        return value[key] if type(value) in (dict, list, tuple) else _MISSING
    except (LookupError, TypeError):
        return _MISSING


def _load_attribute(value: Any, name: str) -> Any:
    """Return an attribute that does not depend on the rest of an object: of a module, or data of a namespace or plain object."""
    if isinstance(value, ModuleType):
        return _MISSING if _is_library(value) else vars(value).get(name, _MISSING)
    if isinstance(value, type):
        owners = [] if _is_of_library(value) else [vars(base) for base in value.__mro__]
        found = next((owner[name] for owner in owners if name in owner), _MISSING)
        return found if _is_data(found) else _MISSING
    is_simple = isinstance(value, _NAMESPACES) or not (_is_of_library(type(value)) or hasattr(value, "named_modules"))
    return getattr(value, "__dict__", {}).get(name, _MISSING) if is_simple else _MISSING


def _resolve_module(name: str, level: int, names: Mapping[str, Any]) -> str:
    try:
        return importlib.util.resolve_name("." * level + name, names.get("__package__")) if level else name
    except ImportError:
        return ""


def _list_used_by_wrapper(value: Any) -> list[tuple[str, Any]] | None:
    """Return the functions and values in a method, partial, property or wrapper; None for anything else."""
    if inspect.ismethod(value):
        return [("function", value.__func__), ("object", value.__self__)]
    if isinstance(value, functools.partial):
        return [("function", value.func), ("arguments", value.args), ("keywords", value.keywords)]
    if isinstance(value, (staticmethod, classmethod)):
        return [("function", value.__func__)]
    if isinstance(value, property):
        return [("get", value.fget), ("set", value.fset)]
    if isinstance(value, functools.cached_property):
        return [("get", value.func)]
    if inspect.isbuiltin(value):
        is_function = value.__self__ is None or isinstance(value.__self__, ModuleType)
        return [] if is_function else [("object", value.__self__)]
    if isinstance(value, functools._lru_cache_wrapper):
        return [("function", value.__wrapped__)]
    return None


def _list_class_attributes(cls: type) -> list[tuple[str, Any]]:
    """Return the functions and values in the body of a class, without those that a library generated from the others."""
    fields = vars(cls).get("__dataclass_fields__", {})
    found = [(f"the factory of {name}", each.default_factory) for name, each in fields.items()]
    for name, value in vars(cls).items():
        code = getattr(value, "__code__", None)
        is_of_library = code is None or (inspect.isfunction(value) and _is_code_of_library(value))
        is_internal = name.startswith("__") and name.endswith("__") and is_of_library
        is_generated = code is not None and code.co_filename.startswith("<") and _has_file(cls)
        is_slot = isinstance(value, (MemberDescriptorType, GetSetDescriptorType))
        if not (is_internal or is_generated or is_slot or name == "_abc_impl"):
            found.append((name, value))
    return found


def _get_attributes(instance: Any) -> dict[str, Any]:
    """Return the attributes of an object, private ones only if its own class assigns them."""
    own_classes = [base for base in type(instance).__mro__ if not _is_of_library(base)]
    functions = [each for base in own_classes for each in vars(base).values() if inspect.isfunction(each)]
    assigned = {name for each in functions for name in iter_stored_attributes(each.__code__)}
    slots = {name for base in own_classes for name in _list_slots(base) if hasattr(instance, name)}
    attributes = {**getattr(instance, "__dict__", {}), **{name: getattr(instance, name) for name in slots}}
    return {
        name: value
        for name, value in attributes.items()
        if (name in assigned or not name.startswith("_"))
        and not (hasattr(instance, "named_modules") and name in ("training", *_STATE_OF_MODULES))
    }


def _list_slots(cls: type) -> list[str]:
    slots = vars(cls).get("__slots__", ())
    return [slots] if isinstance(slots, str) else list(slots)


def _is_code_of_library(function: FunctionType) -> bool:
    """Return whether the code of a function belongs to Python or an installed package, whatever a decorator has called it."""
    file = function.__code__.co_filename
    return _is_of_library(function) if file.startswith("<") else _is_file_of_library(file)


def _is_of_library(code: FunctionType | type) -> bool:
    """Return whether a function or class belongs to Python or an installed package."""
    return code.__module__ != "__main__" and _is_library(sys.modules.get(code.__module__))


def _is_library(module: ModuleType | None) -> bool:
    file = getattr(module, "__file__", None)
    return module is not None and (file is None or _is_file_of_library(file))


@functools.cache
def _is_file_of_library(file: str) -> bool:
    path = PurePath(file)
    return any(path.is_relative_to(folder) for folder in _LIBRARIES) or not _FOLDERS_OF_LIBRARIES.isdisjoint(path.parts)


def _has_file(cls: type) -> bool:
    return getattr(sys.modules.get(cls.__module__), "__file__", None) is not None


def _describe_kind(value: Any) -> str:
    """Return what is known of a value by its name: that of a function or class of a library, or of the type of an object."""
    if isinstance(value, ModuleType):
        return value.__name__
    if inspect.isfunction(value):
        return get_qualified_name(value) if _is_code_of_library(value) else "function"
    if isinstance(value, type):
        return get_qualified_name(value) if _is_of_library(value) else "class"
    if inspect.isroutine(value) and not inspect.ismethod(value) and hasattr(value, "__qualname__"):
        return f"{getattr(value, '__module__', None)}:{value.__qualname__}"
    return get_qualified_name(type(value)) if _is_of_library(type(value)) else "object"


def _is_data(value: Any) -> bool:
    return _is_array(value) or describe_plain(value) is not None


def _is_array(value: Any) -> bool:
    """Return whether a value is a tensor, or an array of NumPy or JAX."""
    return _is_tensor(value) or (
        not isinstance(value, type) and all(hasattr(value, name) for name in ("__array__", "dtype", "shape"))
    )


def _is_tensor(value: Any) -> bool:
    return not isinstance(value, type) and hasattr(value, "detach") and hasattr(value, "element_size")


def _get_version(value: Any) -> Any:
    """Return a number that changes when a tensor is changed in place, or None if it has none."""
    try:
        return getattr(value, "_version", None)
    except RuntimeError:  # created in inference mode
        return None


def _iter_array(value: Any) -> Iterator[bytes]:
    """Yield dtype, shape and bytes of an array or tensor."""
    yield f"{value.dtype} {tuple(value.shape)}".encode()
    if _is_tensor(value):
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() and value.element_size() < 4 else value).numpy()
    yield np.ascontiguousarray(np.asarray(value)).tobytes()


def _show(text: str) -> str:
    is_short = len(text) <= (_MAX_SHOWN_TEXT if "'" in text or '"' in text else _MAX_SHOWN)
    return text if is_short or text.startswith("sha256 ") else _shorten(text.encode("utf-8", "surrogatepass"))


def _shorten(content: bytes) -> str:
    return f"sha256 {hashlib.sha256(content).hexdigest()[:12]}"


def _hash(parts: Iterable[bytes]) -> bytes:
    """Return the sha256 of parts, which differs if their borders do."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()
