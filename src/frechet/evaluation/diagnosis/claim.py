"""The claimed number, and how far a value may be from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from frechet._internal.fields import name_option
from frechet.errors import RequestError

_NUMERICS = 1e-5  # relative difference between backends
_CLOSE = 0.05  # relative difference of values that are reported as close


@dataclass(frozen=True)
class Claim:
    """A number as it is printed: every value that rounds to it gives it.

    Attributes:
        value: the number.
        tolerance: half a unit of its last digit, and rounding errors.
    """

    value: float
    tolerance: float

    @classmethod
    def parse(cls, claimed: str | float | None) -> Claim:
        """Read a number as text, or as the shortest text of a float: 2.07 means 2.065 to 2.075; "2.070" is more precise.

        Raises:
            RequestError: it is missing, not a number, NaN or infinite.

        Examples:
            >>> Claim.parse("2.07").gives(2.0749)
            True
            >>> Claim.parse("2.070").gives(2.0749)
            False
        """
        if claimed is None:
            raise RequestError(
                "no claimed value is given; pass the number to explain, e.g. --claimed 2.07 (claimed=2.07)"
            )
        try:
            number = Decimal(str(claimed).strip())
        except InvalidOperation:
            number = Decimal("NaN")
        last_digit = number.as_tuple().exponent
        if (
            isinstance(claimed, bool)
            or not isinstance(last_digit, int)
            or not math.isfinite(float(number))
            or last_digit > 300
        ):
            raise RequestError(f"{name_option('claimed')} is {claimed!r}; expected a finite number such as 2.07")
        half_unit = 0.5 * 10.0**last_digit
        return cls(float(number), half_unit + _NUMERICS * abs(float(number)))

    def gives(self, value: float) -> bool:
        """Return whether a value rounds to the claimed one."""
        return abs(value - self.value) <= self.tolerance

    def is_close(self, value: float) -> bool:
        """Return whether a value is within 5 % of the claimed one."""
        return abs(value - self.value) <= max(_CLOSE * abs(self.value), self.tolerance)
