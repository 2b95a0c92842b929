"""When to stop sampling: the width of an interval that is wanted."""

from __future__ import annotations

import math
import reprlib
from dataclasses import dataclass
from numbers import Real

import numpy as np

from frechet._internal.fields import name_option
from frechet.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class Until:
    """Stop sampling as soon as the interval is narrow enough.

    Attributes:
        half_width: largest half width of the interval: a fraction of the bias-corrected value, or a number in units of the
            metric if `relative` is false.
        relative: whether `half_width` is a fraction of the bias-corrected value.
        max_images: largest number of images; None for all images of the source, which a function does not have.

    Examples:
        >>> frechet.Until(half_width=0.05, max_images=50_000)
        Until(half_width=0.05, relative=True, max_images=50000)
    """

    half_width: float
    relative: bool = True
    max_images: int | None = None

    def __post_init__(self) -> None:
        is_number = isinstance(self.half_width, Real) and not isinstance(self.half_width, bool)
        if not is_number or not 0 < self.half_width < math.inf:
            raise RequestError(
                f"--until-half-width (half_width=) is {reprlib.repr(self.half_width)}; expected a positive number, such as 0.05"
            )
        if not isinstance(self.relative, bool):
            raise RequestError(
                f"relative is {reprlib.repr(self.relative)}; expected True (a fraction of the value) or False (units of the metric)"
            )
        if self.max_images is not None and (not isinstance(self.max_images, (int, np.integer)) or self.max_images < 2):
            raise RequestError(
                f"{name_option('max_images')} is {reprlib.repr(self.max_images)}; expected a whole number of at least 2"
            )

    @classmethod
    def from_text(cls, half_width: str, max_images: int | None = None) -> Until:
        """Read a half width as on the command line: "5%" of the value, or a number such as "0.2" in units of the metric.

        Raises:
            RequestError: it is neither.
        """
        text = half_width.strip()
        try:
            number = math.nan if "_" in text else float(text.removesuffix("%"))
        except ValueError:
            number = math.nan
        if not 0 < number < math.inf:
            raise RequestError(
                f"--until-half-width is {half_width!r}; expected a positive number, such as 0.2, or a part of the score, such as 5%"
            )
        is_relative = text.endswith("%")
        return cls(half_width=number / 100 if is_relative else number, relative=is_relative, max_images=max_images)

    def target(self, value: float) -> float:
        """Return the largest half width in units of the metric, for a bias-corrected value."""
        return self.half_width * (max(value, 0.0) if self.relative else 1.0)

    def is_reached(self, value: float, low: float, high: float) -> bool:
        """Return whether an interval is narrow enough.

        Args:
            value: the bias-corrected value.
            low, high: ends of the interval.
        """
        return (high - low) / 2 <= self.target(value)

    def __str__(self) -> str:
        return f"{100 * self.half_width:g} % of the value" if self.relative else f"{self.half_width:g}"
