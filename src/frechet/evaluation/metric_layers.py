"""The layers whose statistics a metric uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from frechet.errors import RequestError
from frechet.evaluation.layers import LayerStatistics, explain_missing_layer, images_key
from frechet.evaluation.plan import MetricRequest
from frechet.metrics import Metric, MetricInputs
from frechet.statistics.feature_statistics import FeatureStatistics


class SharedMetricInputs:
    """What metrics compute from, prepared once for all metrics that use the same layers.

    Args:
        inputs: statistics by layer of "generated", and of "reference" and "held-out" if they are given.
        settings: those of all metrics.
        device: where to compute.
        seed: seed of what metrics draw; None for that of the generated images.
    """

    def __init__(
        self,
        inputs: Mapping[str, LayerStatistics],
        settings: tuple[Mapping[str, Any], ...],
        device: str,
        seed: int | None,
    ) -> None:
        self._inputs, self._settings, self._device, self._seed = inputs, settings, device, seed
        self._by_layers: dict[tuple[tuple[str, str], ...], MetricInputs] = {}

    @property
    def has_drawn(self) -> bool:
        """Whether any metric drew from its inputs."""
        return any(each.has_drawn for each in self._by_layers.values())

    def get(self, request: MetricRequest) -> MetricInputs:
        """Return what a metric computes from.

        Raises:
            RequestError: an input is statistics of another layer.
        """
        layers = tuple(self._select_layers(request))
        if layers not in self._by_layers:
            statistics = {name: _get_layer(self._inputs[name], layer, request.key) for name, layer in layers}
            self._by_layers[layers] = MetricInputs.from_statistics(statistics, self._device, self._settings, self._seed)
        return self._by_layers[layers]

    def iter_notes(self, request: MetricRequest) -> Iterator[str]:
        """Yield a note for each input of a metric that is the images which complete a statistics file."""
        for name, layer in self._select_layers(request):
            if layer == images_key(request.metric.layer):
                yield _describe_embedded_images(request.key, self._inputs[name], layer)

    def _select_layers(self, request: MetricRequest) -> Iterator[tuple[str, str]]:
        """Yield each input that a metric uses, and its layer."""
        for name, layers in self._inputs.items():
            if request.metric.uses(name):
                yield name, _select_layer(name, layers, request.metric)


def _select_layer(name: str, layers: LayerStatistics, metric: Metric) -> str:
    """Return the layer of one input that a metric uses: that of images if the statistics do not suffice."""
    in_file = layers.get(metric.layer)
    suffices = in_file is not None and not (in_file.features is None and metric.needs_all_features_of(name))
    of_images = images_key(metric.layer)
    return of_images if of_images in layers and not suffices else metric.layer


def _describe_embedded_images(key: str, layers: LayerStatistics, layer: str) -> str:
    """Return a note that a metric uses the images that complete a statistics file."""
    images, statistics = layers[layer], layers["features"]
    if images.label != statistics.label:
        return f"{key} uses the {images.n} images of {images.label}, and not the statistics in {statistics.label}"
    return f"{key} uses the {images.n} images stored in {images.label}; the statistics in that file may come from more images"


def _get_layer(layers: LayerStatistics, layer: str, key: str) -> FeatureStatistics:
    """Return the statistics that a metric uses.

    Raises:
        RequestError: the input is statistics of another layer.
    """
    if layer in layers:
        return layers[layer]
    raise RequestError(explain_missing_layer(key, layer, layers["features"]))
