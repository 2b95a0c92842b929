"""Test whether the scores in a run file can be those of given samples, from a random subset of them.

The subset is drawn at random from the samples that the run scored, so the test holds however the samples depend on each other:
they are the population. With F the plain value and c the bias-corrected one, m images of the subset and n of the run, the
expected value is c + (F − c) m/n, because the bias falls as 1/n, and the variance of its difference from the claimed value is
that of c times 1 − m/n (Cochran 1977, Sampling Techniques, section 2.6).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import erfc, isclose, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np

from frechet._internal.fields import option, takes_fields_of
from frechet.distances.sampling_error import Z_95
from frechet.errors import MismatchError, RequestError
from frechet.evaluation.compute import score_statistics
from frechet.evaluation.inputs import open_input
from frechet.evaluation.request import ReferenceLike
from frechet.execution.collect import ProgressCallback, collect_statistics
from frechet.execution.settings import Settings
from frechet.features.registry import find_extractor
from frechet.reports.run_files import Run, has_shared_reference, read_runs, require_same_spec
from frechet.results import Score
from frechet.statistics.feature_statistics import FeatureStatistics

SIGNIFICANCE_LEVEL = 0.01  # a claim with a smaller p-value is inconsistent
METRICS = ("fid", "fd")
_IMAGES_PER_DIM = 5  # of the subset, by default; an interval needs 1.5
_MIN_IMAGES = 1000  # of the subset, by default
_Z_DETECTION = NormalDist().inv_cdf(1 - SIGNIFICANCE_LEVEL / 2) + NormalDist().inv_cdf(0.8)
_ROUNDING = 1e-4  # relative difference of a value between two backends
_MAX_WIDTH_RATIO = 2.0


@dataclass(frozen=True, kw_only=True, eq=False)
class VerificationRequest(Settings):
    """A run, and the images that it is said to have scored.

    Attributes:
        run: path of a JSON file of ``frechet score --output``.
        samples: the generated images of the run.
        reference: the reference of the run, as `frechet.score` takes it.
        features: whether inputs other than statistics are (n, d) feature arrays.
        num_images: size of the subset; None for five images per feature dimension, and at least 1,000.
        progress: called with (stage, images done, images in all).
    """

    run: str | os.PathLike[str] = field(kw_only=False)
    samples: ReferenceLike = field(kw_only=False)
    reference: ReferenceLike = field(kw_only=False)
    features: bool = option(False, "Treat .npy/.npz inputs as precomputed (n, d) feature arrays instead of images.")
    progress: ProgressCallback | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_crop_for_size()


@dataclass(frozen=True, kw_only=True)
class Check:
    """A claim of a run, and what the subset leads to expect.

    Attributes:
        metric: name of the metric.
        claim: what is claimed: "value", "corrected_value" or "interval_half_width".
        claimed, expected: the number in the run, and the one expected from the subset.
        standard_error: of the difference of both; None for the half-width.
        p_value: probability of a larger difference if the claim is true; None for the half-width.
        n_images: number of images of the subset.
        detectable_difference: error of the claim that is found inconsistent with a probability of 80 %; None for the half-width.
        is_consistent: whether p > 0.01; whether the half-widths differ by a factor of less than 2.
    """

    metric: str
    claim: str
    claimed: float
    expected: float
    standard_error: float | None
    p_value: float | None
    n_images: int
    detectable_difference: float | None
    is_consistent: bool


@takes_fields_of(VerificationRequest)
def verify_run(request: VerificationRequest) -> list[Check]:
    """Test whether the Fréchet distances in a run file are consistent with the samples.

    Args:
        run: path of a JSON file of ``frechet score --output``.
        samples: the generated images of the run.
        reference: the reference of the run, as `frechet.score` takes it.
        features: whether inputs other than statistics are (n, d) feature arrays.
        num_images: size of the random subset of the samples; None for five images per feature dimension, and at
            least 1,000.
        progress: called with (stage, images done, images in all).
        extractor, dims, preprocessing, precision: taken from the run unless they are passed.
        **settings: the other settings of `frechet.score`; the crop of a run has to be passed again.

    Returns:
        One check per claim. A claim of an interval is checked if the run has one.

    Raises:
        RequestError: the run has no Fréchet distance, the samples are not as many images as the run scored, or the subset is
            too small for an interval.
        MismatchError: the reference, the weights or other settings are not those of the run.
    """
    (run,) = read_runs([request.run])
    metrics = [name for name in METRICS if name in run.scores]
    if not metrics:
        raise RequestError(
            f"{run.name} has the metrics {', '.join(run.scores)}; expected fid or fd. Score it with one of them."
        )
    claims = [run.select(metric) for metric in metrics]
    request = _follow_run(request, claims[0])
    subset, n_samples = _collect_subset(request, claims[0])
    reference = _collect_reference(request)
    return [check for claim in claims for check in _check_metric(claim, subset, n_samples, reference, request.progress)]


def _follow_run(request: VerificationRequest, run: Run) -> VerificationRequest:
    """Return the request with the settings of the run, unless others are passed."""
    if request.features:
        return request
    recorded = run.provenance
    extractor = recorded.get("extractor") if request.extractor == "inception" else request.extractor
    row = find_extractor(extractor or "inception")
    dims = row.layers.get(str(recorded.get("layer"))) if row and row.layers else None
    return replace(
        request,
        extractor=extractor or "inception",
        dims=request.dims or dims,
        preprocessing=request.preprocessing or recorded.get("preprocessing"),
        precision=recorded.get("precision") or request.precision,
    )


def _collect_subset(request: VerificationRequest, run: Run) -> tuple[FeatureStatistics, int]:
    """Return the statistics of a random subset of the samples, and the number of samples."""
    settings = replace(request.settings, num_images=None)
    opened = open_input(request.samples, settings, features=request.features, keep_all=True, progress=request.progress)
    if isinstance(opened, FeatureStatistics):
        if opened.features is None:
            raise RequestError(f"{opened.label} contains statistics; expected the images that {run.name} scored")
        _require_count(len(opened.features), run, opened.label)
        count = _choose_size(request, opened.dims)
        rows = np.random.default_rng(request.seed).permutation(len(opened.features))[:count]
        features = opened.features[np.sort(rows)]
        label = f"{len(features):,} of {opened.label}"
        return FeatureStatistics.from_features(features, spec=opened.spec, label=label), len(opened.features)
    _require_count(len(opened), run, opened.label)
    extractor = settings.load(request.progress)
    count = min(len(opened), _choose_size(request, extractor.dims))
    subset = collect_statistics(opened, replace(settings, num_images=count), extractor, request.progress, "generated")
    return subset, len(opened)


def _choose_size(request: VerificationRequest, dims: int) -> int:
    """Return the number of images of the subset, which may be more than there are."""
    return request.num_images or max(_MIN_IMAGES, _IMAGES_PER_DIM * dims)


def _require_count(count: int, run: Run, label: str) -> None:
    claimed = run.provenance.get("generated") or {}
    expected = claimed.get("n_source") or claimed.get("n")
    if expected not in (None, count):
        raise RequestError(
            f"{label} has {count:,} images, and {run.name} scored {expected:,}; expected the images of that run"
        )


def _collect_reference(request: VerificationRequest) -> FeatureStatistics:
    settings = replace(request.settings, num_images=None)
    opened = open_input(request.reference, settings, features=request.features, progress=request.progress)
    if isinstance(opened, FeatureStatistics):
        return opened
    return collect_statistics(opened, settings, settings.load(request.progress), request.progress, "reference")


def _check_metric(
    run: Run,
    subset: FeatureStatistics,
    n_samples: int,
    reference: FeatureStatistics,
    progress: ProgressCallback | None,
) -> list[Check]:
    """Check the claims of a run with one metric."""
    ((metric, claimed),) = run.scores.items()
    fixed = _score(subset, reference, metric, "fixed", progress)
    found = Run.from_scores("the samples", fixed)
    require_same_spec([run, found])
    _require_same_inputs(run, found)
    score, m, n = fixed[metric], subset.n or 0, claimed.get("n_generated") or n_samples
    share = min(1.0, m / n)
    error = _difference_error(score, share if n == n_samples else -m / n)
    assert score.corrected_value is not None
    expected = score.corrected_value + (score.value - score.corrected_value) * share
    checks = [_check_number(metric, "value", claimed["value"], expected, error, m)]
    if claimed.get("interval_95") is None or claimed.get("corrected_value") is None:
        return checks
    same = _score(subset, reference, metric, claimed.get("reference_is") or "fixed", progress)[metric]
    assert same.corrected_value is not None
    checks.append(_check_number(metric, "corrected_value", claimed["corrected_value"], same.corrected_value, error, m))
    if claimed.get("sampling_design") == "independent" and same.variance_components is not None:
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


def _require_same_inputs(run: Run, found: Run) -> None:
    """Reject another reference or another crop than those of the run."""
    if not has_shared_reference([run, found], None):
        raise MismatchError(
            f"the reference differs from that of {run.name}; pass the reference that the run was scored against"
        )
    crops = [(each.provenance.get("generated") or {}).get("crop") for each in (run, found)]
    if crops[0] != crops[1]:
        raise MismatchError(
            f"the crop is {crops[1] or 'none'}, and that of {run.name} {crops[0] or 'none'}; pass it with --crop and --size"
        )


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
