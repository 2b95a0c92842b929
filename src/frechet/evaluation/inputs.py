"""What a request compares: image sources and statistics, opened and checked before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from frechet._internal.fields import name_option
from frechet.errors import MismatchError, RequestError
from frechet.evaluation.addresses import Input, open_address, open_images
from frechet.evaluation.layers import find_embedded_images
from frechet.evaluation.request import ReferenceLike, ScoreRequest
from frechet.evaluation.sampling import get_feature_units
from frechet.execution.chunks import Units
from frechet.execution.collect import ProgressCallback
from frechet.execution.feature_function import FeatureFunction
from frechet.execution.settings import Settings
from frechet.features.extractor import LoadedExtractor
from frechet.features.registry import find_extractor, resolve_layer
from frechet.features.spec import FeatureSpec, get_qualified_name, validate_same_spec
from frechet.images.image import ImageSource
from frechet.images.sources.generator import GeneratorSource
from frechet.images.sources.memory import open_objects
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.foreign_formats import is_statistics_file
from frechet.statistics.inferred_spec import follow_specs, infer_spec
from frechet.statistics.npz_format import read_features, read_statistics

_Settings = TypeVar("_Settings", bound=Settings)


def open_inputs(request: ScoreRequest, *, keep_all: bool = False) -> dict[str, Input]:
    """Open the inputs of a request concurrently; statistics files are read.

    Args:
        request: what to open.
        keep_all: whether all rows are kept of inputs that are features.

    Returns:
        "generated", and "reference" and "held-out" if they are given.

    Raises:
        RequestError: an input cannot be read, is neither images nor statistics, or holds fewer than two images.
    """
    given = {"generated": request.generated, "reference": request.reference, "held-out": request.held_out}
    given = {name: data for name, data in given.items() if name == "generated" or data is not None}

    def open_one(name: str, data: ReferenceLike) -> Input:
        if name != "generated" and is_image_generator(data) and request.num_images is None:
            raise RequestError(
                f"the {name} images are a function, and the number of images to generate is not set; pass images, or statistics: "
                "frechet.collect(function, num_images=...)"
            )
        return open_input(
            data,
            request.settings,
            features=request.features,
            keep_all=keep_all,
            units=get_feature_units(request, name),
            progress=request.progress,
        )

    with ThreadPoolExecutor() as readers:
        inputs = dict(zip(given, readers.map(open_one, given, given.values()), strict=True))
    if "reference" in inputs:
        inputs["reference"] = _declare_reference(
            inputs["reference"], request.reference_preprocessing, request.reference_size
        )
    return inputs


def buffer_iterators(request: ScoreRequest) -> ScoreRequest:
    """Read inputs that are iterators into memory: an iterator yields its images once, and there are several runs."""
    if request.features:
        return request
    return _map_inputs(request, lambda data: open_objects(data) if isinstance(data, Iterator) else data)


def cache_generated_images(request: ScoreRequest) -> ScoreRequest:
    """Keep the images that a function makes, so that each extractor of a run gets the same ones."""

    def cache(data: Any) -> Any:
        if is_image_generator(data) and request.num_images is not None:
            return GeneratorSource(data, request.num_images, cache_images=True)
        return data

    return _map_inputs(request, cache)


def generate_features(request: ScoreRequest) -> ScoreRequest:
    """Replace functions that return features by all the features that are requested of them."""
    if not request.features or request.num_images is None or request.until is not None:
        return request
    count = request.num_images
    given = (request.generated, request.reference, request.reference_images, request.held_out)
    if not any(map(is_image_generator, given)):
        return request
    return replace(_map_inputs(request, lambda data: call_feature_function(data, count)), num_images=None)


def call_feature_function(data: Any, count: int) -> Any:
    """Return the features of a function, (count, d), and other data unchanged."""
    return FeatureFunction(data, count).take(count) if is_image_generator(data) else data


def _map_inputs(request: ScoreRequest, change: Callable[[Any], Any]) -> ScoreRequest:
    return replace(
        request,
        generated=change(request.generated),
        reference=change(request.reference),
        reference_images=change(request.reference_images),
        held_out=change(request.held_out),
    )


def is_image_generator(data: Any) -> TypeGuard[Callable[[int], Any]]:
    """Return whether an input is a function that returns as many images as it is asked for."""
    return callable(data) and not hasattr(data, "__len__")


def open_input(
    data: ReferenceLike,
    settings: Settings,
    *,
    features: bool = False,
    keep_all: bool = False,
    units: Units | None = None,
    progress: ProgressCallback | None = None,
) -> Input:
    """Open images, or read the statistics that were given instead.

    Args:
        data: what `ScoreRequest.generated` may be.
        settings: how images become features; their seed, layer and number of images matter here.
        features: whether an input other than statistics is (n, d) features.
        keep_all: whether all rows are kept of an input that is features.
        units: sampling units of an input that is features; None if each row is one by itself.
        progress: called while a file is downloaded.

    Raises:
        RequestError: the input cannot be read, is neither images nor statistics, or holds fewer than two images.
    """
    unit_options: dict[str, Any] = {"units": units.numbers, "grouped_by": units.kind} if units else {}

    def read(path: Path) -> FeatureStatistics:
        if features and not is_statistics_file(path):
            return read_features(path, settings.seed, keep_all=keep_all, **unit_options)
        return read_statistics(path, _resolve_dims(settings), keep_all=keep_all)

    if isinstance(data, (FeatureStatistics, ImageSource)):
        return data
    if isinstance(data, (str, os.PathLike)):
        opened = open_address(data, read, features=features, progress=progress)
        if isinstance(opened, ImageSource):
            return opened
        statistics = opened
    elif is_image_generator(data):
        if settings.num_images is None:
            raise RequestError(
                "the images are a function, and the number of images to generate is not set; pass num_images= or, as a reference, "
                "frechet.collect(function, num_images=...)"
            )
        return GeneratorSource(data, settings.num_images)
    elif features:
        statistics = FeatureStatistics.from_features(data, seed=settings.seed, keep_all=keep_all, **unit_options)
    else:
        return open_images(data)
    return _apply_settings(statistics, settings) if features and is_bare_features(statistics) else statistics


def _resolve_dims(settings: Settings) -> int | None:
    """Return the number of features that selects the statistics in a file with those of several extractors."""
    if settings.dims is not None or settings.extractor == "inception":
        return settings.dims
    row = find_extractor(settings.extractor)
    return row.dims if row else None


def open_reference_images(request: ScoreRequest, reference: Input | None, *, keep_all: bool = False) -> Input | None:
    """Open the images (or features) that complete the statistics of the reference; None if none are given.

    Raises:
        RequestError: the reference is not statistics, or these are statistics without the features of every image.
    """
    if request.reference_images is None or (reference is None and request.reference is not None):
        return None  # not given, or no metric uses the reference
    if not isinstance(reference, FeatureStatistics) or reference.features is not None:
        raise RequestError(
            f"{name_option('reference_images')} supplements a statistics file, but the reference "
            f"{'is missing' if reference is None else f'{reference.label} provides every image itself'}; leave it out"
        )
    found = open_input(
        request.reference_images,
        request.settings,
        features=request.features,
        keep_all=keep_all,
        progress=request.progress,
    )
    if isinstance(found, FeatureStatistics) and found.features is None:
        embedded = find_embedded_images(found)
        if embedded is None:
            raise RequestError(
                f"{name_option('reference_images')} is {found.label}, which contains statistics without images; expected images or features"
            )
        return embedded
    return found


def follow_statistics(settings: _Settings, inputs: Mapping[str, Input | None]) -> _Settings:
    """Take the extractor, the layer and the preprocessing from inputs that are statistics, as far as the settings name none.

    Raises:
        MismatchError: the layer that the settings name is not one of the extractor that is taken from statistics.
    """
    statistics = [each for each in inputs.values() if isinstance(each, FeatureStatistics)]
    if not statistics or len(statistics) == len(inputs):
        return settings
    return replace(
        settings,
        **follow_specs(
            statistics, extractor=settings.extractor, dims=settings.dims, preprocessing=settings.preprocessing
        ),
    )


def is_bare_features(data: FeatureStatistics) -> bool:
    """Return whether the input is an array or file of features that does not record how they were made."""
    return data.rows is not None and data.made_by is None


def _apply_settings(data: FeatureStatistics, settings: Settings) -> FeatureStatistics:
    """Record in bare features what the settings state explicitly about them."""
    explicit = settings.explicit_options()
    recorded = FeatureSpec(preprocessing=explicit.get("preprocessing"), precision=explicit.get("precision"))
    data = declare_extractor(data, settings)
    return replace(data, spec=data.spec.fill_missing(recorded))


def declare_extractor(data: FeatureStatistics, settings: Settings) -> FeatureStatistics:
    """Record the extractor and layer that the settings state explicitly in statistics that record none.

    Raises:
        MismatchError: no layer of this extractor has as many features as the statistics.
    """
    if data.spec.extractor is not None or not {"extractor", "layer"} & set(settings.explicit_options()):
        return data
    row = find_extractor(settings.extractor)
    if row and data.dims not in row.layers.values():
        raise MismatchError(
            f"{data.label}: {data.dims} features per image; expected {', '.join(map(str, row.layers.values()))} for "
            f"{settings.extractor}. Pass another extractor, or other features."
        )
    layer = resolve_layer(row, data.dims) if row else str(data.dims)
    declared = FeatureSpec(extractor=get_qualified_name(settings.extractor), layer=layer)
    return replace(data, spec=data.spec.fill_missing(declared))


def _declare_reference(data: Input, preprocessing: str | None, size: int | None) -> Input:
    """Complete statistics of the reference by what the caller states about them."""
    if preprocessing is None and size is None:
        return data
    if not isinstance(data, FeatureStatistics):
        raise RequestError(
            "--reference-preprocessing and --reference-size describe a statistics file, but the reference consists of images; use --preprocessing (preprocessing=) instead"
        )
    if preprocessing is not None:
        if data.spec.preprocessing not in (None, preprocessing):
            raise MismatchError(
                f"{data.label} was computed with preprocessing {data.spec.preprocessing}, but "
                f"{name_option('reference_preprocessing')} is {preprocessing}; leave it out, or pass the right file"
            )
        data = replace(data, spec=data.spec.fill_missing(FeatureSpec(preprocessing=preprocessing)))
    if size is not None:
        if size < 2:
            raise RequestError(
                f"{name_option('reference_size')} is {size}; expected at least 2, since a covariance needs two images"
            )
        if data.n not in (None, size):
            raise RequestError(
                f"{name_option('reference_size')} is {size}, but {data.label} records {data.n} images; leave it out, or pass the right file"
            )
        data = replace(data, n=int(size))
    return data


def require_no_image_options(settings: Settings) -> None:
    """Reject options about images, for inputs that are all statistics."""
    for name in ("num_images", "weights", "crop"):
        if (passed := getattr(settings, name)) is not None:
            raise RequestError(
                f"{name_option(name)} is {passed}, which applies to images, and all inputs are statistics or features; leave it "
                "out, or pass images"
            )


def require_consistent_options(inputs: Mapping[str, FeatureStatistics], settings: Settings) -> None:
    """Reject options that contradict statistics."""
    explicit_options = settings.explicit_options()
    for name, data in inputs.items():
        for what, value in explicit_options.items():
            recorded = getattr(infer_spec(data) if what == "layer" else data.spec, what)
            if recorded not in (None, value):
                raise MismatchError(
                    f"{name_option(what.replace('layer', 'dims'))} requests {what} {value}, but the {name} statistics {data.label} "
                    f"were computed with {what} {recorded}; leave it out, or pass other statistics"
                )


def require_consistent_crops(request: ScoreRequest, statistics: Mapping[str, FeatureStatistics]) -> None:
    """Reject a crop of statistics, unless they record that their images were cropped in this way.

    Raises:
        RequestError: a crop is requested of an input that is statistics.
        MismatchError: the statistics record another crop, or none.
    """
    for name, data in statistics.items():
        crop = request.settings_of(name).image_crop
        if crop is None or data.crop == str(crop):
            continue
        if data.crop is not None or data.sizes:
            raise MismatchError(
                f"the crop is {crop}, but the images of {data.label} had {data.crop or 'no crop'}; pass images or other "
                f"statistics, or a crop of the other input only (--generated-crop, --reference-crop)"
            )
        own = request.generated_crop if name == "generated" else request.reference_crop
        if own is not None:
            raise RequestError(
                f"{name_option(f'{name}_crop')} is {own}, but {data.label} contains statistics, whose images cannot be cropped; pass the images, or "
                "leave it out"
            )


def require_same_extractor(precomputed: Mapping[str, FeatureStatistics], settings: Settings) -> None:
    """Reject statistics of another extractor before its weights are searched for."""
    for data in precomputed.values():
        if data.spec.extractor not in (None, get_qualified_name(settings.extractor)):
            raise MismatchError(
                f"{data.label} was computed with {data.spec.extractor}, but this run uses {get_qualified_name(settings.extractor)}. "
                f"Pass --extractor {data.spec.extractor} (extractor=), or use other statistics."
            )


def require_compatible(data: FeatureStatistics, name: str, extractor: LoadedExtractor) -> None:
    """Reject statistics that cannot be compared with the features of this extractor, before any image is read."""
    if data.dims != extractor.dims:
        is_same = infer_spec(data).extractor == extractor.spec.extractor
        raise MismatchError(
            f"the {name} statistics {data.label} have {data.dims:,} dimensions; {extractor.spec.extractor} "
            f"at layer {extractor.spec.layer} has {extractor.dims:,} features. Pass "
            + (
                f"--dims {data.dims} (dims=)"
                if is_same
                else "the extractor and layer of the statistics (--extractor, --dims; extractor=, dims=)"
            )
            + ", or use other statistics."
        )
    inputs = (data.spec, extractor.spec)
    validate_same_spec(*(inputs if name == "generated" else inputs[::-1]))
