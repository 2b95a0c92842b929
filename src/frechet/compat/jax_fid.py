"""The functions of jax-fid-parallel and of jax-fid, over this engine.

    from frechet.compat.jax_fid import get_fid_network, fid_from_stats      # jax-fid-parallel's fid.py
    from frechet.compat.jax_fid import compute_frechet_distance, compute_statistics   # jax-fid's fid.py

The features are those of the official weights that both have as a pickle, read from the official file. Means and
covariances come in two orders, as there: `fid_from_stats(mu1, sigma1, mu2, sigma2)`, but
`compute_frechet_distance(mu1, mu2, sigma1, sigma2)`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from frechet.compat.pytorch_fid import calculate_frechet_distance
from frechet.errors import RequestError, SourceError
from frechet.images.decode import decode
from frechet.images.sources.folder import FolderSource
from frechet.statistics.moments import RunningMoments
from frechet.statistics.npz_format import read_statistics

__all__ = ["compute_frechet_distance", "compute_statistics", "fid_from_stats", "get_fid_network"]

_INPUT_SHAPE = (299, 299, 3)


def get_fid_network(weights: str | Path | None = None) -> Callable[[Any], Any]:
    """jax-fid-parallel's network: images in, activations out, on all local devices.

    It reproduces that network's activations in float32 products (there JAX's default, bfloat16 on a TPU and TF32 on a
    GPU). The images are taken as they are: how they were resized decides the number (half-pixel `jax.image.resize` gives
    ADM 11.05, TensorFlow's resize the published 10.94); `frechet.jax` resizes by convention.

    Args:
        weights: a weights file that comes before every other place.

    Returns:
        images (n, 299, 299, 3) -> (n, 1, 1, 2048); or, with a leading axis of as many devices,
        (devices, n, 299, 299, 3) -> (devices, n, 1, 1, 2048). Floating point in [-1, 1].

    Raises:
        RequestError: images of another shape, dtype or range, or another number of devices.
    """
    import jax

    from frechet.backends.jax import make_shardings
    from frechet.features.jax_network import load_jax_network

    apply, params = load_jax_network(weights=weights, value_range=(-1.0, 1.0))
    sharded, replicated = make_shardings(jax.local_devices())
    params = jax.device_put(params, replicated)

    def run(params: Any, images: Any) -> Any:
        features = apply(params, images.reshape(-1, *_INPUT_SHAPE))
        return features.reshape(*images.shape[:-3], 1, 1, -1)

    compiled = jax.jit(run)

    def activations(images: Any) -> Any:
        _validate_images(images, jax.local_device_count())
        return compiled(params, jax.device_put(images, sharded if images.ndim == 5 else replicated))

    return activations


def fid_from_stats(mu1: Any, sigma1: Any, mu2: Any, sigma2: Any, *, ridge: float = 0.0) -> float:
    """jax-fid-parallel's distance of two Gaussians, without its ridge: the exact squared Fréchet distance.

    Args:
        mu1, mu2: (d,).
        sigma1, sigma2: (d, d).
        ridge: added to the diagonals under the root; 1e-6 reproduces jax-fid-parallel's own number, which is smaller by about
            twice the ridge's share of that trace.

    Raises:
        Mismatch: the shapes differ.
    """
    mu1, sigma1, mu2, sigma2 = (np.asarray(array, np.float64) for array in (mu1, sigma1, mu2, sigma2))
    ridge_matrix = ridge * np.eye(len(sigma1))
    with_ridge = calculate_frechet_distance(mu1, sigma1 + ridge_matrix, mu2, sigma2 + ridge_matrix)
    return with_ridge - 2 * ridge * len(sigma1)


def compute_frechet_distance(mu1: Any, mu2: Any, sigma1: Any, sigma2: Any, eps: float = 1e-6) -> float:
    """jax-fid's distance, both means first; exact where its matrix square root is not (singular covariances).

    Args:
        mu1, mu2: (d,).
        sigma1, sigma2: (d, d).
        eps: accepted and not used: nothing is added to a diagonal here.

    Raises:
        Mismatch: the shapes differ.
    """
    return calculate_frechet_distance(mu1, sigma1, mu2, sigma2, eps)


def compute_statistics(
    path: str | Path,
    params: Any,
    apply_fn: Callable[[Any, Any], Any],
    batch_size: int = 1,
    img_size: tuple[int, int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """jax-fid's mean and covariance of a folder, but for its last, shorter batch: jax-fid drops it, here it counts.

    Args:
        path: a folder of images of one size (or of any, with `img_size`), or an .npz with mu and sigma.
        params: what `apply_fn` takes first.
        apply_fn: (params, images (n, h, w, 3) float32 in [-1, 1]) -> activations, n first; for instance
            `frechet.jax.network(value_range=(-1, 1))` gives both.
        batch_size: images that run together.
        img_size: resize by Pillow's bilinear filter to this (width, height) and round, as jax-fid does.

    Raises:
        SourceError: images of several sizes without `img_size`, or no images at all.
    """
    if str(path).endswith(".npz"):
        stored = read_statistics(Path(path))
        return stored.mean, stored.covariance
    source = FolderSource(Path(path))
    image_refs = list(source.iter_images(range(len(source))))
    moments: RunningMoments | None = None
    for start in range(0, len(image_refs), batch_size):
        images = [_resize(decode(image_ref).rgb, img_size) for image_ref in image_refs[start : start + batch_size]]
        if len({image.shape for image in images}) != 1:
            raise SourceError(f"{path} holds images of several sizes; say img_size=(width, height)")
        batch = 2 * (np.stack(images) / np.float32(255)) - 1
        features = np.asarray(apply_fn(params, batch)).reshape(len(batch), -1)
        moments = (moments or RunningMoments.empty(features.shape[1])).update(features)
    assert moments is not None  # a source holds at least one image
    return moments.mean, moments.covariance


def _resize(rgb: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    if size is None or rgb.shape[1::-1] == tuple(size):
        return rgb
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR))


def _validate_images(images: Any, devices: int) -> None:
    if images.ndim not in (4, 5) or tuple(images.shape[-3:]) != _INPUT_SHAPE:
        raise RequestError(
            f"images have shape {tuple(images.shape)}; expected (n, 299, 299, 3) or (devices, n, 299, 299, 3). frechet.jax "
            "resizes by convention"
        )
    if np.dtype(images.dtype).kind in "iub":
        raise RequestError(f"images are {images.dtype}; expected floating point in [-1, 1]: images / 127.5 - 1")
    if images.ndim == 5 and images.shape[0] != devices:
        raise RequestError(f"the leading axis has {images.shape[0]} parts for {devices} devices; expected one each")
