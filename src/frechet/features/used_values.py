"""The values that functions, classes and objects compute with: what their code loads, their attributes, defaults and closures."""

from __future__ import annotations

import argparse
import functools
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from types import CellType, FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType, SimpleNamespace
from typing import Any

from frechet.features.code_source import Chain, UsedNames, find_used_names, iter_stored_attributes
from frechet.features.installed_code import has_file, is_code_of_library, is_library, is_of_library
from frechet.features.plain_values import describe_plain

STATE_OF_MODULES = ("_parameters", "_buffers", "_modules")
NAMESPACES = (argparse.Namespace, SimpleNamespace)
_LOAD_ATTRIBUTES_BY_NAME = {"getattr", "vars", "attrgetter", "__dict__", "__getattribute__"}
_LOAD_GLOBALS_BY_NAME = {"globals", "eval", "exec"}  # the functions, not methods such as eval() of a module
_IMPORT_BY_NAME = {"import_module", "__import__"}
_MISSING = object()


def list_used(function: FunctionType) -> list[tuple[str, Any]]:
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
    if is_code_of_library(function):  # made by a decorator
        wrapped = vars(function).get("__wrapped__")
        return [
            *([] if wrapped is None else [("the wrapped function", wrapped)]),
            *(
                (f"the closure variable {name}", each)
                for name, each in closure.items()
                if wrapped is None or _is_data(each)
            ),
        ]
    loaded = {*used.global_names, *used.attributes}
    attributes = None if loaded & _LOAD_ATTRIBUTES_BY_NAME else used.attributes
    global_names = {**_find_globals_by_name(function, used), **used.global_names}
    for kind, names, values in (
        ("closure variable", used.free_names, closure),
        ("global", global_names, function.__globals__),
    ):
        for name in sorted(names.keys() & values.keys()):
            chains = {()} if () in names[name] and not isinstance(values[name], ModuleType) else names[name]
            for chain in sorted(chains, key=repr):
                found += _resolve(f"the {kind} {name}", values[name], chain, attributes)
    imports: list[tuple[str, int, set[str], set[str] | None]] = [
        (name, level, imported, attributes) for (name, level), imported in sorted(used.imports.items())
    ]
    if loaded & _IMPORT_BY_NAME:
        imports += [(text, 0, set(), None) for text in sorted(used.texts) if text in sys.modules]
    for name, level, imported, needed in imports:
        module = sys.modules.get(_resolve_module(name, level, function.__globals__))
        if module is not None and not is_library(module):
            steps: list[Chain] = [(("attribute", each),) for each in sorted(imported)]
            for chain in steps or [()]:
                found += _resolve(f"the module {name}", module, chain, needed)
    return list(dict(found).items())


def _find_globals_by_name(function: FunctionType, used: UsedNames) -> dict[str, set[Chain]]:
    """Return the names that a function may load by `globals()[name]` or `eval`.

    These are all names of its module. The program itself and interactive sessions also have names that have nothing to do with the
    function, such as those of results, so that only those that are strings in the code count.
    """
    if not used.global_names.keys() & _LOAD_GLOBALS_BY_NAME:
        return {}
    module = sys.modules.get(function.__globals__.get("__name__", ""))
    is_imported = module is not None and module.__name__ != "__main__" and vars(module) is function.__globals__
    names = _list_own_names(function.__globals__)
    return {name: {()} for name in (names if is_imported else names & used.texts)}


def _list_own_names(names: Mapping[str, Any]) -> set[str]:
    """Return the names of a module except those that Python gives it, such as `__file__`."""
    return {name for name in names if not (name.startswith("__") and name.endswith("__"))}


