"""Measure the coverage of the confidence interval for every sampling design, on real features and on simulated ones.

    python benchmarks/interval.py features IMAGES.zip --extractor efficientnet-lite0 --output FEATURES.npy
    python benchmarks/interval.py coverage cifar=FEATURES.npy:64 [NAME=FEATURES.npy:DIMS ...] --output results/interval.json
    python benchmarks/interval.py curve FEATURES.npy --output results/interval-curve.json
    python benchmarks/interval.py plot results/interval-curve.json --output ../docs/interval.png

Populations are finite: all rows of a file, projected to fewer dimensions, or 20,000 simulated rows. Samples are drawn with
replacement, so that the population value is known exactly, however many images a sample has. `coverage` counts how often the
95 % interval contains it and how often equal populations are called different, and reports the width of the interval relative
to that of 1.96 standard deviations over fresh samples and the error of the corrected value relative to the plain one's.
"""

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # for many small matrices, processes are faster than threads

import numpy as np
from machine import describe_machine, write_result

from frechet._internal.cpu import process_cpu_count
from frechet.distances.extrapolation import frechet_infinity
from frechet.distances.frechet import frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.distances.interval import SIGNIFICANCE_LEVEL
from frechet.distances.sampling_error import Z_95
from frechet.metrics.frechet import compute_frechet_interval
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.strata import number_stratified_images

RATIOS = (1.5, 2, 4, 10, 25, 50)
POPULATION_SIZE = 20_000
SIMULATED_DIMS = 48
NOISE = (0.08, 0.16, 0.5)  # of reconstructions, in standard deviations of each feature
NUM_STRATA = 10
FIXED_SIZE = 5000  # images of the fixed reference


def simulate(name, random):
    """Draw a population (20,000, 48) with a decaying spectrum."""
    mixing = random.standard_normal((SIMULATED_DIMS, SIMULATED_DIMS)) * np.arange(1, SIMULATED_DIMS + 1) ** -0.5
    shape = (POPULATION_SIZE, SIMULATED_DIMS)
    if name == "t4":
        return random.standard_t(4, shape) @ mixing
    if name == "mixture":
        centers = 2 * random.standard_normal((8, SIMULATED_DIMS))
        return (random.standard_normal(shape) + centers[random.integers(0, 8, POPULATION_SIZE)]) @ mixing
    rows = random.standard_normal(shape) @ mixing
    return np.maximum(rows, 0) if name == "rectified" else rows


