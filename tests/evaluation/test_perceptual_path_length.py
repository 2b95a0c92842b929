"""Perceptual path length: linear generators have it in closed form."""

from dataclasses import replace

import numpy as np
import pytest
from toy import TOY

import frechet
from frechet.distances.latent_paths import slerp, trimmed_mean
from frechet.errors import RequestError, RunError, SourceError
from frechet.evaluation.perceptual_path_length import _FeatureDistance
from frechet.execution.settings import Settings
from frechet.preprocessing.registry import PREPROCESSINGS

N = 4000
TO_PIXELS = np.zeros((2, 48))
TO_PIXELS[0, 0], TO_PIXELS[1, 5] = 1, -1  # two of the six values that the toy extractor looks at
TO_PIXELS[:, 20:] = 3  # which it does not see
GREYS = 255 / 20  # in one unit of the generator's, whose range is (-10, 10)


def linear(latents):
    """(n, 2) -> (n, 4, 4, 3)."""
    return (latents.astype(float) @ TO_PIXELS).reshape(-1, 4, 4, 3).clip(-10, 10)


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setattr(Settings, "load", lambda *_: TOY)


def length(generator=linear, size=2, **options):
    return frechet.perceptual_path_length(
        generator, size, **{"num_samples": N, "value_range": (-10, 10), "batch_size": 500, **options}
    )


def test_lerp_through_a_linear_generator():
    """|z1 - z0|² of two dimensions is 4 Exp(1); by parts, its mean between the 1st and 99th percentiles."""
    ends = -np.log(0.99), -np.log(0.01)
    expected = GREYS**2 * 4 * ((ends[0] + 1) * 0.99 - (ends[1] + 1) * 0.01) / 0.98
    score = length(epsilon=1e-3)
    assert abs(score.value - expected) < 3 * score.standard_error
    assert score.standard_error == pytest.approx(expected / N**0.5, rel=0.1)  # of Exp(1), the deviation is the mean
    assert float(length(epsilon=1e-2)) == pytest.approx(float(score), rel=1e-3)  # a line has one speed
    assert float(length(epsilon=1e-3, seed=1)) != float(score)
    assert score.label == "PPL by features of toy, not LPIPS"
    assert score.lower_is_better


def test_slerp_between_unit_latents():
    """In the plane the angle is uniform up to pi, and the chord of a small step is epsilon times the angle."""
    expected = GREYS**2 * np.pi**2 * (0.99**3 - 0.01**3) / (3 * 0.98)
    score = length(epsilon=1e-3, interpolation="slerp_unit")
    assert abs(score.value - expected) < 3 * score.standard_error


def test_slerp_by_hand():
    a, b = np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 0.0]]), np.array([[0.0, 3.0], [2.0, 2.0], [1.0, 0.0]])
    half = np.array([[np.sqrt(0.5) * 2, np.sqrt(0.5) * 3], [1.5, 1.5], [0.5, 0.0]])  # 90°, one line, no direction
    np.testing.assert_allclose(slerp(a, b, 0.5), half, atol=1e-12)


def test_the_mean_is_trimmed():
    """Of 0 to 199 the 1st percentile is at 1.99 and the 99th at 197.01, so 1 to 198 stay, as torch-fidelity counts."""
    values = np.arange(200.0)
    values[199] = 1e9
    assert trimmed_mean(values, 1, 99).mean == 99.5


def test_latents_are_drawn_as_in_torch_fidelity():
    """RandomState: all first ends, then all second ones."""
    random = np.random.RandomState(7)
    first, second = random.randn(5, 3), random.randn(5, 3)
    seen = []

    def distance(one, other):
        seen.append((one, other))
        return ((one - other) ** 2).sum(1)

    score = length(lambda z: z, 3, num_samples=5, batch_size=2, seed=7, epsilon=0.5, distance=distance)
    one, other = (np.concatenate(side) for side in zip(*seen, strict=True))
    np.testing.assert_allclose(one, first, rtol=1e-6)
    np.testing.assert_allclose(other, (first + second) / 2, rtol=1e-5)
    assert score.value == pytest.approx(((first - second) ** 2).sum(1).mean(), rel=1e-5)  # so few keep their ends
    assert score.label.startswith("PPL by test_perceptual_path_length:")


