"""Compare the standard error of KID with the bootstrap, where they differ.

    python benchmarks/kid_error.py simulate [--output results/kid_error.json]
    python benchmarks/kid_error.py real IMAGES.zip [MORE.zip] [--output results/kid_error-real.json]

`simulate`: twenty pairs of distributions (rectified mixtures of 8 normal factors, 32 features), from equal to clearly different
ones. The population value is the standard deviation of KID over 300 pairs of new samples of 150 images per set. It is compared with
the mean square and the median of the standard errors of `frechet`, and with the mean square of bootstraps (150 resamplings of
each of 8 pairs of samples): the naive one, which counts an image and its own copy as a pair, and one over pairs of
different images. The coverage is how often the 95 % interval contains the mean over all samples (0 for the equal pair).

`real`: the folders or archives hold images in class folders; twenty pairs of classes with EfficientNet-Lite0 features. The
population value is unknown, so the exact KID is compared with the mean of 100 subsets of half of the images
(`subset_bias`, in standard errors), and its standard error with the bootstrap.
"""

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np
from machine import describe_machine, write_result

import frechet
from frechet.distances.kernel import kid
from frechet.distances.sampling_error import Z_95
from frechet.images.sources.registry import open_source

N_PAIRS, N_FRESH_SAMPLES, N_BOOTSTRAP_SAMPLES, N_RESAMPLINGS = 20, 300, 8, 150
N_SUBSETS, N_REAL_RESAMPLINGS = 100, 400
IMAGES, CAUSES, FEATURES = 150, 8, 32


def draw_features(random, mixing, shift):
    """Draw features (IMAGES, FEATURES), float32, like those of a layer after a rectifier."""
    causes = random.standard_normal((IMAGES, CAUSES)) + shift
    return np.maximum(causes @ mixing + 0.2, 0).astype(np.float32)


def polynomial_kernel(x, y):
    return (x.astype(float) @ y.T / x.shape[1] + 1) ** 3


def bootstrap_variances(random, x, y, resamplings=N_RESAMPLINGS):
    """Return variances over resamplings of both sets: naive, and without pairs of an image with its copy."""
    within_x, within_y, across = polynomial_kernel(x, x), polynomial_kernel(y, y), polynomial_kernel(x, y)
    found = np.empty((resamplings, 2))
    for repetition in range(resamplings):
        i, j = (random.integers(0, len(rows), len(rows)) for rows in (x, y))
        found[repetition] = -2 * across[np.ix_(i, j)].mean()
        for own, indices in ((within_x, i), (within_y, j)):
            drawn, n = own[np.ix_(indices, indices)], len(indices)
            found[repetition, 0] += (drawn.sum() - np.trace(drawn)) / (n * (n - 1))
            found[repetition, 1] += drawn[indices[:, None] != indices].mean()
    return found.var(axis=0, ddof=1)


def simulate_pair(pair):
    random = np.random.default_rng(pair)
    mixing = random.standard_normal((CAUSES, FEATURES)) / CAUSES**0.5
    shift = 0.03 * pair
    samples = [(draw_features(random, mixing, 0), draw_features(random, mixing, shift)) for _ in range(N_FRESH_SAMPLES)]
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
        "population_std": population_std,
        "standard_error_over_std": float(np.mean(errors**2) ** 0.5 / population_std),
        "median_standard_error_over_std": float(np.median(errors) / population_std),
        "coverage": float((np.abs(values - center) <= Z_95 * errors).mean()),
        "bootstrap_over_std": float(naive / population_std),
        "bootstrap_without_duplicates_over_std": float(distinct / population_std),
    }


def extract_class_features(paths):
    """Return the features of each class of images, by the name of the class."""
    statistics = [frechet.collect(path, extractor="efficientnet-lite0") for path in paths]
    rows = np.concatenate([each.features for each in statistics])
    sources = [open_source(path) for path in paths]
    classes = np.concatenate([source.get_class_names(range(len(source))) for source in sources])
    return {str(name): rows[classes == name] for name in np.unique(classes)}


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
        "subset_bias": (float(np.mean(subsets)) - found.value) / found.standard_error,
        "standard_error_over_bootstrap": found.standard_error / float(naive),
        "standard_error_over_bootstrap_without_duplicates": found.standard_error / float(distinct),
    }


def evaluate_real(paths):
    random = np.random.default_rng(0)
    classes = extract_class_features(paths)
    pairs = list(itertools.combinations(classes, 2))
    chosen = [pairs[i] for i in random.permutation(len(pairs))[:N_PAIRS]]
    rows = [evaluate_pair(random, *pair, *(classes[name] for name in pair)) for pair in chosen]
    return {
        "n_within_15_percent_of_bootstrap": sum(abs(row["standard_error_over_bootstrap"] - 1) <= 0.15 for row in rows),
        "n_subset_means_within_3_standard_errors": sum(abs(row["subset_bias"]) <= 3 for row in rows),
        "pairs": rows,
    }


def simulate():
    rows = []
    for pair in range(N_PAIRS):
        rows.append(simulate_pair(pair))
        print(rows[-1], file=sys.stderr, flush=True)
    names = [name for name in rows[0] if name.endswith("_over_std")]
    within = {name: sum(abs(row[name] - 1) <= 0.15 for row in rows) for name in names}
    return {"n_within_15_percent": within, "pairs": rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("simulate", "real"))
    parser.add_argument("images", nargs="*")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    result = {
        "machine": describe_machine("frechet", "numpy"),
        **(simulate() if args.mode == "simulate" else evaluate_real(args.images)),
    }
    write_result(result, args.output)


if __name__ == "__main__":
    main()
