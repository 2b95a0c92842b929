"""The command and functions of pytorch-fid.

    python -m frechet.compat.pytorch_fid PATH PATH [flags of pytorch-fid]

A program written for `pytorch_fid.fid_score` and `pytorch_fid.inception` can import this module instead. The values are
those of pytorch-fid, with one exception: for singular covariances the distance is exact, and the matrix square root of
pytorch-fid differs from it by up to 1e-4 of the value.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from frechet._internal.cpu import process_cpu_count
from frechet._internal.terminal import exit_on_error
from frechet.distances.frechet import frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.errors import MismatchError, OutputError, SourceError, StatisticsError
from frechet.evaluation.run import collect, score
from frechet.images.decode import decode
from frechet.images.image import ImageSource
from frechet.images.sources.folder import FolderSource
from frechet.statistics.feature_statistics import require_unmasked
from frechet.statistics.npz_format import read_statistics, translate_read_errors
from frechet.statistics.safe_npz import open_npz_safely

if TYPE_CHECKING:
    import torch

    from frechet.compat.image_path_dataset import ImagePathDataset
    from frechet.compat.inception_v3 import InceptionV3

__all__ = [
    "IMAGE_EXTENSIONS",
    "ImagePathDataset",
    "InceptionV3",
    "calculate_activation_statistics",
    "calculate_fid_given_paths",
    "calculate_frechet_distance",
    "compute_statistics_of_path",
    "get_activations",
    "main",
    "parser",
    "save_fid_stats",
]

IMAGE_EXTENSIONS = {"bmp", "jpg", "jpeg", "pgm", "png", "ppm", "tif", "tiff", "webp"}


parser = argparse.ArgumentParser(
    prog="python -m frechet.compat.pytorch_fid", description="Compute FID between two paths."
)
parser.add_argument("--batch-size", type=int, default=None, help="Number of images per forward pass (pytorch-fid: 50).")
parser.add_argument("--num-workers", type=int, default=process_cpu_count(), help="Number of decoding threads.")
parser.add_argument("--device", default=None, help="Device, such as cuda, cuda:0 or cpu.")
parser.add_argument(
    "--dims",
    type=int,
    default=2048,
    choices=[64, 192, 768, 2048],
    help="Number of features, which selects the layer.",
)
parser.add_argument("--save-stats", action="store_true", help="Write statistics of the first path to the second.")
parser.add_argument("path", nargs=2, help="Folder of images without subfolders, or .npz file with mu and sigma.")


def __getattr__(name: str) -> Any:
    if name == "InceptionV3":  # imported on first use, since it needs torch
        from frechet.compat.inception_v3 import InceptionV3

        return InceptionV3
    if name == "ImagePathDataset":
        from frechet.compat.image_path_dataset import ImagePathDataset

        return ImagePathDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def calculate_frechet_distance(mu1: Any, sigma1: Any, mu2: Any, sigma2: Any, eps: float = 1e-6) -> float:  # noqa: ARG001
    """Compute the squared Fréchet distance between two Gaussians.

    Source: Dowson & Landau 1982; Heusel et al. 2017, arXiv:1706.08500.

    Args:
        mu1, mu2: means (d,).
        sigma1, sigma2: covariances (d, d).
        eps: ignored; nothing is added to the diagonals.

    Returns:
        The distance.

    Raises:
        MismatchError: the shapes differ.
        StatisticsError: an array holds NaN, infinity, masked or complex values or values too large to be squared, or is not
            a covariance matrix.

    Example:
        >>> calculate_frechet_distance(np.zeros(2), np.eye(2), np.ones(2), np.eye(2))
        2.0
    """
    for array in (mu1, sigma1, mu2, sigma2):
        require_unmasked(array, "a mean or covariance")
        if np.iscomplexobj(array):
            raise StatisticsError(
                "a mean or covariance is complex; expected real numbers. A complex square root is not part of either: take "
                "the moments of the features."
            )
    means = [np.atleast_1d(np.asarray(mu, np.float64)) for mu in (mu1, mu2)]
    covariances = [np.atleast_2d(np.asarray(sigma, np.float64)) for sigma in (sigma1, sigma2)]
    if means[0].shape != means[1].shape or covariances[0].shape != covariances[1].shape:
        raise MismatchError(
            f"the means have shapes {means[0].shape} and {means[1].shape}, the covariances {covariances[0].shape} and "
            f"{covariances[1].shape}; expected equal shapes. Compute both from features of the same layer."
        )
    if not all(np.isfinite(array).all() for array in (*means, *covariances)):
        raise StatisticsError(
            "a mean or covariance contains NaN or infinity; check the features for images that are not finite"
        )
    return frechet_terms(*(Gaussian(mu, covariance=sigma) for mu, sigma in zip(means, covariances, strict=True))).total


def get_activations(
    files: Sequence[str | Path],
    model: InceptionV3,
    batch_size: int = 50,
    dims: int = 2048,
    device: str | torch.device = "cpu",
    num_workers: int = 1,
) -> np.ndarray:
    """Compute the features of image files with a model that returns feature maps, averaged over pixels.

    Args:
        files: paths of n image files.
        model: module whose first output is a map (batch, dims, h, w), such as `InceptionV3`.
        batch_size: number of images per forward pass; images of different sizes run one by one.
        dims: number of features d.
        device: device of the model.
        num_workers: number of decoding threads.

    Returns:
        Features (n, dims), float64.

    Raises:
        SourceError: a file is missing.
        ImageDecodeError: a file cannot be decoded.
    """
    from concurrent.futures import ThreadPoolExecutor

    import torch

    model.eval()
    source = FolderSource.from_files([Path(file) for file in files])
    features = np.empty((len(source), dims))
    image_refs = list(source.iter_images(range(len(source))))
    with ThreadPoolExecutor(max(1, num_workers)) as pool, torch.no_grad():
        for start in range(0, len(image_refs), batch_size):
            decoded = pool.map(decode, image_refs[start : start + batch_size])
            images = [torch.tensor(image.rgb).permute(2, 0, 1).float().div_(255) for image in decoded]
            has_one_size = len({image.shape for image in images}) == 1
            batches = [torch.stack(images)] if has_one_size else [image[None] for image in images]
            maps = [model(batch.to(device))[0].mean((2, 3)) for batch in batches]
            features[start : start + batch_size] = torch.cat(maps).cpu().numpy()
    return features


def calculate_activation_statistics(
    files: Sequence[str | Path],
    model: InceptionV3,
    batch_size: int = 50,
    dims: int = 2048,
    device: str | torch.device = "cpu",
    num_workers: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean and covariance of the features of image files.

    Args:
        files: paths of n image files.
        model: module whose first output is a map (batch, dims, h, w), such as `InceptionV3`.
        batch_size: number of images per forward pass.
        dims: number of features d.
        device: device of the model.
        num_workers: number of decoding threads.

    Returns:
        Mean (dims,) and unbiased covariance (dims, dims), float64.

    Raises:
        SourceError: a file is missing.
        ImageDecodeError: a file cannot be decoded.
    """
    features = get_activations(files, model, batch_size, dims, device, num_workers)
    return features.mean(axis=0), np.cov(features, rowvar=False)


