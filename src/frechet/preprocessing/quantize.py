"""Conversion of floating-point images to 8 bits: the two roundings in use differ in one value out of 256 at ties.

`round` is (x - low) / (high - low) * 255, rounded half to even. `truncate` is the code of most ImageNet papers, `127.5 x + 128`
for x in [-1, 1], clipped and cut off: half up, and on float32 not always the same at ties. A third one, `(x + 1) / 2 * 255`
cut off without rounding, darkens images by half a value on average and belongs to no protocol.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from frechet._internal.choices import validate_choice
from frechet.errors import RequestError
from frechet.preprocessing.value_range import is_out_of_range, make_range_error, validate_value_range

ROUNDINGS = ("round", "truncate")


def scale_to_bytes(x: Any, value_range: tuple[float, float], rounding: str) -> Any:
    """Map float32 pixels to whole numbers in 0..255, as float32; `x` is a NumPy array or a PyTorch tensor."""
    low, high = value_range
    if rounding == "round":
        return ((x - low) * (255 / (high - low))).clip(0, 255).round()
    centered = x if (low, high) == (-1.0, 1.0) else (x - low) * (2 / (high - low)) - 1
    scaled = (centered * 127.5 + 128).clip(0, 255)
    return scaled - scaled % 1


def to_uint8(
    images: np.ndarray, *, value_range: tuple[float, float] = (-1.0, 1.0), rounding: str = "round"
) -> np.ndarray:
    """Convert floating-point images to uint8.

    Args:
        images: floating point, of any shape.
        value_range: the values (black, white).
        rounding: "round", or "truncate" for `127.5 x + 128` (see this module).

    Returns:
        uint8 of the same shape.

    Raises:
        RequestError: another dtype, an unknown rounding, NaN, or values outside the range.

    Examples:
        >>> import numpy as np
        >>> to_uint8(np.float32([-1, 0, 1]), rounding="truncate").tolist()
        [0, 128, 255]
    """
    validate_choice(rounding, ROUNDINGS, "rounding")
    value_range = validate_value_range(value_range)
    x = np.asarray(images)
    if x.dtype.kind != "f":
        raise RequestError(
            f"images are {x.dtype}; expected floating point in {value_range}. uint8 images need no conversion"
        )
    x = x.astype(np.float32)
    if x.size and (np.isnan(x).any() or is_out_of_range(x.min(), x.max(), value_range)):
        raise make_range_error(float(x.min()), float(x.max()), value_range)
    converted: np.ndarray = scale_to_bytes(x, value_range, rounding).astype(np.uint8)
    return converted
