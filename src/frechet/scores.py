"""A metric's value with all that a reader needs in order to trust and repeat it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number and what it means. `float(score)` is its classical value.

    Attributes:
        metric: its key.
        label: its name in public.
        value: the classical value, comparable with the literature at the same number of images.
        corrected_value: without the bias of few images, or None.
        standard_error: of the corrected value, or None.
        interval_95: (low, high) or None.
        interval_method: how the interval was found, or None.
        interval_reason: why there is none, or None.
        variances: what the sampling of the generated and of the reference images adds to the squared standard error, or None.
        reference_groups: the reference's influence averaged over groups of its images, by which `frechet compare` finds how
            much two scores against one reference err alike, or None.
        p_equal: p-value of both sides having one distribution, where that was in question, or None.
        halved_by: (generated, reference) images that would about halve the interval, or None.
        influence: the images that raise and that lower the value most, where that was asked for, or None.
        terms: parts of the value by name.
        n_generated, n_reference: images a side; None where a file does not say.
        bad_images: images left out, with the reason.
        warnings: what a reader should know.
        provenance: everything that made it.
    """

    metric: str
    label: str
    value: float
    corrected_value: float | None = None
    standard_error: float | None = None
    interval_95: tuple[float, float] | None = None
    interval_method: str | None = None
    interval_reason: str | None = None
    variances: tuple[float, float] | None = None
    reference_groups: tuple[float, ...] | None = None
    p_equal: float | None = None
    halved_by: tuple[int | None, int | None] | None = None
    influence: Mapping[str, Any] | None = None
    terms: Mapping[str, float] = field(default_factory=dict)
    n_generated: int | None = None
    n_reference: int | None = None
    bad_images: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{self.label}: {self.value:.6g}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the provenance, which scores share."""
        return {key: value for key, value in asdict(self).items() if key not in ("metric", "provenance")}


@dataclass(frozen=True, eq=False)
class Influences:
    """What each generated image does to a Fréchet distance, to first order.

    Attributes:
        names: (n,) what the user knows the images by.
        mean, covariance: (n,) float64, the change of the distance if the image were removed, through the difference of
            the means and through the covariances: negative for images that raise the distance.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    covariance: np.ndarray

    @property
    def change(self) -> np.ndarray:
        """(n,) both."""
        return self.mean + self.covariance

    def raising(self, count: int) -> list[dict[str, Any]]:
        """The images that raise the distance most, worst first, as {"image", "change", "mean", "covariance"}."""
        return [self._told(i) for i in np.argsort(self.change, kind="stable")[:count]]

    def lowering(self, count: int) -> list[dict[str, Any]]:
        """The images that lower the distance most, best first."""
        return [self._told(i) for i in np.argsort(-self.change, kind="stable")[:count]]

    def _told(self, i: int) -> dict[str, Any]:
        return {
            "image": self.names[i],
            "change": float(self.change[i]),
            "mean": float(self.mean[i]),
            "covariance": float(self.covariance[i]),
        }


class Scores(Mapping[str, Score]):
    """Scores of one comparison by the metric's key, with their common provenance."""

    def __init__(self, scores: Mapping[str, Score], provenance: Mapping[str, Any]) -> None:
        self._scores = dict(scores)
        self.provenance = provenance

    def __getitem__(self, metric: str) -> Score:
        return self._scores[metric]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scores)

    def __len__(self) -> int:
        return len(self._scores)

    def to_dict(self) -> dict[str, Any]:
        """{"scores": {key: ...}, "provenance": ...}."""
        return {"scores": {key: score.to_dict() for key, score in self.items()}, "provenance": dict(self.provenance)}

    def to_json(self) -> str:
        """One JSON object; NaN and infinity never occur in it."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)
