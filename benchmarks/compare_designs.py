"""Measure false differences and power of `frechet compare` for every kind of reference, duplicates and common latents.

    python benchmarks/compare_designs.py FEATURES.npy --output results/compare_designs.json

Two runs of one model are simulated on real features, projected to 64 dimensions: rows of a population, which stand for the
latents, with noise of their own and a shift. Two runs with shifts of the same length, in the same or in orthogonal directions,
have equal distances to the reference, and `compare` should call them different in 5 % of cases. Runs with shifts of different
lengths have different distances, and the power is how often `compare` detects this.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from interval_designs import make_populations, save_and_read
from machine import describe_machine, write_result

import frechet
from frechet.reports.run_comparison import compare_runs
from frechet.statistics.feature_statistics import FeatureStatistics

DIMS, RATIO, STORED_RATIO, COPIES = 64, 10, 25, 4
NOISE = 0.3  # of a run, in standard deviations of each feature
SHIFT, LARGER_SHIFT = 0.3, 0.315  # in total standard deviations: roots of the sum of all variances
DESIGNS = (
    "sampled reference",
    "fixed reference",
    "stored reference",
    "a reference for each run",
    "images repeated four times",
    "common latents",
    "common latents, not declared",
)


class Simulation:
    """Draws runs and references of one design."""

    def __init__(self, design, features):
        self.design = design
        self.x, self.y = make_populations(f"features={features}:{DIMS}", "equal")
        self.std = self.x.std(0)
        self.directions = np.linalg.qr(np.random.default_rng(1).standard_normal((DIMS, 2)))[0].T
        self.total_std = np.sqrt((self.std**2).sum())

    def is_different(self, random, lengths, directions):
        """Compare two runs with these shifts; return whether they are called different."""
        rows = [self.draw_latents(random) for _ in range(2)]
        if self.design.startswith("common"):
            rows[1] = rows[0]
        reference = self.draw_reference(random)
        runs = {}
        for name, latents, length, direction in zip("ab", rows, lengths, directions, strict=True):
            if self.design == "a reference for each run":
                reference = self.draw_reference(random)
            generated = self.generate(latents, random, length * self.total_std * self.directions[direction])
            kind = "fixed" if self.design == "fixed reference" else "sample"
            runs[name] = frechet.score_statistics(generated, reference, reference_is=kind)
        (comparison,) = compare_runs(runs, paired_runs=self.design == "common latents")
        return any(row.verdict == "worse than the best" for row in comparison.rows)

    def draw_latents(self, random):
        return self.x[random.integers(len(self.x), size=RATIO * DIMS)]

    def generate(self, latents, random, shift):
        noise = NOISE * self.std * random.standard_normal(latents.shape)
        rows = (latents + noise + shift).astype(np.float32)
        if self.design != "images repeated four times":
            return FeatureStatistics.from_features(rows)
        units = random.permutation(np.repeat(np.arange(len(rows)), COPIES))
        return FeatureStatistics.from_features(rows[units], units=units, grouped_by="cluster")

    def draw_reference(self, random):
        if self.design == "fixed reference":
            return FeatureStatistics.from_features(self.y)
        ratio = STORED_RATIO if self.design == "stored reference" else RATIO
        drawn = FeatureStatistics.from_features(self.y[random.integers(len(self.y), size=ratio * DIMS)])
        return save_and_read(drawn) if self.design == "stored reference" else drawn


def measure(design, args):
    simulation = Simulation(design, args.features)
    settings = {
        "false_differences": ((SHIFT, SHIFT), (0, 0)),
        "false_differences_other_direction": ((SHIFT, SHIFT), (0, 1)),
        "power": ((SHIFT, LARGER_SHIFT), (0, 0)),
    }
    found = {
        name: float(
            np.mean([simulation.is_different(np.random.default_rng(trial), *how) for trial in range(args.count)])
        )
        for name, how in settings.items()
    }
    return {"design": design, **found, "comparisons": args.count}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features", type=Path)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--designs", nargs="*", default=DESIGNS)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    rows = []
    for design in args.designs:
        rows.append(measure(design, args))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    write_result(
        {"machine": describe_machine("frechet", "numpy"), "dims": DIMS, "n": RATIO * DIMS, "rows": rows}, args.output
    )


if __name__ == "__main__":
    main()
