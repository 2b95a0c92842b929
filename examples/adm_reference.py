"""Compute the five numbers of ADM's evaluator for a sample batch, without TensorFlow, and print the published values.

    python examples/adm_reference.py SAMPLES.npz REFERENCE.npz [--backend jax] [--weights FILE]
    python examples/adm_reference.py --trial FOLDER            # with small files of the same format, which it writes

Both files come from https://github.com/openai/guided-diffusion/tree/main/evaluations, e.g. admnet_guided_imagenet256.npz and
VIRTUAL_imagenet256_labeled.npz. They contain `arr_0`, uint8 (n, h, w, 3); the reference also contains `mu`, `sigma` (pool features)
and `mu_s`, `sigma_s` (the spatial features of sFID). The preprocessing must be that of TensorFlow 1: with another resize,
ADM scores 11.05 instead of 10.94.
"""

from __future__ import annotations

import argparse
from itertools import zip_longest
from pathlib import Path

import numpy as np

import frechet

METRICS = ("fid", "sfid", "is@adm", "precision@adm", "recall@adm")
# 50,000 samples each: the evaluator's own README, and table 5 of Dhariwal & Nichol 2021 (arXiv:2105.05233)
PUBLISHED = {
    "admnet_imagenet256.npz": (10.94, 6.02),
    "admnet_guided_imagenet256.npz": (4.59, 5.25),
    "admnet_guided_upsampled_imagenet256.npz": (3.9426, 6.1404, 215.837, 0.8265, 0.5309),
    "admnet_guided_imagenet128.npz": (2.9733, 5.0946, 141.48, 0.7814, 0.5929),
}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("samples", type=Path, nargs="?")
    parser.add_argument("reference", type=Path, nargs="?")
    parser.add_argument(
        "--trial", type=Path, metavar="FOLDER", help="Write small files of this format to FOLDER and evaluate them."
    )
    parser.add_argument("--backend", default="auto", help="Backend: auto, openvino, torch or jax.")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--weights", type=Path)
    args = parser.parse_args()
    settings = {"backend": args.backend, "device": args.device, "weights": args.weights}
    samples, reference = make_trial_files(args.trial, settings) if args.trial else (args.samples, args.reference)
    if samples is None or reference is None:
        parser.error("pass SAMPLES.npz and REFERENCE.npz, or --trial FOLDER")
    scores = evaluate(samples, reference, settings)
    print(f"{'':13}{'frechet':>12}{'published':>12}")
    for metric, published in zip_longest(METRICS, PUBLISHED.get(samples.name, ()), fillvalue="unknown"):
        print(f"{metric:13}{scores[metric].value:12.4f}{published:>12}")


def evaluate(samples: Path, reference: Path, settings: dict) -> frechet.Scores:
    """Compute all metrics in one pass over the samples: from the statistics of both layers, and the images of the reference."""
    return frechet.score(
        samples,
        reference,
        metrics=METRICS,
        preprocessing="tensorflow",
        reference_preprocessing="tensorflow",
        interval="none",
        **settings,
    )


def make_trial_files(folder: Path, settings: dict, count: int = 6, size: int = 64) -> tuple[Path, Path]:
    """Write two kinds of noise in the format of ADM: a sample batch, and a reference batch with statistics."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    samples, references = (random.integers(low, 256, (count, size, size, 3), np.uint8) for low in (0, 64))
    pool, spatial = (
        frechet.collect(references, dims=dims, preprocessing="tensorflow", **settings) for dims in (None, 2023)
    )
    np.savez(folder / "samples.npz", arr_0=samples)
    np.savez(
        folder / "reference.npz",
        arr_0=references,
        mu=pool.mean,
        sigma=pool.covariance,
        mu_s=spatial.mean,
        sigma_s=spatial.covariance,
    )
    return folder / "samples.npz", folder / "reference.npz"


if __name__ == "__main__":
    main()
