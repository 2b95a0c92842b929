"""FastFID's two tables: the trace alone, and the whole evaluation of small batches, beside SciPy's square root.

    python benchmarks/small_batches.py --weights FILE.pth [--output results/small-batches.json]

`trace`: tr √(Σ₁Σ₂) of n random rows of 2048 dimensions with Σ₁ = Σ₂, so that the true value is tr Σ₁; SciPy's `sqrtm` of the
product in float64 (FastFID's table had it in float32), ours from the rows. `evaluation`: the FID of n and n images of CIFAR size (patches of
photographs), network included; "true" is the nuclear norm of the two centred feature matrices, by NumPy in float64. Needs
SciPy, torch, scikit-image and scikit-learn.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from machine import machine

from frechet.compat.fastfid import _network, fastfid
from frechet.demo.photographs import EVERYDAY, patches
from frechet.distances.frechet import trace_of_root
from frechet.distances.gaussian import Normal

D = 2048
SIZES = (8, 16, 32, 64, 128, 256, 512)


def timed(function):
    start = time.perf_counter()
    value = function()
    return time.perf_counter() - start, value


def by_sqrtm(product):
    return float(np.trace(scipy.linalg.sqrtm(product)).real)


def trace_row(n):
    rows = np.random.default_rng(n).standard_normal((n, D)) * np.geomspace(10, 1, D)
    covariance = np.cov(rows, rowvar=False)
    scipy_seconds, scipy_value = timed(lambda: by_sqrtm(covariance @ covariance))

    def ours():
        one, other = Normal.of_features(rows), Normal.of_features(rows)
        return float(trace_of_root(one, other))

    seconds, value = min(timed(ours) for _ in range(5))
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


def true_distance(x, y):
    a, b = ((z - z.mean(0)) / (len(z) - 1) ** 0.5 for z in (x, y))
    gap = x.mean(0) - y.mean(0)
    return float(gap @ gap + (a**2).sum() + (b**2).sum() - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum())


def slow_distance(x, y):
    """As pytorch-fid and FastFID's reference have it."""
    gap = x.mean(0) - y.mean(0)
    one, other = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    return float(gap @ gap + np.trace(one) + np.trace(other)) - 2 * by_sqrtm(one @ other)


def evaluation_row(n, images, weights):
    one, other = images[:n], images[n : 2 * n]
    size = min(n, 32)
    network = _network("inception", weights, one.device, False)

    def features():
        with torch.no_grad():
            return [
                torch.cat([network.features(part) for part in side.split(size)]).double().numpy()
                for side in (one, other)
            ]

    network_seconds, (x, y) = timed(features)
    slow_seconds, slow = timed(lambda: slow_distance(x, y))
    slow_seconds += network_seconds
    with torch.no_grad():
        seconds, value = timed(lambda: float(fastfid(one, other, batch_size=size, weights=weights)))
    return {
        "n": n,
        "scipy_seconds": slow_seconds,
        "seconds": seconds,
        "times_ours": slow_seconds / seconds,
        "true": true_distance(x, y),
        "scipy": slow,
        "ours": value,
    }


def small_images(count):
    """(count, 3, 32, 32) in [0, 1]: patches of photographs, every third pixel."""
    return torch.from_numpy(patches(EVERYDAY, count, 0)[:, ::3, ::3]).permute(0, 3, 1, 2) / 255


def told(rows, title):
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
    images = small_images(2 * max(args.sizes))
    with torch.no_grad():
        fastfid(images[:8], images[8:16], weights=args.weights)  # loads the network
    result = {"machine": machine("frechet", "numpy", "scipy", "torch")}
    result["trace"] = [trace_row(n) for n in args.sizes]
    told(result["trace"], "the trace alone")
    result["evaluation"] = [evaluation_row(n, images, args.weights) for n in args.sizes]
    told(result["evaluation"], "the whole evaluation")
    print(json.dumps(result, indent=1), file=sys.stderr)
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
