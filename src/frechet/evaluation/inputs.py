"""One side of a comparison: what is given for it, opened, and what of it cannot be compared, refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from frechet._internal.remote_files import is_url
from frechet.errors import MismatchError, RequestError, SourceError, TooFewImagesError
from frechet.evaluation.provenance import guess_spec
from frechet.execution.collect import ProgressCallback
from frechet.execution.settings import Settings
from frechet.features.encoders import get_qualified_name
from frechet.features.extractor import LoadedExtractor
from frechet.features.registry import find_extractor, resolve_layer
from frechet.features.spec import FeatureSpec, validate_same_spec
from frechet.images.decode import decode
from frechet.images.image import ImageSource
from frechet.images.sources.generator import GeneratorSource
from frechet.images.sources.memory import open_objects
from frechet.images.sources.npy import npz_keys
from frechet.images.sources.registry import open_source
from frechet.preprocessing.registry import PREPROCESSINGS
from frechet.statistics.download_cache import is_statistics_url, read_remote_statistics
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.foreign_formats import is_statistics_file
from frechet.statistics.npz_format import read_features, read_statistics


def open_inputs(
    opener: Callable[[Any], ImageSource | FeatureStatistics], generated: Any, reference: Any, held_out: Any
) -> dict[str, ImageSource | FeatureStatistics]:
    """The sides that are given, by name; statistics files are read at once."""
    passed = {"generated": generated, "reference": reference, "held-out": held_out}
    passed = {name: data for name, data in passed.items() if name == "generated" or data is not None}
    with ThreadPoolExecutor() as readers:
        return dict(zip(passed, readers.map(opener, passed.values()), strict=True))


def buffer_iterator(data: Any) -> Any:
    """A side as it was given, or what an iterator yields, which it does once, and runs may be several."""
    return open_objects(data) if isinstance(data, Iterator) else data


def make_repeatable(data: Any, settings: Settings) -> Any:
    """A side as it was given, or the images that a function makes, for all extractors of a run."""
    if _is_image_generator(data) and settings.num_images is not None:
        return GeneratorSource(data, settings.num_images, cache_images=True)
    return data


def _is_image_generator(data: Any) -> bool:
    return callable(data) and not hasattr(data, "__len__")


def open_input(
    data: Any,
    settings: Settings,
    *,
    features: bool = False,
    keep_all: bool = False,
    progress: ProgressCallback | None = None,
) -> ImageSource | FeatureStatistics:
    """Images to be measured, or the statistics that were given instead; `score` says what may be.

    Args:
        side, settings, features, progress: as there.
        keep_all: whether all rows are kept of features that are given.

    Raises:
        RequestError: it is neither, cannot be read, or holds fewer than two images.
    """

    def read(path: Path) -> FeatureStatistics:
        if features and not is_statistics_file(path):
            return read_features(path, settings.seed, keep_all=keep_all)
        return read_statistics(path, settings.dims, keep_all=keep_all)

    if isinstance(data, FeatureStatistics):
        return data
    is_path = isinstance(data, (str, os.PathLike))
    if is_statistics_url(data) or (features and is_url(data)):
        found = read_remote_statistics(data, read, progress)
    elif is_path and not is_url(data) and (features or is_statistics_file(Path(data))):
        found = read(Path(data))
    elif isinstance(data, GeneratorSource):
        return data
    elif _is_image_generator(data):
        if settings.num_images is None:
            raise RequestError("a function makes as many images as are wanted: say how many by num_images")
        return GeneratorSource(data, settings.num_images)
    elif features:
        found = FeatureStatistics.from_features(data, seed=settings.seed, keep_all=keep_all)
    else:
        return _open_images(data)
    return _apply_settings(found, settings) if features and is_bare_features(found) else found


def _open_images(data: Any) -> ImageSource:
    source = open_source(data)
    if len(source) < 2:
        for image_ref in source.iter_images(range(len(source))):
            decode(image_ref)  # in an archive that was cut short, that is what is wrong
        raise TooFewImagesError(f"{source.label} holds one image; a distribution needs at least two")
    return source


def is_bare_features(data: FeatureStatistics) -> bool:
    """Whether all that was given is rows, by nobody who says how they were made."""
    return data.rows is not None and data.made_by is None


def _apply_settings(data: FeatureStatistics, settings: Settings) -> FeatureStatistics:
    """Bare features, with what the settings say of them."""
    recorded = settings.explicit_options()
    if {"extractor", "layer"} & set(recorded):
        row = find_extractor(settings.extractor)
        if row and data.dims not in row.layers.values():
            raise MismatchError(
                f"{data.label} has {data.dims} features an image; {settings.extractor} gives "
                f"{', '.join(map(str, row.layers.values()))}"
            )
        recorded |= {
            "extractor": get_qualified_name(settings.extractor),
            "layer": resolve_layer(row, data.dims) if row else str(data.dims),
        }
    return replace(data, spec=data.spec.fill_missing(FeatureSpec(**recorded)))  # type: ignore[arg-type]


def declare_reference(
    data: ImageSource | FeatureStatistics, preprocessing: str | None, size: int | None
) -> ImageSource | FeatureStatistics:
    """The reference, with what its user says of it where it does not say itself."""
    if preprocessing is None and size is None:
        return data
    if not isinstance(data, FeatureStatistics):
        raise RequestError(
            "reference_preprocessing and reference_size are for statistics files; images follow convention"
        )
    if preprocessing is not None:
        if preprocessing not in PREPROCESSINGS:
            raise RequestError(f"no preprocessing {preprocessing!r}; there is {', '.join(PREPROCESSINGS)}")
        if data.spec.preprocessing not in (None, preprocessing):
            raise MismatchError(
                f"{data.label} says it was made with preprocessing {data.spec.preprocessing}, and the reference "
                f"preprocessing given is {preprocessing}; leave it out, or give the right file"
            )
        data = replace(data, spec=data.spec.fill_missing(FeatureSpec(preprocessing=preprocessing)))
    if size is not None:
        if size < 2:
            raise RequestError(f"reference_size is {size}; a covariance needs at least two images")
        if data.n not in (None, size):
            raise RequestError(
                f"reference_size {size} is given, but {data.label} says it was made from {data.n} images"
            )
        data = replace(data, n=int(size))
    return data


def find_embedded_images(data: FeatureStatistics) -> Iterator[ImageSource]:
    """The images that a file holds beside its statistics, as ADM's reference batches do."""
    path = data.path
    if (
        path is not None
        and data.features is None
        and path.suffix.lower() == ".npz"
        and is_statistics_file(path)
        and "arr_0" in npz_keys(path)
    ):
        with suppress(SourceError):  # an array of something else than images
            yield open_source(path)


