"""The layers that the statistics of one input provide, and the images that their file holds in addition."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TypeAlias

from frechet.errors import SourceError
from frechet.images.image import ImageSource
from frechet.images.sources.npy import npz_keys
from frechet.images.sources.registry import open_source
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.foreign_formats import SPATIAL_DIMS
from frechet.statistics.inferred_spec import infer_spec
from frechet.statistics.npz_format import read_statistics

LayerStatistics: TypeAlias = Mapping[str, FeatureStatistics]
"""Statistics by layer; "features" is the requested one. `images_key(layer)` is that layer of images that complete a file."""

_SPATIAL = "spatial"


def images_key(layer: str) -> str:
    """Return the key of a layer's statistics of images that complete a statistics file."""
    return f"images/{layer}"


def as_layers(statistics: FeatureStatistics | LayerStatistics) -> LayerStatistics:
    """Return statistics by layer; statistics of a single layer are those of the requested one and of the layer they name."""
    if not isinstance(statistics, FeatureStatistics):
        return statistics
    layer = infer_spec(statistics).layer
    return {"features": statistics, **({layer: statistics} if layer else {})}


def read_layers(statistics: FeatureStatistics, needed: Collection[str]) -> LayerStatistics:
    """Return statistics by layer, with the spatial layer that ADM's files hold as well if it is needed.

    Args:
        statistics: what was read of the file, or is not from a file.
        needed: names of the layers that the metrics use.

    Raises:
        StatisticsError: the spatial statistics in the file are damaged.
    """
    layers = as_layers(statistics)
    path = statistics.path
    if _SPATIAL not in needed or _SPATIAL in layers or path is None or "mu_s" not in _list_arrays(statistics):
        return layers
    spatial = replace(
        read_statistics(path, SPATIAL_DIMS),
        n=statistics.n,
        spec=replace(statistics.spec, layer=_SPATIAL),
        label=statistics.label,
        url=statistics.url,
        sha256=statistics.sha256,
    )
    return {**layers, _SPATIAL: spatial}


def find_embedded_images(statistics: FeatureStatistics) -> ImageSource | None:
    """Return the images that the file of these statistics also holds, as ADM's reference batches do (key `arr_0`).

    It makes no difference whether the file was local or downloaded: `path` is where it is now.
    """
    path = statistics.path
    if path is None or statistics.features is not None or "arr_0" not in _list_arrays(statistics):
        return None
    with suppress(SourceError):  # an array of something other than images
        source = open_source(path)
        source.label = statistics.label
        return source
    return None


def _list_arrays(statistics: FeatureStatistics) -> list[str]:
    path = statistics.path
    return npz_keys(path) if path is not None and path.suffix.lower() == ".npz" else []


def explain_missing_layer(key: str, layer: str, known: FeatureStatistics) -> str:
    """Return why a metric of one layer cannot be computed from statistics of another one."""
    found = f"layer {known.spec.layer}" if known.spec.layer else f"{known.dims} features"
    return f"{key} needs the {layer} layer, but {known.label} contains statistics of {found} only; pass images instead"
