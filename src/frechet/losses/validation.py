"""Checks of arguments that the losses in PyTorch and in JAX share."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from frechet._internal.words import count_of
from frechet.errors import NonFiniteFeaturesError, RequestError, TooFewImagesError


def validate_count(name: str, value: Any, minimum: int = 1) -> None:
    """Check that an argument is a whole number of images.

    Args:
        name: name of the argument, for the message.
        value: the value that was passed.
        minimum: smallest number accepted.

    Raises:
        RequestError: `value` is not an integer, or is below `minimum`.
    """
    if not isinstance(value, Integral) or value < minimum:
        raise RequestError(f"{name} is {value!r}; expected a whole number of images, at least {minimum}")


def validate_weight(name: str, value: Any, minimum: float = -math.inf) -> None:
    """Check that an argument is a finite number.

    Args:
        name: name of the argument, for the message.
        value: the value that was passed.
        minimum: smallest number accepted.

    Raises:
        RequestError: `value` is not a number, is NaN or infinite, or is below `minimum`.
    """
    if not isinstance(value, Real) or not math.isfinite(value) or value < minimum:
        range_text = "" if minimum == -math.inf else f" of at least {minimum:g}"
        raise RequestError(f"{name} is {value!r}; expected a finite number{range_text}, such as 1.0")


def validate_sample_size(n: int) -> None:
    """Check that `n` images have a sample covariance.

    Raises:
        TooFewImagesError: `n` is 0 or 1.
    """
    if n < 2:
        raise TooFewImagesError(f"got {count_of(n, 'image')}; at least 2 are required")


def make_nonfinite_error(index: int) -> NonFiniteFeaturesError:
    """Return the error for a batch in which the network returned NaN or infinity for the image at `index`."""
    return NonFiniteFeaturesError(
        f"the network returned NaN or infinity for image {index} of the batch; check the images for NaN, or use "
        "precision='float32' if half precision overflowed"
    )


def make_rowless_reference_error(label: str) -> RequestError:
    """Return the error for a KID against statistics that hold no feature rows."""
    return RequestError(
        f"{label} contains no features, and KID needs some; create it with frechet stats or frechet.collect, or pass "
        "reference images"
    )
