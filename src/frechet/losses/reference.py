"""What images in a training loop are measured against: looked at before any weights are loaded, or downloaded."""

from __future__ import annotations

import os
from numbers import Integral
from typing import Any

from frechet.errors import Mismatch, RequestError
from frechet.features.registry import EXTRACTORS, recipe_of
from frechet.features.spec import Recipe, require_equal
from frechet.statistics.feature_statistics import Statistics
from frechet.statistics.npz_format import read_statistics


def known_reference(
    reference: Any,
    *,
    extractor: str = "inception",
    dims: int | None = None,
    convention: str | None = None,
    precision: str = "float32",
    batch_size: int = 32,
    **_others: Any,
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
    require_count("batch_size", batch_size)
    expected = recipe_of(extractor, dims=dims, convention=convention, precision=precision)
    width = EXTRACTORS[extractor].taps[str(expected.layer)]
    if isinstance(reference, (str, os.PathLike)):
        reference = read_statistics(os.fspath(reference), width)
    if isinstance(reference, Statistics):
        require_fit(reference, expected, width)
    return reference


def require_count(name: str, value: Any, least: int = 1) -> None:
    """Refuse what is no whole number of at least so many images.

    Raises:
        RequestError: says so.
    """
    if not isinstance(value, Integral) or value < least:
        raise RequestError(f"{name} is {value!r}; expected a whole number of images, at least {least}")


def require_fit(reference: Statistics, recipe: Recipe, dims: int) -> None:
    """Refuse statistics of other features than those of this recipe, which have `dims` dimensions.

    Raises:
        Mismatch: says what differs.
    """
    same_extractor = reference.recipe.extractor in (None, recipe.extractor)
    if same_extractor and reference.dims != dims:
        raise Mismatch(
            f"the reference {reference.source} has {reference.dims} dimensions and the features of the images {dims}; "
            "choose the layer with dims=, or another reference"
        )
    require_equal(recipe, reference.recipe)
