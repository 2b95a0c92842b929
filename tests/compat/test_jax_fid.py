"""The functions of jax-fid-parallel and jax-fid against their formulas."""

import jax
import numpy as np
import pytest
from golden_images import photographs
from helpers import make_image_folder
from PIL import Image

from frechet.compat.jax_fid import compute_frechet_distance, compute_statistics, fid_from_stats, get_fid_network
from frechet.errors import MismatchError, RequestError, SourceError
from frechet.preprocessing.resize import bilinear_half_pixel

pytestmark = pytest.mark.slow


def make_gaussians(d=6):
    random = np.random.default_rng(0)
    rows = random.standard_normal((40, d)), 0.4 + 1.3 * random.standard_normal((50, d))
    return [part for z in rows for part in (z.mean(axis=0), np.cov(z, rowvar=False))]


def distance_by_eigenvalues(mu1, sigma1, mu2, sigma2, ridge=0.0):
    """Compute the formula of jax-fid-parallel from the eigenvalues of the product of the covariances."""
    offset = ridge * np.eye(len(sigma1))
    roots = np.sqrt(np.linalg.eigvals((sigma1 + offset) @ (sigma2 + offset)).real)
    return (mu1 - mu2) @ (mu1 - mu2) + np.trace(sigma1 + sigma2) - 2 * roots.sum()


@pytest.mark.parametrize("ridge", [0.0, 1e-6, 1e-2])
def test_fid_from_stats_equals_the_formula_with_ridge(ridge):
    arguments = make_gaussians()
    assert fid_from_stats(*arguments, ridge=ridge) == pytest.approx(
        distance_by_eigenvalues(*arguments, ridge), rel=1e-9
    )


def test_compute_frechet_distance_takes_both_means_first():
    mu1, sigma1, mu2, sigma2 = make_gaussians()
    expected = distance_by_eigenvalues(mu1, sigma1, mu2, sigma2)
    assert compute_frechet_distance(mu1, mu2, sigma1, sigma2) == pytest.approx(expected, rel=1e-9)
    with pytest.raises(MismatchError, match="expected equal shapes"):
        compute_frechet_distance(mu1, mu2[:3], sigma1, sigma2)


@pytest.fixture(scope="module")
def network(weights):
    return get_fid_network(weights)


def test_network_reproduces_the_activations_of_pytorch_fid(network, golden):
    """The images are resized as in pytorch-fid and passed with and without the axis of devices."""
    images = np.empty((3, 299, 299, 3), np.float32)  # the size for which test_readmes.py compiles the network, too
    for photograph, out in zip(photographs(), images, strict=False):
        bilinear_half_pixel(np.asarray(photograph.convert("RGB")), out)
    prepared = np.clip(images / 127.5 - 1, -1, 1)
    expected = golden["pytorch_fid_2048"][:3]
    for found, shape in ((network(prepared), (3, 1, 1, 2048)), (network(prepared[None]), (1, 3, 1, 1, 2048))):
        assert found.shape == shape
        np.testing.assert_allclose(np.reshape(found, (3, 2048)), expected, rtol=0, atol=2e-5 * expected.max())


def test_network_rejects_images_that_are_not_prepared(network):
    for images, message in (
        (np.zeros((2, 256, 256, 3), np.float32), r"\(2, 256, 256, 3\); .*frechet.jax.network"),
        (np.zeros((2, 299, 299, 3), np.uint8), "images / 127.5 - 1"),
        (np.zeros((jax.local_device_count() + 1, 2, 299, 299, 3), np.float32), "expected one batch per device"),
    ):
        with pytest.raises(RequestError, match=message):
            network(images)


def mean_color(params, images):
    return params * images.mean(axis=(1, 2))[:, None, None, :]


def test_statistics_of_a_folder_include_the_last_batch(tmp_path):
    folder = make_image_folder(tmp_path / "a", 7)
    mu, sigma = compute_statistics(folder, 3.0, mean_color, batch_size=4)
    pixels = np.stack([np.asarray(Image.open(file)) for file in sorted(folder.iterdir())])
    rows = 3 * (2 * (pixels / 255) - 1).mean(axis=(1, 2))
    np.testing.assert_allclose(mu, rows.mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(sigma, np.cov(rows, rowvar=False), rtol=1e-3, atol=1e-8)
    np.savez(tmp_path / "stored.npz", mu=mu, sigma=sigma)
    np.testing.assert_array_equal(compute_statistics(tmp_path / "stored.npz", None, None)[1], sigma)


def test_images_of_several_sizes_need_img_size(tmp_path):
    folder = make_image_folder(tmp_path / "a", 2)
    Image.new("RGB", (20, 30), "red").save(folder / "z.png")
    with pytest.raises(SourceError, match="img_size"):
        compute_statistics(folder, 1.0, mean_color, batch_size=4)
    seen = []
    compute_statistics(folder, 1.0, lambda params, x: seen.append(x.shape) or mean_color(params, x), 4, (24, 16))
    assert seen == [(3, 16, 24, 3)]


def test_activations_keep_the_images_that_they_were_called_with(network):
    """JAX computes after the call returned, and takes aligned memory without a copy."""
    shape = (3, 299, 299, 3)  # for which the network has been compiled above
    memory = np.zeros(np.prod(shape) + 16, np.float32)
    start = -memory.ctypes.data % 64 // 4
    images = memory[start : start + np.prod(shape)].reshape(shape)
    expected = np.asarray(network(images))
    found = network(images)
    images[:] = 1
    np.testing.assert_array_equal(np.asarray(found), expected)