def _resolve(label: str, value: Any, chain: Chain, attributes: set[str] | None) -> list[tuple[str, Any]]:
    """Return the value that code loads through attributes and items, or the innermost object that is needed for it.

    Of a module that the code uses as a whole, these are its `attributes`; None for all of them.
    """
    for kind, key in chain:
        inner = _load_item(value, key) if kind == "item" else _load_attribute(value, key)
        if inner is _MISSING:
            break
        label, value = label + (f"[{key!r}]" if kind == "item" else f".{key}"), inner
    if isinstance(value, ModuleType) and not is_library(value):  # such as one that was given to a function
        names = _list_own_names(vars(value)) if attributes is None else attributes & vars(value).keys()
        return [(f"{label}.{name}", vars(value)[name]) for name in sorted(names)]
    return [(label, value)]


def _load_item(value: Any, key: Any) -> Any:
    try:
        return value[key] if type(value) in (dict, list, tuple) else _MISSING
    except (LookupError, TypeError):
        return _MISSING


def _load_attribute(value: Any, name: str) -> Any:
    """Return an attribute that does not depend on the rest of an object: of a module, or data of a namespace or plain object."""
    if isinstance(value, ModuleType):
        return _MISSING if is_library(value) else vars(value).get(name, _MISSING)
    if isinstance(value, type):
        owners = [] if is_of_library(value) else [vars(base) for base in value.__mro__]
        found = next((owner[name] for owner in owners if name in owner), _MISSING)
        return found if _is_data(found) else _MISSING
    is_simple = isinstance(value, NAMESPACES) or not (is_of_library(type(value)) or hasattr(value, "named_modules"))
    return getattr(value, "__dict__", {}).get(name, _MISSING) if is_simple else _MISSING


def _resolve_module(name: str, level: int, names: Mapping[str, Any]) -> str:
    try:
        return importlib.util.resolve_name("." * level + name, names.get("__package__")) if level else name
    except ImportError:
        return ""


def list_used_by_wrapper(value: Any) -> list[tuple[str, Any]] | None:
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


def list_class_attributes(cls: type) -> list[tuple[str, Any]]:
    """Return the functions and values in the body of a class, without those that a library generated from the others."""
    fields = vars(cls).get("__dataclass_fields__", {})
    found = [(f"the factory of {name}", each.default_factory) for name, each in fields.items()]
    for name, value in vars(cls).items():
        code = getattr(value, "__code__", None)
        is_of_library = code is None or (inspect.isfunction(value) and is_code_of_library(value))
        is_internal = name.startswith("__") and name.endswith("__") and is_of_library
        is_generated = code is not None and code.co_filename.startswith("<") and has_file(cls)
        is_slot = isinstance(value, (MemberDescriptorType, GetSetDescriptorType))
        if not (is_internal or is_generated or is_slot or name == "_abc_impl"):
            found.append((name, value))
    return found


def get_attributes(instance: Any) -> dict[str, Any]:
    """Return the attributes of an object, private ones only if its own class assigns them."""
    own_classes = [base for base in type(instance).__mro__ if not is_of_library(base)]
    functions = [each for base in own_classes for each in vars(base).values() if inspect.isfunction(each)]
    assigned = {name for each in functions for name in iter_stored_attributes(each.__code__)}
    slots = {name for base in own_classes for name in _list_slots(base) if hasattr(instance, name)}
    attributes = {**getattr(instance, "__dict__", {}), **{name: getattr(instance, name) for name in slots}}
    return {
        name: value
        for name, value in attributes.items()
        if (name in assigned or not name.startswith("_"))
        and not (hasattr(instance, "named_modules") and name in ("training", *STATE_OF_MODULES))
    }


def _list_slots(cls: type) -> list[str]:
    slots = vars(cls).get("__slots__", ())
    return [slots] if isinstance(slots, str) else list(slots)


def _is_data(value: Any) -> bool:
    return is_array(value) or describe_plain(value) is not None


def is_array(value: Any) -> bool:
    """Return whether a value is a tensor, or an array of NumPy or JAX."""
    return is_tensor(value) or (
        not isinstance(value, type) and all(hasattr(value, name) for name in ("__array__", "dtype", "shape"))
    )


def is_tensor(value: Any) -> bool:
    """Return whether a value is a tensor of PyTorch."""
    return not isinstance(value, type) and hasattr(value, "detach") and hasattr(value, "element_size")
