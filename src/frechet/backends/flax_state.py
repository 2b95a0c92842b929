"""Registration of pytrees with flax.serialization, if the program uses Flax."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

_registered: set[type] = set()


def register_with_flax(
    cls: type, to_state_dict: Callable[[Any], dict[str, Any]], from_state_dict: Callable[[Any, dict[str, Any]], Any]
) -> None:
    """Let `flax.serialization` convert a class, once Flax has been imported.

    Args:
        cls: the class.
        to_state_dict: object -> mapping of names to arrays, strings and mappings.
        from_state_dict: (an object of the same structure, mapping) -> object.
    """
    serialization: Any = sys.modules.get("flax.serialization")
    if serialization is not None and cls not in _registered:
        _registered.add(cls)
        serialization.register_serialization_state(cls, to_state_dict, from_state_dict)
