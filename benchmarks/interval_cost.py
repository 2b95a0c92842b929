"""Measure what a confidence interval costs, relative to the distance itself and to the network on the same images.

    OPENBLAS_NUM_THREADS=1 python benchmarks/interval_cost.py [--images-per-second 18.7] [--output FILE]

Features are random rows with a decaying spectrum. Both a pair of different distributions and a pair of equal ones are measured, since
only the latter needs the permutation test. Times are processor seconds, which other programs do not increase. --images-per-second is the
rate of the network on this machine (limits.py).
"""

import argparse
import time
from pathlib import Path
from statistics import median

import numpy as np
from machine import describe_machine, write_result

from frechet.distances.frechet import frechet_terms
from frechet.metrics.frechet import compute_frechet_interval, fit_gaussian
from frechet.statistics.feature_statistics import FeatureStatistics

SIZES = ((4000, 1280), (10_000, 2048))


def draw(n, d, random, scale):
    spectrum = np.arange(1, d + 1) ** -0.5 * np.linspace(1, scale, d)
    return np.maximum(random.standard_normal((n, d), np.float32) * spectrum.astype(np.float32), 0)


def measure(function, repeats):
    seconds = []
    for _ in range(repeats):
        begin = time.process_time()
        result = function()
        seconds.append(time.process_time() - begin)
    return median(seconds), result


def measure_size(n, d, equal, args):
    random = np.random.default_rng(0)
    one = FeatureStatistics.from_features(draw(n, d, random, 1.0))
    begin = time.process_time()
    other = FeatureStatistics.from_features(draw(n, d, random, 1.0 if equal else 1.3))
    statistics_seconds = time.process_time() - begin
    plain, _ = measure(lambda: frechet_terms(fit_gaussian(one), fit_gaussian(other)), args.repeats)
    interval, found = measure(lambda: compute_frechet_interval(one, other, "sample", lambda *_: None), args.repeats)
    groups = one.group_moments
    return {
        "images": [n, n],
        "dims": d,
        "equal": equal,
        "permutation_test": found.permutation_p_value is not None,
        "statistics_seconds": round(statistics_seconds, 3),
        "plain_seconds": round(plain, 3),
        "interval_seconds": round(interval, 3),
        "interval_to_plain": round(interval / plain, 2),
        "interval_to_network": round(interval * args.images_per_second / (2 * n), 4)
        if args.images_per_second
        else None,
        "group_moments_megabytes": round((groups.scatter.nbytes + groups.mean.nbytes) / 1e6, 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images-per-second", type=float)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    rows = [measure_size(n, d, equal, args) for n, d in SIZES for equal in (False, True)]
    write_result({"machine": describe_machine("frechet", "numpy"), "rows": rows}, args.output)


if __name__ == "__main__":
    main()
