"""The Inception network of torchvision as an extractor, and the function of FastFID."""

import functools
import warnings

import numpy as np
import pytest
import torch
from golden_images import make_tiles, photographs
from helpers import DATA, run
from seeded_weights import make_torchvision_state_dict, write_pth

import frechet
from frechet.compat import fastfid as module
from frechet.compat.fastfid import fastfid
from frechet.errors import RequestError, TooFewImagesError, WeightsError
from frechet.features.loading import load_network

pytestmark = pytest.mark.slow

ASTRONAUT, CHINA = "skimage/data/astronaut.png", "sklearn/datasets/images/china.jpg"


@pytest.fixture(scope="module")
def torchvision_weights(tmp_path_factory):
    return write_pth(tmp_path_factory.mktemp("weights") / "torchvision.pth", make_torchvision_state_dict(2015))


@pytest.fixture(scope="module")
def golden():
    """Return features computed by the module of torchvision itself, see data/README.md."""
    with np.load(DATA / "torchvision.npz") as archive:
        return dict(archive)


def batch(name, count):
    return torch.from_numpy(make_tiles(name, count)).permute(0, 3, 1, 2) / 255


@pytest.mark.parametrize("backend", ["openvino", "torch"])
@pytest.mark.parametrize(
    ("preprocessing", "dims", "key"),
    [("fastfid", 2048, "fastfid_2048"), (None, 2048, "plain_2048"), (None, 1000, "plain_logits")],
)
def test_features_equal_those_of_torchvision(torchvision_weights, golden, backend, preprocessing, dims, key):
    options = {"extractor": "inception-torchvision", "weights": torchvision_weights, "backend": backend}
    found = frechet.collect(photographs()[::3], dims=dims, preprocessing=preprocessing, **options)
    assert np.abs(found.features - golden[key]).max() <= 2e-5 * np.abs(golden[key]).max()


def frechet_distance_by_svd(x, y):
    """Compute the squared distance in NumPy, float64, from the nuclear norm of the product of centred factors."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    a, b = ((z - z.mean(0)) / (len(z) - 1) ** 0.5 for z in (x, y))
    mean_difference = x.mean(0) - y.mean(0)
    return (
        mean_difference @ mean_difference
        + (a**2).sum()
        + (b**2).sum()
        - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum()
    )


@pytest.mark.parametrize("options", [{}, {"batch_size": 5}, {"batch_size": 3, "gradient_checkpointing": True}])
def test_fastfid_with_torchvision_weights_equals_the_exact_distance_of_its_features(
    torchvision_weights, golden, options
):
    expected = frechet_distance_by_svd(golden["fastfid_tiles_a"], golden["fastfid_tiles_b"])
    found = fastfid(
        batch(ASTRONAUT, 8),
        batch(CHINA, 12),
        extractor="inception-torchvision",
        weights=str(torchvision_weights),
        **options,
    )
    assert float(found) == pytest.approx(expected, rel=1e-4)
    assert found.dtype == torch.float32


def test_fastfid_equals_fid_by_default(weights):
    found = fastfid(batch(ASTRONAUT, 3), batch(CHINA, 4), weights=str(weights))
    expected = frechet.fid(list(make_tiles(ASTRONAUT, 3)), list(make_tiles(CHINA, 4)), weights=weights)
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


def test_gradients_reach_images_that_require_them_and_global_state_is_unchanged(weights):
    one, other = batch(ASTRONAUT, 3).requires_grad_(), batch(CHINA, 2)
    before = torch.get_default_dtype(), torch.is_grad_enabled()
    whole = fastfid(one, other, weights=str(weights))
    whole.backward()
    assert float(one.grad.abs().max()) > 0
    assert other.grad is None
    gradient, one.grad = one.grad.clone(), None
    fastfid(one, other, batch_size=2, gradient_checkpointing=True, weights=str(weights)).backward()
    assert float((one.grad - gradient).norm() / gradient.norm()) < 1e-4
    assert (torch.get_default_dtype(), torch.is_grad_enabled()) == before


def test_the_minimal_example_of_fastfid_runs_although_its_images_leave_the_range(weights, monkeypatch):
    """The code of its README, with fewer steps and a higher learning rate; nothing is clamped."""
    # the network of this process may have seen other images
    monkeypatch.setattr(module, "_load_network", functools.lru_cache(module._load_network.__wrapped__))
    monkeypatch.setenv("FRECHET_WEIGHTS", str(weights))
    images = batch(ASTRONAUT, 6)
    noise = torch.rand(images[:2].shape, generator=torch.Generator().manual_seed(0))
    first = float(fastfid(images[:2], noise, gradient_checkpointing=True))
    noise = noise.requires_grad_(True)
    adam = torch.optim.Adam([noise], 0.05)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for i in range(3):
            adam.zero_grad()
            fid = fastfid(noise, images[i * 2 : (i + 1) * 2], gradient_checkpointing=True)
            fid.backward()
            adam.step()
    assert sum("expected 0 to 1" in str(each.message) for each in caught) == 1
    assert float(noise.detach().min()) < -0.05
    assert (noise.grad[noise < 0] != 0).all()
    assert float(fastfid(noise.detach(), images[:2], gradient_checkpointing=True)) < first


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"imagesB": batch(CHINA, 1), "weights": "nowhere.pth"}, TooFewImagesError, "got 1"),
        (
            {"imagesB": batch(CHINA, 3).numpy(), "weights": "nowhere.pth"},
            RequestError,
            "images are ndarray; expected a",
        ),
        ({"preprocess": False}, RequestError, r"\(64, 64\); with preprocess=False expected \(299, 299\)"),
        ({"batch_size": 0}, RequestError, r"batch_size is 0"),
        ({"extractor": "vgg"}, RequestError, "'vgg'.*inception-torchvision"),
        ({"imagesB": batch(CHINA, 3) * 255}, RequestError, "range from"),
    ],
)
def test_invalid_arguments_are_rejected(weights, change, error, message):
    call = {"imagesA": batch(ASTRONAUT, 4), "imagesB": batch(CHINA, 3), "weights": str(weights)} | change
    with pytest.raises(error, match=message):
        fastfid(**call)


def test_fastfid_caches_its_network(weights):
    module._load_network.cache_clear()
    for _ in range(2):
        fastfid(batch(ASTRONAUT, 2), batch(CHINA, 2), weights=str(weights))
    assert module._load_network.cache_info().misses == 1


def test_weights_of_the_other_network_are_rejected(torchvision_weights, weights_with_head):
    with pytest.raises(WeightsError, match=r"1000 classes, .* 1008: .*inception-torchvision"):
        load_network("inception", weights=torchvision_weights)
    with pytest.raises(WeightsError, match=r"1008 classes, .* 1000: .*extractor inception"):
        load_network("inception-torchvision", weights=weights_with_head)


def test_weights_without_the_bias_of_the_classifier_are_rejected(tmp_path):
    state = make_torchvision_state_dict(2015)
    del state["fc.bias"]
    path = write_pth(tmp_path / "nobias.pth", state)
    with pytest.raises(WeightsError, match=r"nobias.pth .*fc\.bias"):
        load_network("inception-torchvision", dims=1000, weights=path)


def test_the_distance_with_torchvision_weights_is_not_labelled_fid(torchvision_weights, folder):
    code, out, err = run(
        "score", folder, folder, "--extractor", "inception-torchvision", "--dims", 64, "--weights", torchvision_weights
    )
    assert code == 0, err
    assert out.splitlines()[1].startswith("FD-Inception-torchvision-64 ")
    assert "not the official ones" in out
