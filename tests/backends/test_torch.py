"""The torch backend compared with OpenVINO, and its effect on global settings."""

import numpy as np
import pytest
import torch
from golden_images import make_tiles
from helpers import make_image_folder

import frechet
from frechet.backends.torch import choose_device, disable_tf32
from frechet.distances.frechet import frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.errors import RequestError

OFFLINE = {"extractor": "efficientnet-lite0", "backend": "torch"}


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_close_and_recorded(toy_options, precision):
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
    full, half = (
        frechet.score(images, images // 2, **toy_options, backend="torch", precision=name)["fd"]
        for name in ("float32", precision)
    )
    assert half.provenance["precision"] == precision
    assert float(half) == pytest.approx(float(full), rel=0.05)
    assert float(half) != float(full)


def test_global_tf32_settings_are_restored():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    with disable_tf32():
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before


def test_tf32_is_disabled_next_to_the_newer_switches_of_pytorch():
    """Reading allow_tf32 raises RuntimeError once a program has set fp32_precision."""
    matmul = torch.backends.cuda.matmul
    if not hasattr(matmul, "fp32_precision"):
        pytest.skip("this PyTorch has only allow_tf32")
    before = matmul.fp32_precision
    matmul.fp32_precision = "tf32"
    try:
        with disable_tf32():
            assert matmul.fp32_precision == torch.backends.cudnn.conv.fp32_precision == "ieee"
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = before


def test_provenance_names_backend_and_device(toy_options, folder):
    provenance = frechet.score(folder, folder, device="cpu", backend="torch", **toy_options)["fd"].provenance
    assert (provenance["backend"], provenance["device"]) == ("torch", "cpu")


@pytest.mark.slow
def test_statistics_of_two_backends_can_be_compared(tmp_path):
    folder = make_image_folder(tmp_path / "a", 20)
    one = frechet.collect(folder, **OFFLINE)
    other = frechet.collect(folder, extractor="efficientnet-lite0", backend="openvino")
    assert abs(float(frechet.score_statistics(one, other)["fd"])) < 1e-6 * one.covariance.trace()


@pytest.mark.parametrize("name", ["nonsense", "xpu", "cuda:99"])
def test_unavailable_device_is_rejected(name):
    with pytest.raises(RequestError, match="device"):
        choose_device(name)


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="has an accelerator")
def test_the_message_lists_the_devices_of_the_machine(monkeypatch):
    with pytest.raises(RequestError, match=r"'cuda'.*expected auto or cpu\. Use"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert choose_device("cuda") == choose_device("auto") == torch.device("cuda", 1)  # other threads have another one
    with pytest.raises(RequestError, match=r"'cuda:2'.*expected auto, cpu, cuda:0 or cuda:1\."):
        choose_device("cuda:2")


def test_openvino_rejects_float16(toy_options, folder):
    with pytest.raises(RequestError, match=r"'float16'.*float32 or bfloat16; use --backend torch"):
        frechet.collect(folder, **toy_options, backend="openvino", precision="float16")


@pytest.mark.parametrize(("n", "m"), [(20, 30), (200, 30), (200, 300)])
def test_distance_of_torch_tensors_equals_that_of_numpy_arrays(n, m):
    random = np.random.default_rng(0)
    x, y = random.standard_normal((n, 64)), random.standard_normal((m, 64)) * 1.2
    arrays = frechet_terms(Gaussian.from_features(x), Gaussian.from_features(y))
    tensors = frechet_terms(Gaussian.from_features(torch.from_numpy(x)), Gaussian.from_features(torch.from_numpy(y)))
    np.testing.assert_allclose(tensors, arrays, rtol=1e-9)


def test_distance_of_singular_torch_covariances_equals_that_of_numpy_arrays():
    random = np.random.default_rng(0)
    x, y = random.standard_normal((20, 64)), random.standard_normal((300, 64))
    p, q = (Gaussian(z.mean(0), covariance=np.cov(z, rowvar=False)) for z in (x, y))
    tensors = [Gaussian(torch.from_numpy(z.mean), covariance=torch.from_numpy(z.covariance)) for z in (p, q)]
    np.testing.assert_allclose(frechet_terms(*tensors), frechet_terms(p, q), rtol=1e-9)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_score_equals_cpu_score(tmp_path):
    images = (
        make_tiles("skimage/data/astronaut.png", 8),
        make_tiles("skimage/data/coffee.png", 8),
    )  # slow on a processor
    on_cuda = frechet.score(*images, device="cuda", **OFFLINE)["fd"]
    assert float(on_cuda) == pytest.approx(float(frechet.score(*images, device="cpu", **OFFLINE)["fd"]), rel=1e-4)
