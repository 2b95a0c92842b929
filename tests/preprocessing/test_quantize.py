"""Floating-point images to 8 bits, against the formulas of the papers' code."""

import numpy as np
import pytest

from frechet.errors import RequestError
from frechet.preprocessing.quantize import ROUNDINGS, scale_to_bytes, to_uint8

X = np.random.default_rng(0).uniform(-1, 1, 100_000).astype(np.float32)
TIES = (np.arange(255, dtype=np.float32) + 0.5) / np.float32(127.5) - 1


def test_truncate_is_the_code_of_the_papers():
    expected = np.clip(127.5 * X + np.float32(128), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(to_uint8(X, rounding="truncate"), expected)
    unit = (X + 1) / 2
    assert (to_uint8(unit, value_range=(0, 1), rounding="truncate") != expected).mean() < 1e-4  # float32 at ties


def test_round_is_half_to_even():
    expected = np.round((X.astype(np.float64) + 1) / 2 * 255).astype(np.uint8)
    assert (to_uint8(X) != expected).mean() < 1e-4
    np.testing.assert_array_equal(to_uint8(np.float32([0, 0.5, 1.5, 255]), value_range=(0, 255)), [0, 0, 2, 255])
    np.testing.assert_array_equal(
        to_uint8(np.float32([0, 0.5, 1.5, 255]), value_range=(0, 255), rounding="truncate"), [0, 1, 2, 255]
    )


def test_the_two_differ_at_ties_only():
    assert (to_uint8(X) != to_uint8(X, rounding="truncate")).mean() < 1e-4
    assert (to_uint8(TIES) != to_uint8(TIES, rounding="truncate")).mean() > 0.3


def test_pytorch_has_the_same_bits():
    torch = pytest.importorskip("torch")
    for rounding in ROUNDINGS:
        for values in (X, TIES):
            ours = scale_to_bytes(values, (-1.0, 1.0), rounding)
            theirs = scale_to_bytes(torch.from_numpy(values), (-1.0, 1.0), rounding)
            np.testing.assert_array_equal(theirs.numpy(), ours)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (np.zeros(3, np.uint8), {}, "uint8; expected floating point"),
        (np.float32([0, 2]), {}, "range from 0 to 2; expected -1 to 1"),
        (np.float32([0, np.nan]), {}, "expected -1 to 1"),
        (X, {"rounding": "floor"}, "unknown rounding 'floor'"),
        (X, {"value_range": (1, 0)}, "value_range"),
    ],
)
def test_bad_input_is_rejected(images, options, message):
    with pytest.raises(RequestError, match=message):
        to_uint8(images, **options)
