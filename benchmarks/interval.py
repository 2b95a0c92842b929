"""Measure the coverage of the confidence interval for every sampling design, on real features and on simulated ones.

    python benchmarks/interval.py features IMAGES.zip --extractor efficientnet-lite0 --output FEATURES.npy
    python benchmarks/interval.py coverage cifar=FEATURES.npy:64 [NAME=FEATURES.npy:DIMS ...] --output results/interval.json
    python benchmarks/interval.py summary results/interval.json
    python benchmarks/interval.py errors results/interval.json

`coverage` counts how often the 95 % interval contains the population value, which is known exactly (interval_designs.py), and
how often equal populations are called different. It reports the width of the interval relative to that of 1.96 standard
deviations over fresh samples, and the root-mean-square errors of the plain, corrected and extrapolated (FID∞) values. Cells
that the output file already contains are skipped, and every cell is written when it is complete, so that a run can be stopped
at any time. Cells that matter most come first. `summary` prints a Markdown table of the extremes of each design, and `errors` one of
the cells in which the corrected value has more than 0.3 times the error of the plain value.
"""

import argparse
import json
import os
import sys
from itertools import product
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # for many small matrices, threads only cost time

import numpy as np
from interval_designs import CLUSTERS, SIMULATED, count_images, describe_population, make_design, make_populations
from machine import describe_machine

from frechet._internal.atomic_write import atomic_write
from frechet.distances.extrapolation import frechet_infinity
from frechet.distances.frechet import frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.distances.interval import SIGNIFICANCE_LEVEL
from frechet.distances.sampling_error import Z_95
from frechet.metrics.frechet import compute_frechet_interval

# in descending order of importance
DESIGNS = (
    "independent",
    "pairs 0.16",
    "clusters of 4",
    "fixed",
    "stored",
    "pairs 0.5",
    "strata",
    "clusters unequal",
    "unequal",
    "unequal generated",
    "pairs 0.08",
    "pairs 0.24",
    "clips of 16",
)
RATIOS = (4, 10, 1.5, 25, 2, 50)  # images per dimension
RELATIONS = ("different", "equal", "near")
MAX_RATIO_OF_ERRORS = 5  # images per dimension up to which `errors` lists cells
NUM_EXTRAPOLATED = 50  # evaluations in which FID∞ is computed as well, which takes longer than the interval


def list_cells(args):
    """Return (population, relation, design, images per dimension), those with the smallest sum of ranks first."""
    choices = (args.populations, args.relations, args.designs, args.ratios)
    return sorted(
        product(*choices),
        key=lambda cell: sum(each.index(value) for each, value in zip(choices, cell, strict=True)),
    )


def get_key(row):
    """Return what identifies the cell of a row of the result."""
    return row["population"], row["relation"], row["design"], row["images_per_dimension"]


def measure_coverage(args):
    """Evaluate all cells that the output file does not contain yet."""
    earlier = json.loads(args.output.read_text()) if args.output.exists() else {"rows": []}
    result = {**earlier, "machine": describe_machine("frechet", "numpy")}
    done = set(map(get_key, result["rows"]))
    for population, relation, design, ratio in list_cells(args):
        cell = {
            "population": describe_population(population),
            "relation": relation,
            "design": design,
            "images_per_dimension": ratio,
        }
        if get_key(cell) in done:
            continue
        x, y = make_populations(population, relation)
        n = count_images(design, int(ratio * x.shape[1]))
        result["rows"].append({**cell, "n": n, **evaluate(make_design(design, relation, x, y), n, args.count, design)})
        with atomic_write(args.output, suffix=".json", force=True) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps(result["rows"][-1]), file=sys.stderr, flush=True)


def evaluate(design, n, count, name):
    """Compute coverage, width and errors over `count` samples of n generated images."""
    plain, found, extrapolated = [], [], []
    for trial in range(count):
        generated, reference = design.draw(n, np.random.default_rng((trial, n)))
        interval = compute_frechet_interval(generated, reference, design.reference_is, lambda *_: None)
        if isinstance(interval, str):
            return {"unavailable": interval}
        found.append(interval)
        p, q = (Gaussian(each.mean, covariance=each.covariance) for each in (generated, reference))
        plain.append(frechet_terms(p, q).total)
        if trial < NUM_EXTRAPOLATED and name not in (*CLUSTERS, "disjoint"):  # FID∞ is for independent images
            other = q if design.reference_is == "fixed" else reference.features
            if generated.features is not None and other is not None:
                extrapolated.append(frechet_infinity(generated.features, other, seed=trial).total)
    return {**summarize(plain, found, design.value), **summarize_errors(plain, found, extrapolated, design.value)}


