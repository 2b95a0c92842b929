"""Measure the error rates of `frechet compare` on ten simulated checkpoints, five of which are worse than the others.

Features are Gaussian or heavy-tailed (a Gaussian divided by a random scale), d = 32. All checkpoints are scored against one sample
of the reference. Five of them have the same distance to the reference, five a larger one. Two of the five equal checkpoints
differ from the reference in another direction than the other three, so that the noise of the reference does not cancel.
"""

import argparse
from pathlib import Path

import numpy as np
from machine import describe_machine, write_result

import frechet
from frechet.features.spec import FeatureSpec
from frechet.reports.run_comparison import compare_runs
from frechet.reports.run_files import Run
from frechet.statistics.feature_statistics import FeatureStatistics

D, SMALL_N, LARGE_N = 32, 2000, 4000
SPEC = FeatureSpec(
    extractor="efficientnet-lite0", layer="1280", weights="0" * 64, is_official=True, preprocessing="efficientnet-lite0", precision="float32"
)  # fmt: skip
SHIFT, LARGER_SHIFT = 0.5, 0.62  # shift of the mean along one direction: d² = SHIFT² or LARGER_SHIFT²
DIRECTIONS = (0, 0, 0, 9, 9)  # direction of the shift, for the five equal and for the five worse checkpoints


def draw_features(random, n, heavy_tailed):
    x = random.standard_normal((n, D)) * np.linspace(0.2, 1.0, D)
    return x / np.sqrt(random.chisquare(6, (n, 1)) / 4) if heavy_tailed else x


def make_shifted_statistics(random, n, heavy_tailed, direction, length):
    x = draw_features(random, n, heavy_tailed)
    x[:, direction] += length
    return FeatureStatistics.from_features(x.astype(np.float32), spec=SPEC)


def simulate_family(random, n, heavy_tailed):
    """Compare ten checkpoints; return whether any equal pair is called different, and the fraction of different pairs detected."""
    reference = FeatureStatistics.from_features(draw_features(random, n, heavy_tailed).astype(np.float32), spec=SPEC)
    lengths = [SHIFT] * 5 + [LARGER_SHIFT] * 5
    runs = []
    for i, (length, direction) in enumerate(zip(lengths, DIRECTIONS * 2, strict=True)):
        found = frechet.score_statistics(
            make_shifted_statistics(random, n, heavy_tailed, direction, length), reference
        ).to_dict()
        runs.append(Run(name=f"{i}", scores=found["scores"], provenance=found["provenance"]))
    rows = sorted(compare_runs(runs)[0].rows, key=lambda row: int(row.run))
    alike = [[bool(set(a.compact_letters) & set(b.compact_letters)) for b in rows] for a in rows]
    equal = [(i, j) for half in (range(5), range(5, 10)) for i in half for j in half if i < j]
    different = [(i, j) for i in range(5) for j in range(5, 10)]
    return any(not alike[i][j] for i, j in equal), np.mean([not alike[i][j] for i, j in different])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", type=int, default=200)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    rows = {}
    for heavy_tailed in (False, True):
        for n in (SMALL_N, LARGE_N):
            random = np.random.default_rng(n)
            families = [simulate_family(random, n, heavy_tailed) for _ in range(args.families)]
            has_error, detected = zip(*families, strict=True)
            rows[f"{'heavy_tailed' if heavy_tailed else 'gaussian'}_{n}"] = {
                "families_with_false_difference": float(np.mean(has_error)),
                "true_differences_detected": float(np.mean(detected)),
            }
            print(rows, flush=True)
    result = {"machine": describe_machine("numpy"), "families": args.families, "rows": rows}
    write_result(result, args.output)


if __name__ == "__main__":
    main()
