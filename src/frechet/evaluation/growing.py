"""Samples that grow, opened and measured: what an evaluation that may stop at any time is made of."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from frechet.distances.interval import MIN_UNITS, DistanceEstimate
from frechet.distances.sequential import plan_looks
from frechet.errors import RequestError, TooFewImagesError
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
from frechet.execution.growing_sample import GrowingFeatures, GrowingImages, GrowingSample
from frechet.images.image import ImageSource
from frechet.images.sources.generator import GeneratorSource
from frechet.metrics.frechet import estimate_frechet
from frechet.results import Scores
from frechet.statistics.feature_statistics import FeatureStatistics

MIN_IMAGES_PER_DIM = 2  # at the first look
_FIX_MAX_IMAGES = "Pass --max-images N (max_images=)"


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
        layer = self.collector.plan.requests[0].metric.layer
        return estimate_frechet(layers[layer], self.reference[layer], self.reference_is)

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
    first, *others = (_make_generator(each, max_images) for each in models.values())
    request = replace(request, generated=first, num_images=None)
    inputs = open_inputs(request, keep_all=True)
    request = follow_statistics(request, inputs)
    opened = [inputs["generated"], *(_open_model(each, request) for each in others)]
    require_supported_designs(request, opened, inputs["reference"])
    collector = plan_collection(request, inputs, 0)
    looks = _plan_looks(collector, opened, max_images)
    reference = collector.collect("reference", inputs["reference"])
    for each in opened:
        if isinstance(each, FeatureStatistics):
            resolve_spec(each, reference["features"])
    samples = {
        name: _make_sample(collector, each, looks, name, "generated" if len(models) == 1 else _name_folder(name))
        for name, each in zip(models, opened, strict=True)
    }
    sizes = {name: _count_images(each, collector)[0] for name, each in zip(models, opened, strict=True)}
    return GrowingSamples(collector, samples, looks, reference, request.reference_is or "fixed", sizes)


def _make_generator(data: ReferenceLike, max_images: int | None) -> ReferenceLike:
    """Return a function as a source of at most `max_images` images, and other data unchanged."""
    if not is_image_generator(data):
        return data
    if max_images is None:
        raise RequestError(
            "the generated images are a function, and the largest number of images to generate is not set; pass max_images="
        )
    return GeneratorSource(data, max_images)


def _open_model(data: ReferenceLike, request: ScoreRequest) -> Input:
    return open_input(
        data,
        request.settings,
        features=request.features,
        keep_all=True,
        units=get_feature_units(request, "generated"),
        progress=request.progress,
    )


def _plan_looks(collector: Collector, opened: Sequence[Input], max_images: int | None) -> tuple[int, ...]:
    """Return the numbers of images at which the samples are looked at.

    Raises:
        RequestError: a model consists of statistics, which cannot give more images.
        TooFewImagesError: there are fewer than `max_images` images, or too few for a first interval.
    """
    available = min((_count_images(each, collector) for each in opened), key=lambda each: each[0])
    largest = available[0] if max_images is None else max_images
    if largest > available[0]:
        raise TooFewImagesError(
            f"{available[1]} has {available[0]:,} images; max_images is {largest:,}, expected at most {available[0]:,}. "
            f"{_FIX_MAX_IMAGES} with a smaller number, or add images."
        )
    first = max(MIN_UNITS, MIN_IMAGES_PER_DIM * _count_dims(collector, opened[0]))
    if largest < first:
        raise TooFewImagesError(
            f"the first interval requires {first:,} images ({MIN_IMAGES_PER_DIM} per feature dimension, and at least {MIN_UNITS}); "
            + (
                f"got {largest:,}. Add images"
                if largest == available[0]
                else f"max_images is {largest:,}. Raise --max-images (max_images=)"
            )
            + ", or choose a layer with fewer features."
        )
    return plan_looks(first, largest)


def _count_images(data: Input, collector: Collector) -> tuple[int, str]:
    """Return the number of images of a model, and its label."""
    if isinstance(data, ImageSource):
        if collector.extractor is None or collector.known.get("generated"):
            raise RequestError(
                f"{data.label} consists of images, and another model of features; pass the same kind for all models"
            )
        return len(data), data.label
    if data.features is None:
        raise RequestError(
            f"{data.label} contains statistics without the features of every image, and a sample of these cannot grow; pass the "
            "images, or their features (--features, features=True)"
        )
    if not collector.known.get("generated"):
        raise RequestError(
            f"{data.label} consists of features, and another model of images; pass the same kind for all models"
        )
    return len(data.features), data.label


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


def _make_sample(collector: Collector, data: Input, looks: Sequence[int], name: str, folder: str) -> GrowingSample:
    request = collector.request
    if isinstance(data, FeatureStatistics):
        return GrowingFeatures(data, looks, request.seed)
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
