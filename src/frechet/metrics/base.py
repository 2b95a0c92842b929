"""The row type of the table of metrics, and what a metric is computed from."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from frechet.distances.interval import Interval
from frechet.distances.prdc_jackknife import JackknifeVariance
from frechet.errors import RequestError
from frechet.features.spec import FeatureSpec
from frechet.statistics.feature_statistics import FeatureStatistics

StepCallback = Callable[[int, int], None]  # (steps done, total steps)
T = TypeVar("T")
_SEED = "seed"  # key of the cache


@dataclass(frozen=True, kw_only=True)
class MetricResult:
    """The value of a metric, and numbers that belong to it.

    Attributes:
        value: the value.
        terms: parts of the value or further numbers, by a snake_case name.
        standard_error: standard error of an unbiased value, or None if it is not estimated.
        sampling_variance: variance of the value over independent samples of the same sizes, or None if it is not known.
        std: standard deviation of the value between splits or subsets, or None.
        splits: for each number of splits (of the Inception Score), `{"n": number of splits, "mean": mean over the
            splits, "std": standard deviation between them}`.
        notes: what a reader should know about this value.
        interval_unavailable_reason: why these inputs give neither a standard error nor a variance; None for the reason that always applies
            to the metric.
    """

    value: float
    terms: Mapping[str, float] = field(default_factory=dict)
    standard_error: float | None = None
    sampling_variance: JackknifeVariance | None = None
    std: float | None = None
    splits: tuple[Mapping[str, float], ...] = ()
    notes: tuple[str, ...] = ()
    interval_unavailable_reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class MetricInputs:
    """Statistics of one layer, from which metrics are computed.

    Attributes:
        generated: statistics of the generated images.
        reference: statistics of the reference images, or None if the metric does not use a reference.
        held_out: statistics of the held-out images, or None if there are none.
        device: PyTorch device that computes distances, e.g. "cuda:0"; "cpu" computes with NumPy.
        settings: settings of all metrics of the run, so that they can share intermediate results.
        run_seed: seed of the run, for what metrics draw; None for that of the generated images.
    """

    generated: FeatureStatistics
    reference: FeatureStatistics | None = None
    held_out: FeatureStatistics | None = None
    device: str = "cpu"
    settings: tuple[Mapping[str, Any], ...] = ()
    run_seed: int | None = None
    _cache: dict[Hashable, Any] = field(default_factory=dict)

    @classmethod
    def from_statistics(
        cls,
        inputs: Mapping[str, FeatureStatistics],
        device: str = "cpu",
        settings: tuple[Mapping[str, Any], ...] = (),
        run_seed: int | None = None,
    ) -> MetricInputs:
        """Build inputs from statistics by name.

        Args:
            inputs: statistics by "generated" and, if there are any, "reference" and "held-out".
            device: see the class.
            settings: see the class.
            run_seed: see the class.
        """
        return cls(
            generated=inputs["generated"],
            reference=inputs.get("reference"),
            held_out=inputs.get("held-out"),
            device=device,
            settings=settings,
            run_seed=run_seed,
        )

    @property
    def pair(self) -> tuple[FeatureStatistics, FeatureStatistics]:
        """Statistics of the generated and of the reference images."""
        assert self.reference is not None  # ensured when the run is planned
        return self.generated, self.reference

    @property
    def features(self) -> tuple[np.ndarray, np.ndarray]:
        """Features (n, d) of all generated and (m, d) of all reference images, float32.

        Raises:
            RequestError: one of the statistics does not contain the features of every image.
        """
        generated, reference = self.pair
        return get_all_features(generated), get_all_features(reference)

    @property
    def seed(self) -> int:
        """Seed of random draws; that a metric asked for it is remembered."""
        self._cache[_SEED] = True
        return self.generated.seed if self.run_seed is None else self.run_seed

    @property
    def has_drawn(self) -> bool:
        """Whether a metric has asked for the seed."""
        return _SEED in self._cache

    def get_or_compute(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return an intermediate result that several metrics share, computing it for the first of them."""
        if key not in self._cache:
            self._cache[key] = compute()
        return self._cache[key]


