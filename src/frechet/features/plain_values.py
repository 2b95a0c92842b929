"""Values that are recognised by their representation, which is the same in each process."""

from __future__ import annotations

import datetime as dt
import decimal
import fractions
import os
import pathlib
import re
import types
from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np

_SCALARS = (bool, int, float, complex, str, bytes, bytearray)
_OTHERS = (
    types.EllipsisType,
    range,
    slice,
    pathlib.PurePath,
    fractions.Fraction,
    decimal.Decimal,
    dt.date,
    dt.time,
    dt.timedelta,
    np.dtype,
)
_OF_TORCH = {"dtype", "memory_format", "layout"}
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu|tpu)(:\d+)?")
_MAX_DEPTH = 20


def describe_plain(value: Any, depth: int = 0) -> str | None:
    """Return a text that identifies a number, string, enum, dtype or a container of these; None for anything else.

    Devices are not distinguished, because features do not depend on them.
    """
    if value is None:
        return "None"
    if isinstance(value, Enum) and not callable(value):
        return f"{type(value).__qualname__}.{value.name}={describe_plain(value.value, depth + 1)}"
    if isinstance(value, np.generic):
        return f"{value.dtype} {value.item()!r}"
    if type(value) is str and _DEVICE.fullmatch(value):
        return "a device"
    for kind in _SCALARS:
        if isinstance(value, kind):
            return f"{_name_type(value, kind)}{kind.__repr__(value)}"
    if isinstance(value, _OTHERS):
        return repr(value)
    if type(value).__module__ == "torch" and type(value).__name__ in (*_OF_TORCH, "device"):
        return repr(value) if type(value).__name__ in _OF_TORCH else "a device"
    return _describe_container(value, depth) if depth < _MAX_DEPTH else None


def _describe_container(value: Any, depth: int) -> str | None:
    if isinstance(value, os._Environ):
        return "the environment"  # which is read on each call
    if isinstance(value, Mapping):
        pairs = [(describe_plain(key, depth + 1), describe_plain(value[key], depth + 1)) for key in list(value)]
        texts = [None if None in pair else f"{pair[0]}: {pair[1]}" for pair in pairs]
        kind: type = dict
    elif isinstance(value, (list, tuple, set, frozenset)):
        texts = [describe_plain(each, depth + 1) for each in value]
        kind = next(each for each in (list, tuple, set, frozenset) if isinstance(value, each))
    else:
        return None
    if None in texts:
        return None
    known = [str(text) for text in texts]
    joined = ", ".join(sorted(known) if isinstance(value, (set, frozenset)) else known)
    name = f"{_name_type(value, kind)}{'frozenset' if kind is frozenset else ''}"
    if kind is tuple:
        return f"{name}({joined}{',' if len(known) == 1 else ''})"
    return f"{name}[{joined}]" if kind is list else f"{name}{{{joined}}}"


def _name_type(value: Any, kind: type) -> str:
    return "" if type(value) is kind else f"{type(value).__qualname__} "
