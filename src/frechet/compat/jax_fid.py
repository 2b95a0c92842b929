"""The functions of jax-fid-parallel and jax-fid.

    from frechet.compat.jax_fid import get_fid_network, fid_from_stats      # jax-fid-parallel's fid.py
    from frechet.compat.jax_fid import compute_frechet_distance, compute_statistics   # jax-fid's fid.py

Both tools distribute the official weights as a pickle; here they are read from the official file. As in these tools, the
order of the arguments differs: `fid_from_stats(mu1, sigma1, mu2, sigma2)`, but
`compute_frechet_distance(mu1, mu2, sigma1, sigma2)`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from frechet._internal.missing_path import describe_missing_path
from frechet.compat.pytorch_fid import calculate_frechet_distance
from frechet.errors import RequestError, SourceError
from frechet.images.decode import decode
from frechet.images.sources.folder import FolderSource
from frechet.statistics.moments import RunningMoments
from frechet.statistics.npz_format import read_statistics

__all__ = ["compute_frechet_distance", "compute_statistics", "fid_from_stats", "get_fid_network"]

_INPUT_SHAPE = (299, 299, 3)


def get_fid_network(weights: str | Path | None = None) -> Callable[[Any], Any]:
    """Load the network of jax-fid-parallel, which maps images to activations on all local devices.

    Matrix products are computed in float32, whereas jax-fid-parallel uses the default of JAX (bfloat16 on a TPU, TF32 on
    a GPU). The images are not resized, and the resize decides the value: for ADM, `jax.image.resize` with half-pixel
    centres gives 11.05, the resize of TensorFlow the published 10.94. `frechet.jax.network` resizes images itself.

    Args:
        weights: path of a weights file; if None, the usual locations are searched and missing weights are downloaded.

    Returns:
        A function of images, floating point in [-1, 1]: (n, 299, 299, 3) -> (n, 1, 1, 2048) or, with a leading axis of
        devices, (devices, n, 299, 299, 3) -> (devices, n, 1, 1, 2048). It raises RequestError for images of another
        shape, dtype or range of values, and for another number of devices.

    Raises:
        WeightsError: the weights are missing or damaged.
    """
    import jax

    from frechet.backends.jax import copy_host_array, make_shardings
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
        return compiled(params, jax.device_put(copy_host_array(images), sharded if images.ndim == 5 else replicated))

    return activations


def fid_from_stats(mu1: Any, sigma1: Any, mu2: Any, sigma2: Any, *, ridge: float = 0.0) -> float:
    """Compute the squared Fréchet distance between two Gaussians, with the signature of jax-fid-parallel.

    Args:
        mu1, mu2: means (d,).
        sigma1, sigma2: covariances (d, d).
        ridge: number that is added to the diagonals under the matrix square root. The default gives the exact distance;
            1e-6 reproduces jax-fid-parallel, whose value is slightly smaller.

    Returns:
        The distance.

    Raises:
        MismatchError: the shapes differ.
        StatisticsError: an array holds NaN or infinity.

    Example:
        >>> fid_from_stats(np.zeros(2), np.eye(2), np.ones(2), np.eye(2))
        2.0
    """
    mu1, sigma1, mu2, sigma2 = (np.asarray(array, np.float64) for array in (mu1, sigma1, mu2, sigma2))
    ridge_matrix = ridge * np.eye(len(sigma1))
    with_ridge = calculate_frechet_distance(mu1, sigma1 + ridge_matrix, mu2, sigma2 + ridge_matrix)
    return with_ridge - 2 * ridge * len(sigma1)


def compute_frechet_distance(mu1: Any, mu2: Any, sigma1: Any, sigma2: Any, eps: float = 1e-6) -> float:
    """Compute the squared Fréchet distance between two Gaussians, with the signature of jax-fid (both means first).

    The result is exact also for singular covariances, for which the matrix square root of jax-fid is not.

    Args:
        mu1, mu2: means (d,).
        sigma1, sigma2: covariances (d, d).
        eps: ignored; nothing is added to the diagonals.

    Returns:
        The distance.

    Raises:
        MismatchError: the shapes differ.
        StatisticsError: an array holds NaN or infinity.

    Example:
        >>> compute_frechet_distance(np.zeros(2), np.ones(2), np.eye(2), np.eye(2))
        2.0
    """
    return calculate_frechet_distance(mu1, sigma1, mu2, sigma2, eps)


def compute_statistics(
    path: str | Path,
    params: Any,
    apply_fn: Callable[[Any, Any], Any],
    batch_size: int = 1,
    img_size: tuple[int, int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean and covariance of the features of a folder, with the signature of jax-fid.

    jax-fid drops the last batch if it is shorter than `batch_size`; here its images are counted.

    Args:
        path: folder of images of one size (of any sizes with `img_size`), or an .npz file with mu and sigma.
        params: first argument of `apply_fn`.
        apply_fn: function (params, images) -> activations with n as first axis, for images (n, h, w, 3), float32 in
            [-1, 1]. `frechet.jax.network(value_range=(-1, 1))` returns both.
        batch_size: number of images per call of `apply_fn`.
        img_size: (width, height) to which images are resized, with the bilinear filter of Pillow and rounding to 8 bits,
            as in jax-fid; None for no resize.

    Returns:
        Mean (d,) and unbiased covariance (d, d), float64.

    Raises:
        SourceError: the folder has no images, or images of several sizes and `img_size` is None.
    """
    if str(path).endswith(".npz"):
        stored = read_statistics(Path(path))
        return stored.mean, stored.covariance
    if not Path(path).exists():
        raise SourceError(describe_missing_path(Path(path)))
    source = FolderSource(Path(path))
    image_refs = list(source.iter_images(range(len(source))))
    moments: RunningMoments | None = None
    for start in range(0, len(image_refs), batch_size):
        images = [_resize(decode(image_ref).rgb, img_size) for image_ref in image_refs[start : start + batch_size]]
        if len({image.shape for image in images}) != 1:
            raise SourceError(
                f"{path} contains images of several sizes; expected one. Pass img_size=(width, height) to resize them."
            )
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
            f"images have shape {tuple(images.shape)}; expected (n, 299, 299, 3) or (devices, n, 299, 299, 3). "
            "Resize them, or use frechet.jax.network, which resizes images itself."
        )
    if np.dtype(images.dtype).kind in "iub":
        raise RequestError(f"images are {images.dtype}; expected floating point in [-1, 1]; pass images / 127.5 - 1")
    if images.ndim == 5 and images.shape[0] != devices:
        raise RequestError(
            f"the leading axis has length {images.shape[0]}, but there are {devices} devices; expected one batch per device"
        )
