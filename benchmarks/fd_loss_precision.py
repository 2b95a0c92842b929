"""Measure the error of FDLoss's gradient if the transport map were computed in float32 instead of float64.

    python benchmarks/fd_loss_precision.py FEATURES.npy [--output results/fd_loss-precision.json]

The rows of a file of features (see `interval.py features`) are projected to fewer dimensions. The population is drawn from one half of
them, and the reference is the other half, scaled by 1.1. Moments and QR factors are computed in float64 and float32, respectively; the
map and the gradient in float32: from covariances by eigenvalues, and from the factors by singular values, which avoids squaring.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from machine import describe_machine, write_result

from frechet.distances.gaussian import Gaussian
from frechet.distances.transport import (
    feature_gradient,
    optimal_coupling,
    optimal_coupling_from_factors,
    squared_frechet_distance,
)

DIMS, RATIOS = (64, 256, 1280), (1.25, 2, 5, 20)
SCALE = 1.1


def compute(coupling_of, p, q, x):
    """Return the gradient with respect to the features, and the distance, in float64."""
    coupling = coupling_of(p, q)
    gradient = feature_gradient(x, q.mean, coupling.onto_q)
    return gradient.double(), float(squared_frechet_distance(p, q, coupling))


def to_float32(p):
    return replace(p, mean=p.mean.float(), covariance=p.covariance.float())


def factorize(x):
    """Return a Gaussian with the QR factor of features in float32."""
    mean = x.mean(0)
    factor = torch.linalg.qr(((x - mean) / (len(x) - 1) ** 0.5).float(), mode="r")[1]
    return Gaussian(mean.float(), factor=factor)


def measure(x, y):
    """Return relative errors of the gradient and the distance."""
    p, q = Gaussian.from_features(x), Gaussian.from_features(y)
    exact, value = compute(optimal_coupling, p, q, x)
    found = {
        "covariances": compute(optimal_coupling, to_float32(p), to_float32(q), x.float()),
        "factors": compute(optimal_coupling_from_factors, factorize(x), factorize(y), x.float()),
    }
    return {
        name: {
            "gradient": float((gradient - exact).norm() / exact.norm()),
            "distance": abs(distance - value) / value,
        }
        for name, (gradient, distance) in found.items()
    }


def project(rows, dims, random):
    """Project features to random orthonormal directions, in random order and centred."""
    if dims < rows.shape[1]:
        rows = rows @ np.linalg.qr(random.standard_normal((rows.shape[1], dims)))[0]
    return torch.from_numpy(rows[random.permutation(len(rows))] - rows.mean(axis=0))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features", type=Path)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    rows, random, found = np.load(args.features).astype(np.float64), np.random.default_rng(0), []
    half = len(rows) // 2
    for dims in DIMS:
        projected = project(rows, dims, random)
        for ratio in RATIOS:
            n = int(ratio * dims)
            if n <= half:
                errors = measure(projected[:n], SCALE * projected[half:])
                found.append({"dims": dims, "images_per_feature": ratio, "relative_errors": errors})
                print(found[-1])
    write_result({"machine": describe_machine("torch"), "rows": found}, args.output)


if __name__ == "__main__":
    main()
