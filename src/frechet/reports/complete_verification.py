"""Check the claims of a run file from all images of the run, which give the same numbers up to rounding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from frechet.errors import MismatchError, RequestError
from frechet.evaluation.request import ScoreRequest
from frechet.evaluation.run import evaluate
from frechet.execution.settings import Settings
from frechet.images.image import ImageSource
from frechet.reports.run_files import Run
from frechet.reports.verification_inputs import (
    Check,
    Inputs,
    VerificationRequest,
    explain_unchecked_interval,
    get_seed,
    get_subset_size,
    require_same_counts,
    require_same_run,
)
from frechet.results import Score, Scores

TOLERANCE = 1e-3  # relative to the value: difference of a number between two machines that score the same images
_TOLERANCE_OF_TRACE = 1e-6  # relative to the traces of both covariances, for values close to 0


def check_all_images(
    request: VerificationRequest, claims: Sequence[Run], inputs: Inputs, notes: list[str]
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
    request: VerificationRequest, claims: Sequence[Run], inputs: Inputs, design: Mapping[str, str]
) -> tuple[list[Check], list[str]]:
    """Return the checks of a run from all of its images under a sampling design, and notes on what is not checked."""
    notes: list[str] = []
    reasons = [explain_unchecked_interval(run) for run in claims]
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
        require_same_run(run, found.select(metric))
        require_same_counts(run, scores[metric], inputs.population, is_complete=True)
        if _has_interval(run) and reason:
            notes.append(f"not checked: the corrected value and the interval of {metric}; {reason}")
            claimed = {"value": claimed["value"]}
        checks += _compare_numbers(run.name, metric, claimed, scores[metric])
    return checks, notes


def _score_all(
    request: VerificationRequest,
    claims: Sequence[Run],
    inputs: Inputs,
    design: Mapping[str, str],
    has_interval: bool,
) -> Scores:
    """Score all images of a run with its settings."""
    run = claims[0]
    (claimed,) = run.scores.values()
    num_images = get_subset_size(run, "generated")
    if num_images is None and isinstance(inputs.reference, ImageSource):
        num_images = get_subset_size(run, "reference")
    settings = {each.name: getattr(request, each.name) for each in fields(Settings)}
    settings |= {"num_images": num_images, "seed": get_seed(run, "generated")}
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
