"""Check the claims of a run file from a random subset of the images that the run scored.

The test holds however the samples depend on each other: they are the population. With F the plain value and c the bias-corrected one,
m images of the subset and n of the run, the expected value is c + (F − c) m/n, because the bias falls as 1/n, and the variance of its
difference from the claimed value is that of c times 1 − m/n (Cochran 1977, Sampling Techniques, section 2.6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import erfc, isclose, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np

from frechet.distances.sampling_error import Z_95
from frechet.errors import RequestError
from frechet.evaluation.addresses import Input
from frechet.evaluation.compute import score_statistics
from frechet.execution.collect import ProgressCallback, collect_statistics
from frechet.reports.run_files import Run
from frechet.reports.verification_inputs import (
    Check,
    Inputs,
    VerificationRequest,
    choose_size,
    explain_unchecked_interval,
    get_seed,
    get_subset_size,
    require_same_counts,
    require_same_run,
)
from frechet.results import Score
from frechet.statistics.feature_statistics import FeatureStatistics

SIGNIFICANCE_LEVEL = 0.01  # a claim with a smaller p-value is inconsistent
_Z_DETECTION = NormalDist().inv_cdf(1 - SIGNIFICANCE_LEVEL / 2) + NormalDist().inv_cdf(0.8)
_ROUNDING = 1e-4  # relative difference of a value between two backends
_MAX_WIDTH_RATIO = 2.0


def check_subset(request: VerificationRequest, claims: Sequence[Run], inputs: Inputs, notes: list[str]) -> list[Check]:
    """Check the claims of a run from a random subset of its images; `notes` gets what is not checked."""
    subset = _collect_subset(request, claims[0], inputs.samples)
    reference = _collect_reference(request, claims[0], inputs.reference)
    return [
        check
        for claim in claims
        for check in _check_metric(claim, subset, inputs.population, reference, request.progress, notes)
    ]


def _collect_subset(request: VerificationRequest, run: Run, samples: Input) -> FeatureStatistics:
    """Return the statistics of a random subset of the samples; of a subset of those that the run chose, if it chose some."""
    count = choose_size(request, samples)
    if isinstance(samples, FeatureStatistics):
        assert samples.features is not None
        rows = np.random.default_rng(request.seed).permutation(len(samples.features))[:count]
        features = samples.features[np.sort(rows)]
        label = f"{len(features):,} of {samples.label}"
        return FeatureStatistics.from_features(features, spec=samples.spec, label=label)
    seed = request.seed if get_subset_size(run, "generated") is None else get_seed(run, "generated")
    settings = replace(request.settings, num_images=count, seed=seed)
    return collect_statistics(samples, settings, settings.load(request.progress), request.progress, "generated")


def _collect_reference(request: VerificationRequest, run: Run, reference: Input) -> FeatureStatistics:
    """Return the statistics of the images of the reference that the run used."""
    if isinstance(reference, FeatureStatistics):
        return reference
    num_images, seed = get_subset_size(run, "reference"), get_seed(run, "reference")
    settings = replace(request.settings, num_images=num_images, seed=seed)
    return collect_statistics(reference, settings, settings.load(request.progress), request.progress, "reference")


def _check_metric(
    run: Run,
    subset: FeatureStatistics,
    population: int,
    reference: FeatureStatistics,
    progress: ProgressCallback | None,
    notes: list[str],
) -> list[Check]:
    """Check the claims of a run with one metric."""
    ((metric, claimed),) = run.scores.items()
    fixed = _score(subset, reference, metric, "fixed", progress)
    require_same_run(run, Run.from_scores("the samples", fixed))
    require_same_counts(run, fixed[metric], population, is_complete=False)
    score, m, n = fixed[metric], subset.n or 0, claimed.get("n_generated") or population
    share = min(1.0, m / n)
    error = _difference_error(score, share)
    assert score.corrected_value is not None
    expected = score.corrected_value + (score.value - score.corrected_value) * share
    checks = [_check_number(metric, "value", claimed["value"], expected, error, m)]
    if claimed.get("interval_95") is None or claimed.get("corrected_value") is None:
        return checks
    design = str(claimed.get("sampling_design"))
    if claimed.get("looks") or not design.startswith(("independent", "duplicates", "None")):
        reason = explain_unchecked_interval(run) or (
            f"the images are {design}, which a random subset is not. Pass --num-images {population} (num_images=) to score all of them."
        )
        notes.append(f"not checked: the corrected value and the interval of {metric}; {reason}")
        return checks
    kind = claimed.get("reference_is") or "fixed"
    same = score if kind == "fixed" else _score(subset, reference, metric, kind, progress)[metric]
    assert same.corrected_value is not None
    checks.append(_check_number(metric, "corrected_value", claimed["corrected_value"], same.corrected_value, error, m))
    if design == "independent" and same.variance_components is not None:
        checks.append(_check_width(metric, claimed, same, m, n))
    return checks


def _score(
    subset: FeatureStatistics,
    reference: FeatureStatistics,
    metric: str,
    reference_is: str,
    progress: ProgressCallback | None,
) -> Any:
    """Score the subset, with an interval.

    Raises:
        RequestError: there is no interval; the message gives the reason.
    """
    scores = score_statistics(subset, reference, metrics=[metric], reference_is=reference_is, progress=progress)
    if scores[metric].corrected_value is None:
        raise RequestError(
            f"the subset of {subset.n:,} images has no interval: {scores[metric].interval_unavailable_reason}. Use a larger one "
            "with --num-images (num_images=)."
        )
    return scores


def _difference_error(score: Score, share: float) -> float:
    """Return the standard error of the difference between the claim and what a share of its images leads to expect."""
    variances: Sequence[float] | None = score.variance_components
    assert variances is not None
    return sqrt(variances[0] * (1 - share) + (_ROUNDING * score.value) ** 2)


def _check_number(metric: str, claim: str, claimed: float, expected: float, error: float, n_images: int) -> Check:
    p_value = erfc(abs(claimed - expected) / error / sqrt(2)) if error else float(isclose(claimed, expected))
    return Check(
        metric=metric,
        claim=claim,
        claimed=claimed,
        expected=expected,
        standard_error=error,
        p_value=p_value,
        n_images=n_images,
        detectable_difference=_Z_DETECTION * error,
        is_consistent=p_value > SIGNIFICANCE_LEVEL,
    )


def _check_width(metric: str, claimed: Mapping[str, Any], subset: Score, m: int, n: int) -> Check:
    """Compare the upper half of the interval with that of a subset, whose share that is not sampling error is larger."""
    assert subset.variance_components is not None
    assert subset.interval_95 is not None
    assert subset.corrected_value is not None
    generated, of_reference = subset.variance_components
    error = sqrt(generated * m / n + of_reference)
    expected = (subset.interval_95[1] - subset.corrected_value) * error / sqrt(generated + of_reference)
    width = claimed["interval_95"][1] - claimed["corrected_value"]
    return Check(
        metric=metric,
        claim="interval_half_width",
        claimed=width,
        expected=expected,
        standard_error=None,
        p_value=None,
        n_images=m,
        detectable_difference=None,
        is_consistent=Z_95 * error / _MAX_WIDTH_RATIO < width < expected * _MAX_WIDTH_RATIO,
    )
