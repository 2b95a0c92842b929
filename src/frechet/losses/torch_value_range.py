"""The check of the values of images in a training loop."""

from __future__ import annotations

import warnings

import torch

from frechet.losses.value_range import resembles_other_scale
from frechet.preprocessing.value_range import is_out_of_range, make_range_error


def require_in_range(images: torch.Tensor, value_range: tuple[float, float]) -> None:
    """Check that the values of images are within a range.

    Raises:
        RequestError: they leave it by more than 1 % of its width.
    """
    if images.numel():
        lowest, highest = _find_extremes(images)
        if is_out_of_range(lowest, highest, value_range):
            raise make_range_error(lowest, highest, value_range)


def require_scale(images: torch.Tensor, value_range: tuple[float, float]) -> None:
    """Check that images do not look as if they had another scale than a range; their values may leave it.

    Raises:
        RequestError: they do.
    """
    if images.numel():
        lowest, highest = _find_extremes(images)
        if resembles_other_scale(lowest, highest, value_range):
            raise make_range_error(lowest, highest, value_range)


class TrainingRange:
    """Checks the images of a training loop: the scale of the first batch, and whether later batches leave the range.

    An optimiser may move values out of the range, which is reported once and does not stop the training.

    Args:
        value_range: the values (black, white) of the images.
    """

    def __init__(self, value_range: tuple[float, float]) -> None:
        self.value_range = value_range
        self._is_first_batch = True
        self._has_warned = False

    def check(self, images: torch.Tensor) -> None:
        """Check a batch of images.

        Raises:
            RequestError: it is the first batch, and looks as if it had another scale.
        """
        if self._has_warned or not images.numel():
            return
        if self._is_first_batch:
            require_scale(images, self.value_range)
            self._is_first_batch = False
        lowest, highest = _find_extremes(images)
        if is_out_of_range(lowest, highest, self.value_range):
            self._has_warned = True
            low, high = self.value_range
            warnings.warn(
                f"images range from {lowest:.4g} to {highest:.4g}; expected {low:g} to {high:g}. Their values are used as "
                "they are. If their scale is another one, pass value_range=(low, high); this warning is shown once.",
                stacklevel=2,
            )


def _find_extremes(images: torch.Tensor) -> tuple[float, float]:
    lowest, highest = torch.aminmax(images.detach())
    return float(lowest), float(highest)
