"""Images in, scores out: the sentence that the package is about."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from frechet._internal.fields import name_option, option, takes_fields_of
from frechet._internal.home import expand_home
from frechet.errors import RequestError, SourceError
from frechet.evaluation.aggregate import (
    average_runs,
    iter_repetitions,
    merge_extractors,
    split_by_extractor,
    split_pair_metrics,
)
from frechet.evaluation.collect_layers import collect_layers
from frechet.evaluation.compute import compute_scores
from frechet.evaluation.influence import compute_image_influence
from frechet.evaluation.inputs import (
    buffer_iterators,
    cache_generated_images,
    call_feature_function,
    follow_statistics,
    generate_features,
    is_bare_features,
    is_image_generator,
    open_input,
    open_inputs,
    require_consistent_options,
    require_no_image_options,
)
from frechet.evaluation.pair_scores import score_pairs
from frechet.evaluation.per_class import add_class_scores
from frechet.evaluation.plan import needs_all_features, require_used_options, uses_input
from frechet.evaluation.protocol_run import prepare_protocol
from frechet.evaluation.provenance import describe_image_processing, resolve_spec
from frechet.evaluation.request import ReferenceLike, ScoreRequest
from frechet.evaluation.sampling import (
    COLLECTED,
    get_feature_units,
    iter_design_notes,
    require_consistent_design,
    resolve_units,
)
from frechet.evaluation.sampling_request import SamplingRequest
from frechet.evaluation.score_until import score_until
from frechet.execution.collect import ProgressCallback, collect_statistics
from frechet.execution.stored_thumbnails import MAX_THUMBNAILS, add_thumbnails, require_repeatable
from frechet.images.image import ImageSource
from frechet.results import ImageInfluence, Score, Scores
from frechet.statistics.feature_statistics import FeatureStatistics


@takes_fields_of(ScoreRequest)
def score(request: ScoreRequest) -> Scores:
    """Compute one or more metrics for a set of generated images, optionally against a reference.

    Args:
        generated, reference: each a folder, .zip, .npz with `arr_0` or .npy of images, a statistics .npz or its URL,
            `frechet.Statistics`, an iterable of PIL images or uint8 arrays (h, w, 3), or a function that returns as many
            images (or rows of features) as it is asked for (`num_images` in total). `reference` may be None if no metric uses it.
        metrics: metric names as a sequence or one comma-separated text, each optionally with "@" and a preset; "all" for
            every metric that applies; by default the Fréchet distance of the extractor's features.
        protocol: name of a protocol (`frechet protocols`) or path of a TOML file that defines one. It sets metrics, extractor,
            preprocessing, crops and reference; a run that deviates from it is rejected, and each deviation is named.
        relax: whether deviations from the protocol are recorded instead of rejected.
        reference_images: images of the reference for metrics that need the features of every image, if `reference` is
            statistics without them.
        held_out: real images that the generator was not trained on, for metrics of memorisation.
        splits: numbers of splits for the Inception Score.
        generated_crop, reference_crop: crop of the generated, and of the reference and held-out images, instead of `crop`.
        reference_preprocessing, reference_size: preprocessing and number of images of a reference statistics file that
            does not record them.
        interval: "auto" for the bias-corrected value and its 95 % confidence interval if there are enough images, or "none".
        reference_is: "sample" if the interval is for the distance to the distribution that the reference was sampled from,
            "fixed" if it is for the distance to this reference as it is; by default "sample" if its sampling error is known.
        design: "independent", "paired" if image i of one input belongs to image i of the other, or "auto" for pairs if both inputs have equal
            names in the same order, otherwise for independent images of which exact duplicates form clusters.
        cluster_by: dependent images by their names: "folder", "stem" (the file name up to the last _ or -), or a CSV file with
            the columns name and cluster.
        clusters: the cluster of each generated image, or a mapping with those of the "generated" and "reference" images.
        until: `frechet.Until`, the width of the interval at which sampling stops. The generated images are taken in a seeded
            random order; the interval holds at every look, and `reference_is` is "fixed" by default.
        explain: number of images to list that raise the score most, and of those that lower it most.
        per_class: whether each class (sub-folder, or label in ADM's `arr_1`) is also scored separately.
        repeat: number of repetitions, each with a different seed (seed, seed + 1, ...). Values are then means.
        features: whether inputs other than statistics are floating-point features (n, d): an array, an .npy, or an .npz
            with `features`, `feats` or `arr_0`.
        progress: called with (stage, images done, images in all).
        extractor, dims, preprocessing, crop, size, weights, backend, device, precision: see `frechet.execution.settings.Settings`.
        batch_size, workers, workers_kind, num_images, cache, seed, on_bad_image, work_dir, engine, ray_address: see
            `frechet.execution.settings.Settings`.

    Returns:
        Scores keyed by metric. `unavailable` maps each metric that could not be computed to the reason.

    Raises:
        RequestError: the arguments are invalid; nothing was computed.
        RunError: an image could not be decoded, or the network returned NaN or infinity.
        ToleranceNotReachedError: the interval is wider than `until` asks for after all images. The error has the `scores`.

    Examples:
        >>> import numpy as np, frechet
        >>> x = np.random.default_rng(0).normal(size=(500, 8)).astype("float32")
        >>> scores = frechet.score(x, x + 1, metrics=["fd", "mmd"], features=True)
        >>> round(scores["fd"].value)
        8
    """
    return run(request)


@takes_fields_of(ScoreRequest)
def fid(request: ScoreRequest) -> Score:
    """Compute the Fréchet Inception Distance. Takes the arguments of `frechet.score` except `metrics`.

    With another extractor, the result is the Fréchet distance of its features, labelled as such, with a warning.

    Raises:
        RequestError, RunError: see `frechet.score`.

    Source: Heusel et al. 2017, arXiv:1706.08500, equation 6.

    Examples:
        >>> import numpy as np, frechet
        >>> x = np.random.default_rng(0).normal(size=(500, 64)).astype("float32")  # features of Inception's first layer
        >>> score = frechet.fid(x, x + 1, features=True, extractor="inception", dims=64)
        >>> score.label, round(score.value, 2)  # 64 means that differ by 1
        ('FID-64', 64.0)
    """
    return _score_one(request, "fid")


@takes_fields_of(ScoreRequest)
def fd(request: ScoreRequest) -> Score:
    """Compute the Fréchet distance of the features of any extractor. Takes the arguments of `frechet.score` except `metrics`.

    Raises:
        RequestError, RunError: see `frechet.score`.

    Source: Dowson & Landau 1982, equation 4, for Gaussians fitted to the features.

    Examples:
        >>> import numpy as np, frechet
        >>> x = np.random.default_rng(0).normal(size=(500, 8)).astype("float32")
        >>> round(float(frechet.fd(x, x + 1, features=True)), 3)  # eight means that differ by 1
        8.0
    """
    return _score_one(request, "fd")


def _score_one(request: ScoreRequest, metric: str) -> Score:
    if request.metrics is not None:
        raise TypeError(f"frechet.{metric}() has no keyword argument 'metrics'; use frechet.score(..., metrics=...)")
    (result,) = run(replace(request, metrics=(metric,))).values()
    return result


def run(request: ScoreRequest) -> Scores:
    """Compute the scores that a request asks for; `frechet.score` documents what may be asked."""
    require_used_options(request)
    return _run(request)


def _run(request: ScoreRequest) -> Scores:
    request = generate_features(request)
    if request.protocol is not None and request.until is None:
        protocol_run = prepare_protocol(request)
        results = [(each, _run_or_error(each)) for each in protocol_run.requests]
        return protocol_run.finish(merge_extractors(request, results))
    if request.until is not None:
        return score_until(request, request.until)
    requests = split_by_extractor(request)
    if request.repeat == 1 and len(requests) == 1:
        return _score_single(requests[0])
    repetitions = iter_repetitions(buffer_iterators(request))
    return average_runs([_run_extractors(repetition) for repetition in repetitions])


def _run_extractors(request: ScoreRequest) -> Scores:
    """Compute the scores of one repetition, with each extractor that its metrics are defined on."""
    requests = split_by_extractor(cache_generated_images(request))
    return merge_extractors(request, [(each, score_or_error(each)) for each in requests])


def _run_or_error(request: ScoreRequest) -> Scores | RequestError:
    try:
        return _run(request)
    except RequestError as error:
        return error


def _score_single(request: ScoreRequest) -> Scores:
    """Compute the scores of one seed and one extractor, or of pairs of images."""
    of_pairs, _ = split_pair_metrics(request)
    return evaluate(request).scores if of_pairs is None else score_pairs(of_pairs)


def score_or_error(request: ScoreRequest) -> Scores | RequestError:
    """Compute the scores of one seed and one extractor, or of pairs of images; return the reason if there are none."""
    try:
        return _score_single(request)
    except RequestError as error:
        return error


class Evaluation(NamedTuple):
    """Scores and what they were computed from.

    Attributes:
        scores: the result.
        statistics: of the requested layer, by input ("generated", "reference").
        sources: the image sources of inputs that were given as images.
    """

    scores: Scores
    statistics: dict[str, FeatureStatistics]
    sources: dict[str, ImageSource]


def evaluate(request: ScoreRequest, *, keep_features: bool = False) -> Evaluation:
    """Compute the scores of a single run: one seed, one extractor.

    Args:
        request: what to compute.
        keep_features: whether the features of every image are kept if they are available, for a report. If they are not
            (statistics without features), `explain` is dropped instead of rejected.
    """
    if request.until is not None:
        raise RequestError(
            "a sample that grows until its interval is narrow enough has no report; leave out --report, or --until-half-width "
            "(until=)"
        )
    request = generate_features(request)
    keep_all = keep_features or request.explain > 0 or needs_all_features(request.metric_names)
    inputs = open_inputs(request, keep_all=keep_all)
    request = follow_statistics(request, inputs)
    if not (keep_features or request.explain or request.per_class):
        inputs = {name: each for name, each in inputs.items() if uses_input(request.metric_names, name)}
    require_consistent_design(request, inputs)
    n_kept = request.explain
    if keep_features:
        generated = inputs["generated"]
        available = not isinstance(generated, FeatureStatistics) or generated.features is not None
        request = request if available else replace(request, explain=0)
        n_kept = max(request.explain, 1) if available else 0
    plan, layers, extractor = collect_layers(request, inputs, n_kept)
    scores = compute_scores(
        plan,
        layers,
        interval=request.interval,
        reference_is=request.reference_is,
        explain=request.explain,
        progress=request.progress,
        backend=extractor.backend if extractor else None,
        device=extractor.device if extractor else None,
        image_processing=describe_image_processing(extractor) if extractor else None,
        seed=request.seed,
    )
    sources = {name: each for name, each in inputs.items() if not isinstance(each, FeatureStatistics)}
    if request.per_class:
        scores = add_class_scores(plan, scores, layers, sources, request.settings)
    scores = scores.with_warnings(iter_design_notes(request, inputs))
    statistics = {name: each["features"] for name, each in layers.items() if name != "held-out"}
    return Evaluation(scores, statistics, sources)


@takes_fields_of(ScoreRequest)
def influence(request: ScoreRequest) -> ImageInfluence:
    """Compute how the Fréchet distance changes if one generated image is left out, for every generated image.

    Takes the arguments of `frechet.score` that say what the images are and how they become features.

    Returns:
        The exact leave-one-out change for each image, in the order of the images.

    Raises:
        RequestError: no reference, or the generated input is statistics without the features of every image.

    Examples:
        >>> import numpy as np, frechet
        >>> x, y = np.random.default_rng(0).normal(size=(2, 100, 4)).astype("float32")
        >>> x[7] += 10  # an outlier
        >>> int(frechet.influence(x, y, features=True).change.argmin())
        7
    """
    request = generate_features(request)
    inputs = open_inputs(request, keep_all=True)
    request = follow_statistics(request, inputs)
    _, layers, _ = collect_layers(replace(request, metrics=None), inputs, n_explained=1)
    generated, reference = (layers[name]["features"] for name in ("generated", "reference"))
    resolve_spec(generated, reference)
    return compute_image_influence(generated, reference)


@dataclass(frozen=True, kw_only=True, eq=False)
class CollectRequest(SamplingRequest):
    """Images or features whose statistics are to be collected, and how the images depend on each other.

    Attributes:
        images: as `generated` in `ScoreRequest`.
        features: whether `images` are (n, d) features.
        thumbnails: number of thumbnails to store together with the names of the images, at most 256.
        progress: called with (stage, images done, images in all).
    """

    images: ReferenceLike = field(kw_only=False)
    features: bool = option(False, "Treat .npy/.npz inputs as precomputed (n, d) feature arrays instead of images.")
    thumbnails: int = option(
        0,
        f"Store N thumbnails (at most {MAX_THUMBNAILS}) and the names of the images, for HTML reports.",
        metavar="N",
    )
    progress: ProgressCallback | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "images", expand_home(self.images))
        if not isinstance(self.thumbnails, int) or not 0 <= self.thumbnails <= MAX_THUMBNAILS:
            raise RequestError(
                f"{name_option('thumbnails')} is {self.thumbnails!r}; expected a whole number from 0 to {MAX_THUMBNAILS}"
            )
        if self.thumbnails and self.features:
            raise RequestError(
                f"{name_option('thumbnails')} needs images, and --features (features=True) declares features; pass the images, or leave "
                "it out"
            )
        self._require_crop_for_size()


@takes_fields_of(CollectRequest)
def collect(request: CollectRequest) -> FeatureStatistics:
    """Collect statistics of images, for later comparisons.

    Args:
        images: a folder, .zip, .npz with `arr_0` or .npy of images, or an iterable of images.
        features: whether `images` are floating-point features (n, d) instead; what the settings state is recorded.
        thumbnails: number of thumbnails to store together with the names of the images, at most 256. Reports show them.
        design: "paired" if image i belongs to image i of the input that these statistics will be compared with,
            "independent", or "auto" for independent images of which exact duplicates form clusters.
        cluster_by, clusters, strata: as in `frechet.score`; one entry per image.
        progress: called with (stage, images done, images in all).
        extractor, dims, ...: see `frechet.execution.settings.Settings`.

    Returns:
        Mean, covariance and a sample of the features. Save them with `.save(path)`.

    Raises:
        RequestError: the arguments are invalid, or the input already holds statistics.
        RunError: an image could not be decoded, or the network returned NaN or infinity.

    Examples:
        >>> import numpy as np, frechet
        >>> frechet.collect(np.ones((10, 4), "float32"), features=True).n
        10
    """
    if request.features and request.num_images is not None and is_image_generator(request.images):
        rows = call_feature_function(request.images, request.num_images)
        request = replace(request, images=rows, num_images=None)
    settings = request.settings
    units = get_feature_units(request, COLLECTED) if request.features else None
    source = open_input(request.images, settings, features=request.features, units=units, progress=request.progress)
    require_consistent_design(request, {COLLECTED: source})
    if isinstance(source, FeatureStatistics):
        if not (request.features and is_bare_features(source)):
            raise SourceError(
                f"{source.label} already contains statistics; expected {'features' if request.features else 'images'}"
            )
        require_no_image_options(settings)
        require_consistent_options({"generated": source}, settings)
        return source
    if request.thumbnails:
        require_repeatable(source)
    units = resolve_units(request, {COLLECTED: source})[COLLECTED]
    extractor = settings.load(request.progress)
    statistics = collect_statistics(source, settings, extractor, request.progress, units=units)
    return add_thumbnails(statistics, source, settings, request.thumbnails) if request.thumbnails else statistics
