"""Batches that suit the memory of a device, and precisions that it supports; CUDA is replaced, since it is not needed to decide."""

import numpy as np
import pytest
import torch

from frechet.backends.torch import TorchRunner, require_precision
from frechet.backends.torch_images import DeviceImages
from frechet.backends.torch_memory import choose_batch_size
from frechet.backends.transformers import ModuleRunner
from frechet.errors import RequestError, RunError
from frechet.execution import dispatch
from frechet.execution.settings import Settings
from frechet.features.loading import load_network
from frechet.features.registry import build_spec
from frechet.preprocessing.registry import PREPROCESSINGS

GIB = 1 << 30
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("free", "expected"), [(0, 8), (GIB // 4, 8), (2 * GIB, 32), (7.9 * GIB, 64), (8 * GIB, 128), (139 * GIB, 256)]
)
def test_the_batch_is_a_power_of_two_by_the_free_memory_of_the_device(monkeypatch, free, expected):
    asked = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: asked.append(device) or (int(free), 140 * GIB))
    assert choose_batch_size(CUDA, otherwise=3) == expected
    assert asked == [CUDA]
    assert choose_batch_size(CPU, otherwise=3) == 3


class SmallDevice:
    """A network for at most `capacity` images at a time."""

    def __init__(self, capacity):
        self.capacity, self.sizes = capacity, []

    def __call__(self, *arguments):
        images = next(argument for argument in arguments if isinstance(argument, torch.Tensor))
        self.sizes.append(len(images))
        if len(images) > self.capacity:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return images.flatten(1)[:, :4]


def make_runners(function):
    images = DeviceImages(CPU, PREPROCESSINGS["pytorch-fid"], 4)
    return TorchRunner(lambda _ops, images, _weights: function(images), {}, images, "float32"), ModuleRunner(
        function, images, "float32"
    )


@pytest.mark.parametrize("index", [0, 1])
def test_a_batch_that_is_too_large_is_halved_once(index):
    random = np.random.default_rng(0)
    batches = [random.random((5, 4, 4, 3), np.float32), [random.integers(0, 256, (9, 9, 3), np.uint8)] * 5]
    small, large = SmallDevice(3), SmallDevice(9)
    found, expected = (list(make_runners(device)[index].map(batches)) for device in (small, large))
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected))
    assert small.sizes == [5, 2, 3] * 2
    assert large.sizes == [5, 5]


@pytest.mark.parametrize("index", [0, 1])
def test_a_device_without_memory_for_half_a_batch_is_an_error_that_names_the_option(index):
    runner = make_runners(SmallDevice(1))[index]
    with pytest.raises(RunError, match=r"cpu ran out of memory with 5 images.*half.*--batch-size \(batch_size=\)"):
        list(runner.map([np.zeros((5, 4, 4, 3), np.float32)]))
    with pytest.raises(RunError, match="1 images"):
        list(make_runners(SmallDevice(0))[index].map([np.zeros((1, 4, 4, 3), np.float32)]))


@pytest.mark.parametrize(
    ("device", "capability", "precision", "is_supported"),
    [
        (CPU, None, "float32", True),
        (CPU, None, "bfloat16", True),
        (CPU, None, "tf32", False),
        (CUDA, (7, 5), "tf32", False),
        (CUDA, (7, 5), "bfloat16", False),
        (CUDA, (7, 5), "float16", True),
        (CUDA, (8, 0), "tf32", True),
        (CUDA, (9, 0), "bfloat16", True),
    ],
)
def test_precisions_that_a_device_does_not_have_are_rejected(monkeypatch, device, capability, precision, is_supported):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda asked: capability if asked == CUDA else None)
    if is_supported:
        require_precision(device, precision)
        return
    with pytest.raises(RequestError, match=rf"--precision .*'{precision}'.*{device}.*8\.0.*float32"):
        require_precision(device, precision)


@pytest.mark.parametrize("backend", ["openvino", "torch", "jax"])
def test_tf32_needs_cuda(toy_options, backend):
    with pytest.raises(RequestError, match="tf32"):
        Settings(**toy_options, backend=backend, device="cpu", precision="tf32").load()


def test_losses_are_not_computed_in_tf32(toy_options):
    with pytest.raises(RequestError, match=r"tf32.*expected float32"):
        load_network(toy_options["extractor"], weights=toy_options["weights"], precision="tf32")


def test_tf32_is_on_for_the_network_alone_and_part_of_the_spec(monkeypatch):
    monkeypatch.setattr("frechet.backends.torch.require_precision", lambda *_: None)
    seen = []

    def network(_ops, images, _weights):
        seen.append(torch.backends.cuda.matmul.allow_tf32)
        return images.flatten(1)[:, :2]

    images = DeviceImages(CPU, PREPROCESSINGS["pytorch-fid"], 4)
    put = images.put
    images.put = lambda batch: seen.append(torch.backends.cuda.matmul.allow_tf32) or put(batch)
    list(TorchRunner(network, {}, images, "tf32").map([np.zeros((1, 4, 4, 3), np.float32)]))
    assert seen == [False, True]
    assert build_spec("inception", precision="tf32") != build_spec("inception")


@pytest.mark.parametrize(
    ("device", "n_chunks", "expected"),
    [
        ("auto", 9, ["cuda:1", "cuda:2", "cuda:3"]),
        ("cuda", 3, ["cuda:1", "cuda:2"]),
        ("cuda:0", 9, []),
        ("auto", 1, []),
        ("auto", 0, []),
    ],
)
def test_all_devices_are_used_unless_one_is_named(monkeypatch, device, n_chunks, expected):
    asked = []
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(dispatch, "start_workers", lambda devices: asked.extend(devices) or ())
    monkeypatch.setattr(dispatch, "extract_chunks", lambda *_: iter(()))

    class Extractor:
        device = "cuda:0"

    class Source:
        location = "folder"

    class Partition:
        source = Source()

    settings = Settings(extractor="inception", device=device)
    list(dispatch._compute_chunks(Partition(), settings, Extractor(), lambda _: None, range(n_chunks)))
    assert asked == expected