def summarize(plain, found, value):
    """Return coverage, decisions and width."""
    low, high = (np.array([getattr(each, name) for each in found]) for name in ("low", "high"))
    corrected = np.array([each.corrected_value for each in found])
    p_values = [each.permutation_p_value for each in found]
    return {
        "population_value": value,
        "plain": float(np.mean(plain)),
        "corrected": float(corrected.mean()),
        "corrected_std": float(corrected.std()),
        "standard_error": float(np.mean([each.standard_error for each in found])),
        "coverage": float(np.mean((low <= value) & (value <= high))),
        "missed_low": float(np.mean(high < value)),
        "called_different": float(np.mean([p is None or p <= SIGNIFICANCE_LEVEL for p in p_values])),
        "width_to_oracle": float(np.mean(high - low) / (2 * Z_95 * corrected.std())),
        "evaluations": len(found),
    }


def summarize_errors(plain, found, extrapolated, value):
    """Return root-mean-square errors; those of FID∞ and of the corrected value relative to it are over the same samples."""

    def rms(values):
        return float(np.sqrt(np.mean((np.array(values) - value) ** 2)))

    corrected = [each.corrected_value for each in found]
    return {
        "plain_std": float(np.std(plain)),
        "rms_error": rms(corrected),
        "rms_error_to_plain": rms(corrected) / rms(plain),
        "plain_std_to_rms_error": float(np.std(plain)) / rms(plain),
        "rms_error_to_fid_infinity": rms(corrected[: len(extrapolated)]) / rms(extrapolated) if extrapolated else None,
    }


def read_rows(path):
    """Return the rows of a result in which the design was declared and an interval was available."""
    rows = json.loads(path.read_text())["rows"]
    return [row for row in rows if "coverage" in row and not row["design"].startswith("ignored")]


def print_summary(args):
    """Print the extremes over the cells of each design; widths are relative to 1.96 standard deviations over fresh samples."""
    print(
        "| design | cases | coverage, lowest | mean | width from 4 d | from 10 d | equal called different, mean | highest |"
    )
    print("|---|---|---|---|---|---|---|---|")
    rows = read_rows(args.result)
    for design in dict.fromkeys(map(get_kind, rows)):
        chosen = [row for row in rows if get_kind(row) == design]
        coverage = [row["coverage"] for row in chosen]
        widths = [
            max((row["width_to_oracle"] for row in chosen if low <= row["images_per_dimension"] < high), default=np.nan)
            for low, high in ((4, 10), (10, np.inf))
        ]
        equal = [row["called_different"] for row in chosen if row["relation"] == "equal"] or [np.nan]
        print(
            f"| {design} | {len(chosen)} | {min(coverage):.1%} | {np.mean(coverage):.1%} | {widths[0]:.2f} | {widths[1]:.2f} "
            f"| {np.mean(equal):.1%} | {max(equal):.1%} |"
        )


def get_kind(row):
    """Return the design of a row without the noise of pairs."""
    return "pairs" if row["design"].startswith("pairs") else row["design"]


def print_errors(args):
    """Print the cells up to 5 images per dimension in which the error of the corrected value is the largest part of the plain one.

    An unbiased estimator with the variance of the plain value has the error `plain_std_to_rms_error`.
    """
    print("| features | distributions | design | images per dimension | corrected | std of the plain value |")
    print("|---|---|---|---|---|---|")
    rows = [row for row in read_rows(args.result) if row["images_per_dimension"] <= MAX_RATIO_OF_ERRORS]
    for row in sorted(rows, key=get_key):
        if row["rms_error_to_plain"] > args.above:
            print(
                f"| {row['population']} | {row['relation']} | {row['design']} | {row['images_per_dimension']:g} "
                f"| {row['rms_error_to_plain']:.2f} | {row['plain_std_to_rms_error']:.2f} |"
            )


def extract_features(args):
    """Write the features of all images of a folder or archive."""
    import frechet

    options = {"weights": args.weights} if args.weights else {}
    request = {"extractor": args.extractor, "dims": args.dims, **options}
    np.save(args.output, np.concatenate([frechet.collect(path, **request).features for path in args.images]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    features = commands.add_parser("features")
    features.add_argument("images", type=Path, nargs="+")
    features.add_argument("--extractor", default="efficientnet-lite0")
    features.add_argument("--dims", type=int)
    features.add_argument("--weights")
    features.set_defaults(run=extract_features)
    coverage = commands.add_parser("coverage")
    coverage.add_argument(
        "populations",
        nargs="*",
        default=list(SIMULATED),
        help=f"NAME=FEATURES.npy:DIMS, or NAME or NAME/SEED of {SIMULATED}",
    )
    coverage.add_argument("--relations", nargs="*", default=RELATIONS)
    coverage.add_argument("--designs", nargs="*", default=DESIGNS)
    coverage.add_argument("--ratios", nargs="*", type=float, default=RATIOS)
    coverage.add_argument("--count", type=int, default=400)
    coverage.set_defaults(run=measure_coverage)
    for command in (features, coverage):
        command.add_argument("--output", type=Path, required=True)
    summary, errors = commands.add_parser("summary"), commands.add_parser("errors")
    for command, run in ((summary, print_summary), (errors, print_errors)):
        command.add_argument("result", type=Path)
        command.set_defaults(run=run)
    errors.add_argument("--above", type=float, default=0.3)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
