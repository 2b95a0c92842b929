"""Compare plain, corrected and extrapolated (FID∞) values of nested samples of one data set, from 2 to 50 images per dimension.

python benchmarks/interval_curve.py measure FEATURES.npy --output results/interval-curve.json
python benchmarks/interval_curve.py plot results/interval-curve.json --output ../docs/interval.png
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from interval_designs import fit, make_populations
from machine import describe_machine, write_result

from frechet.distances.extrapolation import frechet_infinity
from frechet.distances.frechet import frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.metrics.frechet import compute_frechet_interval
from frechet.statistics.feature_statistics import FeatureStatistics

NUM_SIZES = 25
TICKS = (200, 500, 1_000, 2_000, 3_000)


def measure(args):
    """Score the first n images of both samples for each n, in steps that keep the same ratio."""
    x, y = make_populations(f"curve={args.features}:{args.dims}", "different")
    random = np.random.default_rng(0)
    sizes = np.unique(np.geomspace(2 * args.dims, 50 * args.dims, NUM_SIZES).astype(int))
    chosen = [z[random.integers(len(z), size=sizes[-1])] for z in (x, y)]
    rows = []
    for n in sizes.tolist():
        rows.append({"n": n, **score(*(FeatureStatistics.from_features(z[:n], keep_all=True) for z in chosen))})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    value = frechet_terms(fit(x), fit(y)).total
    result = {
        "machine": describe_machine("frechet", "numpy"),
        "dims": args.dims,
        "population_value": value,
        "rows": rows,
    }
    write_result(result, args.output)


def score(generated, reference):
    """Return plain, corrected and extrapolated values."""
    found = compute_frechet_interval(generated, reference, "sample", lambda *_: None)
    p, q = (Gaussian(each.mean, covariance=each.covariance) for each in (generated, reference))
    return {
        "plain": frechet_terms(p, q).total,
        "corrected": found.corrected_value,
        "standard_error": found.standard_error,
        "interval_95": [found.low, found.high],
        "fid_infinity": frechet_infinity(generated.features, reference.features).total,
    }


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
    axis.plot(n, [row["corrected"] for row in rows], "o-", color="#4269d0", label="bias-corrected value, 95 % CI")
    axis.axhline(result["population_value"], color="black", linewidth=0.8, label="population value")
    axis.set(xlabel="images per input", ylabel="Fréchet distance", xscale="log", ylim=(0, None))
    axis.set_xticks(TICKS, [f"{tick:,}" for tick in TICKS])
    axis.set_xticks([], minor=True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.savefig(args.output, facecolor="white")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("features", type=Path)
    measuring.add_argument("--dims", type=int, default=64)
    measuring.set_defaults(run=measure)
    drawing = commands.add_parser("plot")
    drawing.add_argument("result", type=Path)
    drawing.set_defaults(run=plot)
    for command in (measuring, drawing):
        command.add_argument("--output", type=Path)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
