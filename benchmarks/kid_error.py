"""Which is right where they differ: the standard error that KID is given with, or the bootstrap's?

    python benchmarks/kid_error.py [--output results/kid_error.json]

Twenty pairs of distributions (rectified mixtures of 8 normal causes, 32 features), from equal ones to clearly different ones.
The truth is the deviation of KID over 300 pairs of fresh samples of 150 images a side. Beside it, of such samples: the mean
square and the median of `frechet`'s standard errors, how often its 95 % interval holds the mean of all (0 for the equal pair),
and the mean square of bootstraps (150 resamplings of each of 8 pairs of samples): the naive one,
which counts an image and its own copy as a pair, and the one over pairs of different images alone.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from machine import machine

from frechet.distances.kernel import kid

PAIRS, FRESH, SAMPLES, RESAMPLINGS = 20, 300, 8, 150
IMAGES, CAUSES, FEATURES = 150, 8, 32


def features(random, mixing, shift):
    """(IMAGES, FEATURES) float32: what layers behind a rectifier look like."""
    causes = random.standard_normal((IMAGES, CAUSES)) + shift
    return np.maximum(causes @ mixing + 0.2, 0).astype(np.float32)


def kernel(x, y):
    return (x.astype(float) @ y.T / x.shape[1] + 1) ** 3


def bootstraps(random, x, y):
    """(naive, twins left out): variances over resamplings of both sides."""
    within_x, within_y, across = kernel(x, x), kernel(y, y), kernel(x, y)
    found = np.empty((RESAMPLINGS, 2))
    for turn in range(RESAMPLINGS):
        i, j = (random.integers(0, IMAGES, IMAGES) for _ in range(2))
        common = -2 * across[np.ix_(i, j)].mean()
        found[turn] = common
        for own, who in ((within_x, i), (within_y, j)):
            drawn = own[np.ix_(who, who)]
            found[turn, 0] += (drawn.sum() - np.trace(drawn)) / (IMAGES * (IMAGES - 1))
            found[turn, 1] += drawn[who[:, None] != who].mean()
    return found.var(axis=0, ddof=1)


def row(pair):
    random = np.random.default_rng(pair)
    mixing = random.standard_normal((CAUSES, FEATURES)) / CAUSES**0.5
    shift = 0.03 * pair
    samples = [(features(random, mixing, 0), features(random, mixing, shift)) for _ in range(FRESH)]
    found = [kid(*sample) for sample in samples]
    values, errors = np.array([(one.value, one.standard_error) for one in found]).T
    centre = values.mean() if pair else 0.0
    truth = float(values.std(ddof=1))
    naive, distinct = np.mean([bootstraps(random, *sample) for sample in samples[:SAMPLES]], axis=0) ** 0.5
    return {
        "shift": shift,
        "kid": float(values.mean()),
        "deviation": truth,
        "told_over_deviation": float(np.mean(errors**2) ** 0.5 / truth),
        "median_told_over_deviation": float(np.median(errors) / truth),
        "interval_covers": float((np.abs(values - centre) <= 1.96 * errors).mean()),
        "bootstrap_over_deviation": float(naive / truth),
        "bootstrap_without_twins_over_deviation": float(distinct / truth),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    rows = []
    for pair in range(PAIRS):
        rows.append(row(pair))
        print(rows[-1], file=sys.stderr, flush=True)
    names = [name for name in rows[0] if name.endswith("_over_deviation")]
    within = {name: sum(abs(row[name] - 1) <= 0.15 for row in rows) for name in names}
    result = {"machine": machine("frechet", "numpy"), "within_15_per_cent_of_20": within, "pairs": rows}
    print(json.dumps(result, indent=1))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
