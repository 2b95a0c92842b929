"""A network for JAX tests: the mean colour of an image, mixed by a fixed matrix."""

from contextlib import contextmanager

import jax
import numpy as np

import frechet.jax as fj
from frechet.features.spec import FeatureSpec
from frechet.preprocessing.registry import PREPROCESSINGS


@contextmanager
def x64(on):
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", on)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


TOY = fj.Network(
    run=lambda ops, images, params: ops.matmul(ops.global_average_pool(ops.from_nhwc(images)), params["mix"][0]),
    preprocessing=PREPROCESSINGS["pytorch-fid"],
    input_size=8,
    dims=3,
    spec=FeatureSpec(
        extractor="mean colour",
        layer="3",
        weights="0",
        is_official=False,
        preprocessing="pytorch-fid",
        precision="float32",
    ),
)
MIX = {"mix": (np.asarray([[1, 0.2, 0], [0, 1, 0.3], [0.1, 0, 1]], np.float32),)}


def noise(n, size=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), np.uint8)


def toy_features(images):
    """What TOY says of images that need no resize, in float64."""
    return images.reshape(len(images), -1, 3).astype(np.float64).mean(axis=1) @ MIX["mix"][0].astype(np.float64)