def test_a_generator_may_use_its_memory_again():
    buffer = np.empty((500, 4, 4, 3))

    def refill(latents):
        buffer[:] = linear(latents)
        return buffer

    assert float(length(refill)) == float(length()) > 0


def test_images_of_another_size_and_eight_bits():
    def large(latents):
        return np.repeat(np.repeat(linear(latents), 3, axis=1), 3, axis=2)

    assert float(length(large, epsilon=0.1)) == pytest.approx(float(length(epsilon=0.1)), rel=1e-5)  # centres meet
    rounded = length(lambda z: (127.5 + linear(z) * 12.75).round().astype(np.uint8), num_samples=50)
    assert "rounding dominates the value" in rounded.warnings[0]
    assert not length(num_samples=50).warnings


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        ({"num_samples": 1}, RequestError, "num_samples is 1"),
        ({"size": 2.5}, RequestError, "latent_size is 2.5"),
        ({"epsilon": 0}, RequestError, "epsilon is 0"),
        (
            {"interpolation": "cubic"},
            RequestError,
            "unknown interpolation 'cubic'; choose from lerp, slerp_any, slerp_unit",
        ),
        ({"precision": "bfloat16"}, RequestError, "does not support precision; choose from extractor"),
        ({"generator": lambda z: np.zeros((len(z), 3, 4, 4))}, SourceError, r"float64 of shape \(500, 3, 4, 4\)"),
        ({"generator": lambda z: np.zeros((0, 4, 4, 3))}, SourceError, r"float64 of shape \(0, 4, 4, 3\)"),
        ({"value_range": (0, 1)}, RequestError, r"-10 to 10; expected 0 to 1.*value_range=\(low, high\)"),
        ({"value_range": (1, -1)}, RequestError, r"value_range is \(1, -1\); expected \(black, white\)"),
        ({"distance": lambda a, b: [1.0]}, RequestError, r"shape \(1,\) for 500 pairs"),
        ({"distance": lambda a, b: np.full(len(a), np.nan)}, RunError, "NaN or infinite"),
        ({"generator": lambda z: linear(z)[:1]}, RequestError, r"shape \(1,\) for 500 pairs"),
    ],
)
def test_invalid_arguments_are_rejected(wrong, error, match):
    with pytest.raises(error, match=match):
        length(**wrong)


def test_the_command_line_points_to_the_function():
    with pytest.raises(RequestError, match=r"frechet\.perceptual_path_length"):
        frechet.score_statistics(frechet.Statistics.from_features(np.eye(4, dtype=np.float32)), metrics=["ppl"])


@pytest.mark.parametrize("size", [(80, 60), (60, 80), (224, 224), (40, 40)])
@pytest.mark.parametrize("name", ["imagenet-float", "imagenet-middle", "clip", "clean"])
def test_resize_matrices_match_the_decoder(name, size):
    """On images that both can take: of whole numbers, of which only the central square counts where one does."""
    preprocessing = PREPROCESSINGS[name]
    smooth = np.add.outer(np.linspace(20, 120, size[0]), np.linspace(10, 110, size[1])).round().astype(np.uint8)
    image = np.stack([smooth, smooth[::-1], smooth[:, ::-1]], axis=2)
    expected = np.empty((224, 224, 3), np.float32)
    central = {(80, 60): np.s_[10:70], (60, 80): np.s_[:, 10:70]}.get(size, np.s_[:])
    squared = image[central] if preprocessing.has_center_crop else image
    preprocessing.resize(np.ascontiguousarray(squared), expected)
    measure = _FeatureDistance(replace(TOY, preprocessing=preprocessing, input_size=224), (0.0, 255.0))
    ours = measure._preprocess(image[None].astype(float))[0]
    np.testing.assert_allclose(ours, expected, atol=1.25)  # rounded to 8 bits twice, once before weights of 1.25 in all
    assert abs((ours - expected).mean((0, 1))).max() < 0.05  # a pixel's shift would be 0.3 at least
