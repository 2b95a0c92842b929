"""The examples in the READMEs of pytorch-fid, faster-pytorch-fid, FastFID and jax-fid-parallel, with smaller inputs.

IS-FID-PyTorch's README has a table and no example; FastFID's training loop is in test_fastfid.py.
"""

import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_images import make_tiles, photographs

import frechet
from frechet.compat import fastfid, pytorch_fid

pytestmark = pytest.mark.slow


@pytest.fixture
def datasets(tmp_path, weights, monkeypatch):
    """Two folders of seven photographs, under the names of the READMEs."""
    for folder, images in (("dataset1", photographs()[:7]), ("dataset2", photographs()[7:])):
        (tmp_path / "path" / "to" / folder).mkdir(parents=True)
        for index, image in enumerate(images):
            image.save(tmp_path / "path" / "to" / folder / f"{index}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FRECHET_WEIGHTS", str(weights))
    return tmp_path


def distance_of_features(x, y):
    """Compute the distance of two small samples (n, d), float64, from singular values (n < d)."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    a, b = ((z - z.mean(0)) / (len(z) - 1) ** 0.5 for z in (x, y))
    trace = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * trace


def run_command(line, capsys):
    """Run `python -m MODULE ARGUMENTS` with our module; return what it prints."""
    python, flag, _, *arguments = shlex.split(line)
    assert (python, flag) == ("python", "-m")
    pytorch_fid.main(arguments)
    return capsys.readouterr().out


def test_the_command_of_pytorch_fid(datasets, golden, capsys):
    """The expected value is that of the features of pytorch-fid; faster-pytorch-fid's command is `python -m fid_score_gpu.py`."""
    printed = run_command("python -m pytorch_fid path/to/dataset1 path/to/dataset2", capsys)
    features = golden["pytorch_fid_2048"]
    assert printed.startswith("FID:  ")
    assert float(printed.removeprefix("FID:")) == pytest.approx(
        distance_of_features(features[:7], features[7:]), rel=1e-4
    )


@pytest.mark.parametrize("dims", [64, 192, 768])
def test_dims_of_pytorch_fid(datasets, golden, capsys, dims):
    printed = run_command(f"python -m pytorch_fid path/to/dataset1 path/to/dataset2 --dims {dims} --device cpu", capsys)
    features = golden[f"pytorch_fid_{dims}"]
    assert float(printed.removeprefix("FID:")) == pytest.approx(
        distance_of_features(features[:7], features[7:]), rel=1e-4
    )


def test_saved_statistics_of_pytorch_fid_take_the_place_of_the_data_set(datasets, capsys):
    Path("path/to/dataset").symlink_to(datasets / "path" / "to" / "dataset2")
    dims = "--dims 192"  # whose features take a third of the time of the others
    assert run_command(f"python -m pytorch_fid --save-stats path/to/dataset path/to/outputfile {dims}", capsys) == ""
    expected = run_command(f"python -m pytorch_fid path/to/dataset1 path/to/dataset2 {dims}", capsys)
    found = run_command(f"python -m pytorch_fid path/to/dataset1 path/to/outputfile.npz {dims}", capsys)
    assert float(found.removeprefix("FID:")) == pytest.approx(float(expected.removeprefix("FID:")), rel=1e-6)


def test_the_trace_of_fastfid_has_the_known_solution():
    """test_sqrt.py: for C1 = C2, the matrix square root is C1 C1ᵀ."""
    torch.manual_seed(0)
    for bs in (8, 16, 32):
        a = torch.randn(2048, bs)
        c1 = a - a.mean(dim=1, keepdim=True)
        assert float(fastfid.trace_of_matrix_sqrt(c1, c1)) == pytest.approx(float(torch.trace(c1.T @ c1)), rel=1e-5)
    with pytest.raises(frechet.errors.RequestError, match="expected"):
        fastfid.trace_of_matrix_sqrt(c1, c1.T)


def test_both_functions_of_fastfid_give_the_value_of_the_score(weights):
    """test_fid.py compares fid(images, images) of arrays with fastfid of tensors, both for batches of one size."""
    images1, images2 = (make_tiles(name, 4) for name in ("skimage/data/astronaut.png", "skimage/data/coffee.png"))
    expected = frechet.fid(images1, images2, weights=weights, backend="torch", interval="none").value
    tensors = [torch.from_numpy(x.astype(np.float32) / 255).permute([0, 3, 1, 2]) for x in (images1, images2)]
    new = fastfid.fastfid(*tensors, batch_size=2, weights=str(weights))
    assert float(new) == pytest.approx(expected, rel=1e-4)
    for arrays in ((images1, images2), (images1.astype(np.float32) / 255, images2.astype(np.float32) / 255)):
        assert fastfid.fid(*arrays, batch_size=2, weights=str(weights)) == pytest.approx(expected, rel=1e-4)


def test_the_usage_of_jax_fid_parallel(datasets, golden):
    """Activations of batches on all devices, their mean and covariance, and the distance; as in its test_fid.py."""
    jax = pytest.importorskip("jax")
    from frechet.compat.jax_fid import fid_from_stats, get_fid_network
    from frechet.preprocessing.resize import bilinear_half_pixel

    images = np.empty((6, 299, 299, 3), np.float32)  # test_jax_fid.py has the network compiled for three images
    for photograph, out in zip(photographs(), images, strict=False):
        bilinear_half_pixel(np.asarray(photograph.convert("RGB")), out)
    get_activations = get_fid_network()
    statistics = []
    for dataset in (images[:3], images[3:]):
        batch = np.clip(2 * (dataset / 255.0) - 1, -1, 1)
        batch = batch.reshape((len(jax.local_devices()), -1, *batch.shape[1:]))
        activations = np.array(get_activations(batch).reshape((3, -1)))
        statistics += [np.mean(activations, axis=0), np.cov(activations, rowvar=False)]
    features = golden["pytorch_fid_2048"]
    assert fid_from_stats(*statistics) == pytest.approx(distance_of_features(features[:3], features[3:6]), rel=1e-3)
