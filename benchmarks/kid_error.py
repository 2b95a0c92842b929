"""Which is right where they differ: the standard error that KID is given with, or the bootstrap's?

    python benchmarks/kid_error.py simulated [--output results/kid_error.json]
    python benchmarks/kid_error.py real IMAGES.zip [MORE.zip] [--output results/kid_error-real.json]

`simulated`: twenty pairs of distributions (rectified mixtures of 8 normal causes, 32 features), from equal ones to clearly different ones.
The truth is the deviation of KID over 300 pairs of fresh samples of 150 images a side. Beside it, of such samples: the mean
square and the median of `frechet`'s standard errors, how often its 95 % interval holds the mean of all (0 for the equal pair),
and the mean square of bootstraps (150 resamplings of each of 8 pairs of samples): the naive one,
which counts an image and its own copy as a pair, and the one over pairs of different images alone.

`real`: the zips (or folders) hold images in class folders; twenty pairs of classes by EfficientNet-Lite0's features. No truth is
known, so the exact KID stands beside the mean of 100 subsets of half of the images (`subsets_off_by`, in standard errors), and its
standard error beside the bootstrap's.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path, PurePosixPath

import numpy as np
from machine import machine

import frechet
from frechet.distances.interval import Z_95
from frechet.distances.kernel import kid
from frechet.images.sources.registry import open_source

N_PAIRS, N_FRESH_SAMPLES, N_BOOTSTRAP_SAMPLES, N_RESAMPLINGS = 20, 300, 8, 150
N_SUBSETS, N_REAL_RESAMPLINGS = 100, 400
IMAGES, CAUSES, FEATURES = 150, 8, 32


def features(random, mixing, shift):
    """(IMAGES, FEATURES) float32: what layers behind a rectifier look like."""
    causes = random.standard_normal((IMAGES, CAUSES)) + shift
    return np.maximum(causes @ mixing + 0.2, 0).astype(np.float32)


def kernel(x, y):
    return (x.astype(float) @ y.T / x.shape[1] + 1) ** 3


def bootstrap_variances(random, x, y, resamplings=N_RESAMPLINGS):
    """(naive, twins left out): variances over resamplings of both sides."""
    within_x, within_y, across = kernel(x, x), kernel(y, y), kernel(x, y)
    found = np.empty((resamplings, 2))
    for repetition in range(resamplings):
        i, j = (random.integers(0, len(side), len(side)) for side in (x, y))
        found[repetition] = -2 * across[np.ix_(i, j)].mean()
        for own, indices in ((within_x, i), (within_y, j)):
            drawn, n = own[np.ix_(indices, indices)], len(indices)
            found[repetition, 0] += (drawn.sum() - np.trace(drawn)) / (n * (n - 1))
            found[repetition, 1] += drawn[indices[:, None] != indices].mean()
    return found.var(axis=0, ddof=1)


def row(pair):
    random = np.random.default_rng(pair)
    mixing = random.standard_normal((CAUSES, FEATURES)) / CAUSES**0.5
    shift = 0.03 * pair
    samples = [(features(random, mixing, 0), features(random, mixing, shift)) for _ in range(N_FRESH_SAMPLES)]
    found = [kid(*sample) for sample in samples]
    values, errors = np.array([(one.value, one.standard_error) for one in found]).T
    center = values.mean() if pair else 0.0
    population_std = float(values.std(ddof=1))
    naive, distinct = (
        np.mean([bootstrap_variances(random, *sample) for sample in samples[:N_BOOTSTRAP_SAMPLES]], axis=0) ** 0.5
    )
    return {
        "shift": shift,
        "kid": float(values.mean()),
        "deviation": population_std,
        "told_over_deviation": float(np.mean(errors**2) ** 0.5 / population_std),
        "median_told_over_deviation": float(np.median(errors) / population_std),
        "interval_covers": float((np.abs(values - center) <= Z_95 * errors).mean()),
        "bootstrap_over_deviation": float(naive / population_std),
        "bootstrap_without_twins_over_deviation": float(distinct / population_std),
    }


def extract_class_features(paths):
    """Features of each class of images, by its name."""
    sides = [frechet.collect(path, extractor="efficientnet-lite0") for path in paths]
    rows = np.concatenate([side.features for side in sides])
    sources = [open_source(path) for path in paths]
    names = [source.get_label(place) for source in sources for place in range(len(source))]
    classes = np.array([PurePosixPath(name.replace(":", "/")).parent.name for name in names])
    return {str(kind): rows[classes == kind] for kind in np.unique(classes)}


def evaluate_pair(random, one, other, x, y):
    found = kid(x, y)
    half = min(len(x), len(y)) // 2
    subsets = [kid(random.permutation(x)[:half], random.permutation(y)[:half]).value for _ in range(N_SUBSETS)]
    naive, distinct = bootstrap_variances(random, x, y, N_REAL_RESAMPLINGS) ** 0.5
    return {
        "classes": [one, other],
        "images": [len(x), len(y)],
        "kid": found.value,
        "standard_error": found.standard_error,
        "subsets_off_by": (float(np.mean(subsets)) - found.value) / found.standard_error,
        "told_over_bootstrap": found.standard_error / float(naive),
        "told_over_bootstrap_without_twins": found.standard_error / float(distinct),
    }


def evaluate_real(paths):
    random = np.random.default_rng(0)
    classes = extract_class_features(paths)
    pairs = list(itertools.combinations(classes, 2))
    chosen = [pairs[i] for i in random.permutation(len(pairs))[:N_PAIRS]]
    rows = [evaluate_pair(random, *pair, *(classes[kind] for kind in pair)) for pair in chosen]
    return {
        "within_15_per_cent_of_the_bootstrap": sum(abs(row["told_over_bootstrap"] - 1) <= 0.15 for row in rows),
        "subsets_within_3_standard_errors": sum(abs(row["subsets_off_by"]) <= 3 for row in rows),
        "pairs": rows,
    }


def simulate():
    rows = []
    for pair in range(N_PAIRS):
        rows.append(row(pair))
        print(rows[-1], file=sys.stderr, flush=True)
    names = [name for name in rows[0] if name.endswith("_over_deviation")]
    within = {name: sum(abs(row[name] - 1) <= 0.15 for row in rows) for name in names}
    return {"within_15_per_cent_of_20": within, "pairs": rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("simulated", "real"))
    parser.add_argument("images", nargs="*")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    result = {
        "machine": machine("frechet", "numpy"),
        **(simulate() if args.mode == "simulated" else evaluate_real(args.images)),
    }
    print(json.dumps(result, indent=1))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
