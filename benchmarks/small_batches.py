"""Measure the two tables of the FastFID paper: the trace alone, and the whole evaluation of small batches, against SciPy.

    python benchmarks/small_batches.py --weights FILE.pth [--output results/small-batches.json]

`trace`: tr √(Σ₁Σ₂) of n random rows of 2048 dimensions with Σ₁ = Σ₂, so that the exact value is tr Σ₁; `sqrtm` of SciPy on the
product in float64 (float32 in the table of FastFID), and frechet on the rows. `evaluation`: FID of n and n images of CIFAR size
(patches of photographs), including the network; "true" is the distance from the nuclear norm of the two centred feature
matrices, by NumPy in float64. Needs SciPy, torch, scikit-image and scikit-learn.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from machine import describe_machine, write_result

from frechet.compat.fastfid import _load_network, fastfid
from frechet.demo.photographs import NATURAL_PHOTOGRAPHS, sample_patches
from frechet.distances.frechet import trace_sqrt_product
from frechet.distances.gaussian import Gaussian

D = 2048
SIZES = (8, 16, 32, 64, 128, 256, 512)


def time_call(function):
    start = time.perf_counter()
    value = function()
    return time.perf_counter() - start, value


def trace_by_sqrtm(product):
    return float(np.trace(scipy.linalg.sqrtm(product)).real)


def evaluate_trace(n):
    rows = np.random.default_rng(n).standard_normal((n, D)) * np.geomspace(10, 1, D)
    covariance = np.cov(rows, rowvar=False)
    scipy_seconds, scipy_value = time_call(lambda: trace_by_sqrtm(covariance @ covariance))

    def ours():
        one, other = Gaussian.from_features(rows), Gaussian.from_features(rows)
        return float(trace_sqrt_product(one, other))

    seconds, value = min(time_call(ours) for _ in range(5))
    true = float(np.trace(covariance))
    return {
        "n": n,
        "scipy_seconds": scipy_seconds,
        "seconds": seconds,
        "times_ours": scipy_seconds / seconds,
        "true": true,
        "scipy": scipy_value,
        "ours": value,
        "scipy_error": scipy_value - true,
        "error": value - true,
    }


def compute_exact_distance(x, y):
    a, b = ((z - z.mean(0)) / (len(z) - 1) ** 0.5 for z in (x, y))
    mean_difference = x.mean(0) - y.mean(0)
    return float(
        mean_difference @ mean_difference
        + (a**2).sum()
        + (b**2).sum()
        - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum()
    )


def compute_distance_by_sqrtm(x, y):
    """Compute the distance as pytorch-fid and the reference of FastFID do."""
    mean_difference = x.mean(0) - y.mean(0)
    one, other = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    return float(mean_difference @ mean_difference + np.trace(one) + np.trace(other)) - 2 * trace_by_sqrtm(one @ other)


def evaluate_batches(n, images, weights):
    one, other = images[:n], images[n : 2 * n]
    size = min(n, 32)
    network = _load_network("inception", weights, one.device, False)

    def features():
        with torch.no_grad():
            return [
                torch.cat([network.features(batch) for batch in batches.split(size)]).double().numpy()
                for batches in (one, other)
            ]

    network_seconds, (x, y) = time_call(features)
    slow_seconds, slow = time_call(lambda: compute_distance_by_sqrtm(x, y))
    slow_seconds += network_seconds
    with torch.no_grad():
        seconds, value = time_call(lambda: float(fastfid(one, other, batch_size=size, weights=weights)))
    return {
        "n": n,
        "scipy_seconds": slow_seconds,
        "seconds": seconds,
        "times_ours": slow_seconds / seconds,
        "true": compute_exact_distance(x, y),
        "scipy": slow,
        "ours": value,
    }


def make_small_images(count):
    """Return every third pixel of patches of photographs, (count, 3, 32, 32) in [0, 1]."""
    return torch.from_numpy(sample_patches(NATURAL_PHOTOGRAPHS, count, 0)[:, ::3, ::3]).permute(0, 3, 1, 2) / 255


def print_table(rows, title):
    print(
        f"{title}\n| {'n':>5} | {'SciPy s':>9} | {'ours s':>9} | {'ratio':>7} | {'true':>14} | {'SciPy':>14} | {'ours':>14} |"
    )
    for row in rows:
        print(
            f"| {row['n']:>5} | {row['scipy_seconds']:>9.3f} | {row['seconds']:>9.4f} | {row['times_ours']:>7.1f} "
            f"| {row['true']:>14.6f} | {row['scipy']:>14.6f} | {row['ours']:>14.6f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    images = make_small_images(2 * max(args.sizes))
    with torch.no_grad():
        fastfid(images[:8], images[8:16], weights=args.weights)  # loads the network
    result = {"machine": describe_machine("frechet", "numpy", "scipy", "torch")}
    result["trace"] = [evaluate_trace(n) for n in args.sizes]
    print_table(result["trace"], "the trace alone")
    result["evaluation"] = [evaluate_batches(n, images, args.weights) for n in args.sizes]
    print_table(result["evaluation"], "the whole evaluation")
    write_result(result, args.output)


if __name__ == "__main__":
    main()
