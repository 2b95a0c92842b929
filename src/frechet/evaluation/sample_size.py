"""How many images are needed to detect a difference between two models, from a pilot score."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

from frechet._internal.fields import name_option
from frechet.errors import RequestError
from frechet.metrics import METRICS, is_frechet_distance
from frechet.results import Score

POWERS = (0.8, 0.95)
_LARGEST_NUMBER = 2**60  # of images


@dataclass(frozen=True, kw_only=True)
class SampleSizes:
    """Numbers of images with which a difference is detected.

    Attributes:
        metric: label of the metric.
        difference: the difference between the two models, in units of the metric.
        alpha: significance level of the two-sided test.
        n_by_power: for each power (probability of detection), the number of images per model.
        n_pilot: number of generated images of the pilot score.
        standard_error: contribution of the generated images to the standard error of the pilot score.
    """

    metric: str
    difference: float
    alpha: float
    n_by_power: dict[float, int]
    n_pilot: int
    standard_error: float


def plan_sample_size(score: Score, difference: float | str, *, alpha: float = 0.05) -> SampleSizes:
    """Compute how many images per model `frechet compare` needs to detect a difference between two models.

    Both models are scored against the same reference, whose sampling error largely cancels in the difference, with n images
    each. The squared standard error of a Fréchet distance from n images is taken to be κ F/n with the plain value F, as it is to first
    order for equal covariances. κ follows from the pilot. The bias of F is b (1/n + 1/m) with m reference images, and the other model is worse by δ,
    so that with the bias-corrected pilot score c, the squared standard error of the difference is κ (2 c + δ + 2 b (1/n + 1/m))/n. In the
    variance itself, the bias counts half (Efron & Stein 1981, Annals of Statistics 9). A two-sided test of level α detects the difference with probability p
    if δ is z_(1 - α/2) standard errors and z_p standard deviations. Without bias, n = κ (2 c + δ) (z_(1 - α/2) + z_p)² / δ²
    (for equal variances: Lehr 1992, Statistics in Medicine 11).

    Args:
        score: a score of one model with a standard error, such as that of a few thousand images.
        difference: the difference to detect, a number in units of the metric, or a text such as "5%" of the bias-corrected score, whose
            interval then has to exclude 0.
        alpha: significance level, between 0 and 1.

    Returns:
        The numbers of images per model for a power of 80 and 95 %.

    Raises:
        RequestError: the score is not a Fréchet distance or has no standard error, its images are paired, the difference or level is not positive, or the
            difference is so small that more than 10^18 images are needed, or a part of a score that may be 0.

    Examples:
        >>> import numpy as np, frechet
        >>> x, y = np.random.default_rng(0).normal(size=(2, 500, 8)).astype("float32")
        >>> pilot = frechet.score(x, y + 1, features=True)["fd"]
        >>> sorted(frechet.plan_sample_size(pilot, "5%").n_by_power)
        [0.8, 0.95]
    """
    require_frechet_distance(score.metric)
    require_valid_test(difference, alpha)
    if score.variance_components is None or not score.n_generated:
        raise RequestError(
            f"cannot estimate the required sample size: {score.label} has no standard error, because "
            f"{score.interval_unavailable_reason or 'its number of generated images is unknown'}"
        )
    if score.sampling_design is not None and "pairs" in score.sampling_design:
        raise RequestError(
            f"{score.label} is a score of {score.sampling_design}; planning needs images that are independent of the reference"
        )
    delta = _scale_difference(score, difference)
    model = _fit_variances(score, delta)
    quantile = NormalDist().inv_cdf
    z = quantile(1 - alpha / 2)
    counts = {power: model.count_images(delta, z, quantile(power)) for power in POWERS}
    return SampleSizes(
        metric=score.label,
        difference=delta,
        alpha=alpha,
        n_by_power=counts,
        n_pilot=score.n_generated,
        standard_error=math.sqrt(score.variance_components[0]),
    )


def require_frechet_distance(metric: str) -> None:
    """Require a metric for which the number of images can be planned.

    Raises:
        RequestError: it is not a Fréchet distance of independent samples.
    """
    if metric.partition("@")[0] in METRICS and not is_frechet_distance(metric):
        raise RequestError(
            f"the number of images cannot be planned for {metric}; expected a Fréchet distance, such as fid, or fd for features of "
            "other extractors"
        )


class _Variances(NamedTuple):
    """n times the squared standard error, and the variance, of the difference between two scores of n images each.

    Attributes:
        of_images: what does not depend on the number of images.
        of_bias: what is multiplied by 2 (1/n + 1/m) in the squared standard error, and by half of that in the variance.
        reference_term: 1/m for m images of a sampled reference, otherwise 0.
    """

    of_images: float
    of_bias: float
    reference_term: float

    def count_images(self, delta: float, z_alpha: float, z_power: float) -> int:
        """Return the smallest n of which the difference is so many standard errors and standard deviations."""

        def is_detected(n: int) -> bool:
            bias = self.of_bias * (1 / n + self.reference_term)
            standard_error, deviation = (math.sqrt((self.of_images + factor * bias) / n) for factor in (2, 1))
            return delta >= z_alpha * standard_error + z_power * deviation

        n = 2 + bisect_left(range(2, _LARGEST_NUMBER), True, key=is_detected)
        if n == _LARGEST_NUMBER:
            raise RequestError(
                f"a difference of {delta:.3g} is too small: it needs more than {_LARGEST_NUMBER:.0e} images; pass a larger one"
            )
        return n


def _fit_variances(score: Score, delta: float) -> _Variances:
    """Fit the variances of a pilot score and of one that is larger by delta."""
    assert score.variance_components is not None
    assert score.n_generated is not None
    value, variance = _get_estimate(score), score.variance_components[0] * score.n_generated
    if value <= 0:
        return _Variances(2 * variance, 0.0, 0.0)
    bias = max(0.0, score.value - value)
    kappa = variance / (value + bias)
    reference_term = 1 / score.n_reference if score.n_reference and score.reference_is == "sample" else 0.0
    return _Variances(
        kappa * (2 * value + delta), kappa * bias / (1 / score.n_generated + reference_term), reference_term
    )


def _get_estimate(score: Score) -> float:
    return score.value if score.corrected_value is None else score.corrected_value


def _scale_difference(score: Score, difference: float | str) -> float:
    """Return the difference in units of the metric.

    Raises:
        RequestError: it is a part of a score that may be 0.
    """
    number, is_relative = _parse_difference(difference)
    if not is_relative:
        return number
    value, interval = _get_estimate(score), score.interval_95
    if value <= 0 or (interval is not None and interval[0] <= 0):
        shown = f", with the 95 % interval {interval[0]:.4g} to {interval[1]:.4g}" if interval else ""
        raise RequestError(
            f"--detect (difference=) is {difference} of the bias-corrected {score.label}, which is {value:.4g}{shown}. A "
            "percentage requires a score that is certainly above 0; pass a difference in units of the metric, such as --detect 0.5 "
            "(difference=0.5)."
        )
    return number / 100 * value


def require_valid_test(difference: float | str, alpha: float) -> None:
    """Require a positive difference and a significance level.

    Raises:
        RequestError: one of them is invalid.
    """
    number, _ = _parse_difference(difference)
    if not (math.isfinite(number) and number > 0):
        raise RequestError(
            f"--detect (difference=) is {difference!r}; expected a positive number, such as 0.5, or a part of the score, such "
            "as 5%"
        )
    if not 0 < alpha < 1:
        raise RequestError(
            f"{name_option('alpha')} is {alpha!r}; expected a significance level between 0 and 1, such as 0.05"
        )


def _parse_difference(difference: float | str) -> tuple[float, bool]:
    """Return the number in a difference (NaN if there is none), and whether it is a percentage of the score."""
    text = str(difference).strip()
    try:
        return float(text.removesuffix("%")), text.endswith("%")
    except ValueError:
        return math.nan, False
