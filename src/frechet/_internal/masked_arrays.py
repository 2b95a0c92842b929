"""NumPy's masked arrays, some of whose values are not to be used."""

from __future__ import annotations

import sys
from typing import Any


def is_masked(array: Any) -> bool:
    """Return whether values of an array are masked, without importing `numpy.ma`: no masked array exists before it is imported."""
    masked_arrays = sys.modules.get("numpy.ma")
    return masked_arrays is not None and masked_arrays.is_masked(array)
