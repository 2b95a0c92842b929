"""Where the parity kit is, and the numbers that other tools give on it."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from frechet.execution.collect import collect_layer_statistics
from frechet.execution.settings import Settings
from frechet.images.sources.registry import open_source

KIT = Path(os.environ.get("FRECHET_PARITY_KIT", Path(__file__).parents[3] / "shared" / "parity"))
needs_kit = pytest.mark.skipif(
    not KIT.is_dir(), reason="the parity kit is not here; its numbers are also in tests/data"
)

# golden.json of the parity kit: the exact Fréchet distances of pytorch-fid's and torch-fidelity's features
KIT_FID = {64: 0.03555892209929001, 192: 0.06883364936630088, 768: 0.05881718401975977, 2048: 0.2651389158686186}
KIT_SFID = 1.8999909225176541
KIT_SMALL = {"tensorflow": 0.266871576430594, "clean": 0.2513694397134909, "torchmetrics": 0.2638896585992132}
KIT_PHOTOS = {
    "pytorch-fid": 2.831489280838433,
    "tensorflow": 2.8628785692706984,
    "clean": 2.790152597021134,
    "torchmetrics": 2.6491670259513,
}


KIT_IS = (1.0016486413189825, 0.0006024524522316372)  # torch-fidelity, 10 splits, shuffled by 2020: mean, deviation
KIT_KID = (-0.00018401145935058593, 0.00047363115426285116)  # torch-fidelity, 50 subsets of 100, drawn by 2020
KIT_PRECISION_RECALL = (0.8359375, 0.8984375)  # torch-fidelity, k = 3
KIT_PRDC = {"precision": 0.921875, "recall": 0.953125, "density": 0.9625, "coverage": 0.97265625}  # prdc 0.2, k = 5

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
BACKENDS = ["openvino", pytest.param("torch", marks=needs_torch)]
LAYERS = ("64", "192", "768", "2048")  # pytorch-fid's four; the last one is the default
PEERS = {
    "pytorch-fid": "pytorch_fid",
    "tensorflow": "torch_fidelity",
    "clean": "clean_fid",
    "torchmetrics": "torchmetrics",
}


def assert_close(ours, theirs, name="features"):
    assert np.abs(ours - theirs).max() <= 2e-5 * np.abs(theirs).max(), f"{name} differ"


def collect_layers(*sources, extra_layers=(), **options):
    """Return {layer: statistics} of all LAYERS and `extra_layers` of each source, from one pass of the network."""
    settings = Settings(**options)
    extractor = settings.load(extra_layers=[*LAYERS[:-1], *extra_layers])
    keep_all = dict.fromkeys(["features", *extractor.extra_layers], True)
    sides = [
        collect_layer_statistics(open_source(source), settings, extractor, keep_all_by_layer=keep_all)
        for source in sources
    ]
    return [{"2048": side.pop("features"), **side} for side in sides]


def list_compared_layers(preprocessing):
    """Return the LAYERS whose features are known: TorchMetrics and clean-fid were run for the last one only."""
    return LAYERS if preprocessing in ("pytorch-fid", "tensorflow") else LAYERS[-1:]


def assert_layers_close(ours, golden, preprocessing, chosen=slice(None)):
    """Compare the statistics of all layers with the features that other tools give for the (chosen) photographs."""
    keys = {layer: f"{PEERS[preprocessing]}_{layer}" for layer in list_compared_layers(preprocessing)}
    if preprocessing == "tensorflow":
        keys |= {"logits": "torch_fidelity_logits_unbiased", "spatial": "adm_spatial"}
    for layer, key in keys.items():
        assert_close(ours[layer].rows, golden[key][chosen], key)
