"""What identifies a network that is Python code: the sha256 (hex) of the code and of everything that it computes with."""

from __future__ import annotations

import hashlib
import inspect
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from frechet.features.code_source import hash_source
from frechet.features.identity_parts import get_parts, record_parts
from frechet.features.installed_code import is_code_of_library, is_of_library
from frechet.features.plain_values import describe_plain
from frechet.features.spec import get_qualified_name
from frechet.features.used_values import (
    NAMESPACES,
    STATE_OF_MODULES,
    get_attributes,
    is_array,
    is_tensor,
    list_class_attributes,
    list_used,
    list_used_by_wrapper,
)

_HOOKS_OF_MODULES = ("_forward_pre_hooks", "_forward_hooks")
_OPERATORS = (operator.attrgetter, operator.itemgetter, operator.methodcaller)
_MAX_SHOWN, _MAX_SHOWN_TEXT = 60, 20  # characters of a value in a message; longer strings may be paths or passwords
_DETAILS = "the content of tensors and layers"


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
    if inspect.isfunction(function) and is_code_of_library(function):
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
        if is_array(value):
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
        used = list_used_by_wrapper(value)
        if hasattr(value, "named_modules"):
            yield from self._iter_module(value, path)
        elif used is not None:
            for name, each in used:
                yield name.encode()
                yield self.digest(each, f"the {name}{f' of {path}' if path else ''}")
        elif isinstance(value, _OPERATORS):
            yield repr(value).encode()
        elif isinstance(value, NAMESPACES):
            yield from self._iter_attributes(vars(value), path)
        elif not is_of_library(type(value)):
            yield self.digest(type(value), path)
            yield from self._iter_attributes(get_attributes(value), path)
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
        if not is_code_of_library(function):
            code = hash_source(function.__code__, function.__globals__)
            self.found[f"the code of {name}"] = f"sha256 {code[:12]}"
            yield code.encode()
        elif function.__closure__ is None:
            return
        for label, value in list_used(function):
            yield label.encode()
            yield self.digest(value, f"{label} of {name}")

    def _iter_class(self, cls: type) -> Iterator[bytes]:
        for base in cls.__mro__:
            yield get_qualified_name(base).encode() if is_of_library(base) else b"own"
            for name, value in [] if is_of_library(base) else list_class_attributes(base):
                yield name.encode()
                yield self.digest(value, f"{base.__qualname__}.{name}")

    def _iter_module(self, module: Any, path: str) -> Iterator[bytes]:
        """Yield what identifies a torch.nn.Module: its class, attributes, tensors, layers and hooks."""
        is_layer_of_library = is_of_library(type(module))
        yield b"" if is_layer_of_library else self.digest(type(module), path)
        if isinstance(code := getattr(module, "code", None), str):  # of TorchScript and torch.fx
            self.found[f"the code of {path or 'the module'}"] = _shorten(code.encode())
            yield code.encode()
        before = set(self.found)
        yield from self._iter_attributes(get_attributes(module), path)
        if is_layer_of_library:
            self._details |= self.found.keys() - before
        for kind in STATE_OF_MODULES:
            for name, each in getattr(module, kind, {}).items():
                yield name.encode()
                yield self.digest(each, f"{path}.{name}" if path else name)
        for kind in _HOOKS_OF_MODULES:
            for number, hook in enumerate(getattr(module, kind, {}).values()):
                yield kind.encode()
                yield self.digest(hook, f"hook {number} of {path or 'the module'}")


def _describe_kind(value: Any) -> str:
    """Return what is known of a value by its name: that of a function or class of a library, or of the type of an object."""
    if isinstance(value, ModuleType):
        return value.__name__
    if inspect.isfunction(value):
        return get_qualified_name(value) if is_code_of_library(value) else "function"
    if isinstance(value, type):
        return get_qualified_name(value) if is_of_library(value) else "class"
    if inspect.isroutine(value) and not inspect.ismethod(value) and hasattr(value, "__qualname__"):
        return f"{getattr(value, '__module__', None)}:{value.__qualname__}"
    return get_qualified_name(type(value)) if is_of_library(type(value)) else "object"


def _get_version(value: Any) -> Any:
    """Return a number that changes when a tensor is changed in place, or None if it has none."""
    try:
        return getattr(value, "_version", None)
    except RuntimeError:  # created in inference mode
        return None


def _iter_array(value: Any) -> Iterator[bytes]:
    """Yield dtype, shape and bytes of an array or tensor."""
    yield f"{value.dtype} {tuple(value.shape)}".encode()
    if is_tensor(value):
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
