"""Samples that grow, opened and measured: what an evaluation that may stop at any time is made of."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from frechet._internal.fields import name_option
from frechet.distances.interval import MIN_UNITS, DistanceEstimate, fewest_units
from frechet.distances.sequential import plan_looks
from frechet.errors import FrechetError, RequestError, TooFewImagesError
from frechet.evaluation.addresses import Input
from frechet.evaluation.aggregate import split_by_extractor
from frechet.evaluation.collect_layers import Collector, plan_collection
from frechet.evaluation.compute import compute_scores
from frechet.evaluation.growing_checks import require_supported_designs, require_supported_options
from frechet.evaluation.inputs import follow_statistics, is_image_generator, open_input, open_inputs
from frechet.evaluation.layers import LayerStatistics, as_layers
from frechet.evaluation.provenance import describe_image_processing, resolve_spec
from frechet.evaluation.request import ReferenceLike, ScoreRequest
from frechet.evaluation.sampling import get_feature_units, resolve_units
from frechet.execution.feature_function import FeatureFunction
from frechet.execution.growing_sample import GrowingFeatures, GrowingImages, GrowingSample
from frechet.images.image import ImageSource
from frechet.images.sources.generator import GeneratorSource
from frechet.metrics.frechet import estimate_frechet
from frechet.results import Scores
from frechet.statistics.feature_statistics import FeatureStatistics

MIN_IMAGES_PER_DIM = 2  # at the first look


@dataclass(frozen=True)
class GrowingSamples:
    """Samples of one or more models, and the reference that they are compared with.

    Attributes:
        collector: how images become features, and the one metric that is computed.
        samples: by name of the model.
        looks: numbers of images at which the samples are looked at.
        reference: statistics by layer.
        reference_is: "fixed" or "sample" (see `ScoreRequest`).
        sizes: by name of the model, the number of images that it has.
    """

    collector: Collector
    samples: Mapping[str, GrowingSample]
    looks: tuple[int, ...]
    reference: LayerStatistics
    reference_is: str
    sizes: Mapping[str, int]

    def grow(self, name: str, n: int) -> LayerStatistics:
        """Return statistics by layer of the first n images of a model."""
        grown = self.samples[name].grow(n)
        is_images = isinstance(self.samples[name], GrowingImages)
        return self.collector.name_layers(grown) if is_images else as_layers(grown["features"])

    def estimate(self, layers: LayerStatistics) -> DistanceEstimate | str:
        """Estimate the distance of a sample, or return the reason why it is impossible with these images."""
        return estimate_frechet(self._select(layers), self._select(self.reference), self.reference_is)

    def needs_images(self, layers: LayerStatistics) -> bool:
        """Return whether a sample without an interval has too few images for one; otherwise, more images would not help."""
        return _count_units(self._select(layers)) < fewest_units(self._select(layers).dims)

    def advise(self, layers: LayerStatistics) -> str:
        """Return what to do about a sample that has too few images for an interval after the last look."""
        statistics = self._select(layers)
        if statistics.grouped_by == "image" and 2 * _count_units(statistics) < (statistics.n or 0):
            return "Most of these images are copies of others; more images help only if they are different."
        return f"More images than {self.looks[-1]:,} are needed."

    def _select(self, layers: LayerStatistics) -> FeatureStatistics:
        return layers[self.collector.plan.requests[0].metric.layer]

    def score(self, layers: LayerStatistics, *, is_decided: bool) -> Scores:
        """Compute the score of a sample, without an interval, and with advice to add images unless the question is decided."""
        extractor, request = self.collector.extractor, self.collector.request
        return compute_scores(
            self.collector.plan,
            {"generated": layers, "reference": self.reference},
            interval="none",
            progress=request.progress,
            backend=extractor.backend if extractor else None,
            device=extractor.device if extractor else None,
            image_processing=describe_image_processing(extractor) if extractor else None,
            seed=request.seed,
            is_sequential=is_decided,
        )


def _count_units(statistics: FeatureStatistics) -> float:
    """Return the effective number of independent images."""
    n = statistics.n if statistics.n_units is None else statistics.n_units
    assert n is not None  # known of a sample
    return n


def open_growing_samples(
    request: ScoreRequest, models: Mapping[str, ReferenceLike], max_images: int | None
) -> GrowingSamples:
    """Open the samples of models and collect the statistics of the reference.

    Args:
        request: the metric, the reference, and how images become features; `generated` is the first of the models.
        models: images or features by name.
        max_images: largest number of images per model; None for all that the smallest source has.

    Raises:
        RequestError: a model cannot give more images, there are too few for a first interval, or the metric or the sampling
            design has no interval that holds at every look.
    """
    require_supported_options(request)
    (request,) = split_by_extractor(request)  # that of the metric
    functions: dict[str, FeatureFunction] = {}
    opened: dict[str, Input] = {}
    for name, data in models.items():
        with name_model(name, models):
            given = _make_generator(data, request, max_images)
            if isinstance(given, FeatureFunction):
                functions[name] = given
                given = given.peek()
            opened[name] = _open_model(given, request, has_units=name not in functions)
    request = replace(request, generated=next(iter(opened.values())), num_images=None)
    inputs = open_inputs(request, keep_all=True)
    request = follow_statistics(request, inputs)
    require_supported_designs(request, list(opened.values()), inputs["reference"])
    collector = plan_collection(request, inputs, 0)
    sizes = {name: _count_images(each, collector, functions.get(name)) for name, each in opened.items()}
    looks = _plan_looks(sizes, _count_dims(collector, inputs["generated"]), max_images)
    reference = collector.collect("reference", inputs["reference"])
    for name, each in opened.items():
        if isinstance(each, FeatureStatistics):
            with name_model(name, models):
                resolve_spec(each, reference["features"])
    samples = {
        name: _make_sample(
            collector,
            each,
            looks,
            name,
            "generated" if len(models) == 1 else _name_folder(name),
            functions.get(name),
        )
        for name, each in opened.items()
    }
    return GrowingSamples(collector, samples, looks, reference, request.reference_is or "fixed", sizes)


@contextmanager
def name_model(name: str, models: Collection[str]) -> Iterator[None]:
    """Put the name of a model before the message of an error, if there are several models."""
    try:
        yield
    except FrechetError as error:
        if len(models) > 1:
            error.args = (f"model {name!r}: {error}", *error.args[1:])
        raise


def _make_generator(
    data: ReferenceLike, request: ScoreRequest, max_images: int | None
) -> ReferenceLike | FeatureFunction:
    """Return a function as a source of at most `max_images` images or features, and other data unchanged."""
    if not is_image_generator(data):
        return data
    if max_images is None:
        raise RequestError(
            "the generated images are a function, and the largest number of images to generate is not set; pass max_images="
        )
    return FeatureFunction(data, max_images) if request.features else GeneratorSource(data, max_images)


def _open_model(data: ReferenceLike, request: ScoreRequest, *, has_units: bool) -> Input:
    return open_input(
        data,
        request.settings,
        features=request.features,
        keep_all=True,
        units=get_feature_units(request, "generated") if has_units else None,
        progress=request.progress,
    )


def _plan_looks(sizes: Mapping[str, int], dims: int, max_images: int | None) -> tuple[int, ...]:
    """Return the numbers of images at which the samples are looked at.

    Raises:
        TooFewImagesError: there are fewer than `max_images` images, or too few for a first interval.
    """
    smallest = min(sizes, key=lambda name: sizes[name])
    available = sizes[smallest]
    subject = f"model {smallest!r}" if len(sizes) > 1 else "the generated input"
    first = max(MIN_UNITS, MIN_IMAGES_PER_DIM * dims)
    required = f"the first interval requires {first:,} images ({MIN_IMAGES_PER_DIM} per feature dimension, and at least {MIN_UNITS})"
    if available < first and (max_images is None or available < max_images):
        raise TooFewImagesError(
            f"{required}; {subject} has {available:,}. Add images, or choose a layer with fewer features."
        )
    if max_images is None:
        max_images = available
    if max_images < first:
        raise TooFewImagesError(
            f"{required}; {name_option('max_images')} is {max_images:,}. Raise it, or choose a layer with fewer features."
        )
    if max_images > available:
        raise TooFewImagesError(
            f"{subject} has {available:,} images; {name_option('max_images')} is {max_images:,}, expected from {first:,} to "
            f"{available:,}. Pass a smaller number, or add images."
        )
    return plan_looks(first, max_images)


def _count_images(data: Input, collector: Collector, function: FeatureFunction | None) -> int:
    """Return the number of images of a model.

    Raises:
        RequestError: the model consists of statistics, which cannot give more images, or of another kind of data than the first.
    """
    if isinstance(data, ImageSource):
        if collector.extractor is None or collector.known.get("generated"):
            raise RequestError(
                f"{data.label} consists of images, and another model of features; pass the same kind for all models"
            )
        return len(data)
    if data.features is None:
        raise RequestError(
            f"{data.label} contains statistics without the features of every image, and a sample of these cannot grow; pass the "
            "images, or their features (--features, features=True)"
        )
    if not collector.known.get("generated"):
        raise RequestError(
            f"{data.label} consists of features, and another model of images; pass the same kind for all models"
        )
    return function.count if function else len(data.features)


def _count_dims(collector: Collector, model: Input) -> int:
    layer = collector.plan.requests[0].metric.layer
    if isinstance(model, FeatureStatistics):
        return model.dims
    assert collector.extractor is not None
    columns = collector.extractor.layer_slices[layer]
    return columns.stop - columns.start


def _name_folder(name: str) -> str:
    """Return a folder for a model that any file system accepts: readable, and made unique by a hash."""
    digest = hashlib.sha256(name.encode("utf-8", "backslashreplace")).hexdigest()
    return f"model-{re.sub(r'[^A-Za-z0-9-]+', '-', name)[:40]}-{digest[:8]}"


def _make_sample(
    collector: Collector,
    data: Input,
    looks: Sequence[int],
    name: str,
    folder: str,
    function: FeatureFunction | None,
) -> GrowingSample:
    request = collector.request
    if isinstance(data, FeatureStatistics):
        units = get_feature_units(request, "generated") if function else None
        if function and units and units.numbers is not None and len(units.numbers) != function.count:
            raise RequestError(
                f"clusters has {len(units.numbers):,} entries, and the function generates up to {function.count:,} images "
                "(max_images); expected one entry per image"
            )
        return GrowingFeatures(data, looks, request.seed, function, units)
    assert collector.extractor is not None  # loaded if there are images
    report = request.progress
    return GrowingImages(
        source=data,
        looks=looks,
        settings=request.settings_of("generated"),
        extractor=collector.extractor,
        folder=folder,
        units=resolve_units(request, {"generated": data})["generated"],
        progress=report and (lambda _, done, total: report(name, done, total)),
    )
