"""VGG16 compared with the same network made of torch modules; narrow, because the full one has 0.5 GB of weights."""

import numpy as np
import pytest

from frechet.backends.openvino import compile_network
from frechet.errors import WeightsError
from frechet.networks.vgg import WEIGHTS, conv_layers, vgg16
from frechet.networks.weights import fold_batch_norms, load_weights

torch = pytest.importorskip("torch")
PLAN = (4, 4, "pool", 6, 6, "pool", 8, 8, 8, "pool", 8, 8, 8, "pool", 8, 8, 8, "pool")  # torchvision's cfg "D", narrow


@pytest.fixture(scope="module")
def plain():
    """A network in torchvision's layout; the dropout in the classifier is inactive in evaluation mode."""
    torch.manual_seed(3)
    modules, channels = [], 3
    for width in PLAN:
        if width == "pool":
            modules.append(torch.nn.MaxPool2d(2, 2))
        else:
            modules += [torch.nn.Conv2d(channels, width, 3, padding=1), torch.nn.ReLU()]
            channels = width
    head = torch.nn.Sequential(
        torch.nn.Linear(channels * 49, 20),
        torch.nn.ReLU(),
        torch.nn.Dropout(),
        torch.nn.Linear(20, 12),
        torch.nn.ReLU(),
    )
    return torch.nn.ModuleDict({"features": torch.nn.Sequential(*modules), "classifier": head}).eval()


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_features_equal_those_of_torch_modules(plain, backend):
    images = np.random.default_rng(0).standard_normal((2, 224, 224, 3)).astype(np.float32)
    weights = fold_batch_norms({name: tensor.numpy() for name, tensor in plain.state_dict().items()}, conv_layers())
    with torch.inference_mode():
        maps = plain["features"](torch.from_numpy(images).permute(0, 3, 1, 2))
        expected = plain["classifier"](maps.flatten(1)).numpy()
    if backend == "openvino":
        runner = compile_network(lambda ops, x: vgg16(ops, x, weights, ["4096"]), input_size=224, precision="float32")
        ours = next(runner.map([images]))
    else:
        from frechet.backends.torch import TorchOps, to_torch_tensors

        placed = to_torch_tensors(weights, torch.device("cpu"))
        ours = vgg16(TorchOps(), torch.from_numpy(images), placed, ["4096"]).numpy()
    assert np.abs(ours - expected).max() <= 1e-5 * np.abs(expected).max()


def test_full_network_has_138_million_parameters():
    """Simonyan & Zisserman 2014, table 2: 138 million with the last layer (4,096,000 + 1,000) and all biases."""
    biases = 2 * 64 + 2 * 128 + 3 * 256 + 6 * 512 + 2 * 4096
    assert WEIGHTS.n_kernel_values + biases + 4096 * 1000 + 1000 == 138_357_544


def test_weights_of_another_network_are_rejected(plain, tmp_path):
    torch.save(plain.state_dict(), tmp_path / "narrow.pth")
    with pytest.raises(WeightsError, match="values, expected 134,248,128"):
        load_weights(WEIGHTS, conv_layers, tmp_path / "narrow.pth")
