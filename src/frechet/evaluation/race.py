"""Find the best of several models with as few images as possible."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from frechet._internal.fields import takes_fields_of
from frechet.distances.difference import Estimate, relative_error_of_difference
from frechet.distances.elimination import SuccessiveElimination, count_pairs, independent
from frechet.distances.interval import Interval
from frechet.distances.sampling_error import NUM_INFLUENCE_GROUPS
from frechet.distances.sequential import EstimateWithBounds, critical_value, student_quantile
from frechet.errors import TooFewImagesError
from frechet.evaluation.growing import open_growing_samples
from frechet.evaluation.growing_checks import require_paired_samples
from frechet.evaluation.race_course import RaceCourse, build_race
from frechet.evaluation.race_request import RaceRequest
from frechet.evaluation.race_result import Race


@takes_fields_of(RaceRequest)
def race(request: RaceRequest) -> Race:
    """Find the best of several models with as few images as possible (successive elimination).

    All models are sampled in steps. After each step, the differences between the models that are still in the race are
    compared with intervals that hold for all pairs and at all looks together with probability 1 - `alpha`. A model that is worse than
    another one by such an interval is not sampled any further.

    Args:
        models: at least two, by display name: images or features as in `frechet.score`. A function that generates images is called
            for as many as are needed.
        reference: the reference of all models, as in `frechet.score`.
        metrics: name of a Fréchet distance; None for that of the extractor's features.
        find: "best" for the best model, or "all-pairs" for the order of all of them.
        alpha: probability of at least one wrong interval of a difference over all looks and pairs, between 0 and 1.
        max_images: largest number of images per model; functions need it. None for the number of images of the smallest source.
        paired_runs: whether image i of all models was generated from the same latent or prompt.
        reference_is: "fixed" for the distances to this reference as it is, "sample" for those to the distribution that it was
            sampled from.
        features: whether inputs other than statistics are (n, d) feature arrays instead of images.
        progress: called with (name of the model, images done, images in all).
        extractor, dims, preprocessing, crop, size, weights, backend, device, precision: see `frechet.execution.settings.Settings`.
        batch_size, workers, workers_kind, cache, seed, on_bad_image, work_dir, engine, ray_address: see
            `frechet.execution.settings.Settings`.

    Returns:
        The ranking, with the differences, and how many images they took.

    Raises:
        RequestError: the arguments are invalid; nothing was computed.
        RunError: an image could not be decoded, or a function returned the same images again.

    Examples:
        >>> import numpy as np, frechet
        >>> random = np.random.default_rng(0)
        >>> models = {name: random.standard_normal((5000, 8)) + shift for name, shift in [("old", 0.5), ("new", 0.4)]}
        >>> race = frechet.race(models, random.standard_normal((5000, 8)), features=True)
        >>> race.winner, race.images_used < 5000
        ('new', True)
    """
    return run_race(request)


def run_race(request: RaceRequest) -> Race:
    """Run a race; `frechet.race` documents it."""
    samples = open_growing_samples(request.to_score_request(), request.models, request.max_images)
    if request.paired_runs:
        require_paired_samples(samples.samples, samples.sizes)
    has_common_errors = request.paired_runs or request.reference_is == "sample"
    bound = critical_value(samples.looks, request.alpha / count_pairs(len(request.models)))
    course = RaceCourse(samples, student_quantile(bound, NUM_INFLUENCE_GROUPS - 1) if has_common_errors else bound)
    elimination = SuccessiveElimination(list(request.models), request.find)
    reason = ""
    for n in samples.looks:
        reason = course.measure(elimination.active, n)
        if reason:
            continue  # with more images, all models have an interval
        intervals = {name: course.intervals[name] for name in elimination.active}
        bounds = {
            name: EstimateWithBounds(each.corrected_value, each.low, each.high) for name, each in intervals.items()
        }
        left = elimination.update(bounds, _make_scale(intervals, request) if has_common_errors else independent)
        course.record(n, intervals, left)
        if elimination.is_decided:
            break
    if reason:
        raise TooFewImagesError(reason)
    course.score(elimination.active, is_decided=elimination.is_decided)
    return build_race(request, course, elimination)


def _make_scale(intervals: Mapping[str, Interval], request: RaceRequest) -> Callable[[str, str], float]:
    """Return a function that estimates from groups of images how far the errors that two models have in common cancel."""
    estimates = {
        name: Estimate(each.corrected_value, each.variance_components, each.generated_groups, each.reference_groups)
        for name, each in intervals.items()
    }

    def scale(one: str, other: str) -> float:
        pair = estimates[one], estimates[other]
        return relative_error_of_difference(*pair, shared_reference=True, paired_runs=request.paired_runs)

    return scale
