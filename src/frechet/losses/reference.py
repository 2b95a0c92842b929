"""References of losses and training metrics, validated before any weights are loaded or downloaded."""

from __future__ import annotations

import os
from typing import Any

from frechet.errors import MismatchError, RequestError
from frechet.features.loading import resolve_extractor
from frechet.features.registry import EXTRACTORS
from frechet.features.spec import FeatureSpec, validate_same_spec
from frechet.losses.validation import validate_count
from frechet.protocols.references_address import read_address
from frechet.statistics.feature_statistics import FeatureStatistics


def load_reference(
    reference: Any,
    *,
    image_types: tuple[type, ...] = (),
    extractor: Any = "inception",
    dims: int | None = None,
    preprocessing: str | None = None,
    precision: str = "float32",
    batch_size: int = 32,
    **_unused: Any,
) -> Any:
    """Read the statistics of a reference, or return reference images unchanged.

    Args:
        reference: the path or URL of a statistics file, ref:NAME, `frechet.Statistics`, or images of one of `image_types`.
        image_types: array types that are accepted as reference images.
        extractor, dims, preprocessing, precision: settings of the features that the reference is compared with.
        batch_size: number of reference images per forward pass.
        **_unused: other options of the loss, which the reference does not depend on.

    Returns:
        `frechet.Statistics`, or the images.

    Raises:
        RequestError: a name is unknown, `batch_size` is not positive, the file cannot be read, or `reference` has
            another type.
        MismatchError: the statistics differ from the settings, as far as this is known without the weights.
    """
    validate_count("batch_size", batch_size)
    _, request = resolve_extractor(extractor, dims=dims, preprocessing=preprocessing, precision=precision)
    expected, n_dims = request.spec, next(iter(request.layers.values()), dims)
    if isinstance(reference, (str, os.PathLike)):
        reference = read_address(reference, n_dims)
    if isinstance(reference, FeatureStatistics):
        validate_reference(reference, expected, n_dims)
    elif not isinstance(reference, image_types):
        images = f", or images as {' or '.join(each.__name__ for each in image_types)}" if image_types else ""
        raise RequestError(
            f"the reference is a {type(reference).__name__}; expected the path of a statistics file, or frechet.Statistics "
            f"as returned by frechet.collect(images){images}"
        )
    return reference


def validate_reference(reference: FeatureStatistics, spec: FeatureSpec, dims: int | None) -> None:
    """Check that a reference was computed from the same features as the images.

    Args:
        reference: statistics of the reference images.
        spec: how the features of the images are made.
        dims: number of features d per image; None if it is not known yet.

    Raises:
        MismatchError: the number of dimensions, or a property of the features, differs.
    """
    same_extractor = reference.spec.extractor in (None, spec.extractor)
    if same_extractor and dims not in (None, reference.dims):
        raise MismatchError(
            f"the reference {reference.label} has {reference.dims:,} dimensions and the features of the images have {dims:,}; "
            f"pass dims={reference.dims}, or use another reference"
        )
    recorded = reference.spec.extractor
    if not same_extractor and recorded in EXTRACTORS:
        raise MismatchError(
            f"the reference, {reference.label}, was computed with extractor {recorded}, but the features of the images are those of "
            f"{spec.extractor}; pass extractor={recorded!r}, or another reference"
        )
    validate_same_spec(spec, reference.spec)
