"""Losses with preprocessings that round to 8 bits: values against `frechet.score` and Pillow, gradients against the unrounded resize."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax_toy import MIX, TOY, toy_features
from PIL import Image

import frechet
from frechet.losses.torch import FIDLoss, ImageFeatures
from frechet.preprocessing.registry import PREPROCESSINGS

ROUNDED = sorted(name for name, row in PREPROCESSINGS.items() if row.is_rounded and not row.has_center_crop)


def draw_images(height, width, count=12, low=0, high=256):
    return np.random.default_rng(0).integers(low, high, (count, height, width, 3), np.uint8)


def as_tensor(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255


def quadrant_means(images):
    """Return the mean color of each quarter of the images."""
    return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


quadrant_means.input_size = 16


def flatten_pixels(images):
    return images.flatten(1)


flatten_pixels.input_size = 16


@pytest.mark.parametrize("name", ROUNDED)
@pytest.mark.parametrize("size", [8, 11, 37])
def test_pixels_equal_those_of_pillow(name, size):
    """Values halfway between two levels may be rounded to the other one; doubling, with weights k/128, has many of them."""
    preprocessing, images = PREPROCESSINGS[name], draw_images(size, size)
    out = np.empty((len(images), 16, 16, 3), np.float32)
    for image, each in zip(images, out, strict=True):
        preprocessing.resize(image, each)
    expected = (out * preprocessing.scale + preprocessing.shift).transpose(0, 3, 1, 2).reshape(len(images), -1)
    found = ImageFeatures(extractor=flatten_pixels, preprocessing=name).features(as_tensor(images)).numpy()
    levels = np.abs(found - expected).reshape(-1, 3, 256) / np.broadcast_to(preprocessing.scale, 3)[:, None]
    assert levels.max() < 2.01  # one level in each axis
    assert (levels > 0.01).mean() <= (0.05 if size == 8 else 1e-3)


def test_the_loss_equals_the_score():
    options = {"extractor": quadrant_means}
    images = draw_images(11, 11, count=40)
    reference = frechet.collect(list(np.random.default_rng(1).integers(0, 256, (40, 11, 11, 3), np.uint8)), **options)
    expected = float(frechet.fd(list(images), reference, **options))
    assert float(FIDLoss(reference, **options)(as_tensor(images))) == pytest.approx(expected, rel=1e-5)


def test_the_distance_of_the_reference_to_itself_is_zero():
    images = draw_images(11, 11, count=40)
    loss = FIDLoss(frechet.collect(list(images), extractor=quadrant_means), extractor=quadrant_means)
    assert abs(float(loss(as_tensor(images)))) < 1e-6 * loss.reference_covariance.trace()


@pytest.mark.slow
def test_the_gradient_is_that_without_rounding():
    """No value is close to 0 or 255, where both are clipped."""
    images, gradients = draw_images(8, 11, low=100, high=150), []
    for name in ("imagenet", "imagenet-float"):
        leaf = as_tensor(images).requires_grad_()
        features = ImageFeatures(extractor=quadrant_means, preprocessing=name).features(leaf)
        (features * torch.arange(features.numel()).view_as(features)).sum().backward()
        gradients.append(leaf.grad)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients)


@pytest.mark.slow
def test_networks_in_jax_round_as_pillow_does():
    network = replace(TOY, preprocessing=PREPROCESSINGS["imagenet"])
    images = draw_images(11, 11)
    resized = np.stack([np.asarray(Image.fromarray(each).resize((8, 8), Image.Resampling.BICUBIC)) for each in images])
    np.testing.assert_allclose(network(MIX, images), toy_features(resized), rtol=1e-4)
    unrounded = replace(TOY, preprocessing=PREPROCESSINGS["imagenet-float"])
    gray = jnp.asarray(draw_images(11, 11, low=100, high=150) / 255, jnp.float32)
    found, expected = (jax.grad(lambda x, each=each: each(MIX, x)[:, 1].sum())(gray) for each in (network, unrounded))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
