"""The PyTorch path on the `meta` device, which computes shapes only and raises if devices are mixed or a tensor is copied to the host.

What a run needs from a device is copied by one function, which the tests replace, so any other copy is an error here, and would make
an accelerator wait.
"""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from frechet.backends import torch_images
from frechet.backends.torch import TorchRunner
from frechet.backends.torch_images import DeviceImages
from frechet.backends.transformers import ModuleRunner
from frechet.features.loading import load_network
from frechet.losses.torch import FIDLoss, KIDLoss, frechet_distance
from frechet.preprocessing.registry import PREPROCESSINGS

META = torch.device("meta")
SIZE = 8
WAITING = [getattr(torch.ops.aten, name).default for name in ("_local_scalar_dense", "item", "is_nonzero")]


class TransferCounter(TorchDispatchMode):
    """Counts what crosses the bus, and the calls that wait for a number, which get `answers` in their order."""

    def __init__(self, answers=()):
        super().__init__()
        self.answers = list(answers)
        self.copies_to_device = self.waits = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in WAITING and args[0].is_meta:
            self.waits += 1
            return self.answers.pop(0)
        result = func(*args, **kwargs)
        if isinstance(result, torch.Tensor) and args and isinstance(args[0], torch.Tensor):
            self.copies_to_device += result.is_meta and not args[0].is_meta
        return result


@pytest.fixture(autouse=True)
def without_autocast(monkeypatch):
    """Autocast knows no meta device."""
    monkeypatch.setattr(torch, "autocast", lambda *_args, **_options: nullcontext())


@pytest.fixture
def copies_to_host(monkeypatch):
    """The tensors that were copied to the host by the function for that purpose."""
    copied = []

    def start_copy_to_host(tensor):
        copied.append(tensor)
        return lambda: np.zeros(tensor.shape, np.float32)

    monkeypatch.setattr(torch_images, "start_copy_to_host", start_copy_to_host)
    return copied


def mean_color(ops, images, weights):
    return ops.global_average_pool(ops.conv(ops.from_nhwc(images), *weights["mix"]))


def make_runner(network=mean_color, preprocessing="pytorch-fid", precision="float32"):
    weights = {"mix": (np.ones((5, 3, 1, 1), np.float32), np.ones(5, np.float32))}
    return TorchRunner(network, weights, DeviceImages(META, PREPROCESSINGS[preprocessing], SIZE), precision)


def make_batch(*sizes):
    return [np.zeros((size, size, 3), np.uint8) for size in sizes]


@pytest.mark.slow
@pytest.mark.parametrize("preprocessing", ["pytorch-fid", "clean", "clip"])
def test_features_are_the_only_copy_to_the_host(copies_to_host, preprocessing):
    runner = make_runner(preprocessing=preprocessing)
    batches = [make_batch(9, 9, 20), make_batch(9, 20, 33), np.zeros((2, SIZE, SIZE, 3), np.float32), make_batch(7)]
    with TransferCounter() as counter:
        found = list(runner.map(batches))
    assert [features.shape for features in found] == [(3, 5), (3, 5), (2, 5), (1, 5)]
    assert [tensor.device for tensor in copies_to_host] == [META] * 4
    assert counter.waits == 0


@pytest.mark.slow
def test_a_batch_of_one_size_is_one_copy_to_the_device(copies_to_host):
    """Besides the matrices of its size, which are kept."""
    runner = make_runner()
    list(runner.map([make_batch(9, 9)]))
    with TransferCounter() as counter:
        list(runner.map([make_batch(9, 9, 9)] * 4))
    assert counter.copies_to_device == 4
    with TransferCounter() as counter:
        list(runner.map([np.zeros((2, SIZE, SIZE, 3), np.float32)] * 4))
    assert counter.copies_to_device == 4


def test_a_copy_inside_the_loop_is_an_error(copies_to_host):
    def network(ops, images, weights):
        return mean_color(ops, images, weights).cpu()

    with pytest.raises(NotImplementedError, match="meta"):
        list(make_runner(network).map([make_batch(9)]))


def test_a_wait_inside_the_loop_is_counted(copies_to_host):
    def network(ops, images, weights):
        assert float(images.sum()) == 3.0
        return mean_color(ops, images, weights)

    with TransferCounter([3.0]) as counter:
        list(make_runner(network).map([make_batch(9)]))
    assert counter.waits == 1


def test_a_function_gets_images_on_its_device():
    seen = []

    def function(images):
        seen.append(images)
        return np.zeros((len(images), 4), np.float32)

    images = DeviceImages(META, PREPROCESSINGS["imagenet"], SIZE)
    list(ModuleRunner(function, images, "float32").map([make_batch(20, 20, 9)]))
    assert [(tensor.device, tuple(tensor.shape)) for tensor in seen] == [(META, (3, 3, SIZE, SIZE))]


@pytest.mark.slow
def test_a_whole_network_runs_without_a_wait(copies_to_host):
    loaded = load_network("efficientnet-lite0")
    images = DeviceImages(META, loaded.preprocessing, loaded.input_size)
    runner = TorchRunner(loaded.network, loaded.weights, images, "float32")
    with TransferCounter() as counter:
        (found,) = runner.map([make_batch(256, 256, 64)])
    assert found.shape == (3, 1280)
    assert counter.waits == 0


def test_the_gradient_of_a_distance_stays_on_the_device():
    x = torch.empty(6, 12, device=META, requires_grad=True)
    with TransferCounter([True] * 9) as counter:
        frechet_distance(x, torch.empty(8, 12, device=META)).backward()
    assert x.grad.device == META
    assert counter.waits == 0


@pytest.mark.slow
@pytest.mark.parametrize("loss_type", [FIDLoss, KIDLoss])
def test_a_loss_waits_for_its_checks_only(loss_type):
    """The range of the images (two numbers) and whether all features are finite."""
    loss = loss_type(torch.rand(4, 3, 32, 32), extractor="efficientnet-lite0")
    loss(torch.rand(4, 3, 32, 32))  # the checks of the first batch
    loss = loss.to(META)
    images = torch.empty(4, 3, 32, 32, device=META, requires_grad=True)
    with TransferCounter([0.0, 1.0, False]) as counter:
        loss(images).backward()
    assert images.grad.device == META
    assert counter.waits == 3