@cache
def make_populations(name, relation):
    """Return the populations of generated and reference images: equal, near or different."""
    random = np.random.default_rng(0)
    _, _, file = name.partition("=")
    if file:
        path, _, dims = file.rpartition(":")
        rows = np.load(path).astype(np.float64)
        if int(dims) < rows.shape[1]:
            rows = rows @ np.linalg.qr(random.standard_normal((rows.shape[1], int(dims))))[0]
        rows = rows[random.permutation(len(rows))] - rows.mean(axis=0)  # so that float32 holds nearly constant columns
        one, other = np.array_split(rows, 2)
    else:
        one = simulate(name, random)
        other = one @ (np.eye(SIMULATED_DIMS) + 0.05 * random.standard_normal((SIMULATED_DIMS, SIMULATED_DIMS)))
    if relation == "equal":
        return one, one
    if relation == "near":  # a tenth of the generated images comes from elsewhere
        return one, np.concatenate([one[: len(one) * 9 // 10], other[: len(one) // 10]])
    return one, other * 1.1


def fit(rows, noise=0.0):
    covariance = np.cov(rows, rowvar=False, bias=True)
    return Gaussian(rows.mean(0), covariance=covariance + np.diag(noise**2 * np.diag(covariance)))


def draw_independent(x, y, n, m, random):
    return [FeatureStatistics.from_features(z[random.integers(len(z), size=k)]) for z, k in ((x, n), (y, m))]


def draw_clusters(x, y, n, sizes, random):
    """Draw clusters of the given sizes, in turn: images of a cluster are equal but for a small noise."""
    statistics = []
    for z in (x, y):
        counts = np.resize(sizes, n)
        counts = counts[: np.searchsorted(np.cumsum(counts), n) + 1]
        units = np.repeat(np.arange(len(counts)), counts)
        rows = z[random.integers(len(z), size=len(counts))][units]
        order = random.permutation(len(units))
        statistics.append(FeatureStatistics.from_features(rows[order], units=units[order], grouped_by="cluster"))
    return statistics


def split_into_strata(z):
    """Return the indices of ten strata of equal size along the first principal axis."""
    centered = z - z.mean(0)
    score = centered @ np.linalg.eigh(centered.T @ centered)[1][:, -1]
    return np.array_split(np.argsort(score), NUM_STRATA)


def draw_strata(x, y, n, strata, random):
    """Draw as many images from each stratum of both populations."""
    statistics = []
    for z, members in zip((x, y), strata, strict=True):
        labels = np.repeat(np.arange(NUM_STRATA), n // NUM_STRATA)
        rows = np.concatenate([z[random.choice(each, n // NUM_STRATA)] for each in members])
        order = random.permutation(len(rows))
        units = number_stratified_images(labels[order], seed=0)
        statistics.append(FeatureStatistics.from_features(rows[order], units=units, grouped_by="stratum"))
    return statistics


def draw_pairs(x, n, noise, random):
    rows = x[random.integers(len(x), size=n)]
    other = rows + noise * x.std(0) * random.standard_normal(rows.shape)
    return [FeatureStatistics.from_features(each, grouped_by="pair") for each in (rows, other)]


def make_design(name, x, y):
    """Return (function that draws both statistics, population value, kind of reference) of a sampling design."""
    value = frechet_terms(fit(x), fit(y)).total
    kind, _, argument = name.partition(" ")
    if kind == "ignored":  # the same images, as if each were independent
        draw, value, reference_is = make_design(argument, x, y)
        return (
            lambda n, random: [FeatureStatistics.from_features(each.features) for each in draw(n, random)],
            value,
            reference_is,
        )
    if kind == "independent":
        return lambda n, random: draw_independent(x, y, n, n, random), value, "sample"
    if kind == "unequal":
        return lambda n, random: draw_independent(x, y, n, 3 * n, random), value, "sample"
    if kind == "fixed":
        rows = y[np.random.default_rng(1).integers(len(y), size=FIXED_SIZE)]
        reference = FeatureStatistics.from_features(rows)
        value = frechet_terms(fit(x), Gaussian(reference.mean, covariance=reference.covariance)).total

        def draw_fixed(n, random):
            return draw_independent(x, y, n, 2, random)[0], reference

        return draw_fixed, value, "fixed"
    if kind == "clusters":
        sizes = [4] if argument == "of 4" else [1, 2, 9]
        return lambda n, random: draw_clusters(x, y, n, sizes, random), value, "sample"
    if kind == "strata":
        strata = split_into_strata(x), split_into_strata(y)
        return lambda n, random: draw_strata(x, y, n, strata, random), value, "sample"
    noise = float(argument)
    value = frechet_terms(fit(x), fit(x, noise)).total
    return lambda n, random: draw_pairs(x, n, noise, random), value, "sample"


def evaluate_cell(job):
    """Compute coverage and errors of one population, design and sample size, over `count` evaluations."""
    population, relation, design, ratio, count, with_infinity = job
    x, y = make_populations(population, relation)
    draw, value, kind = make_design(design, x, y)
    d = x.shape[1]
    units_per_image = 4 if "clusters" in design else 1
    n = int(ratio * d) * units_per_image
    plain, corrected, low, high, different, extrapolated = [], [], [], [], [], []
    for trial in range(count):
        random = np.random.default_rng((trial, n))
        generated, reference = draw(n, random)
        found = compute_frechet_interval(generated, reference, kind, lambda *_: None)
        if isinstance(found, str):
            return {"population": population.rpartition("/")[2], "design": design, "n": n, "unavailable": found}
        plain.append(frechet_terms(*(Gaussian(s.mean, covariance=s.covariance) for s in (generated, reference))).total)
        corrected.append(found.corrected_value)
        low.append(found.low)
        high.append(found.high)
        p_value = found.permutation_p_value
        different.append(p_value is None or p_value <= SIGNIFICANCE_LEVEL)
        if with_infinity and trial < 100:
            extrapolated.append(frechet_infinity(generated.features, reference.features, seed=trial).total)

    def rms(values):
        return float(np.sqrt(np.mean((np.array(values) - value) ** 2)))

    low, high = np.array(low), np.array(high)
    name, _, file = population.partition("=")
    return {
        "population": f"{name}, {d} dims" if file else f"{population}, {d} dims",
        "relation": "pairs" if "pairs" in design else relation,
        "design": design,
        "images_per_dimension": ratio,
        "n": n,
        "population_value": value,
        "plain": float(np.mean(plain)),
        "corrected": float(np.mean(corrected)),
        "standard_error_of_mean": float(np.std(corrected) / count**0.5),
        "coverage": float(np.mean((low <= value) & (value <= high))),
        "called_different": float(np.mean(different)),
        "width_to_oracle": float(np.mean(high - low) / (2 * Z_95 * np.std(corrected))),
        "rms_error_to_plain": rms(corrected) / rms(plain),
        "fid_infinity_rms_error_to_plain": rms(extrapolated) / rms(plain[:100]) if extrapolated else None,
        "evaluations": count,
    }


def list_jobs(args):
    for population in (*args.populations, *args.simulated):
        for design in args.designs:
            relations = ("pairs",) if "pairs" in design else args.relations
            for relation in relations:
                for ratio in args.ratios:
                    with_infinity = args.infinity and design == "independent"
                    yield population, relation, design, ratio, args.count, with_infinity


def measure_coverage(args):
    rows = []
    with ProcessPoolExecutor(process_cpu_count()) as pool:
        for row in pool.map(evaluate_cell, list_jobs(args)):
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    return {"rows": rows}


def measure_curve(args):
    """Compute plain, corrected and extrapolated values of nested samples of one data set, from 2 to 50 images per dimension."""
    x, y = make_populations(f"curve={args.features}:{args.dims}", "different")
    value = frechet_terms(fit(x), fit(y)).total
    random = np.random.default_rng(0)
    sizes = np.unique(np.geomspace(2 * args.dims, 50 * args.dims, 25).astype(int))
    chosen = [z[random.integers(len(z), size=sizes[-1])] for z in (x, y)]
    rows = []
    for n in sizes.tolist():
        generated, reference = (FeatureStatistics.from_features(z[:n], keep_all=True) for z in chosen)
        found = compute_frechet_interval(generated, reference, "sample", lambda *_: None)
        rows.append(
            {
                "n": n,
                "plain": frechet_terms(
                    *(Gaussian(s.mean, covariance=s.covariance) for s in (generated, reference))
                ).total,
                "corrected": found.corrected_value,
                "standard_error": found.standard_error,
                "interval_95": [found.low, found.high],
                "fid_infinity": frechet_infinity(generated.features, reference.features).total,
            }
        )
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return {"dims": args.dims, "population_value": value, "rows": rows}


def plot(args):
    """Plot plain value, FID-infinity and bias-corrected value with its 95 % interval against n."""
    from matplotlib.figure import Figure

    result = json.loads(args.result.read_text())
    rows = result["rows"]
    n = [row["n"] for row in rows]
    figure = Figure(figsize=(7, 3.6), layout="constrained", dpi=160)
    axis = figure.subplots()
    axis.plot(n, [row["plain"] for row in rows], "o-", color="#8a8a8a", label="plain value")
    axis.plot(n, [row["fid_infinity"] for row in rows], "s--", color="#efb118", label="FID∞")
    low, high = zip(*(row["interval_95"] for row in rows), strict=True)
    axis.fill_between(n, low, high, color="#4269d0", alpha=0.2, linewidth=0)
    axis.plot(n, [row["corrected"] for row in rows], "o-", color="#4269d0", label="corrected, 95 % interval")
    axis.axhline(result["population_value"], color="black", linewidth=0.8, label="population value")
    axis.set(xlabel="images per set", ylabel="Fréchet distance", xscale="log", ylim=(0, None))
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.savefig(args.output, facecolor="white")


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
    coverage.add_argument("populations", nargs="*", help="NAME=FEATURES.npy:DIMS")
    coverage.add_argument("--simulated", nargs="*", default=["gaussian", "mixture", "rectified", "t4"])
    coverage.add_argument("--relations", nargs="*", default=["equal", "near", "different"])
    designs = [
        "independent",
        "unequal",
        "fixed",
        "clusters of 4",
        "clusters unequal",
        "strata",
        *(f"pairs {s}" for s in NOISE),
    ]
    coverage.add_argument("--designs", nargs="*", default=designs)
    coverage.add_argument("--ratios", nargs="*", type=float, default=RATIOS)
    coverage.add_argument("--count", type=int, default=400)
    coverage.add_argument("--infinity", action="store_true", help="compare with FID-infinity, which takes longer")
    coverage.set_defaults(run=measure_coverage)
    curve = commands.add_parser("curve")
    curve.add_argument("features", type=Path)
    curve.add_argument("--dims", type=int, default=64)
    curve.set_defaults(run=measure_curve)
    drawing = commands.add_parser("plot")
    drawing.add_argument("result", type=Path)
    drawing.set_defaults(run=plot)
    for command in (features, coverage, curve, drawing):
        command.add_argument("--output", type=Path)
    args = parser.parse_args()
    found = args.run(args)
    if found is not None:
        write_result({"machine": describe_machine("frechet", "numpy"), **found}, args.output)


if __name__ == "__main__":
    main()
