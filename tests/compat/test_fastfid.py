"""torchvision's Inception as an extractor, and FastFID's function: their own numbers, and never by mistake."""

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
    """Of torchvision's own module: see data/README.md."""
    with np.load(DATA / "torchvision.npz") as archive:
        return dict(archive)


def batch(name, count):
    return torch.from_numpy(make_tiles(name, count)).permute(0, 3, 1, 2) / 255


@pytest.mark.parametrize("backend", ["openvino", "torch"])
@pytest.mark.parametrize(
    ("preprocessing", "dims", "key"),
    [("fastfid", 2048, "fastfid_2048"), (None, 2048, "plain_2048"), (None, 1000, "plain_logits")],
)
def test_features_are_torchvisions(torchvision_weights, golden, backend, preprocessing, dims, key):
    options = {"extractor": "inception-torchvision", "weights": torchvision_weights, "backend": backend}
    found = frechet.collect(photographs()[::3], dims=dims, preprocessing=preprocessing, **options)
    assert np.abs(found.features - golden[key]).max() <= 2e-5 * np.abs(golden[key]).max()


def exact(x, y):
    """d² by NumPy alone, in float64: the nuclear norm of one centred factor times the other."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    a, b = ((z - z.mean(0)) / (len(z) - 1) ** 0.5 for z in (x, y))
    gap = x.mean(0) - y.mean(0)
    return gap @ gap + (a**2).sum() + (b**2).sum() - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum()


@pytest.mark.parametrize("options", [{}, {"batch_size": 5}, {"batch_size": 3, "gradient_checkpointing": True}])
def test_fastfid_gives_fastfids_number(torchvision_weights, golden, options):
    expected = exact(golden["fastfid_tiles_a"], golden["fastfid_tiles_b"])
    found = fastfid(
        batch(ASTRONAUT, 8),
        batch(CHINA, 12),
        extractor="inception-torchvision",
        weights=str(torchvision_weights),
        **options,
    )
    assert float(found) == pytest.approx(expected, rel=1e-4)
    assert found.dtype == torch.float32


def test_by_default_fastfid_is_fid(weights):
    found = fastfid(batch(ASTRONAUT, 8), batch(CHINA, 12), weights=str(weights))
    expected = frechet.fid(list(make_tiles(ASTRONAUT, 8)), list(make_tiles(CHINA, 12)), weights=weights)
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


def test_gradients_reach_the_images_that_ask_and_nothing_global_is_touched(weights):
    one, other = batch(ASTRONAUT, 4).requires_grad_(), batch(CHINA, 3)
    before = torch.get_default_dtype(), torch.is_grad_enabled()
    whole = fastfid(one, other, weights=str(weights))
    whole.backward()
    assert float(one.grad.abs().max()) > 0
    assert other.grad is None
    gradient, one.grad = one.grad.clone(), None
    fastfid(one, other, batch_size=3, gradient_checkpointing=True, weights=str(weights)).backward()
    assert float((one.grad - gradient).norm() / gradient.norm()) < 1e-4
    assert (torch.get_default_dtype(), torch.is_grad_enabled()) == before


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"imagesB": batch(CHINA, 1), "weights": "nowhere.pth"}, TooFewImagesError, "got 1"),
        (
            {"imagesB": batch(CHINA, 3).numpy(), "weights": "nowhere.pth"},
            RequestError,
            "images are ndarray; expected a",
        ),
        ({"preprocess": False}, RequestError, r"\(64, 64\); with preprocess=False expected \(299, 299\)"),
        ({"batch_size": 0}, RequestError, "batch_size is 0"),
        ({"extractor": "vgg"}, RequestError, "no extractor 'vgg'"),
        ({"imagesB": batch(CHINA, 3) * 255}, RequestError, "range from"),
    ],
)
def test_fastfid_refuses(weights, change, error, words):
    call = {"imagesA": batch(ASTRONAUT, 4), "imagesB": batch(CHINA, 3), "weights": str(weights)} | change
    with pytest.raises(error, match=words):
        fastfid(**call)


def test_fastfid_keeps_its_network(weights):
    module._load_network.cache_clear()
    for _ in range(2):
        fastfid(batch(ASTRONAUT, 2), batch(CHINA, 2), weights=str(weights))
    assert module._load_network.cache_info().misses == 1


def test_one_networks_weights_are_refused_for_the_other(torchvision_weights, weights_with_head):
    with pytest.raises(WeightsError, match=r"scores 1000 classes, and pt_inception-2015-12-05-6726825d.pth 1008"):
        load_network("inception", weights=torchvision_weights)
    with pytest.raises(WeightsError, match=r"scores 1008 classes, and inception_v3_google-0cc3c7bd.pth 1000"):
        load_network("inception-torchvision", weights=weights_with_head)


def test_class_scores_need_torchvisions_bias(tmp_path):
    state = make_torchvision_state_dict(2015)
    del state["fc.bias"]
    path = write_pth(tmp_path / "nobias.pth", state)
    with pytest.raises(WeightsError, match=r"has no fc\.bias"):
        load_network("inception-torchvision", dims=1000, weights=path)


def test_its_distance_is_never_called_fid(torchvision_weights, folder):
    code, out, err = run(
        "score", folder, folder, "--extractor", "inception-torchvision", "--dims", 64, "--weights", torchvision_weights
    )
    assert code == 0, err
    assert out.startswith("FD-Inception-torchvision-64 (weights ")
