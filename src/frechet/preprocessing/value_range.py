"""The values that stand for black and white in floating-point images."""

from __future__ import annotations

import math
from typing import Any

from frechet.errors import RequestError


def validate_value_range(value_range: Any) -> tuple[float, float]:
    """Return the values that stand for black and white in floating-point images, as floats.

    Args:
        value_range: (black, white), e.g. (-1, 1).

    Raises:
        RequestError: it is not a pair of finite numbers, the first smaller than the second.
    """
    try:
        low, high = map(float, value_range)
    except (TypeError, ValueError):
        low = high = math.nan
    if isinstance(value_range, str) or not -math.inf < low < high < math.inf:
        raise RequestError(
            f"value_range is {value_range!r}; expected (black, white), two finite numbers with black < white, e.g. (-1, 1)"
        )
    return low, high
