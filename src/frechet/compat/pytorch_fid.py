"""pytorch-fid's command and functions, over this engine.

    python -m frechet.compat.pytorch_fid PATH PATH [pytorch-fid's flags]

A program written for `pytorch_fid.fid_score` and `pytorch_fid.inception` runs with this module imported in their place.
It gives pytorch-fid's number, but for one thing: where covariances are singular it gives the exact distance, from which
pytorch-fid's matrix square root differs by up to 1e-4 of its value.
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
from frechet.statistics.npz_format import read_statistics

if TYPE_CHECKING:
    import torch

    from frechet.compat.inception_v3 import InceptionV3

__all__ = [
    "IMAGE_EXTENSIONS",
    "InceptionV3",
    "calculate_activation_statistics",
    "calculate_fid_given_paths",
    "calculate_frechet_distance",
    "get_activations",
    "save_fid_stats",
]

IMAGE_EXTENSIONS = {"bmp", "jpg", "jpeg", "pgm", "png", "ppm", "tif", "tiff", "webp"}


def __getattr__(name: str) -> Any:
    if name == "InceptionV3":  # a torch module: torch is loaded for those who ask for it
        from frechet.compat.inception_v3 import InceptionV3

        return InceptionV3
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def calculate_frechet_distance(mu1: Any, sigma1: Any, mu2: Any, sigma2: Any, eps: float = 1e-6) -> float:  # noqa: ARG001
    """The squared Fréchet distance of two Gaussians.

    Args:
        mu1, mu2: (d,).
        sigma1, sigma2: (d, d).
        eps: accepted and not used: nothing is added to a diagonal here.

    Raises:
        Mismatch: the shapes differ.
        StatisticsError: a number is not finite, or a covariance none.
    """
    means = [np.atleast_1d(np.asarray(mu, np.float64)) for mu in (mu1, mu2)]
    covariances = [np.atleast_2d(np.asarray(sigma, np.float64)) for sigma in (sigma1, sigma2)]
    if means[0].shape != means[1].shape or covariances[0].shape != covariances[1].shape:
        raise MismatchError(
            f"means of shape {means[0].shape} and {means[1].shape}, covariances of shape {covariances[0].shape} and "
            f"{covariances[1].shape}; expected equal ones"
        )
    if not all(np.isfinite(array).all() for array in (*means, *covariances)):
        raise StatisticsError("a mean or covariance holds NaN or infinity; look for images without finite features")
    return frechet_terms(*(Gaussian(mu, covariance=sigma) for mu, sigma in zip(means, covariances, strict=True))).total


def get_activations(
    files: Sequence[str | Path],
    model: InceptionV3,
    batch_size: int = 50,
    dims: int = 2048,
    device: str | torch.device = "cpu",
    num_workers: int = 1,
) -> np.ndarray:
    """Features of image files by a model that returns maps.

    Returns:
        (n, dims) float64.
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
            same = len({image.shape for image in images}) == 1
            batches = [torch.stack(images)] if same else [image[None] for image in images]
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
    """Mean (dims,) and covariance (dims, dims) of the features of image files."""
    features = get_activations(files, model, batch_size, dims, device, num_workers)
    return features.mean(axis=0), np.cov(features, rowvar=False)


def calculate_fid_given_paths(
    paths: Sequence[str | Path],
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    dims: int = 2048,
    num_workers: int | None = 1,
) -> float:
    """FID of two paths, each a flat folder or an .npz with mu and sigma."""
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
    """Write statistics of the folder paths[0] to paths[1] (.npz is added where it lacks)."""
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
    if path.suffix == ".npz":
        return read_statistics(path)
    if not path.is_dir():
        raise SourceError(f"Invalid path: {path}")
    files = sorted(file for extension in IMAGE_EXTENSIONS for file in path.glob(f"*.{extension}"))
    if not files:
        raise SourceError(
            f"{path} has no images directly in it: pytorch-fid looks in one flat folder for {', '.join(sorted(IMAGE_EXTENSIONS))} "
            "in lower case. frechet score looks further."
        )
    return FolderSource.from_files(files, str(path))


def main(argv: Sequence[str] | None = None) -> None:
    """pytorch-fid's command line."""
    parser = argparse.ArgumentParser(prog="python -m frechet.compat.pytorch_fid", description="FID of two paths.")
    parser.add_argument("--batch-size", type=int, default=None, help="images that run together (pytorch-fid: 50)")
    parser.add_argument("--num-workers", type=int, default=process_cpu_count(), help="decoding threads")
    parser.add_argument("--device", default=None, help="like cuda, cuda:0 or cpu")
    parser.add_argument("--dims", type=int, default=2048, choices=[64, 192, 768, 2048], help="which layer's features")
    parser.add_argument("--save-stats", action="store_true", help="save statistics of the first path to the second")
    parser.add_argument("path", nargs=2, help="a flat folder of images, or an .npz with mu and sigma")
    args = parser.parse_args(argv)
    if args.save_stats:
        save_fid_stats(args.path, args.batch_size, args.device, args.dims, args.num_workers)
        return
    value = calculate_fid_given_paths(args.path, args.batch_size, args.device, args.dims, args.num_workers)
    print("FID: ", value)


if __name__ == "__main__":
    with exit_on_error():
        main()