def compute_statistics_of_path(
    path: str | Path,
    model: InceptionV3,
    batch_size: int = 50,
    dims: int = 2048,
    device: str | torch.device = "cpu",
    num_workers: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Read the mean and covariance in a file, or compute those of the features of the images in a folder.

    Args:
        path: a folder with images directly in it, or an .npz file with mu and sigma.
        model: module whose first output is a map (batch, dims, h, w), such as `InceptionV3`; not used for a file.
        batch_size: number of images per forward pass.
        dims: number of features d.
        device: device of the model.
        num_workers: number of decoding threads.

    Returns:
        Mean (dims,) and covariance (dims, dims).

    Raises:
        SourceError: the path does not exist, or the folder contains no images.
        StatisticsError: the file is damaged, or has no mu and sigma.
        ImageDecodeError: a file cannot be decoded.
    """
    path = Path(path)
    if path.suffix == ".npz":
        with translate_read_errors(path, "statistics"), open_npz_safely(path) as arrays:
            if not {"mu", "sigma"} <= set(arrays):
                raise StatisticsError(f"{path} has the arrays {', '.join(arrays)}; expected mu and sigma")
            return arrays["mu"], arrays["sigma"]
    return calculate_activation_statistics(_list_images(path), model, batch_size, dims, device, num_workers)


def calculate_fid_given_paths(
    paths: Sequence[str | Path],
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    dims: int = 2048,
    num_workers: int | None = 1,
) -> float:
    """Compute FID between two paths.

    Args:
        paths: two paths, each a folder with images directly in it, or an .npz file with mu and sigma.
        batch_size: number of images per forward pass; None chooses it.
        device: device such as "cpu" or "cuda:0"; None chooses it.
        dims: number of features: 64, 192, 768 or 2048.
        num_workers: number of decoding threads; 0 or None for one per core.

    Returns:
        The distance.

    Raises:
        SourceError: a path does not exist or holds no images.
        TooFewImagesError: a folder holds one image.
        WeightsError: the weights are missing or damaged.
    """
    inputs = [_open_input(path) for path in paths]
    settings: dict[str, Any] = {
        "batch_size": batch_size,
        "device": str(device or "auto"),
        "workers": num_workers or None,
    }
    if all(not isinstance(source_or_statistics, FolderSource) for source_or_statistics in inputs):
        settings = {}
    return float(score(inputs[0], inputs[1], dims=dims, **settings)["fid"])


def save_fid_stats(
    paths: Sequence[str | Path],
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    dims: int = 2048,
    num_workers: int | None = 1,
) -> None:
    """Compute statistics of a folder and write them to a file.

    Args:
        paths: a folder with images directly in it, and the output file; the suffix .npz is added if it is missing.
        batch_size: number of images per forward pass; None chooses it.
        device: device such as "cpu" or "cuda:0"; None chooses it.
        dims: number of features: 64, 192, 768 or 2048.
        num_workers: number of decoding threads; 0 or None for one per core.

    Raises:
        OutputError: the output file exists.
        SourceError: the folder does not exist or holds no images.
        WeightsError: the weights are missing or damaged.
    """
    folder, out = Path(paths[0]), Path(paths[1])
    out = out if out.suffix == ".npz" else out.with_name(f"{out.name}.npz")
    if out.exists():
        raise OutputError(f"Existing output file: {out}")
    statistics = collect(
        _open_input(folder), dims=dims, batch_size=batch_size, device=str(device or "auto"), workers=num_workers or None
    )
    statistics.save(out)


def _open_input(path: str | Path) -> ImageSource | Any:
    path = Path(path)
    return read_statistics(path) if path.suffix == ".npz" else FolderSource.from_files(_list_images(path), str(path))


def _list_images(path: Path) -> list[Path]:
    """Return the images directly in a folder, sorted.

    Raises:
        SourceError: the folder does not exist or contains no images.
    """
    if not path.is_dir():
        raise SourceError(f"Invalid path: {path}")
    files = sorted(file for extension in IMAGE_EXTENSIONS for file in path.glob(f"*.{extension}"))
    if not files:
        raise SourceError(
            f"{path} has no images directly in it; pytorch-fid reads only files with the extensions "
            f"{', '.join(sorted(IMAGE_EXTENSIONS))}, in lower case, and no subfolders. Use frechet score, which reads other images too."
        )
    return files


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line of pytorch-fid.

    Args:
        argv: arguments; those of the process if None.
    """
    args = parser.parse_args(argv)
    if args.save_stats:
        save_fid_stats(args.path, args.batch_size, args.device, args.dims, args.num_workers)
        return
    value = calculate_fid_given_paths(args.path, args.batch_size, args.device, args.dims, args.num_workers)
    print("FID: ", value)


if __name__ == "__main__":
    with exit_on_error():
        main()