def require_consistent_options(inputs: Mapping[str, FeatureStatistics], settings: Settings) -> None:
    """Refuse flags that say how images become features where all sides are features already, and say otherwise."""
    explicit_options = settings.explicit_options()
    for flag, passed in (("--num-images", settings.num_images), ("--weights", settings.weights)):
        if passed is not None:
            raise RequestError(
                f"{flag} {passed} is of images ({flag[2:].replace('-', '_')} in Python), and only statistics or features are "
                "given; leave it out, or give images"
            )
    for name, data in inputs.items():
        for what, value in explicit_options.items():
            recorded = getattr(data.spec, what) or (guess_spec(data.dims).layer if what == "layer" else None)
            if recorded not in (None, value):
                raise MismatchError(
                    f"{what} {value} is asked for, and the {name} statistics {data.label} have {recorded}"
                )


def require_same_extractor(precomputed: Mapping[str, FeatureStatistics], settings: Settings) -> None:
    """Refuse statistics of another extractor before its weights are looked for."""
    for data in precomputed.values():
        if data.spec.extractor not in (None, get_qualified_name(settings.extractor)):
            raise MismatchError(
                f"{data.label} was made with {data.spec.extractor}, and these images would be measured with "
                f"{get_qualified_name(settings.extractor)}; say --extractor {data.spec.extractor} (extractor=), or give other statistics"
            )


def require_compatible(data: FeatureStatistics, name: str, extractor: LoadedExtractor) -> None:
    """Refuse statistics that this extractor's features could never be compared with, before any image is read."""
    if data.dims != extractor.dims:
        raise MismatchError(
            f"the {name} statistics {data.label} have {data.dims} dimensions; {extractor.spec.extractor} "
            f"at layer {extractor.spec.layer} has {extractor.dims}. Choose the layer with --dims (dims=), or other statistics."
        )
    inputs = (data.spec, extractor.spec)
    validate_same_spec(*(inputs if name == "generated" else inputs[::-1]))
