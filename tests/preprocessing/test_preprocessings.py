"""The table of preprocessings, and how users extend it."""

from types import SimpleNamespace

import numpy as np
import pytest

import frechet
from frechet._internal import registry as registry_module
from frechet.errors import RequestError
from frechet.preprocessing import resize
from frechet.preprocessing.registry import (
    PREPROCESSINGS,
    Preprocessing,
    register_preprocessing,
    registered_preprocessings,
)
from frechet.preprocessing.value_range import validate_value_range

HALVED = Preprocessing(
    resize=resize.bilinear_half_pixel,
    resize_matrix=resize.half_pixel_matrix,
    scale=1 / 255,
    shift=-0.5,
    description="bilinear, x/255 - 1/2",
)


@pytest.fixture
def unchanged_table(monkeypatch):
    monkeypatch.setattr(PREPROCESSINGS, "_entries", dict(PREPROCESSINGS._entries))


def test_a_preprocessing_can_be_registered(unchanged_table):
    assert registered_preprocessings() == ()
    register_preprocessing("halved", HALVED)
    assert PREPROCESSINGS["halved"] is HALVED
    assert registered_preprocessings() == ("halved",)


@pytest.mark.slow
def test_every_extractor_accepts_a_registered_preprocessing(unchanged_table, folder):
    with pytest.raises(RequestError, match="halved"):
        frechet.collect(folder, extractor="efficientnet-lite0", preprocessing="halved")
    register_preprocessing("halved", HALVED)
    halved = frechet.collect(folder, extractor="efficientnet-lite0", preprocessing="halved")
    assert halved.spec.preprocessing == "halved"
    assert not np.allclose(halved.mean, frechet.collect(folder, extractor="efficientnet-lite0").mean)


@pytest.mark.parametrize(
    ("name", "preprocessing", "message"),
    [
        ("clean", HALVED, "the preprocessing 'clean' is already registered"),
        ("a b", HALVED, "'a b' is not a valid preprocessing name"),
        ("halved", "bilinear", "of type str; expected Preprocessing"),
    ],
)
def test_invalid_registrations_are_rejected(unchanged_table, name, preprocessing, message):
    with pytest.raises(RequestError, match=message):
        register_preprocessing(name, preprocessing)
    assert registered_preprocessings() == ()


def test_installed_packages_add_preprocessings_through_entry_points(unchanged_table, monkeypatch):
    plugin = SimpleNamespace(name="halved", value="package:HALVED", load=lambda: HALVED)
    monkeypatch.setattr(
        registry_module, "entry_points", lambda group: [plugin] if group == "frechet.preprocessings" else []
    )
    assert registered_preprocessings() == ("halved",)
    assert PREPROCESSINGS["halved"] is HALVED


EIGHT_BIT = {"imagenet", "imagenet-crop", "imagenet-middle", "beit", "clip", "clip-stretch", "quantised-bicubic"}


@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_the_resize_on_the_host_agrees_with_its_matrix(name):
    """On a square image, where a central crop changes nothing. Pillow resizes 8-bit images along rows first, and rounds."""
    preprocessing = PREPROCESSINGS[name]
    image = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    out = np.empty((224, 224, 3), np.float32)
    preprocessing.resize(image, out)
    matrix = preprocessing.resize_matrix(60, 224)
    assert matrix.shape == (224, 60)
    expected = np.einsum("jw,hwc->hjc", matrix, image)
    if name in EIGHT_BIT:
        expected = expected.round().clip(0, 255)
    expected = np.einsum("ih,hjc->ijc", matrix, expected)
    if preprocessing.is_clipped:
        expected = expected.clip(0, 255)
    # 8 bits: half a step for the last rounding, and one for a tie of the first, since Pillow's weights are fixed-point
    np.testing.assert_allclose(out, expected, rtol=0, atol=1.5 if name in EIGHT_BIT else 1e-3)


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ("pytorch-fid", (0.5,) * 3, (0.5,) * 3)],
)
def test_the_normalization_subtracts_the_mean_and_divides_by_the_standard_deviation(name, mean, std):
    x = np.array([0.0, 100.0, 255.0])
    scaled = x * PREPROCESSINGS[name].scale + PREPROCESSINGS[name].shift
    np.testing.assert_allclose(scaled, (x / 255 - mean) / std, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("value_range", [None, 1, (1, -1), (0, 0), (0, float("inf")), ("a", "b"), "01", (0, 1, 2)])
def test_invalid_value_ranges_are_rejected_with_the_value_and_an_example(value_range):
    with pytest.raises(RequestError, match=r"value_range is .*; expected \(black, white\).*\(-1, 1\)"):
        validate_value_range(value_range)


def test_a_value_range_is_a_pair_of_floats():
    assert validate_value_range([0, 255]) == (0.0, 255.0)