@dataclass(frozen=True, kw_only=True)
class PairMeasure:
    """A value of each pair of images, from their pixels.

    Attributes:
        measure: called as `measure(generated, reference)` with two arrays (n, h, w, 3) uint8, from several threads; returns (n,)
            float64.
        spec: what the values depend on; scores with another spec are not compared.
        label: display name of the metric.
        min_size: smallest height and width of an image, in pixels.
    """

    measure: Callable[[np.ndarray, np.ndarray], np.ndarray]
    spec: FeatureSpec
    label: str
    min_size: int = 1


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A row of the table of metrics: a pure function, what it needs, and how it is shown.

    Attributes:
        title: display name. Names of other extractors are appended, e.g. "FD-DINOv2".
        summary: one line that explains the value.
        paper: where the metric is defined.
        lower_is_better: whether lower values are better; None if the best value is 0.
        compute: function called as `compute(inputs: MetricInputs, **settings)`.
        settings: the keyword arguments of `compute` and their defaults.
        presets: by name of a tool, the settings that reproduce the tool's number where they differ from the defaults.
        measures: "fidelity", "diversity", "fidelity and diversity" or "memorisation".
        images: the number of images per input that the metric needs, with the number that papers use in parentheses; d stands
            for the number of features.
        layer: the layer of the extractor that the metric uses; "features" is the layer that the user chose.
        requires_inception: True if the metric is only defined for Inception features, False if only for those of other
            extractors, None if for any.
        extractor: the extractor that the metric is defined on, if it is named after one; None uses the chosen extractor.
        uses_reference: whether the metric compares with reference images.
        uses_held_out: whether the metric needs held-out images.
        uses_latents: whether the metric evaluates a generator on latents. It is then computed from distances by
            `frechet.perceptual_path_length`, not from statistics.
        load_pair_measure: for a metric that is a mean over pairs of images, a function called as
            `load_pair_measure(device, **settings)` that returns what is averaged. `compute` is then called with the values of all
            pairs, (n,) float64, instead of `MetricInputs`.
        full_feature_inputs: the inputs ("generated", "reference", "held-out") whose features are needed for every image, if
            the metric uses them.
        interval: function called as `interval(generated, reference, reference_is, on_step)`, which returns an interval or the
            reason why there is none; None if the metric has no interval.
        interval_unavailable_reason: why the metric has no interval, if `interval` is None.
    """

    title: str
    summary: str
    paper: str
    lower_is_better: bool | None
    compute: Callable[..., MetricResult]
    settings: Mapping[str, Any] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    measures: str = "fidelity and diversity"
    images: str = "2"
    layer: str = "features"
    requires_inception: bool | None = None
    extractor: str | None = None
    uses_reference: bool = True
    uses_held_out: bool = False
    uses_latents: bool = False
    load_pair_measure: Callable[..., PairMeasure] | None = None
    full_feature_inputs: tuple[str, ...] = ("generated", "reference")
    interval: Callable[[FeatureStatistics, FeatureStatistics, str, StepCallback], Interval | str] | None = None
    interval_unavailable_reason: str = "frechet does not estimate the sampling error of this metric"

    def uses(self, input_name: str) -> bool:
        """Return whether the metric looks at an input: "generated", "reference" or "held-out"."""
        return {"generated": True, "reference": self.uses_reference, "held-out": self.uses_held_out}[input_name]

    def needs_all_features_of(self, input_name: str) -> bool:
        """Return whether the metric needs the features of every image of an input."""
        return input_name in self.full_feature_inputs and self.uses(input_name)


def get_all_features(statistics: FeatureStatistics) -> np.ndarray:
    """Return the features (n, d), float32, of every image.

    Raises:
        RequestError: the statistics do not contain the features of every image.
    """
    if statistics.features is None:
        raise RequestError(
            f"{statistics.label} contains statistics without the features of every image, which this metric needs; pass "
            "the images themselves, or their features (--features, features=True)"
        )
    return statistics.features
