"""Test whether the scores in a run file can be those of given samples, from all of them or from a random subset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isclose

from frechet._internal.fields import takes_fields_of
from frechet.errors import RequestError
from frechet.features.models import Model
from frechet.features.ops_model import OpsModel
from frechet.features.registry import find_extractor
from frechet.features.spec import abbreviate
from frechet.networks.weights_file import is_official_file
from frechet.reports.complete_verification import check_all_images
from frechet.reports.run_files import Run, read_runs
from frechet.reports.subset_verification import check_subset
from frechet.reports.verification_inputs import Check, VerificationRequest, as_list, choose_size, open_inputs

METRICS = ("fid", "fd")


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
    inputs = open_inputs(request, claims[0])
    is_complete = choose_size(request, inputs.samples) >= inputs.population
    check = check_all_images if is_complete else check_subset
    notes: list[str] = []
    checks = check(request, claims, inputs, notes)
    notes += _list_unchecked(run, metrics)
    return Verification(checks=tuple(checks), is_complete=is_complete, notes=tuple(dict.fromkeys(notes)))


def _require_single_run(claims: Sequence[Run]) -> None:
    """Reject the mean of repetitions that scored different images."""
    for run in claims:
        ((metric, claimed),) = run.scores.items()
        repeats = [value for value in as_list(claimed.get("repeats")) if isinstance(value, (int, float))]
        if any(not isclose(value, repeats[0]) for value in repeats):
            raise RequestError(
                f"{run.name} has the mean of {metric} over {len(repeats)} repetitions with different seeds (--repeat); expected a single "
                "run. Score the images again without --repeat, and verify that run."
            )


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
