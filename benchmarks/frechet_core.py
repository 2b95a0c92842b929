"""Measure the time of the distance alone: full covariances of 2048 dimensions, and small batches against a stored reference.

    python benchmarks/frechet_core.py [--runs 7] [--output results/frechet-core.json]

`sqrtm` of SciPy is the method of pytorch-fid and of FastFID's reference, `eigvals` that of torchmetrics and torch-fidelity,
Newton-Schulz (20 steps) that of faster implementations. All run in turn, in float64, on the same matrices.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import scipy.linalg
from machine import describe_machine, write_result

from frechet.distances.frechet import trace_sqrt_product
from frechet.distances.gaussian import Gaussian

D = 2048


def make_features(n, seed):
    """Draw correlated rows whose spectrum decays over three decades, similar to that of Inception features."""
    random = np.random.default_rng(seed)
    basis = np.linalg.qr(np.random.default_rng(1000 + seed % 2).standard_normal((D, D)))[0]
    return random.standard_normal((n, D)) @ (basis * np.geomspace(1, 1e-3, D)[:, None] ** 0.5)


def trace_by_sqrtm(p, q):
    return float(np.trace(scipy.linalg.sqrtm(p.covariance @ q.covariance)).real)


def trace_by_eigvals(p, q):
    return float(np.sqrt(np.linalg.eigvals(p.covariance @ q.covariance).astype(complex)).real.sum())


def trace_by_newton_schulz(p, q, steps=20):
    product = p.covariance @ q.covariance
    norm = np.linalg.norm(product)
    y, z, eye = product / norm, np.eye(D), 3 * np.eye(D)
    for _ in range(steps):
        t = (eye - z @ y) / 2
        y, z = y @ t, t @ z
    return float(np.trace(y)) * norm**0.5


def trace_by_frechet(p, q):
    return float(trace_sqrt_product(p, q))


def time_call(function, *arguments):
    start = time.perf_counter()
    value = function(*arguments)
    return time.perf_counter() - start, value


def time_methods(methods, p, q, runs):
    """Return for each method its median time, its value, and the median of its ratio to frechet within a turn."""
    results = {name: [] for name in methods}
    for _ in range(runs):
        for name, method in methods.items():
            results[name].append(time_call(method, p, q))
    own = [seconds for seconds, _ in results["ours"]]
    return {
        name: {
            "seconds": statistics.median(seconds for seconds, _ in timings),
            "times_ours": statistics.median(
                seconds / own_seconds for (seconds, _), own_seconds in zip(timings, own, strict=True)
            ),
            "trace": timings[-1][1],
        }
        for name, timings in results.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    x, y = make_features(5 * D, 0), make_features(5 * D, 1)
    p, q = (Gaussian(z.mean(0), covariance=np.cov(z, rowvar=False)) for z in (x, y))
    stored = q.with_factor()
    methods = {
        "ours": trace_by_frechet,
        "sqrtm": trace_by_sqrtm,
        "eigvals": trace_by_eigvals,
        "newton-schulz": trace_by_newton_schulz,
    }
    full = time_methods(methods, p, q, args.runs)
    print(json.dumps(full, indent=1), file=sys.stderr, flush=True)
    sqrtm = full["sqrtm"]["seconds"]
    small = []
    for n in (8, 16, 32, 64, 128, 256, 512):
        batch = x[:n]
        timings = [
            time_call(lambda rows: float(trace_sqrt_product(Gaussian.from_features(rows), stored)), batch)
            for _ in range(9)
        ]
        covariance = Gaussian(batch.mean(0), covariance=np.cov(batch, rowvar=False))
        seconds, value = time_call(trace_by_sqrtm, covariance, q)
        own = statistics.median(elapsed for elapsed, _ in timings)
        small.append(
            {
                "n": n,
                "seconds": own,
                "sqrtm_seconds": seconds,
                "times_ours": seconds / own,
                "trace": timings[-1][1],
                "sqrtm_trace": value,
            }
        )
        print(small[-1], file=sys.stderr, flush=True)
    result = {
        "machine": describe_machine("frechet", "numpy", "scipy"),
        "d": D,
        "runs": args.runs,
        "sqrtm_full_seconds": sqrtm,
        "full": full,
        "small_batches": small,
    }
    write_result(result, args.output)


if __name__ == "__main__":
    main()
