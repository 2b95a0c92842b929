"""A score of a sample that grows until its interval is narrow enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from frechet.distances.interval import DistanceEstimate, Interval
from frechet.distances.sequential import critical_value
from frechet.errors import RequestError, ToleranceNotReachedError, TooFewImagesError
from frechet.evaluation.growing import GrowingSamples, open_growing_samples
from frechet.evaluation.layers import LayerStatistics
from frechet.evaluation.request import ScoreRequest
from frechet.evaluation.score_interval import describe_interval
from frechet.evaluation.until import Until
from frechet.results import Scores

ALPHA = 0.05  # the interval holds at all looks together with probability 1 - ALPHA


def score_until(request: ScoreRequest, until: Until) -> Scores:
    """Compute a score of as many images as its interval needs; the interval holds at all looks together.

    Args:
        request: what to compute.
        until: when to stop.

    Raises:
        RequestError: the request cannot be evaluated in this way (see `open_growing_samples`).
        ToleranceNotReachedError: the interval of all images is too wide. The error has the scores.
    """
    samples = open_growing_samples(request, {"generated": request.generated}, until.max_images)
    bound = critical_value(samples.looks, ALPHA)
    found, looks = None, []
    for n in samples.looks:
        layers = samples.grow("generated", n)
        found = samples.estimate(layers)
        if isinstance(found, DistanceEstimate):
            interval = found.interval(bound)
            looks.append(_describe_look(layers["features"].n, interval))
            if until.is_reached(interval.corrected_value, interval.low, interval.high):
                return _make_scores(samples, layers, interval, looks)
        elif not samples.needs_images(layers):
            raise RequestError(found)
    if isinstance(found, str):
        raise TooFewImagesError(f"{found}. {samples.advise(layers)}")
    scores = _make_scores(samples, layers, interval, looks)
    raise ToleranceNotReachedError(_describe_failure(samples, interval, until), scores)


def _describe_failure(samples: GrowingSamples, interval: Interval, until: Until) -> str:
    """Describe what was reached, and how many images would be enough."""
    n, half_width = samples.looks[-1], (interval.high - interval.low) / 2
    target = until.target(interval.corrected_value)
    of_sample, of_reference = interval.variance_components
    ratio = (target / half_width) ** 2 * (of_sample + of_reference)
    if not target:
        fix = (
            f"A percentage requires a value above 0; pass a half width in units of the metric, such as --until-half-width "
            f"{half_width:.2g} (half_width={half_width:.2g}, relative=False)."
        )
    elif ratio > of_reference:
        needed = n * of_sample / (ratio - of_reference)
        fix = f"Allow about {float(f'{needed:.2g}'):,.0f} images, or a wider interval."
    else:
        fix = "The sampling error of the reference alone makes it wider. Allow a wider interval, or use more reference images."
    return (
        f"half the width of the interval is {half_width:.4g} after all {n:,} images ({interval.low:.4g} to {interval.high:.4g}, "
        f"bias-corrected value {interval.corrected_value:.4g}); expected at most {until}. {fix}"
    )


def _describe_look(n: int | None, interval: Interval) -> dict[str, Any]:
    return {
        "n": n,
        "corrected_value": interval.corrected_value,
        "standard_error": interval.standard_error,
        "low": interval.low,
        "high": interval.high,
    }


def _make_scores(
    samples: GrowingSamples, layers: LayerStatistics, interval: Interval, looks: list[dict[str, Any]]
) -> Scores:
    """Compute the score of the sample, and give it the interval that holds at every look."""
    scores = samples.score(layers, is_decided=True)
    fields: Mapping[str, Any] = describe_interval(
        interval, layers["features"], samples.reference["features"], samples.reference_is
    )
    method = f"{interval.method}; holds at all {len(samples.looks)} looks at up to {samples.looks[-1]:,} images"
    changes = {**fields, "interval_method": method, "interval_unavailable_reason": None, "looks": tuple(looks)}
    return scores.with_scores({key: replace(score, **changes) for key, score in scores.items()})
