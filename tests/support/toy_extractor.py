"""An extractor in the form that every backend runs, small enough for unit tests: a 1x1 convolution and a mean."""

import numpy as np
import pytest
from PIL import Image
from seeded_weights import write_pth

from frechet.features.ops_model import OpsModel
from frechet.features.registry import EXTRACTORS, Extractor, register_extractor
from frechet.networks.weights_file import WeightsFile

KERNEL = np.random.default_rng(0).standard_normal((5, 3, 1, 1)).astype(np.float32)
BIAS = np.arange(5, dtype=np.float32)


def run_toy(ops, images, weights, layers):
    return ops.global_average_pool(ops.conv(ops.from_nhwc(images), *weights["mix"]))


TOY_EXTRACTOR = Extractor(
    title="Toy",
    model=OpsModel(
        function=run_toy,
        conv_layers=lambda: iter([("mix", "mix.weight", "")]),
        weights_file=WeightsFile(name="toy.pth", sha256="0"),
    ),
    layers={"5": 5},
    default_layer="5",
    input_size=8,
    preprocessings=("pytorch-fid", "clean"),
)


@pytest.fixture
def extractor_table(monkeypatch):
    """The table of extractors, restored after the test."""
    monkeypatch.setattr(EXTRACTORS, "_entries", dict(EXTRACTORS._entries))
    return EXTRACTORS


@pytest.fixture
def toy_options(extractor_table, tmp_path):
    """Register the extractor as "toy-name", and return the arguments of `frechet.score` that use it."""
    register_extractor("toy-name", TOY_EXTRACTOR)
    weights = write_pth(tmp_path / "toy.pth", {"mix.weight": KERNEL, "mix.bias": BIAS})
    return {"extractor": "toy-name", "weights": weights}


def compute_toy_features(folder):
    """Return the features of 8x8 images in float64, computed with NumPy."""
    images = np.stack([np.asarray(Image.open(path), np.float64) for path in sorted(folder.iterdir())])
    return (2 * images.mean((1, 2)) / 255 - 1) @ KERNEL[:, :, 0, 0].T.astype(np.float64) + BIAS
