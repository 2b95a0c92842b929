"""The values that stand for black and white in floating-point images, and the check of pixels against them."""

from __future__ import annotations

import math
from typing import Any

from frechet.errors import RequestError

_TOLERANCE = 0.01  # of the width of the range: decoders and clamped generators overshoot by rounding


def is_out_of_range(lowest: Any, highest: Any, value_range: tuple[float, float]) -> Any:
    """Return whether pixel values leave a range by more than 1 % of its width.

    NaN is not out of range: it is found in the features, where the image can be named.

    Args:
        lowest, highest: smallest and largest pixel value, as numbers or as arrays (n,) with one entry per image.
        value_range: the values (black, white).

    Returns:
        A bool, or an array (n,) of bool.
    """
    low, high = value_range
    tolerance = _TOLERANCE * (high - low)
    return (lowest < low - tolerance) | (highest > high + tolerance)


def make_range_error(lowest: float, highest: float, value_range: tuple[float, float]) -> RequestError:
    """Return the error for images whose values are not in `value_range`."""
    low, high = value_range
    return RequestError(
        f"images range from {lowest:.4g} to {highest:.4g}; expected {low:g} to {high:g}. Clamp them, or pass "
        "value_range=(low, high), e.g. (-1, 1)."
    )


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
