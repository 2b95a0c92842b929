"""What a verification of a run file works with: the request, the opened inputs, a check, and what the run must share with the images."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any

from frechet._internal.fields import option
from frechet.errors import MismatchError, RequestError
from frechet.evaluation.addresses import Input
from frechet.evaluation.inputs import open_input
from frechet.evaluation.request import ReferenceLike
from frechet.execution.collect import ProgressCallback
from frechet.execution.settings import Settings
from frechet.features.registry import find_extractor
from frechet.reports.run_files import Run, has_shared_reference, require_same_spec
from frechet.results import Score
from frechet.statistics.feature_statistics import FeatureStatistics

_IMAGES_PER_DIM = 5  # of the subset, by default; an interval needs 1.5
_MIN_IMAGES = 1000  # of the subset, by default


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
class Inputs:
    """The opened inputs of a verification.

    Attributes:
        samples, reference: images or statistics.
        population: number of images that the run scored or skipped.
    """

    samples: Input
    reference: Input
    population: int


def open_inputs(request: VerificationRequest, run: Run) -> Inputs:
    """Open the samples and the reference.

    Raises:
        RequestError: the samples are statistics without features, or not as many images as those of the run.
    """
    settings = replace(request.settings, num_images=None, seed=get_seed(run, "generated"))
    samples = open_input(request.samples, settings, features=request.features, keep_all=True, progress=request.progress)
    rows = samples.features if isinstance(samples, FeatureStatistics) else samples
    if rows is None:
        raise RequestError(f"{samples.label} contains statistics; expected the images that {run.name} scored")
    count = len(rows)
    _require_count(count, run, samples.label)
    reference = open_input(request.reference, settings, features=request.features, progress=request.progress)
    population = get_subset_size(run, "generated") or count
    return Inputs(samples=samples, reference=reference, population=population)


def get_seed(run: Run, name: str) -> int:
    """Return the seed with which the run chose the images of an input, and the groups of its interval."""
    return max(0, (run.provenance.get(name) or {}).get("seed") or 0)


def get_subset_size(run: Run, name: str) -> int | None:
    """Return how many images of an input the run chose; None for all of them, or if it is not recorded."""
    recorded = run.provenance.get(name) or {}
    n, n_source = recorded.get("n"), recorded.get("n_source")
    if n is None or n_source is None:
        return None
    chosen = n + len(as_list(recorded.get("skipped_images")))
    return chosen if chosen < n_source else None


def as_list(value: Any) -> list[Any]:
    """Return a list of a run file, of which the form was not validated."""
    return value if isinstance(value, list) else []


def choose_size(request: VerificationRequest, samples: Input) -> int:
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


def explain_unchecked_interval(run: Run) -> str | None:
    """Return why the interval of a run cannot be computed again from the same images, or None if it can."""
    (claimed,) = run.scores.values()
    if claimed.get("looks"):
        return "they are those of a sample that grew until its interval was narrow enough"
    if "clusters:" in str(claimed.get("sampling_design")):
        return "the run does not record which images form clusters"
    return None


def require_same_run(run: Run, found: Run) -> None:
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


def require_same_counts(run: Run, found: Score, population: int, *, is_complete: bool) -> None:
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
