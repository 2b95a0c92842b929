"""Networks without weights: projections of the pixels, with the layers that the metrics of Inception use, in small dimensions."""

from dataclasses import replace

import numpy as np
import pytest

from frechet.evaluation import layers as evaluation_layers
from frechet.execution.settings import Settings
from frechet.features.extractor import Layer, LoadedExtractor
from frechet.features.registry import EXTRACTORS, build_spec
from frechet.preprocessing.registry import PREPROCESSINGS
from frechet.statistics import foreign_formats

SIZE = 4
LAYERS = {"2048": 6, "spatial": 7, "logits": 5}
OTHER_DIMS = 9  # of every other extractor
_WEIGHTS = {"inception": "1" * 64}


def project(images, layer):
    """Return the features (n, d) of (n, SIZE, SIZE, 3) images in 0..255, float32."""
    pixels = images.reshape(len(images), -1).astype(np.float32) / 64
    kernel = np.random.default_rng(sum(map(ord, layer))).standard_normal(
        (pixels.shape[1], LAYERS.get(layer, OTHER_DIMS))
    )
    return (
        np.maximum(pixels @ kernel.astype(np.float32) / 4, -2)
        if layer == "2048"
        else pixels @ kernel.astype(np.float32) / 8
    )


class _Runner:
    batch_size = 32

    def __init__(self, layers):
        self.layers = layers

    def map(self, batches):
        for batch in batches:
            yield np.concatenate([project(batch, layer) for layer in self.layers], axis=1)


def _load(settings, _progress=None, extra_layers=()):
    name = settings.extractor
    spec = replace(
        build_spec(name, dims=settings.dims, preprocessing=settings.preprocessing),
        weights=_WEIGHTS.get(name, "2" * 64),
        is_official=True,
    )
    main = str(spec.layer)
    return LoadedExtractor(
        runner=_Runner([main, *extra_layers]),
        preprocessing=PREPROCESSINGS[spec.preprocessing],
        input_size=SIZE,
        dims=LAYERS.get(main, OTHER_DIMS),
        spec=spec,
        backend="fake",
        extra_layers={layer: Layer(LAYERS[layer], replace(spec, layer=layer)) for layer in extra_layers},
    )


@pytest.fixture
def fake_inception(monkeypatch):
    """Replace every extractor by a projection of the pixels; Inception has its layers 2048, spatial and logits."""
    monkeypatch.setattr(Settings, "load", _load)
    for name, row in list(EXTRACTORS._entries.items()):
        layers = LAYERS if name == "inception" else {str(OTHER_DIMS): OTHER_DIMS}
        small = replace(row, layers=layers, default_layer=next(iter(layers)), input_size=SIZE)
        monkeypatch.setitem(EXTRACTORS._entries, name, small)
    monkeypatch.setattr(foreign_formats, "SPATIAL_DIMS", LAYERS["spatial"])
    monkeypatch.setattr(evaluation_layers, "SPATIAL_DIMS", LAYERS["spatial"])
