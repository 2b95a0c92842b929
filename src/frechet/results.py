"""A metric's value with all that a reader needs in order to trust and repeat it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from frechet.errors import RequestError

JSON_SCHEMA = 2  # of the JSON objects that `frechet score` and `frechet compare` write


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
        terms: parts of the value, or further numbers, by name.
        deviation: between splits, subsets or repeated runs, where there are such, or None.
        splits: of the Inception Score, for each number of splits n, `{"n", "mean", "std"}` over the splits.
        per_class: its value for each class alone, where that was asked for; classes that have none are absent.
        repeats: its values in runs that were repeated with other seeds; `value` is then their mean, `deviation` their spread.
        settings: the metric's own (splits, neighbours, subsets ...), by name.
        lower_is_better: the direction; None where neither is.
        compares: whether a reference is part of it.
        n_generated, n_reference: images a side; None where a file does not say, or no such side counts.
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
    interval_unavailable_reason: str | None = None
    variance_components: tuple[float, float] | None = None
    reference_groups: tuple[float, ...] | None = None
    permutation_p_value: float | None = None
    n_to_halve_interval: tuple[int | None, int | None] | None = None
    influence: Mapping[str, Any] | None = None
    terms: Mapping[str, float] = field(default_factory=dict)
    std: float | None = None
    splits: tuple[Mapping[str, float], ...] = ()
    per_class: Mapping[str, float] = field(default_factory=dict)
    repeats: tuple[float, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    lower_is_better: bool | None = None
    uses_reference: bool = True
    n_generated: int | None = None
    n_reference: int | None = None
    skipped_images: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{self.label}: {self.value:.6g}"

    def __format__(self, format_spec: str) -> str:
        return format(self.value, format_spec) if format_spec else str(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the provenance, which scores share."""
        return {key: value for key, value in asdict(self).items() if key not in ("metric", "provenance")}


@dataclass(frozen=True, eq=False)
class ImageInfluence:
    """What each generated image does to a Fréchet distance.

    Attributes:
        names: (n,) what the user knows the images by.
        mean, covariance: (n,) float64, the change of the distance if the image were removed, through the difference of
            the means and through the covariances: negative for images that raise the distance.
    """

    labels: tuple[str, ...]
    mean: np.ndarray
    covariance: np.ndarray

    @property
    def change(self) -> np.ndarray:
        """(n,) both."""
        return self.mean + self.covariance

    def top_raising(self, count: int) -> list[dict[str, Any]]:
        """The images that raise the distance most, worst first, as {"image", "change", "mean", "covariance"}."""
        return [self._as_row(index) for index in self.rank_images()[0][:count]]

    def top_lowering(self, count: int) -> list[dict[str, Any]]:
        """The images that lower the distance most, best first."""
        return [self._as_row(index) for index in self.rank_images()[1][:count]]

    def rank_images(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the images that raise the distance, worst first, and of those that lower it, best first."""
        change = self.change
        worst, best = np.argsort(change, kind="stable"), np.argsort(-change, kind="stable")
        return worst[change[worst] < 0], best[change[best] > 0]

    def _as_row(self, index: int) -> dict[str, Any]:
        return {
            "image": self.labels[index],
            "change": float(self.change[index]),
            "mean": float(self.mean[index]),
            "covariance": float(self.covariance[index]),
        }


class ScoreUnavailableError(RequestError, KeyError):
    """A metric of the run that could not be computed; the text says why."""

    __str__ = Exception.__str__  # KeyError would quote it


class Scores(Mapping[str, Score]):
    """Scores of one comparison by the metric's key, with their common provenance.

    Attributes:
        provenance: everything that made them.
        unavailable: why the other metrics of the run have no score, by their key. Asking for one raises `NoScore`.
    """

    def __init__(
        self, scores: Mapping[str, Score], provenance: Mapping[str, Any], unavailable: Mapping[str, str] | None = None
    ) -> None:
        self._scores = dict(scores)
        self.provenance = provenance
        self.unavailable = dict(unavailable or {})

    def __getitem__(self, metric: str) -> Score:
        if metric in self.unavailable:
            raise ScoreUnavailableError(self.unavailable[metric])
        if metric not in self._scores:
            raise ScoreUnavailableError(f"no score {metric!r}; there is {', '.join(self)}")
        return self._scores[metric]

    def __repr__(self) -> str:
        return f"<Scores: {', '.join(map(str, self.values()))}>"

    def __iter__(self) -> Iterator[str]:
        return iter(self._scores)

    def __len__(self) -> int:
        return len(self._scores)

    def to_dict(self) -> dict[str, Any]:
        """{"schema": 2, "scores": {key: ...}, "unavailable": {key: reason}, "provenance": ...}."""
        return {
            "schema": JSON_SCHEMA,
            "scores": {key: score.to_dict() for key, score in self.items()},
            "unavailable": self.unavailable,
            "provenance": dict(self.provenance),
        }

    def to_json(self) -> str:
        """One JSON object; NaN and infinity never occur in it."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)
