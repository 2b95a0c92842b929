"""What images in a training loop are measured against: looked at before any weights are loaded, or downloaded."""

from __future__ import annotations

import os
from numbers import Integral
from typing import Any

from frechet.errors import MismatchError, RequestError
from frechet.features.registry import EXTRACTORS, build_spec
from frechet.features.spec import FeatureSpec, validate_same_spec
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.npz_format import read_statistics


def load_reference(
    reference: Any,
    *,
    extractor: str = "inception",
    dims: int | None = None,
    preprocessing: str | None = None,
    precision: str = "float32",
    batch_size: int = 32,
    **_unused: Any,
) -> Any:
    """The statistics of a file, or the reference as it was given.

    Args:
        reference: a path, `Statistics`, or anything else.
        extractor, dims, convention, precision: of the features that it will be compared with.
        batch_size: images of it that will run together.

    Raises:
        RequestError: an unknown name, no number of images, or a file that cannot be read.
        Mismatch: statistics of features that are made otherwise, as far as can be told without weights.
    """
    validate_count("batch_size", batch_size)
    expected = build_spec(extractor, dims=dims, preprocessing=preprocessing, precision=precision)
    n_dims = EXTRACTORS[extractor].layers[str(expected.layer)]
    if isinstance(reference, (str, os.PathLike)):
        reference = read_statistics(os.fspath(reference), n_dims)
    if isinstance(reference, FeatureStatistics):
        validate_reference(reference, expected, n_dims)
    return reference


def validate_count(name: str, value: Any, minimum: int = 1) -> None:
    """Refuse what is no whole number of at least so many images.

    Raises:
        RequestError: says so.
    """
    if not isinstance(value, Integral) or value < minimum:
        raise RequestError(f"{name} is {value!r}; expected a whole number of images, at least {minimum}")


def validate_reference(reference: FeatureStatistics, spec: FeatureSpec, dims: int) -> None:
    """Refuse statistics of other features than those of this recipe, which have `dims` dimensions.

    Raises:
        Mismatch: says what differs.
    """
    same_extractor = reference.spec.extractor in (None, spec.extractor)
    if same_extractor and reference.dims != dims:
        raise MismatchError(
            f"the reference {reference.label} has {reference.dims} dimensions and the features of the images {dims}; "
            "choose the layer with dims=, or another reference"
        )
    validate_same_spec(spec, reference.spec)
