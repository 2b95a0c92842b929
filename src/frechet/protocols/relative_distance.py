"""FDr: Fréchet distances in several feature spaces, each in units of the distance of real images that were held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RelativeDistances:
    """Distances divided by those of the validation images.

    Attributes:
        by_metric: FDr of each metric that was computed: 1 for images that are as far from the reference as the validation images.
        missing: metrics that were not computed.
    """

    by_metric: Mapping[str, float]
    missing: tuple[str, ...]

    @property
    def mean(self) -> float | None:
        """The mean FDr (FDr-6 of six metrics); None unless all were computed."""
        return None if self.missing or not self.by_metric else sum(self.by_metric.values()) / len(self.by_metric)


def compute_relative_distances(values: Mapping[str, float], validation_fd: Mapping[str, float]) -> RelativeDistances:
    """Compute FDr = FD / FD of the validation images (arXiv:2604.28190).

    Args:
        values: Fréchet distances by metric.
        validation_fd: the distances of the validation images by metric.

    Examples:
        >>> compute_relative_distances({"fid": 2.0, "fd-mae": 0.5}, {"fid": 2.0, "fd-mae": 0.25}).mean
        1.5
    """
    found = {name: values[name] / validation for name, validation in validation_fd.items() if name in values}
    return RelativeDistances(by_metric=found, missing=tuple(name for name in validation_fd if name not in found))
