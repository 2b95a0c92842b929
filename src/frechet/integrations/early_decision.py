"""Whether an evaluation in a training loop can stop early: the difference to another score is certain."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import asdict, dataclass

import numpy as np

from frechet.distances.difference import Estimate, relative_error_of_difference
from frechet.distances.interval import MIN_UNITS, DistanceEstimate
from frechet.distances.sampling_error import NUM_INFLUENCE_GROUPS
from frechet.distances.sequential import (
    EstimateWithBounds,
    critical_value,
    difference_interval,
    plan_looks,
    student_quantile,
)
from frechet.errors import MismatchError, RequestError, TooFewImagesError
from frechet.evaluation.growing import MIN_IMAGES_PER_DIM
from frechet.evaluation.provenance import describe_moments
from frechet.features.identity_parts import describe_difference
from frechet.features.spec import FeatureSpec
from frechet.results import Score
from frechet.statistics.feature_statistics import FeatureStatistics

_MOMENTS_RTOL = 1e-5  # as in `frechet compare`


@dataclass
class EarlyDecision:
    """The looks at a growing sample, whose distance is compared with an earlier score.

    Attributes:
        against: the earlier score, with an interval.
        looks: numbers of images at which the sample is looked at.
        z: half width of the intervals in standard errors.
        is_decided: whether it is certain which of both distances is smaller.
    """

    against: Score
    looks: tuple[int, ...]
    z: float
    is_decided: bool = False
    _num_passed: int = 0

    @classmethod
    def plan(cls, against: Score, dims: int, alpha: float, max_images: int) -> EarlyDecision:
        """Plan the looks.

        Args:
            against: the earlier score.
            dims: number of features d.
            alpha: probability of a wrong decision, between 0 and 1.
            max_images: number of images at the last look.

        Raises:
            RequestError: the score has no interval for independent images, or alpha is not a probability.
            TooFewImagesError: there are too few images for a first interval.
        """
        if not isinstance(against, Score) or against.variance_components is None or against.corrected_value is None:
            reason = against.interval_unavailable_reason if isinstance(against, Score) else f"it is {against!r}"
            raise RequestError(
                f"against has no confidence interval to decide with ({reason}); pass a frechet.Score with one"
            )
        if "pairs" in str(against.sampling_design):
            raise RequestError(
                f"against is a score of {against.sampling_design}; expected one of images that are independent of the reference"
            )
        if not isinstance(alpha, (int, float)) or not 0 < alpha < 1:
            raise RequestError(f"alpha is {alpha!r}; expected a probability between 0 and 1, such as 0.05")
        first = max(MIN_UNITS, MIN_IMAGES_PER_DIM * dims)
        if not isinstance(max_images, (int, np.integer)):
            raise RequestError(f"max_images is {max_images!r}; expected a whole number, such as 50_000")
        if max_images < first:
            raise TooFewImagesError(
                f"max_images is {max_images!r}; expected at least {first:,}, as a first interval needs"
            )
        looks = plan_looks(first, int(max_images))
        z = critical_value(looks, alpha)
        is_sample = against.reference_is == "sample"
        return cls(against, looks, student_quantile(z, NUM_INFLUENCE_GROUPS - 1) if is_sample else z)

    def is_due(self, n: int) -> bool:
        """Return whether n images are enough for the next look."""
        return not self.is_decided and bisect_right(self.looks, n) > self._num_passed

    def look(self, n: int, estimate: DistanceEstimate) -> bool:
        """Take a look at n images, and return whether it is certain which distance is smaller."""
        self._num_passed = bisect_right(self.looks, n)
        found, other = estimate.interval(self.z), self.against
        assert other.corrected_value is not None
        assert other.standard_error is not None
        assert other.variance_components is not None
        one = Estimate(found.corrected_value, found.variance_components, None, found.reference_groups)
        two = Estimate(other.corrected_value, other.variance_components, None, other.reference_groups)
        scale = relative_error_of_difference(one, two, shared_reference=True)
        bounds = EstimateWithBounds(found.corrected_value, found.low, found.high)
        difference = difference_interval(bounds, _add_bounds(two.value, other.standard_error, self.z), scale)
        return not difference.low <= 0 <= difference.high


def _add_bounds(value: float, error: float, z: float) -> EstimateWithBounds:
    """Return a corrected value with its interval, whose upper end is that of a value with a symmetric error of its root."""
    high = max(0.0, value) + z * error + ((z * error) ** 2 / (4 * max(value, error)) if error else 0.0)
    return EstimateWithBounds(value, max(0.0, value - z * error), high)


def require_same_comparison(against: Score, spec: FeatureSpec, reference: FeatureStatistics | None) -> None:
    """Require that a score was computed from the same features and reference as the current one.

    Args:
        against: the earlier score.
        spec: how the features of the current images are made.
        reference: the current reference; None if it is not complete yet.

    Raises:
        MismatchError: names the setting that differs, or both references.
    """
    for name, value in asdict(spec).items():
        other = against.provenance.get(name)
        if other != value:
            raise MismatchError(
                f"against was computed with {name} {other}, but this metric has {name} {value}{describe_difference(other, value)}; "
                "pass a score of the same features"
            )
    if reference is None:
        return
    recorded = against.provenance.get("reference") or {}
    moments = recorded.get("moments") or [math.nan, math.nan]
    if not all(
        math.isclose(a, b, rel_tol=_MOMENTS_RTOL) for a, b in zip(moments, describe_moments(reference), strict=True)
    ):
        label = recorded.get("label")
        problem = (
            f"other images than the reference of this metric, although both are named {label}"
            if label == reference.label
            else f"{label}, but this metric compares with {reference.label}"
        )
        raise MismatchError(f"against was computed against {problem}; pass a score against the same reference")
