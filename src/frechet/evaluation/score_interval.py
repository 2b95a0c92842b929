"""The confidence interval of a score, or the reason why it has none."""

from __future__ import annotations

import math
from typing import Any

from frechet.distances.interval import Interval
from frechet.distances.prdc_jackknife import JackknifeVariance
from frechet.distances.sampling_error import Z_95
from frechet.execution.collect import ProgressCallback
from frechet.metrics import Metric, MetricResult
from frechet.metrics.frechet import get_reference_kind
from frechet.results import INTERVAL_NOT_REQUESTED
from frechet.statistics.feature_statistics import FeatureStatistics

_MIN_SHARE_OF_UNITS = (
    0.99  # of the images; with fewer duplicates, no interval for independent images changes noticeably
)


def compute_interval_fields(
    metric: Metric,
    result: MetricResult,
    generated: FeatureStatistics,
    reference: FeatureStatistics | None,
    interval: str,
    reference_is: str | None,
    progress: ProgressCallback | None,
) -> dict[str, Any]:
    """Compute the confidence interval of a score and what belongs to it, or the reason why there is none."""
    if interval == "none":
        return {"interval_unavailable_reason": INTERVAL_NOT_REQUESTED}
    if result.sampling_variance is not None:
        return _describe_sampling_error(result.value, result.sampling_variance, generated, reference, reference_is)
    if result.standard_error is not None:
        return _describe_standard_error(result.value, result.standard_error, generated, reference, reference_is)
    if metric.interval is None or reference is None:
        return {"interval_unavailable_reason": result.interval_unavailable_reason or metric.interval_unavailable_reason}

    def on_step(step: int, steps: int) -> None:
        if progress:
            progress("interval", step, steps)

    reference_is = reference_is or get_reference_kind(reference)
    found = metric.interval(generated, reference, reference_is, on_step)
    if isinstance(found, str):
        return {"interval_unavailable_reason": found}
    return describe_interval(found, generated, reference, reference_is)


def describe_interval(
    found: Interval, generated: FeatureStatistics, reference: FeatureStatistics, reference_is: str
) -> dict[str, Any]:
    """Return the fields of a score that describe the interval of a bias-corrected value."""
    return {
        "corrected_value": found.corrected_value,
        "standard_error": found.standard_error,
        "interval_95": (found.low, found.high),
        "interval_method": found.method,
        "reference_is": reference_is,
        "sampling_design": describe_design(generated, reference if reference_is == "sample" else None),
        "variance_components": found.variance_components,
        "generated_groups": found.generated_groups,
        "reference_groups": found.reference_groups,
        "permutation_p_value": found.permutation_p_value,
        "n_to_halve_interval": found.n_to_halve_interval(generated.n, reference.n),
    }


def _describe_standard_error(
    value: float,
    standard_error: float,
    generated: FeatureStatistics,
    reference: FeatureStatistics | None,
    reference_is: str | None,
) -> dict[str, Any]:
    """Compute the interval of an unbiased value from the standard error that its metric computed."""
    if reason := _explain_dependence(generated, reference):
        return {"interval_unavailable_reason": reason}
    if reference_is == "fixed":
        return {
            "interval_unavailable_reason": "the standard error of this metric assumes a reference with its own sampling "
            "error; got a fixed reference"
        }
    half = Z_95 * standard_error
    return {
        "reference_is": "sample",
        "sampling_design": "independent",
        "corrected_value": value,
        "standard_error": standard_error,
        "interval_95": (value - half, value + half),
        "interval_method": "variance of the U-statistic",
    }


def _describe_sampling_error(
    value: float,
    variance: JackknifeVariance,
    generated: FeatureStatistics,
    reference: FeatureStatistics | None,
    reference_is: str | None,
) -> dict[str, Any]:
    """Compute the interval of a value whose expectation depends on the sample sizes, for samples of these sizes."""
    reference_is = reference_is or "sample"
    if reason := _explain_dependence(generated, reference if reference_is == "sample" else None):
        return {"interval_unavailable_reason": reason}
    components = (variance.generated, variance.reference if reference_is == "sample" else 0.0)
    error = math.sqrt(sum(components))
    return {
        "reference_is": reference_is,
        "sampling_design": "independent",
        "standard_error": error,
        "interval_95": (max(0.0, value - Z_95 * error), min(variance.largest_value, value + Z_95 * error)),
        "interval_method": "delete-one jackknife",
        "variance_components": components,
    }


def _explain_dependence(generated: FeatureStatistics, reference: FeatureStatistics | None) -> str | None:
    """Return why the images may not be treated as independent, or None if they may; the reference is None if it is fixed."""
    design = describe_design(generated, reference)
    if design == "independent" or all(_has_few_duplicates(each) for each in (generated, reference) if each is not None):
        return None
    fix = f"; expected at least {_MIN_SHARE_OF_UNITS:.0%}. Remove the duplicates." if "duplicates" in design else ""
    return f"the standard error of this metric assumes independent images; got {design}{fix}"


def _has_few_duplicates(statistics: FeatureStatistics) -> bool:
    """Return whether each image is a unit by itself, except for few exact duplicates."""
    n, n_units = statistics.n, statistics.n_units
    return statistics.grouped_by == "image" and (n is None or n_units is None or n_units >= _MIN_SHARE_OF_UNITS * n)


def describe_design(generated: FeatureStatistics, reference: FeatureStatistics | None) -> str:
    """Describe the sampling design that an interval assumes; the reference is None if it is fixed."""
    if reference is not None and (generated.grouped_by, reference.grouped_by) == ("pair", "pair"):
        return f"{generated.n:,} pairs"
    inputs = [(name, each) for name, each in (("generated", generated), ("reference", reference)) if each is not None]
    parts = [f"stratified {name} images" for name, each in inputs if each.grouped_by == "stratum"]
    parts += [
        f"{'clusters' if each.grouped_by == 'cluster' else 'duplicates'}: {each.n:,} {name} images, as informative as "
        f"{each.n_units:,} independent ones"
        for name, each in inputs
        if each.n_units is not None and each.n is not None and each.n_units < each.n
    ]
    return "; ".join(parts) or "independent"
