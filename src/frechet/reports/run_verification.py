"""Test whether the scores in a run file can be those of given samples, from all of them or from a random subset.

All images, scored as the run scored them, give the same numbers up to rounding. A subset is drawn at random from the samples that
the run scored, so the test holds however the samples depend on each other: they are the population. With F the plain value and c the bias-corrected one, m images of the subset and n of the run, the
expected value is c + (F − c) m/n, because the bias falls as 1/n, and the variance of its difference from the claimed value is
that of c times 1 − m/n (Cochran 1977, Sampling Techniques, section 2.6).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import erfc, isclose, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np

from frechet._internal.fields import option, takes_fields_of
from frechet.distances.sampling_error import Z_95
from frechet.errors import MismatchError, RequestError
from frechet.evaluation.addresses import Input
from frechet.evaluation.compute import score_statistics
from frechet.evaluation.inputs import open_input
from frechet.evaluation.request import ReferenceLike, ScoreRequest
from frechet.evaluation.run import evaluate
from frechet.execution.collect import ProgressCallback, collect_statistics
from frechet.execution.settings import Settings
from frechet.features.models import Model
from frechet.features.ops_model import OpsModel
from frechet.features.registry import find_extractor
from frechet.features.spec import abbreviate
from frechet.images.image import ImageSource
from frechet.networks.weights_file import is_official_file
from frechet.reports.run_files import Run, has_shared_reference, read_runs, require_same_spec
from frechet.results import Score, Scores
from frechet.statistics.feature_statistics import FeatureStatistics

SIGNIFICANCE_LEVEL = 0.01  # a claim with a smaller p-value is inconsistent
METRICS = ("fid", "fd")
_IMAGES_PER_DIM = 5  # of the subset, by default; an interval needs 1.5
_MIN_IMAGES = 1000  # of the subset, by default
_Z_DETECTION = NormalDist().inv_cdf(1 - SIGNIFICANCE_LEVEL / 2) + NormalDist().inv_cdf(0.8)
_ROUNDING = 1e-4  # relative difference of a value between two backends
TOLERANCE = 1e-3  # relative to the value: difference of a number between two machines that score the same images
_TOLERANCE_OF_TRACE = 1e-6  # relative to the traces of both covariances, for values close to 0
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
    """A claim of a run, and what the images lead to expect.

    Attributes:
        metric: name of the metric.
        claim: what is claimed: "value", "corrected_value" or, from a subset, "interval_half_width"; from all images also
            "standard_error", "interval_low" and "interval_high".
        claimed, expected: the number in the run, and the one expected from the subset or computed from all images.
        standard_error: of the difference of both; None for the half-width, and if all images were scored.
        p_value: probability of a larger difference if the claim is true; None for the half-width, and if all images were scored.
        n_images: number of images that were scored.
        detectable_difference: error of the claim that is found inconsistent with a probability of 80 %; None for the half-width;
            the tolerance if all images were scored.
        is_consistent: whether p > 0.01; whether the half-widths differ by a factor of less than 2; whether the numbers are
            equal up to the tolerance if all images were scored.
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


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The claims of a run that were checked.

    Attributes:
        checks: one per claim.
        is_complete: whether all images of the run were scored, instead of a subset.
        notes: what was not checked, and why.
    """

    checks: tuple[Check, ...]
    is_complete: bool
    notes: tuple[str, ...]


@takes_fields_of(VerificationRequest)
def verify_run(request: VerificationRequest) -> Verification:
    """Test whether the Fréchet distances in a run file are consistent with the samples.

    Args:
        run: path of a JSON file of ``frechet score --output``.
        samples: the generated images of the run.
        reference: the reference of the run, as `frechet.score` takes it.
        features: whether inputs other than statistics are (n, d) feature arrays.
        num_images: size of the random subset of the samples; None for five images per feature dimension, and at least
            1,000. If the run scored no more images, all of them are scored as the run did.
        progress: called with (stage, images done, images in all).
        extractor, dims, preprocessing, precision: taken from the run unless they are passed.
        **settings: the other settings of `frechet.score`; the crop of a run has to be passed again.

    Returns:
        One check per claim, and what was not checked. A claim of an interval is checked if the run has one.

    Raises:
        RequestError: the run has no Fréchet distance, or is the mean of several runs; the samples are not as many images as the run
            scored; its weights have to be passed; or the subset is too small for an interval.
        MismatchError: the reference, the weights or other settings are not those of the run.
    """
    (run,) = read_runs([request.run])
    metrics = [name for name in METRICS if name in run.scores]
    if not metrics:
        raise RequestError(
            f"{run.name} has the metrics {', '.join(run.scores)}; expected fid or fd. Score it with one of them."
        )
    claims = [run.select(metric) for metric in metrics]
    _require_single_run(claims)
    request = _follow_run(request, claims[0])
    inputs = _open_inputs(request, claims[0])
    is_complete = _choose_size(request, inputs.samples) >= inputs.population
    check = _check_all_images if is_complete else _check_subset
    notes: list[str] = []
    checks = check(request, claims, inputs, notes)
    notes += _list_unchecked(run, metrics)
    return Verification(checks=tuple(checks), is_complete=is_complete, notes=tuple(dict.fromkeys(notes)))


def _require_single_run(claims: Sequence[Run]) -> None:
    """Reject the mean of repetitions that scored different images."""
    for run in claims:
        ((metric, claimed),) = run.scores.items()
        repeats = [value for value in _as_list(claimed.get("repeats")) if isinstance(value, (int, float))]
        if any(not isclose(value, repeats[0]) for value in repeats):
            raise RequestError(
                f"{run.name} has the mean of {metric} over {len(repeats)} repetitions with different seeds (--repeat); expected a single "
                "run. Score the images again without --repeat, and verify that run."
            )


def _as_list(value: Any) -> list[Any]:
    """Return a list of a run file, of which the form was not validated."""
    return value if isinstance(value, list) else []


def _list_unchecked(run: Run, metrics: Sequence[str]) -> Iterator[str]:
    """Yield a note that names what else the run contains."""
    unchecked = [name for name in run.scores if name not in metrics]
    unchecked += [f"per_class of {name}" for name in metrics if run.scores[name].get("per_class")]
    if unchecked:
        yield f"not checked: {', '.join(unchecked)}; only the distance of all images is recomputed ({' and '.join(METRICS)})"


def _follow_run(request: VerificationRequest, run: Run) -> VerificationRequest:
    """Return the request with the settings of the run, unless others are passed."""
    recorded = run.provenance
    inputs = [recorded.get(name) or {} for name in ("generated", "reference")]
    if any(each.get("skipped_images") for each in inputs):
        request = replace(request, on_bad_image="skip")
    if request.features:
        return request
    extractor = recorded.get("extractor") if request.extractor == "inception" else request.extractor
    row = find_extractor(extractor or "inception")
    dims = row.layers.get(str(recorded.get("layer"))) if row and row.layers else None
    request = replace(
        request,
        extractor=extractor or "inception",
        dims=request.dims or dims,
        preprocessing=request.preprocessing or recorded.get("preprocessing"),
        precision=recorded.get("precision") or request.precision,
    )
    _require_weights(request, run)
    return request


def _require_weights(request: VerificationRequest, run: Run) -> None:
    """Reject a run with other weights than the published ones, if only these could be used, after a download.

    Raises:
        RequestError: the message names the weights, which have to be passed.
    """
    row = find_extractor(request.extractor)
    if request.weights is not None or row is None or run.provenance.get("is_official") is not False:
        return
    if not _finds_other_weights(row.model):
        raise RequestError(
            f"{run.name} was scored with the weights {abbreviate(str(run.provenance.get('weights')))} of {request.extractor}, which are "
            "not the published ones; pass the weights file of that run with --weights (weights=)"
        )


def _finds_other_weights(model: Model) -> bool:
    """Return whether weights are found without a download that may be others than the published ones."""
    try:
        path = model.find_weights()
    except RequestError:
        return False
    return not isinstance(model, OpsModel) or not path.is_file() or not is_official_file(path, model.weights_file)


@dataclass(frozen=True, kw_only=True)
class _Inputs:
    """The opened inputs of a verification.

    Attributes:
        samples, reference: images or statistics.
        population: number of images that the run scored or skipped.
    """

    samples: Input
    reference: Input
    population: int


def _open_inputs(request: VerificationRequest, run: Run) -> _Inputs:
    """Open the samples and the reference.

    Raises:
        RequestError: the samples are statistics without features, or not as many images as those of the run.
    """
    settings = replace(request.settings, num_images=None, seed=_get_seed(run, "generated"))
    samples = open_input(request.samples, settings, features=request.features, keep_all=True, progress=request.progress)
    rows = samples.features if isinstance(samples, FeatureStatistics) else samples
    if rows is None:
        raise RequestError(f"{samples.label} contains statistics; expected the images that {run.name} scored")
    count = len(rows)
    _require_count(count, run, samples.label)
    reference = open_input(request.reference, settings, features=request.features, progress=request.progress)
    population = _get_subset_size(run, "generated") or count
    return _Inputs(samples=samples, reference=reference, population=population)


def _get_seed(run: Run, name: str) -> int:
    """Return the seed with which the run chose the images of an input, and the groups of its interval."""
    return max(0, (run.provenance.get(name) or {}).get("seed") or 0)


def _get_subset_size(run: Run, name: str) -> int | None:
    """Return how many images of an input the run chose; None for all of them, or if it is not recorded."""
    recorded = run.provenance.get(name) or {}
    n, n_source = recorded.get("n"), recorded.get("n_source")
    if n is None or n_source is None:
        return None
    chosen = n + len(_as_list(recorded.get("skipped_images")))
    return chosen if chosen < n_source else None


def _choose_size(request: VerificationRequest, samples: Input) -> int:
    """Return the number of images to score, which may be more than there are."""
    if request.num_images:
        return request.num_images
    row = find_extractor(request.extractor)
    if isinstance(samples, FeatureStatistics):
        dims = samples.dims
    elif row is not None:
        dims = request.dims or row.dims
    else:
        dims = request.settings.load(request.progress).dims
    return max(_MIN_IMAGES, _IMAGES_PER_DIM * dims)


def _require_count(count: int, run: Run, label: str) -> None:
    claimed = run.provenance.get("generated") or {}
    expected = claimed.get("n_source") or claimed.get("n")
    if expected not in (None, count):
        raise RequestError(
            f"{label} has {count:,} images, and {run.name} scored {expected:,}; expected the images of that run"
        )


def _check_all_images(
    request: VerificationRequest, claims: Sequence[Run], inputs: _Inputs, notes: list[str]
) -> list[Check]:
    """Check the claims of a run from all of its images, scored as the run did; `notes` gets what is not checked."""
    first, *others = _iter_designs(claims[0])
    checks, found_notes = _check_design(request, claims, inputs, first)
    for design in others:
        if all(check.is_consistent for check in checks) or not all(
            check.is_consistent for check in checks if check.claim == "value"
        ):
            break
        checks, found_notes = _check_design(request, claims, inputs, design)
    notes += found_notes
    return checks


def _iter_designs(run: Run) -> Iterator[dict[str, str]]:
    """Yield the options of the sampling design that a run records, and those of another one with the same name."""
    (claimed,) = run.scores.values()
    design = str(claimed.get("sampling_design"))
    if design.startswith("stratified"):
        yield {"strata": "class"}
    elif design.endswith(" pairs"):
        yield {"design": "paired"}
    else:
        yield {}
        if design == "independent":  # of names or duplicates that do not count
            yield {"design": "independent"}


def _check_design(
    request: VerificationRequest, claims: Sequence[Run], inputs: _Inputs, design: Mapping[str, str]
) -> tuple[list[Check], list[str]]:
    """Return the checks of a run from all of its images under a sampling design, and notes on what is not checked."""
    notes: list[str] = []
    reasons = [_explain_unchecked_interval(run) for run in claims]
    has_interval = any(_has_interval(run) and not reason for run, reason in zip(claims, reasons, strict=True))
    try:
        scores = _score_all(request, claims, inputs, design if has_interval else {}, has_interval)
    except RequestError as error:
        if isinstance(error, MismatchError) or not (has_interval and design):
            raise
        reasons = [f"the sampling design of the run cannot be repeated ({error})" for _ in claims]
        scores = _score_all(request, claims, inputs, {}, False)
    found = Run.from_scores("the samples", scores)
    checks: list[Check] = []
    for run, reason in zip(claims, reasons, strict=True):
        ((metric, claimed),) = run.scores.items()
        _require_same_run(run, found.select(metric))
        _require_same_counts(run, scores[metric], inputs.population, is_complete=True)
        if _has_interval(run) and reason:
            notes.append(f"not checked: the corrected value and the interval of {metric}; {reason}")
            claimed = {"value": claimed["value"]}
        checks += _compare_numbers(run.name, metric, claimed, scores[metric])
    return checks, notes


def _score_all(
    request: VerificationRequest,
    claims: Sequence[Run],
    inputs: _Inputs,
    design: Mapping[str, str],
    has_interval: bool,
) -> Scores:
    """Score all images of a run with its settings."""
    run = claims[0]
    (claimed,) = run.scores.values()
    num_images = _get_subset_size(run, "generated")
    if num_images is None and isinstance(inputs.reference, ImageSource):
        num_images = _get_subset_size(run, "reference")
    settings = {each.name: getattr(request, each.name) for each in fields(Settings)}
    settings |= {"num_images": num_images, "seed": _get_seed(run, "generated")}
    scored = ScoreRequest(
        inputs.samples if isinstance(inputs.samples, ImageSource) else request.samples,
        inputs.reference if isinstance(inputs.reference, ImageSource) else request.reference,
        **{**settings, **design},
        metrics=[name for run in claims for name in run.scores],
        interval="auto" if has_interval else "none",
        reference_is=claimed.get("reference_is") if has_interval else None,
        features=request.features,
        progress=request.progress,
    )
    return evaluate(scored).scores


def _has_interval(run: Run) -> bool:
    (claimed,) = run.scores.values()
    return any(claimed.get(name) is not None for name in ("corrected_value", "standard_error", "interval_95"))


def _explain_unchecked_interval(run: Run) -> str | None:
    """Return why the interval of a run cannot be computed again from the same images, or None if it can."""
    (claimed,) = run.scores.values()
    if claimed.get("looks"):
        return "they are those of a sample that grew until its interval was narrow enough"
    if "clusters:" in str(claimed.get("sampling_design")):
        return "the run does not record which images form clusters"
    return None


def _compare_numbers(name: str, metric: str, claimed: Mapping[str, Any], found: Score) -> Iterator[Check]:
    """Yield a check of each number that a run claims, given the score of the same images.

    Raises:
        MismatchError: the run has a number that these images do not have.
    """
    traces = [(found.provenance.get(each) or {}).get("moments", (0, 0))[1] for each in ("generated", "reference")]
    ends = (("interval_low", 0), ("interval_high", 1))
    claims = {key: claimed.get(key) for key in ("value", "corrected_value", "standard_error")}
    claims |= {key: claimed["interval_95"][i] for key, i in ends if claimed.get("interval_95") is not None}
    numbers = {key: getattr(found, key) for key in ("value", "corrected_value", "standard_error")}
    numbers |= {key: found.interval_95[i] for key, i in ends if found.interval_95 is not None}
    for claim, number in claims.items():
        if number is None:
            continue
        expected = numbers.get(claim)
        if expected is None:
            raise MismatchError(
                f"{name} has the {claim.replace('_', ' ')} {number:.6g} of {metric}, but its images have none: "
                f"{found.interval_unavailable_reason}. Score them again to get a run file with the numbers that they have."
            )
        tolerance = max(TOLERANCE * max(abs(found.value), abs(expected)), _TOLERANCE_OF_TRACE * sum(traces))
        yield Check(
            metric=metric,
            claim=claim,
            claimed=number,
            expected=expected,
            standard_error=None,
            p_value=None,
            n_images=found.n_generated or 0,
            detectable_difference=tolerance,
            is_consistent=abs(number - expected) <= tolerance,
        )


def _check_subset(
    request: VerificationRequest, claims: Sequence[Run], inputs: _Inputs, notes: list[str]
) -> list[Check]:
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
    count = _choose_size(request, samples)
    if isinstance(samples, FeatureStatistics):
        assert samples.features is not None
        rows = np.random.default_rng(request.seed).permutation(len(samples.features))[:count]
        features = samples.features[np.sort(rows)]
        label = f"{len(features):,} of {samples.label}"
        return FeatureStatistics.from_features(features, spec=samples.spec, label=label)
    seed = request.seed if _get_subset_size(run, "generated") is None else _get_seed(run, "generated")
    settings = replace(request.settings, num_images=count, seed=seed)
    return collect_statistics(samples, settings, settings.load(request.progress), request.progress, "generated")


def _collect_reference(request: VerificationRequest, run: Run, reference: Input) -> FeatureStatistics:
    """Return the statistics of the images of the reference that the run used."""
    if isinstance(reference, FeatureStatistics):
        return reference
    num_images, seed = _get_subset_size(run, "reference"), _get_seed(run, "reference")
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
    _require_same_run(run, Run.from_scores("the samples", fixed))
    _require_same_counts(run, fixed[metric], population, is_complete=False)
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
        reason = _explain_unchecked_interval(run) or (
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


def _require_same_run(run: Run, found: Run) -> None:
    """Reject features with other settings, another reference or another crop than those of the run."""
    require_same_spec([run, found])
    if not has_shared_reference([run, found], None):
        raise MismatchError(
            f"the reference differs from that of {run.name}; pass the reference that the run was scored against"
        )
    crops = [(each.provenance.get("generated") or {}).get("crop") for each in (run, found)]
    if crops[0] != crops[1]:
        raise MismatchError(
            f"the crop is {crops[1] or 'none'}, and that of {run.name} {crops[0] or 'none'}; pass it with --crop and --size"
        )


def _require_same_counts(run: Run, found: Score, population: int, *, is_complete: bool) -> None:
    """Reject numbers of images that the inputs do not have."""
    ((metric, claimed),) = run.scores.items()
    n, n_reference = claimed.get("n_generated"), claimed.get("n_reference")
    if n is not None and (n != found.n_generated if is_complete else n > population):
        has = found.n_generated if is_complete else population
        raise MismatchError(f"{run.name} has {metric} of {n:,} generated images, but {has or 0:,} were scored")
    if None not in (n_reference, found.n_reference) and n_reference != found.n_reference:
        raise MismatchError(
            f"{run.name} has {metric} for {n_reference:,} reference images, but the reference has {found.n_reference:,}"
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
