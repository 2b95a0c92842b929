"""What a diagnosis varies: the inputs are opened, and the values of each axis that apply to them are listed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from frechet._internal.fields import name_option
from frechet.errors import ImageDecodeError, RequestError
from frechet.evaluation.diagnosis.axes import Axes, Combination, list_crops, list_subsets
from frechet.evaluation.diagnosis.float_images import ROUNDING_RULES, FloatImages, open_float_images
from frechet.evaluation.diagnosis.request import DiagnoseRequest
from frechet.evaluation.inputs import follow_statistics, open_input, require_same_extractor
from frechet.evaluation.layers import find_embedded_images, read_layers
from frechet.evaluation.plan import MetricPlan, MetricRequest, group_by_extractor, plan_metrics, uses_input
from frechet.execution.settings import Settings
from frechet.features.registry import find_extractor
from frechet.images.decode import decode
from frechet.images.image import ImageSource
from frechet.metrics.frechet import compute_frechet, compute_rfid
from frechet.preprocessing.crop import Crop
from frechet.preprocessing.registry import PREPROCESSINGS, registered_preprocessings
from frechet.statistics.feature_statistics import FeatureStatistics

Reference: TypeAlias = ImageSource | FeatureStatistics | None


@dataclass(frozen=True, kw_only=True)
class Task:
    """A diagnosis that is ready to run.

    Attributes:
        settings: how images become features, apart from what is varied.
        metric: the metric.
        generated: the generated images.
        reference: reference images, statistics of the metric's layer, or None if the metric uses no reference.
        axes: what is varied.
        baseline: the combination that was requested.
        not_varied: what is not varied, and why.
    """

    settings: Settings
    metric: MetricRequest
    generated: ImageSource
    reference: Reference
    axes: Axes
    baseline: Combination
    not_varied: tuple[str, ...]

    @property
    def extra_layers(self) -> tuple[str, ...]:
        """The layers that the network must return besides the main one."""
        layer = self.metric.metric.layer
        return () if layer == "features" else (layer,)


def open_task(request: DiagnoseRequest) -> Task:
    """Open the inputs of a request, and list what can be varied.

    Raises:
        RequestError: the generated images are statistics, or the metric cannot be computed.
    """
    settings, opened = _open_reference(request, _resolve_settings(request))
    plan = plan_metrics(
        [request.metric] if request.metric else None, settings.spec, has_reference=request.reference is not None
    )
    metric = plan.requests[0]
    if request.quick and metric.metric.compute is not compute_frechet:
        raise RequestError(
            f"{name_option('quick')} applies to Fréchet distances, whose bias on a subset is known, but the metric is {metric.key}; leave it out"
        )
    generated = _open_generated(request)
    reference = _select_reference(opened, settings, plan)
    axes = _list_axes(request, settings, metric, generated, reference)
    return Task(
        settings=settings,
        metric=metric,
        generated=generated,
        reference=reference,
        axes=axes,
        baseline=_find_baseline(axes, settings.crop),
        not_varied=tuple(_list_what_is_fixed(axes, metric, generated, reference)),
    )


def _list_axes(
    request: DiagnoseRequest, settings: Settings, metric: MetricRequest, generated: ImageSource, reference: Reference
) -> Axes:
    """List the values of each axis that apply to the inputs."""
    size = request.size or _find_square_size(generated) or _find_square_size(reference)
    return Axes(
        preprocessings=_list_preprocessings(settings, reference),
        generated_crops=list_crops(size),
        reference_crops=list_crops(size if isinstance(reference, ImageSource) else None),
        roundings=list(ROUNDING_RULES) if isinstance(generated, FloatImages) else [None],
        subsets=list_subsets(
            len(generated),
            () if metric.metric.compute is compute_rfid else request.count_list,
            depends_on_order=metric.settings.get("shuffle") is False,
        ),
    )


def _find_baseline(axes: Axes, crop: str | None) -> Combination:
    """Return the combination of the first value of each axis, with the requested crop of images."""

    def find(crops: Sequence[Crop | None]) -> Crop | None:
        return next((each for each in crops if each is not None and each.name == crop), None)

    return Combination(
        preprocessing=axes.preprocessings[0],
        generated_crop=find(axes.generated_crops),
        reference_crop=find(axes.reference_crops),
        rounding=axes.roundings[0],
    )


def _resolve_settings(request: DiagnoseRequest) -> Settings:
    """Return the settings, with the extractor that the metric is named after if none was chosen."""
    extractor = next(iter(group_by_extractor([request.metric] if request.metric else None)))
    settings = request.settings
    return replace(settings, extractor=extractor) if extractor and settings.extractor == "inception" else settings


def _open_generated(request: DiagnoseRequest) -> ImageSource:
    data = request.generated
    if callable(data) and not hasattr(data, "__len__"):
        raise RequestError(
            "the generated images are a function, which returns other images than those of the claimed value; pass the images themselves"
        )
    opened = open_float_images(data, request.value_range) or open_input(
        data, request.settings, progress=request.progress
    )
    if isinstance(opened, FeatureStatistics):
        raise RequestError(
            f"{opened.label} contains statistics of the generated images, for which preprocessing, crop, rounding, order and number "
            "of images cannot be varied; pass the images themselves"
        )
    return opened


def _open_reference(request: DiagnoseRequest, settings: Settings) -> tuple[Settings, Reference]:
    """Open the reference if the metric uses it, and take the extractor and its layer from statistics unless others are requested."""
    if request.reference is None or not uses_input([request.metric] if request.metric else None, "reference"):
        return settings, None
    opened = open_input(request.reference, settings, progress=request.progress)
    followed = follow_statistics(settings, {"generated": None, "reference": opened})
    return replace(settings, extractor=followed.extractor, dims=followed.dims), opened


def _select_reference(opened: Reference, settings: Settings, plan: MetricPlan) -> Reference:
    """Return reference images, or the statistics that the metric uses."""
    if not isinstance(opened, FeatureStatistics):
        return opened
    require_same_extractor({"reference": opened}, settings)
    layer = plan.requests[0].metric.layer
    layers = read_layers(opened, {layer})
    if plan.needs_images_of("reference", layers) and (images := find_embedded_images(opened)):
        return images
    plan.restrict_to({"reference": layers})
    return layers[layer]


def _list_preprocessings(settings: Settings, reference: Reference) -> list[str]:
    """Return the preprocessings that apply; first the requested one, that of the reference statistics, or the default."""
    row = find_extractor(settings.extractor)
    names = [*row.preprocessings, *registered_preprocessings()] if row else list(PREPROCESSINGS)
    recorded = reference.spec.preprocessing if isinstance(reference, FeatureStatistics) else None
    default = names[0] if row else "imagenet"
    first = settings.preprocessing or (recorded if recorded in names else default)
    return [first, *(name for name in names if name != first)]


def _find_square_size(images: Reference) -> int | None:
    """Return the size of the first image if it is square."""
    if isinstance(images, FloatImages):
        shape = images.array.shape[1:3]
    elif isinstance(images, ImageSource):
        try:
            shape = decode(next(iter(images.iter_images([0])))).rgb.shape[:2]
        except ImageDecodeError:  # reported, or skipped, with all images
            return None
    else:
        return None
    return int(shape[0]) if shape[0] == shape[1] else None


def _list_what_is_fixed(
    axes: Axes, metric: MetricRequest, generated: ImageSource, reference: Reference
) -> Iterator[str]:
    """Yield what is not varied, and why."""
    if isinstance(reference, FeatureStatistics):
        yield f"the reference: {reference.label} contains statistics, so only the generated images are preprocessed in other ways"
    elif reference is not None:
        yield "the number of reference images: all of them are used"
    if len(axes.preprocessings) == 1:
        yield f"preprocessing: the extractor has only {axes.preprocessings[0]}"
    if len(axes.generated_crops) == 1:
        yield "crops: the images are not square, so no size is known; pass it to try crops (--size, size=)"
    if not isinstance(generated, FloatImages):
        yield "rounding: the generated images have 8 bits already"
    if metric.metric.compute is compute_rfid:
        yield "the number of images: they are pairs"
    elif all(count is None for _, count in axes.subsets):
        yield f"the number of generated images: there are {len(generated):,}; pass smaller ones (--counts, counts=)"
    if len(axes.subsets) == 1:
        yield f"order: {metric.key} of all images does not depend on it"
