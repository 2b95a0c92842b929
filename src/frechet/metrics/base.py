"""What a metric is, and what it is computed from."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from frechet.distances.interval import Interval
from frechet.errors import RequestError
from frechet.statistics.feature_statistics import FeatureStatistics

StepCallback = Callable[[int, int], None]  # (steps done, steps in all)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class MetricResult:
    """What a metric found.

    Attributes:
        value: the number.
        terms: parts of it, or further numbers, by name.
        standard_error: of an unbiased value, where the literature gives one.
        deviation: between splits or subsets.
    """

    value: float
    terms: Mapping[str, float] = field(default_factory=dict)
    standard_error: float | None = None
    std: float | None = None


@dataclass(frozen=True, kw_only=True)
class MetricInputs:
    """One layer's statistics, from which metrics are computed.

    Attributes:
        generated, reference, held_out: the last two where they were given.
        device: where torch computes, if it does.
        settings: those of all metrics that will be asked for, so that they can share what they have in common.
    """

    generated: FeatureStatistics
    reference: FeatureStatistics | None = None
    held_out: FeatureStatistics | None = None
    device: str = "cpu"
    settings: tuple[Mapping[str, Any], ...] = ()
    _cache: dict[Hashable, Any] = field(default_factory=dict)

    @classmethod
    def from_statistics(
        cls, inputs: Mapping[str, FeatureStatistics], device: str = "cpu", settings: tuple[Mapping[str, Any], ...] = ()
    ) -> MetricInputs:
        """Of "generated", and "reference" and "held-out" where they are given."""
        return cls(
            generated=inputs["generated"],
            reference=inputs.get("reference"),
            held_out=inputs.get("held-out"),
            device=device,
            settings=settings,
        )

    @property
    def pair(self) -> tuple[FeatureStatistics, FeatureStatistics]:
        """(generated, reference)."""
        assert self.reference is not None  # whoever plans a run made sure of it
        return self.generated, self.reference

    @property
    def features(self) -> tuple[np.ndarray, np.ndarray]:
        """(n, d) and (m, d) float32: every image's.

        Raises:
            RequestError: a side did not keep them.
        """
        one, other = self.pair
        return get_all_features(one), get_all_features(other)

    @property
    def seed(self) -> int:
        """Of whatever is drawn."""
        return self.generated.seed

    def get_or_compute(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What several metrics need, computed for the first of them."""
        if key not in self._cache:
            self._cache[key] = compute()
        return self._cache[key]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A row of the table: what a number is called, what it needs, and the pure function that it is.

    Attributes:
        title: its public name; of features that are not Inception's, the extractor's follows.
        summary: one line for people.
        paper: where it is defined.
        lower_is_better: the direction; None where neither is.
        compute: (sides, **settings) -> what was found.
        settings: its own, by name.
        presets: by the name of the tool whose number they repeat, the settings that differ.
        layer: "features" (those that were asked for), or the tap that it is defined on.
        inception: whether it is of Inception's features alone (True), of others' alone (False), or of any (None).
        extractor: the one that it is defined on, where it bears its name; it runs beside the one that was asked for.
        uses_reference: whether it compares with a reference.
        uses_held_out: whether it needs images that the generator never saw.
        latents: whether it is of a generator and its latents; it is then computed of distances, not of sides.
        full_feature_inputs: the inputs of which it needs every image's features.
        interval: (generated, reference, seed, done) -> its interval, or why there is none.
        no_interval: why there is none, where nothing computes one.
    """

    title: str
    summary: str
    paper: str
    lower_is_better: bool | None
    compute: Callable[..., MetricResult]
    settings: Mapping[str, Any] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    layer: str = "features"
    requires_inception: bool | None = None
    extractor: str | None = None
    uses_reference: bool = True
    uses_held_out: bool = False
    uses_latents: bool = False
    full_feature_inputs: tuple[str, ...] = ("generated", "reference")
    interval: Callable[[FeatureStatistics, FeatureStatistics, int, StepCallback], Interval | str] | None = None
    interval_unavailable_reason: str = "no estimate of its sampling error is in the literature"


def get_all_features(statistics: FeatureStatistics) -> np.ndarray:
    """(n, d) float32.

    Raises:
        RequestError: the side did not keep the features of every image.
    """
    if statistics.features is None:
        raise RequestError(
            f"{statistics.label} holds statistics without the features of every image: give the images themselves, or their "
            "features (--features, features=True)"
        )
    return statistics.features
