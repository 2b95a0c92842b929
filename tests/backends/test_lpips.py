"""LPIPS with seeded networks, compared with torchmetrics; its weights are found, and never downloaded."""

import numpy as np
import pytest

import frechet
from frechet.errors import RequestError, WeightsError
from frechet.networks.lpips import NETWORKS, load_lpips_weights

torch = pytest.importorskip("torch")
torchmetrics_lpips = pytest.importorskip("torchmetrics.functional.image.lpips")
from torch.nn import Conv2d, MaxPool2d, ReLU  # noqa: E402


def make_features(name):
    """Return the layers that torchvision calls `features`, with seeded weights: Krizhevsky 2014; Simonyan & Zisserman 2014, D."""
    torch.manual_seed(7)
    if name == "alex":
        layers = [
            Conv2d(3, 64, 11, 4, 2),
            ReLU(),
            MaxPool2d(3, 2),
            Conv2d(64, 192, 5, padding=2),
            ReLU(),
            MaxPool2d(3, 2),
        ]
        for channels in ((192, 384), (384, 256), (256, 256)):
            layers += [Conv2d(*channels, 3, padding=1), ReLU()]
        return torch.nn.Sequential(*layers, MaxPool2d(3, 2))
    layers, before = [], 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        layers += [Conv2d(before, width, 3, padding=1), ReLU()] if width else [MaxPool2d(2, 2)]
        before = width or before
    return torch.nn.Sequential(*layers)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that puts a seeded network where its weights are searched for, and where torchmetrics takes it from."""

    def install(name):
        features = make_features(name)
        state = {f"features.{key}": value for key, value in features.state_dict().items()}
        torch.save(state, tmp_path / NETWORKS[name].file.name)
        monkeypatch.setenv("FRECHET_LPIPS_WEIGHTS", str(tmp_path))
        monkeypatch.setattr(torchmetrics_lpips, "_get_tv_model_features", lambda *_: features)

    return install


def make_pairs(count, size):
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (count, *size, 3), np.uint8)
    return np.clip(images + random.normal(0, 30, images.shape), 0, 255).astype(np.uint8), images


@pytest.mark.parametrize(
    ("name", "metric", "size", "count"),
    [("alex", "lpips", (33, 40), 200), pytest.param("vgg", "lpips@vgg", (32, 40), 20, marks=pytest.mark.slow)],
)
def test_pairs_have_the_values_of_torchmetrics(install, name, metric, size, count):
    install(name)
    generated, reference = make_pairs(count, size)
    one, other = (torch.from_numpy(x).permute(0, 3, 1, 2).double() / 255 for x in (generated, reference))
    theirs = torchmetrics_lpips._NoTrainLpips(net=name).double()
    expected = theirs(one, other, normalize=True).detach().numpy().reshape(-1)
    score = frechet.score(generated, reference, metrics=metric)[metric]
    assert score.value == pytest.approx(expected.mean(), abs=1e-6)
    assert score.standard_error == pytest.approx(expected.std(ddof=1) / count**0.5, rel=1e-5)
    for pair in score.worst_pairs:
        assert pair["value"] == pytest.approx(expected[pair["source_index"]], abs=1e-6)
    digest = score.provenance["weights"]
    assert score.label == f"LPIPS-{NETWORKS[name].title} (weights {digest[:8]}, not the official ones)"
    assert score.lower_is_better
    assert score.provenance["is_official"] is False


def test_equal_images_have_distance_zero_and_small_ones_are_rejected(install):
    install("alex")
    _, images = make_pairs(4, (31, 40))
    assert frechet.score(images, images, metrics="lpips")["lpips"].value == 0
    with pytest.raises(RequestError, match=r"at least 31 x 31 pixels; the shorter side of the smallest one has 30"):
        frechet.score(images[:, :30], images[:, :30], metrics="lpips")


def test_missing_weights_are_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.delenv("FRECHET_LPIPS_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("frechet.networks.weights_file.user_cache_dir", lambda name: tmp_path / name)
    monkeypatch.setattr("frechet.networks.weights.fetch_weights", lambda *_: pytest.fail("downloads"))
    with pytest.raises(WeightsError) as error:
        load_lpips_weights("alex")
    for part in (
        "alexnet-owt-7be5be79.pth",
        "https://download.pytorch.org",
        str(tmp_path / "weights"),
        "FRECHET_LPIPS_WEIGHTS",
    ):
        assert part in str(error.value)
    generated, reference = make_pairs(4, (40, 40))
    scores = frechet.score(generated, reference, metrics="psnr,lpips")
    assert list(scores) == ["psnr"]
    assert "alexnet" in scores.unavailable["lpips"]


def test_weights_of_another_network_are_rejected(install, tmp_path):
    install("alex")
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / NETWORKS["alex"].file.name)
    with pytest.raises(WeightsError, match="another network"):
        load_lpips_weights("alex")
