"""References of losses and training metrics, validated before any weights are loaded or downloaded."""

from __future__ import annotations

import os
from typing import Any

from frechet.errors import MismatchError, RequestError
from frechet.features.loading import resolve_extractor
from frechet.features.registry import DEFAULT_EXTRACTOR, EXTRACTORS, DefaultName, find_extractor
from frechet.features.spec import FeatureSpec, validate_same_spec
from frechet.losses.validation import validate_count
from frechet.protocols.references_address import read_address
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.inferred_spec import follow_specs, infer_spec

_FEATURE_OPTIONS = {"extractor": DEFAULT_EXTRACTOR, "dims": None, "preprocessing": None, "precision": "float32"}


def load_reference(
    reference: Any, *, image_types: tuple[type, ...] = (), batch_size: int = 32, **options: Any
) -> tuple[Any, dict[str, Any]]:
    """Read the statistics of a reference, or return reference images unchanged.

    Args:
        reference: the path or URL of a statistics file, ref:NAME, `frechet.Statistics`, or images of one of `image_types`.
        image_types: array types that are accepted as reference images.
        batch_size: number of reference images per forward pass.
        **options: the options of the loss. Of these, `extractor`, `dims`, `preprocessing` and `precision` are settings of the
            features that the reference is compared with.

    Returns:
        reference, options: `frechet.Statistics` or the images, and the options with the extractor, the layer and the
        preprocessing of the statistics, as far as none were passed.

    Raises:
        RequestError: a name is unknown, `batch_size` is not positive, the file cannot be read, or `reference` has
            another type.
        MismatchError: the statistics differ from the options, as far as this is known without the weights.
    """
    validate_count("batch_size", batch_size)
    chosen: dict[str, Any] = {name: options.get(name, default) for name, default in _FEATURE_OPTIONS.items()}
    if not isinstance(chosen["extractor"], DefaultName):
        resolve_extractor(**chosen)  # rejects unknown names before a reference is downloaded
    if isinstance(reference, (str, os.PathLike)):
        row = find_extractor(chosen["extractor"])
        reference = read_address(reference, row.dims if row and chosen["dims"] is None else chosen["dims"])
    if isinstance(reference, FeatureStatistics):
        followed = {name: chosen[name] for name in ("extractor", "dims", "preprocessing")}
        chosen |= follow_specs([reference], **followed)
    if isinstance(chosen["extractor"], DefaultName):
        chosen["extractor"] = str(chosen["extractor"])
    _, request = resolve_extractor(**chosen)
    if isinstance(reference, FeatureStatistics):
        validate_reference(reference, request.spec, next(iter(request.layers.values()), chosen["dims"]))
    elif not isinstance(reference, image_types):
        images = f", or images as {' or '.join(each.__name__ for each in image_types)}" if image_types else ""
        raise RequestError(
            f"the reference is a {type(reference).__name__}; expected the path of a statistics file, or frechet.Statistics "
            f"as returned by frechet.collect(images){images}"
        )
    return reference, options | chosen


def validate_reference(reference: FeatureStatistics, spec: FeatureSpec, dims: int | None) -> None:
    """Check that a reference was computed from the same features as the images.

    Args:
        reference: statistics of the reference images.
        spec: how the features of the images are made.
        dims: number of features d per image; None if it is not known yet.

    Raises:
        MismatchError: the number of dimensions, or a property of the features, differs.
    """
    recorded = infer_spec(reference)
    same_extractor = reference.spec.extractor in (None, spec.extractor)
    if same_extractor and dims is not None and dims != reference.dims:
        row = find_extractor(spec.extractor)
        has_layer = row is not None and reference.dims in row.layers.values()
        raise MismatchError(
            f"the images are compared by {_describe_layer(spec, dims)}, but the reference {reference.label} was computed "
            f"with {_describe_layer(recorded, reference.dims)}. "
            + (f"Set dims={reference.dims}, or pass another reference." if has_layer else "Pass another reference.")
        )
    if not same_extractor and reference.spec.extractor in EXTRACTORS:
        raise MismatchError(
            f"the reference, {reference.label}, was computed with extractor {recorded.extractor}, but the features of the images are "
            f"those of {spec.extractor}; pass extractor={recorded.extractor!r}, or another reference"
        )
    validate_same_spec(spec, reference.spec)


def _describe_layer(spec: FeatureSpec, dims: int) -> str:
    """Return the layer with its number of features, such as "layer spatial (2,023 features)"."""
    if spec.layer is None:
        return f"{dims:,} features per image"
    return f"layer {spec.layer}" + ("" if spec.layer == str(dims) else f" ({dims:,} features)")
