"""The score of every combination, from the features of every variant."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from frechet._internal.download import ProgressCallback
from frechet.errors import RequestError
from frechet.evaluation.diagnosis.axes import Combination
from frechet.evaluation.diagnosis.extract import VariantFeatures
from frechet.evaluation.plan import MetricRequest
from frechet.features.spec import FeatureSpec
from frechet.metrics import MetricInputs
from frechet.statistics.feature_statistics import FeatureStatistics

Class = tuple[int, int, str, int | None]  # (group of the generated images, group of the reference, order, number)
Halve = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What the score of a combination is computed from.

    Attributes:
        metric: the metric.
        generated: features of the generated images by variant.
        reference: features of the reference images by variant, its statistics, or None if the metric uses no reference.
        spec: what identifies the features.
        seed: seed of the random order and of the metric.
        device: PyTorch device that computes distances, or "cpu".
    """

    metric: MetricRequest
    generated: VariantFeatures
    reference: VariantFeatures | FeatureStatistics | None
    spec: FeatureSpec
    seed: int
    device: str
    _references: dict[int, FeatureStatistics] = field(default_factory=dict)

    def classify(self, combination: Combination) -> Class:
        """Return the class of a combination; those of one class have the same inputs, and hence the same score."""
        reference = self.reference
        group = reference.groups[combination.reference] if isinstance(reference, VariantFeatures) else 0
        return self.generated.groups[combination.generated], group, combination.order, combination.num_images

    def compute(
        self, combinations: Iterable[Combination], progress: ProgressCallback | None = None
    ) -> tuple[dict[Combination, float], dict[str, str]]:
        """Compute the score of each combination, once for those of the same class.

        Args:
            combinations: the combinations.
            progress: called with "combinations", and the numbers of classes done and in total.

        Returns:
            The scores, and the reasons why others could not be computed, by number of images.
        """
        members: dict[Class, list[Combination]] = {}
        for combination in combinations:
            members.setdefault(self.classify(combination), []).append(combination)
        values: dict[Combination, float] = {}
        failed: dict[str, str] = {}
        generated, known = None, None
        for done, each in enumerate(sorted(members, key=lambda key: (key[0], key[2], key[3] or 0))):
            first = members[each][0]
            try:
                if (each[0], *each[2:]) != known or generated is None:  # one at a time: a covariance is large
                    generated, known = self._collect_generated(first), (each[0], *each[2:])
                value = self._compute(generated, self._collect_reference(each[1]))
            except RequestError as error:
                failed[first.describe()["num_images"]] = str(error)
            else:
                values |= dict.fromkeys(members[each], value)
            if progress:
                progress("combinations", done + 1, len(members))
        return values, failed

    def compute_halves(self, combination: Combination) -> tuple[float, float]:
        """Compute the score of the images with even, and of those with odd numbers, on both sides."""
        kind = self.classify(combination)
        rows = self.generated.rows[kind[0]]
        reference = self.reference

        def halve(start: int) -> FeatureStatistics | None:
            if not isinstance(reference, VariantFeatures):
                return reference
            return self._make_statistics(reference.rows[kind[1]][start::2])

        first, second = (self._compute(self._make_statistics(rows[start::2]), halve(start)) for start in (0, 1))
        return first, second

    def _collect_generated(self, combination: Combination) -> FeatureStatistics:
        rows = self.generated.rows[self.generated.groups[combination.generated]]
        return self._make_statistics(rows[combination.select(len(rows), self.seed)])

    def _collect_reference(self, group: int) -> FeatureStatistics | None:
        if not isinstance(self.reference, VariantFeatures):
            return self.reference
        if group not in self._references:
            self._references[group] = self._make_statistics(self.reference.rows[group])
        return self._references[group]

    def _make_statistics(self, rows: np.ndarray) -> FeatureStatistics:
        keep_all = bool(self.metric.metric.full_feature_inputs)
        return FeatureStatistics.from_features(rows, spec=self.spec, seed=self.seed, keep_all=keep_all)

    def _compute(self, generated: FeatureStatistics, reference: FeatureStatistics | None) -> float:
        inputs = MetricInputs(
            generated=generated, reference=reference, device=self.device, settings=(self.metric.settings,)
        )
        value = float(self.metric.metric.compute(inputs, **self.metric.settings).value)
        if not math.isfinite(value):
            raise RequestError(f"{self.metric.key} is {value}; the features contain values that are too large")
        return value


def select_matching(
    grid: Grid, combinations: Iterable[Combination], values: Mapping[Combination, float], can_match: Callable[..., bool]
) -> list[Combination]:
    """Return the combinations whose score on all images may be the claimed one, given those on a subset.

    Args:
        grid: the features of the subset.
        combinations: the combinations to choose from.
        values: their scores on the whole subset.
        can_match: called with the score of the subset, and with those of its halves.
    """
    verdicts: dict[tuple[int, int], bool] = {}
    kept = []
    for combination in combinations:
        key = grid.classify(combination)[:2]
        if key not in verdicts:
            verdicts[key] = can_match(values[combination], *grid.compute_halves(combination))
        if verdicts[key]:
            kept.append(combination)
    return kept
