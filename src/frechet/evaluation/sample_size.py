"""How many images are needed to detect a difference between two models, from a pilot score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from frechet.errors import RequestError
from frechet.results import Score

POWERS = (0.8, 0.95)


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
    each. Let σ²/n₀ be the contribution of the n₀ generated images to the squared standard error of the pilot score c. The
    other model is taken to be worse by δ, and its variance larger in proportion, σ² (c + δ)/c, as it is to first order for a
    Fréchet distance. A two-sided test of level α then detects the difference with probability p if
    n = σ² (2 + δ/c) (z_(1 - α/2) + z_p)² / δ² (for equal variances: Lehr 1992, Statistics in Medicine 11).

    Args:
        score: a score of one model with a standard error, such as that of a few thousand images.
        difference: the difference to detect, a number in units of the metric, or a text such as "5%" of the score.
        alpha: significance level, between 0 and 1.

    Returns:
        The numbers of images per model for a power of 80 and 95 %.

    Raises:
        RequestError: the score has no standard error, its images are paired, or the difference or level is not positive.

    Examples:
        >>> import numpy as np, frechet
        >>> x, y = np.random.default_rng(0).normal(size=(2, 500, 8)).astype("float32")
        >>> pilot = frechet.score(x, y + 1, features=True)["fd"]
        >>> sorted(frechet.plan_sample_size(pilot, "5%").n_by_power)
        [0.8, 0.95]
    """
    delta = _parse_difference(score, difference)
    if not 0 < alpha < 1:
        raise RequestError(f"alpha is {alpha!r}; expected a significance level between 0 and 1, such as 0.05")
    if score.variance_components is None or not score.n_generated:
        reason = score.interval_unavailable_reason or "its images are not independent of those of the reference"
        raise RequestError(
            f"cannot estimate the required sample size: {score.label} has no standard error, because {reason}"
        )
    if score.sampling_design is not None and "pairs" in score.sampling_design:
        raise RequestError(
            f"{score.label} is a score of {score.sampling_design}; planning needs images that are independent of the reference"
        )
    value = _get_estimate(score)
    growth = delta / value if value > 0 else 0.0
    variance = score.variance_components[0] * score.n_generated * (2 + growth)
    quantile = NormalDist().inv_cdf
    counts = {
        power: max(2, math.ceil(variance * ((quantile(1 - alpha / 2) + quantile(power)) / delta) ** 2))
        for power in POWERS
    }
    return SampleSizes(
        metric=score.label,
        difference=delta,
        alpha=alpha,
        n_by_power=counts,
        n_pilot=score.n_generated,
        standard_error=math.sqrt(score.variance_components[0]),
    )


def _get_estimate(score: Score) -> float:
    return score.value if score.corrected_value is None else score.corrected_value


def _parse_difference(score: Score, difference: float | str) -> float:
    """Return the difference as a positive number in units of the metric."""
    text = str(difference).strip()
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = math.nan
    delta = number / 100 * abs(_get_estimate(score)) if text.endswith("%") else number
    if not (math.isfinite(delta) and delta > 0):
        raise RequestError(
            f"the difference to detect is {difference!r}; expected a positive number, such as 0.5, or a part of the score, such "
            "as 5%"
        )
    return delta
