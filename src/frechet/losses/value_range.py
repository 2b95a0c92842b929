"""The scale of the images that a loss receives: a wrong one is an error, and values that training moves out of it are not."""

from __future__ import annotations

from typing import Any

_BYTE_RATIO = 16  # of 255: no photograph given as 0..255 is darker than this, and no generator overshoots as far


def resembles_other_scale(lowest: Any, highest: Any, value_range: tuple[float, float]) -> Any:
    """Return whether images look as if their black and white were 0 and 255, or -1 and 1, instead of 0 and 1.

    The first exceed the range many times over. The second keep below its upper end and reach far below its lower end,
    which images that an optimiser moves out of a range do on both sides.

    Args:
        lowest, highest: smallest and largest value of a batch.
        value_range: the values (black, white) that the images should have.

    Returns:
        A bool, or a scalar array of bool.
    """
    low, high = value_range
    width = high - low
    is_symmetric = (lowest < low - 0.5 * width) & (highest <= high + 0.01 * width)
    return _resembles_bytes(highest, value_range) | is_symmetric


def is_other_scale(lowest: Any, highest: Any, value_range: tuple[float, float]) -> Any:
    """Return the same for a batch of which it is unknown whether it is the first one.

    Training may move dark images below the range, so that black and white have to be those of -1 and 1, within 0.01.

    Args:
        lowest, highest: smallest and largest value of a batch.
        value_range: the values (black, white) that the images should have.

    Returns:
        A bool, or a scalar array of bool.
    """
    low, high = value_range
    width = high - low
    is_symmetric = (abs(lowest - (low - width)) <= 0.01 * width) & (highest <= high + 0.01 * width)
    return _resembles_bytes(highest, value_range) | is_symmetric


def _resembles_bytes(highest: Any, value_range: tuple[float, float]) -> Any:
    """Return whether white looks like 255 instead of 1, which training does not make of other images."""
    low, high = value_range
    return highest > low + _BYTE_RATIO * (high - low)
