"""Measure how often `frechet verify` rejects a correct value, and one that is wrong by a given number of per cent.

    python benchmarks/run_verification.py [--runs 600] [--output FILE]

Features are simulated (d = 8, 2,000 samples, a reference of 4,000). Every second run has each sample four times. The rejection
rates are those of the plain value at p ≤ 0.01.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from machine import describe_machine, write_result

import frechet
from frechet.reports.run_verification import verify_run

N, DIMS, SUBSETS, WRONG_BY = 2000, 8, (100, 200, 1000), (0.0, 0.05, 0.1, 0.2)


def draw_samples(seed):
    random = np.random.default_rng(seed)
    rows = np.abs(random.standard_normal((N, DIMS))) ** 1.5 @ (np.eye(DIMS) + 0.1)
    return (np.repeat(rows[::4], 4, axis=0) if seed % 2 else rows).astype(np.float32)


def verify_once(folder, seed, reference):
    """Yield (size of the subset, relative error of the claim, whether the value is rejected)."""
    samples, run = folder / "samples.npy", folder / "run.json"
    np.save(samples, draw_samples(seed))
    content = json.loads(frechet.score(samples, reference, features=True, metrics=["fd"], interval="none").to_json())
    value = content["scores"]["fd"]["value"]
    for wrong_by in WRONG_BY:
        content["scores"]["fd"]["value"] = value * (1 + wrong_by)
        run.write_text(json.dumps(content))
        for size in SUBSETS:
            found = verify_run(run, samples, reference, features=True, num_images=size, seed=seed)
            yield size, wrong_by, not found.checks[0].is_consistent


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=600)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    rows = np.random.default_rng(10**6).standard_normal((4000, DIMS)).astype(np.float32)
    reference = frechet.collect(rows, features=True)
    rejected = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.runs):
            for size, wrong_by, is_rejected in verify_once(Path(folder), seed, reference):
                kind = "four copies" if seed % 2 else "independent"
                rejected.setdefault((kind, size, wrong_by), []).append(is_rejected)
    table = [
        {"samples": kind, "subset": size, "wrong_by": wrong_by, "runs": len(found), "rejected": float(np.mean(found))}
        for (kind, size, wrong_by), found in sorted(rejected.items())
    ]
    write_result({"machine": describe_machine("numpy"), "rows": table}, args.output)


if __name__ == "__main__":
    main()
