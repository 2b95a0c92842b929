"""How the features of statistics were computed, as far as their file does not record it, and the settings that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from frechet._internal.choices import list_choices
from frechet._internal.fields import name_option
from frechet.errors import MismatchError
from frechet.features.registry import EXTRACTORS, DefaultName, find_extractor
from frechet.features.spec import FeatureSpec, get_qualified_name
from frechet.statistics.feature_statistics import FeatureStatistics


def infer_spec(statistics: FeatureStatistics) -> FeatureSpec:
    """Return the spec of statistics; what they do not record is what the format of their file suggests."""
    return infer_layer(statistics.spec, statistics.assumed_extractor, statistics.dims)


def infer_layer(spec: FeatureSpec, assumed_extractor: str | None, dims: int) -> FeatureSpec:
    """Fill in the layer with `dims` features of the recorded extractor, or else of the assumed one if it has such a layer."""
    extractor = spec.extractor or assumed_extractor
    row = find_extractor(extractor)
    layers = [layer for layer, d in row.layers.items() if d == dims] if row else []
    return spec.fill_missing(FeatureSpec(extractor=extractor, layer=layers[0])) if layers else spec


def follow_specs(
    statistics: Sequence[FeatureStatistics], *, extractor: Any, dims: int | None, preprocessing: str | None
) -> dict[str, Any]:
    """Take the extractor, the layer and the preprocessing from statistics, as far as the caller names none.

    Args:
        statistics: what images are compared with.
        extractor: name or function; a `DefaultName` if the caller names none.
        dims: number of features, which selects the layer; None if the caller names none.
        preprocessing: None if the caller names none.

    Returns:
        The three settings by name.

    Raises:
        MismatchError: `dims` is not a layer of the extractor that is taken from the statistics.
    """
    recorded = reduce(FeatureSpec.fill_missing, (each.spec for each in statistics), FeatureSpec())
    spec = reduce(FeatureSpec.fill_missing, map(infer_spec, statistics), recorded)
    if isinstance(extractor, DefaultName) and spec.extractor is not None and spec.extractor in EXTRACTORS:
        _require_layer(dims, spec.extractor, statistics)
        extractor = spec.extractor
    name, row = get_qualified_name(extractor), find_extractor(extractor)
    if dims is None and spec.extractor == name and row and spec.layer in row.layers:
        dims = None if spec.layer == row.default_layer else row.layers[spec.layer]
    if preprocessing is None and recorded.extractor in (None, name):
        preprocessing = recorded.preprocessing
    return {"extractor": extractor, "dims": dims, "preprocessing": preprocessing}


def _require_layer(dims: int | None, extractor: str, statistics: Sequence[FeatureStatistics]) -> None:
    """Require that the extractor that was taken from statistics has a layer with so many features.

    Raises:
        MismatchError: names the statistics.
    """
    layers = EXTRACTORS[extractor].layers
    if dims is not None and dims not in layers.values():
        source = next(each for each in statistics if infer_spec(each).extractor == extractor)
        raise MismatchError(
            f"{name_option('dims')} is {dims}, but the extractor {extractor}, which is that of {source.label}, does not have such a layer; "
            f"{list_choices([*map(str, layers.values())])}. Leave it out, or pass --extractor (extractor=) and other statistics."
        )
