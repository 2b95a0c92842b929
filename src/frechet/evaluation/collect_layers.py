"""Collect the statistics that a plan needs, by input and layer: from images, and from what statistics files hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from frechet.errors import WeightsError
from frechet.evaluation.addresses import Input
from frechet.evaluation.inputs import (
    declare_extractor,
    open_reference_images,
    require_compatible,
    require_consistent_crops,
    require_consistent_options,
    require_no_image_options,
    require_same_extractor,
)
from frechet.evaluation.layers import LayerStatistics, as_layers, find_embedded_images, images_key, read_layers
from frechet.evaluation.plan import MetricPlan, plan_request
from frechet.evaluation.provenance import resolve_spec
from frechet.evaluation.request import ScoreRequest
from frechet.evaluation.sampling import resolve_units
from frechet.execution.chunks import Units
from frechet.execution.collect import ProgressCallback, collect_layer_statistics
from frechet.execution.settings import Settings
from frechet.features.extractor import LoadedExtractor
from frechet.features.registry import find_extractor
from frechet.images.image import ImageSource
from frechet.statistics.feature_statistics import FeatureStatistics


class CollectedLayers(NamedTuple):
    """What the scores of a plan are computed from.

    Attributes:
        plan: the metrics that can be computed.
        layers: statistics by input and layer.
        extractor: the extractor, if images were read.
    """

    plan: MetricPlan
    layers: Mapping[str, LayerStatistics]
    extractor: LoadedExtractor | None


def collect_layers(request: ScoreRequest, inputs: Mapping[str, Input], n_explained: int) -> CollectedLayers:
    """Plan the metrics and collect the statistics that they need.

    Args:
        request: what to compute.
        inputs: the opened inputs.
        n_explained: number of influential images to list.

    Raises:
        RequestError: no metric can be computed; the reason for the first one.
    """
    collector = plan_collection(request, inputs, n_explained)
    layers = {name: collector.collect(name, inputs[name]) for name in inputs}
    return CollectedLayers(collector.plan, layers, collector.extractor)


def plan_collection(request: ScoreRequest, inputs: Mapping[str, Input], n_explained: int) -> Collector:
    """Plan the metrics, and load the extractor if there are images; no image is read yet.

    Args:
        request, inputs, n_explained: as in `collect_layers`.

    Raises:
        RequestError: no metric can be computed; the reason for the first one.
    """
    settings = request.settings
    reference_images = open_reference_images(request, inputs.get("reference"))
    statistics = {name: each for name, each in inputs.items() if isinstance(each, FeatureStatistics)}
    require_consistent_crops(request, statistics)
    spec = settings.spec
    if len(statistics) == len(inputs):
        require_consistent_options(statistics, settings)
        statistics = {name: declare_extractor(each, settings) for name, each in statistics.items()}
        spec = resolve_spec(*statistics.values())
    plan = plan_request(request, spec, inputs, n_explained)
    known = {name: read_layers(each, plan.layers_of(name)) for name, each in statistics.items()}
    images = _find_images(plan, known, reference_images)
    plan = plan.restrict_to(known, images)
    extractor = None
    if all(isinstance(each, FeatureStatistics) for each in (*inputs.values(), *images.values())):
        require_no_image_options(settings)
    else:
        require_same_extractor(statistics, settings)
        plan, extractor = _load_extractor(plan, settings, request.progress)
        for name, data in statistics.items():
            require_compatible(data, name, extractor)
    units = resolve_units(request, inputs) if extractor else {}
    return Collector(plan, request, extractor, known, images, units)


def _find_images(
    plan: MetricPlan, known: Mapping[str, LayerStatistics], reference_images: Input | None
) -> dict[str, Input]:
    """Return the images (or features) that complete statistics of which a metric needs more than they hold."""
    found: dict[str, Input] = {}
    for name, layers in known.items():
        if plan.needs_images_of(name, layers):
            images = reference_images if name == "reference" else None
            images = images if images is not None else find_embedded_images(layers["features"])
            found |= {} if images is None else {name: images}
    return found


def _rename(layers: LayerStatistics) -> LayerStatistics:
    return {images_key(layer): statistics for layer, statistics in layers.items()}


def _load_extractor(
    plan: MetricPlan, settings: Settings, progress: ProgressCallback | None
) -> tuple[MetricPlan, LoadedExtractor]:
    """Load the extractor with the layers that the plan needs; if its weights lack a head, drop the metrics of that head."""
    extra_layers = [layer for layer in plan.layers if layer != "features"]
    try:
        return plan, settings.load(progress, extra_layers)
    except WeightsError as error:
        row = find_extractor(settings.extractor)
        heads = [layer for layer in extra_layers if row and layer in row.model.heads]
        if not heads:
            raise
        plan = plan.drop_layers(heads, error)
        return plan, settings.load(progress, [layer for layer in extra_layers if layer not in heads])


class Collector(NamedTuple):
    """How the inputs become statistics.

    Attributes:
        plan: the metrics that can be computed.
        request: what is computed.
        extractor: the extractor, if there are images.
        known: statistics by layer of the inputs that are statistics.
        images: images (or features) that complete statistics, by input.
        units: sampling units of the inputs that are images.
    """

    plan: MetricPlan
    request: ScoreRequest
    extractor: LoadedExtractor | None
    known: Mapping[str, LayerStatistics]
    images: Mapping[str, Input]
    units: Mapping[str, Units | None]

    def collect(self, name: str, given: Input) -> LayerStatistics:
        """Collect the statistics of an input by layer, and those of the images that complete it."""
        layers = self.known[name] if name in self.known else self._collect_images(name, given, self.units.get(name))
        if name not in self.images:
            return layers
        return {**layers, **_rename(self._collect_images(name, self.images[name], None))}

    def name_layers(self, collected: Mapping[str, FeatureStatistics]) -> LayerStatistics:
        """Return statistics by layer, those of the requested layer also under its name."""
        assert self.extractor is not None
        return {self.extractor.spec.layer or "features": collected["features"], **collected}

    def _collect_images(self, name: str, given: Input, units: Units | None) -> LayerStatistics:
        if not isinstance(given, ImageSource):
            return as_layers(given)
        assert self.extractor is not None  # loaded if there are images
        layer, keep = self.extractor.spec.layer or "features", self.plan.layers_of(name)
        collected = collect_layer_statistics(
            given,
            self.request.settings_of(name),
            self.extractor,
            self.request.progress,
            name,
            keep_all_by_layer={**keep, "features": keep["features"] or keep.get(layer, False)},
            units=units,
        )
        return self.name_layers(collected)
