"""The functions, the command and the module of pytorch-fid."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from golden_images import make_tiles, photographs
from helpers import make_image_folder
from PIL import Image

from frechet.compat import pytorch_fid
from frechet.errors import MismatchError, OutputError, RequestError, SourceError, StatisticsError

pytestmark = pytest.mark.slow


@pytest.fixture
def official(weights, monkeypatch):
    """Set FRECHET_WEIGHTS to the weights of the tests."""
    monkeypatch.setenv("FRECHET_WEIGHTS", str(weights))
    return weights


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    paths = []
    for name in ("skimage/data/astronaut.png", "sklearn/datasets/images/china.jpg"):
        folder = tmp_path_factory.mktemp("images")
        for index, tile in enumerate(make_tiles(name)):
            Image.fromarray(tile).save(folder / f"{index:03d}.png")
        paths.append(folder)
    return paths


def test_calculate_frechet_distance_equals_scipy_for_regular_covariances():
    random = np.random.default_rng(0)
    x, y = random.standard_normal((500, 40)), random.standard_normal((500, 40)) * 1.1 + 0.1
    moments = [(z.mean(0), np.cov(z, rowvar=False)) for z in (x, y)]
    from scipy.linalg import sqrtm

    (mu1, sigma1), (mu2, sigma2) = moments
    expected = (
        ((mu1 - mu2) ** 2).sum() + np.trace(sigma1) + np.trace(sigma2) - 2 * np.trace(sqrtm(sigma1 @ sigma2)).real
    )
    assert pytorch_fid.calculate_frechet_distance(mu1, sigma1, mu2, sigma2) == pytest.approx(expected, rel=1e-9)
    for broken in ((np.full(3, np.nan), np.eye(3)), (np.zeros(3), np.full((3, 3), np.inf))):
        with pytest.raises(StatisticsError, match="NaN or infinity"):
            pytorch_fid.calculate_frechet_distance(*broken, np.zeros(3), np.eye(3))
    with pytest.raises(MismatchError, match="expected equal shapes"):
        pytorch_fid.calculate_frechet_distance(mu1, sigma1, mu2[:5], sigma2)


def test_functions_of_pytorch_fid_reproduce_its_value(official, folders, golden):
    """The calls are those of pytorch-fid; the expected value is the output of pytorch-fid for these tiles."""
    block = pytorch_fid.InceptionV3.BLOCK_INDEX_BY_DIM[64]
    model = pytorch_fid.InceptionV3([block]).to("cpu")
    statistics = []
    for folder in folders:
        files = sorted(folder.glob("*.png"))
        statistics += pytorch_fid.calculate_activation_statistics(files, model, 50, 64, "cpu", 2)
    assert pytorch_fid.calculate_frechet_distance(*statistics) == pytest.approx(
        float(golden["pytorch_fid_tiles_fid_64"]), rel=1e-5
    )


def test_calculate_fid_given_paths_and_saved_statistics(official, folders, golden, tmp_path):
    """The command below calls the function with two folders."""
    expected = pytest.approx(float(golden["pytorch_fid_tiles_fid_64"]), rel=1e-5)
    paths = [str(folder) for folder in folders]
    pytorch_fid.save_fid_stats([paths[1], str(tmp_path / "saved")], 50, "cpu", 64)
    assert pytorch_fid.calculate_fid_given_paths([paths[0], str(tmp_path / "saved.npz")], 50, "cpu", 64) == expected
    with pytest.raises(OutputError, match="Existing output file"):
        pytorch_fid.save_fid_stats([paths[1], str(tmp_path / "saved.npz")], 50, "cpu", 64)


@pytest.mark.subprocess
def test_the_command_prints_the_line_of_pytorch_fid(weights, folders, golden, tmp_path):
    import os

    command = [
        sys.executable,
        "-m",
        "frechet.compat.pytorch_fid",
        *map(str, folders),
        "--dims",
        "64",
        "--device",
        "cpu",
    ]
    command += ["--batch-size", "50", "--num-workers", "2"]
    environment = {**os.environ, "FRECHET_WEIGHTS": str(weights)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    label, value = done.stdout.split("  ")
    assert label == "FID:"
    assert float(value) == pytest.approx(float(golden["pytorch_fid_tiles_fid_64"]), rel=1e-5)
    done = subprocess.run([*command[:3], "absent", str(folders[0])], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Invalid path: absent" in done.stderr


def test_subfolders_are_rejected(official, tmp_path):
    make_image_folder(tmp_path / "outer" / "inner")
    with pytest.raises(SourceError, match=r"no subfolders.*frechet score"):
        pytorch_fid.calculate_fid_given_paths([tmp_path / "outer", tmp_path / "outer"], 50, "cpu", 64)


def test_feature_maps_equal_those_of_pytorch_fid(official, golden):
    model = pytorch_fid.InceptionV3([0, 1, 2, 3])
    image = photographs()[2]
    batch = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        maps = model(batch)
    assert [tuple(map_.shape) for map_ in maps] == [
        (1, 64, 73, 73),
        (1, 192, 35, 35),
        (1, 768, 17, 17),
        (1, 2048, 1, 1),
    ]
    for dims, map_ in zip((64, 192, 768, 2048), maps, strict=True):
        expected = golden[f"pytorch_fid_{dims}"]
        assert np.abs(map_.mean((2, 3))[0].numpy() - expected[2]).max() <= 2e-5 * np.abs(expected).max()


def test_weights_have_gradients_only_with_requires_grad(official):
    for requires_grad in (False, True):
        model = pytorch_fid.InceptionV3([0], requires_grad=requires_grad)
        images = torch.rand(1, 3, 40, 40, requires_grad=True)
        model(images)[0].sum().backward()
        assert images.grad.abs().sum() > 0
        assert any(parameter.grad is not None for parameter in model.parameters()) == requires_grad


def test_weights_of_torchvision_are_rejected(official):
    with pytest.raises(RequestError, match="not FID"):
        pytorch_fid.InceptionV3(use_fid_inception=False)


@pytest.mark.parametrize(
    ("mean", "problem"),
    [
        (np.zeros(2) + 1j, "complex"),
        (np.ma.masked_array(np.zeros(2), [True, False]), "1 masked values"),
        (np.full(2, 1e200), "beyond float64"),
    ],
)
def test_moments_that_would_lose_a_part_are_rejected(mean, problem):
    with pytest.raises(StatisticsError, match=problem):
        pytorch_fid.calculate_frechet_distance(np.ones(2), np.eye(2), mean, np.eye(2))


def test_statistics_of_a_path_are_those_in_the_file_or_of_the_images(tmp_path, folders, official):
    mean, covariance = np.arange(3.0), np.diag([1.0, 2.0, 3.0])
    np.savez(tmp_path / "a.npz", mu=mean, sigma=covariance)
    found = pytorch_fid.compute_statistics_of_path(str(tmp_path / "a.npz"), None, 50, 3, "cpu")
    np.testing.assert_array_equal(found[0], mean)
    np.testing.assert_array_equal(found[1], covariance)
    model = pytorch_fid.InceptionV3([0])
    files = sorted(folders[0].iterdir())[:3]
    small = tmp_path / "small"
    small.mkdir()
    for file in files:
        (small / file.name).write_bytes(file.read_bytes())
    expected = pytorch_fid.get_activations(files, model, dims=64)
    found = pytorch_fid.compute_statistics_of_path(str(small), model, 2, 64, "cpu")
    np.testing.assert_allclose(found[0], expected.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found[1], np.cov(expected, rowvar=False), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", ["absent.npz", "absent", "wrong.npz", "images.npz"])
def test_paths_without_statistics_are_rejected(tmp_path, name):
    (tmp_path / "wrong.npz").write_bytes(b"PK")
    np.savez(tmp_path / "images.npz", arr_0=np.zeros(3))
    with pytest.raises((SourceError, StatisticsError), match=name):
        pytorch_fid.compute_statistics_of_path(tmp_path / name, None)


def test_images_of_a_data_set_are_those_of_the_files(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    paths = [tmp_path / name for name in ("a.png", "b.bmp")]
    for path in paths:
        Image.fromarray(pixels).save(path)
    for image in pytorch_fid.ImagePathDataset([str(path) for path in paths]):
        np.testing.assert_array_equal(np.array(image), pixels)
    assert pytorch_fid.ImagePathDataset(paths, transforms=lambda image: image.size)[1] == (7, 5)
    assert len(pytorch_fid.ImagePathDataset(paths)) == 2


def test_the_parser_has_the_arguments_of_pytorch_fid():
    arguments = vars(pytorch_fid.parser.parse_args(["a", "b"]))
    assert set(arguments) == {"path", "batch_size", "num_workers", "device", "dims", "save_stats"}
