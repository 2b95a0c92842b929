"""Intervals at every look and races: coverage, width, wrong decisions and images saved, next to naive peeking.

    python benchmarks/anytime.py sample FOLDER [--count 1000] [--only NAME] [IMAGES.zip:FEATURES.npy:REFERENCE.npy]
    python benchmarks/anytime.py evaluate FOLDER [--output results/anytime.json]
    python benchmarks/anytime.py summary results/anytime.json

`sample` grows --count samples of each model (anytime_samples.py) and writes to FOLDER what is measured at each look. It also runs --count races
of each kind between models with common latents or a sampled reference (anytime_races.py). What is already there is skipped. `evaluate` computes intervals
from these measurements, and races between models that have nothing in common. A run of `evaluate` takes a minute.

Coverage is the share of samples whose intervals contain the exact distance at all looks. Naive peeking uses the 95 % interval for one look
at every look. The asymptotic confidence sequence is that of Waudby-Smith et al.
(arXiv 2103.06476, theorem 2.2), narrowest at a tenth of the largest sample. The fixed numbers of images that a race is compared with are the largest sample, and those which
detect a difference of 5 %, or of the true size, with 95 % power.
"""

import argparse
import glob
import json
import os
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # for many small matrices, threads only cost time

import numpy as np
from anytime_coverage import Pool, evaluate_coverage
from anytime_races import (
    SAMPLED_REFERENCE,
    SIMULATED_RACES,
    add_savings,
    evaluate_race,
    largest_mean_saving,
    run_race_with_common_errors,
    simulate_competitors,
    summarise_races,
)
from anytime_samples import CLASS_MODELS, measure_growing_sample, resample_classes, simulate
from anytime_tables import format_coverage, format_race
from machine import describe_machine

from frechet.distances.interval import MIN_UNITS
from frechet.distances.sequential import plan_looks
from frechet.evaluation.growing import MIN_IMAGES_PER_DIM

# distribution, dimensions, distance
POOLS = [
    ("Gaussian", 32, 8.0),
    ("Gaussian", 32, 8.8),
    ("Gaussian", 32, 10.0),
    ("rectified", 32, 8.0),
    ("rectified", 32, 8.8),
    ("rectified", 32, 10.0),
    ("t(5)", 32, 8.0),
    ("t(5)", 32, 8.8),
    ("t(5)", 32, 10.0),
    ("Gaussian", 32, 0.0),
    ("rectified", 128, 8.0),
    ("rectified", 128, 8.8),
    ("t(5)", 64, 0.5),
]
LARGEST = {32: 5333, 64: 2000, 128: 2667}  # images of one sample
LARGEST_WITH_COMMON_ERRORS = 4000
PART_SIZE = 50  # samples per file
CLASS_DIMS, LARGEST_CLASS_SAMPLE = 64, 8000


def first_look(d):
    """Return the number of images at the first look, as frechet chooses it."""
    return max(MIN_UNITS, MIN_IMAGES_PER_DIM * d)


def sample(args):
    """Grow the samples and run the races that the folder does not contain yet."""
    args.folder.mkdir(exist_ok=True)
    for index, (name, d, distance) in enumerate(POOLS):
        _write_pool(
            args, f"{name} {d} {distance:g}", simulate(name, d, distance), plan_looks(first_look(d), LARGEST[d]), index
        )
    for index, (design, name, d, distances) in enumerate(SIMULATED_RACES):
        models = [f"{name} {d} {distance:g}" for distance in distances]
        looks = plan_looks(first_look(d), LARGEST_WITH_COMMON_ERRORS)
        _write_races(args, (design, models, simulate_competitors(name, d, distances)), looks, 200 + index)
    if args.cifar:
        _sample_classes(args)


def _sample_classes(args):
    classes = sorted(resample_classes(args.cifar, CLASS_DIMS).items(), key=lambda each: each[1].distance)
    looks = plan_looks(first_look(CLASS_DIMS), LARGEST_CLASS_SAMPLE)
    for index, (name, population) in enumerate(classes[:CLASS_MODELS]):
        _write_pool(args, f"CIFAR {name}", population, looks, 100 + index)
    looks = plan_looks(first_look(CLASS_DIMS), LARGEST_WITH_COMMON_ERRORS)
    for index, pair in enumerate(((classes[0], classes[0]), classes[:2])):
        models, populations = zip(*pair, strict=True)
        _write_races(args, (SAMPLED_REFERENCE, [f"CIFAR {name}" for name in models], populations), looks, 300 + index)


def _write_pool(args, model, population, looks, seed):
    """Write the samples of a model that are missing, in parts, so that an interrupted run continues."""
    for runs in _list_missing_runs(args, model):
        rows = []
        for run in runs:
            estimates = measure_growing_sample(population, looks, np.random.default_rng([seed, run]))
            rows.append([_as_row(each) for each in estimates])
        fields = {"rows": np.array(rows), "looks": looks, "distance": population.distance}
        np.savez(args.folder / f"{model}@{runs[0]:06d}.npz", **fields)
        print(model, runs[-1] + 1, flush=True)


def _write_races(args, competitors, looks, seed):
    """Write the outcomes of races between models with common errors that are missing."""
    design, models, populations = competitors
    key = f"{design}, {', '.join(models)}"
    for runs in _list_missing_runs(args, key):
        outcomes = [run_race_with_common_errors(design, populations, looks, [seed, run]) for run in runs]
        rows = [
            {name: (sorted(lost), used, decided) for name, (lost, used, decided) in each.items()} for each in outcomes
        ]
        distances = [each.distance for each in populations]
        fields = {"design": design, "models": models, "distances": distances, "looks": looks, "rows": rows}
        (args.folder / f"{key}@{runs[0]:06d}.json").write_text(json.dumps(fields))
        print(key, runs[-1] + 1, flush=True)


def _list_missing_runs(args, name):
    """Yield the runs of each part that the folder does not contain, if the name is asked for."""
    for start in range(0, args.count if name.startswith(args.only) else 0, PART_SIZE):
        if not any(args.folder.glob(f"{glob.escape(name)}@{start:06d}.*")):
            yield range(start, min(start + PART_SIZE, args.count))


def _as_row(estimate):
    others = [*estimate.other_values, estimate.corrected_value]
    furthest = max(others, key=lambda each: abs(each - estimate.corrected_value))
    errors = estimate.errors
    return (
        estimate.corrected_value,
        furthest,
        errors.standard_error,
        errors.third_cumulant,
        errors.curvature,
        estimate.rounding,
    )


def evaluate(args):
    """Evaluate all pools and races in the folder, and races between the pools."""
    names = dict.fromkeys(path.stem.partition("@")[0] for path in sorted(args.folder.glob("*.npz")))
    pools = {name: Pool(sorted(args.folder.glob(f"{glob.escape(name)}@*.npz"))) for name in names}
    bounds = {"power of 95 %": largest_mean_saving(0.05), "power of 100 %": largest_mean_saving(0.0)}
    result = {
        "machine": describe_machine("frechet", "numpy"),
        "coverage": {},
        "races": [],
        "largest_mean_saving_for_a_known_gap": bounds,
    }
    for name, pool in pools.items():
        result["coverage"][name] = evaluate_coverage(pool)
        print(name, json.dumps(result["coverage"][name]), flush=True)
    for row in (*(evaluate_race(pools, each, args.races) for each in _list_races(pools)), *_read_races(args.folder)):
        result["races"].append(row)
        print(json.dumps(row), flush=True)
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


def _list_races(pools):
    """Yield the competitors of each kind of race: gaps of 0, 10 and 25 % of the smallest distance, two and eight models."""
    for prefix in dict.fromkeys(name.rpartition(" ")[0] for name in pools):
        same, near, far = (f"{prefix} {distance}" for distance in ("8", "8.8", "10"))
        if same not in pools or near not in pools:
            continue
        yield [same, same]
        yield [same, near]
        yield [same] * 8
        if far in pools:
            yield [same, far]
            yield [same, *[near] * 3, *[far] * 4]
            yield [same, same, *[far] * 6]
    classes = sorted((name for name in pools if name.startswith("CIFAR")), key=lambda name: pools[name].distance)
    if classes:
        yield [classes[0]] * 2
        yield classes[:2]
        yield [classes[0], classes[3]]
        yield classes[:CLASS_MODELS]


def _read_races(folder):
    """Yield the results of the races between models with common errors."""
    for key in dict.fromkeys(path.stem.partition("@")[0] for path in sorted(folder.glob("*.json"))):
        parts = [json.loads(path.read_text()) for path in sorted(folder.glob(f"{glob.escape(key)}@*.json"))]
        rows = [row for part in parts for row in part["rows"]]
        outcomes = {
            method: [(set(lost), used, decided) for lost, used, decided in (row[method] for row in rows)]
            for method in rows[0]
        }
        fields = [parts[0][name] for name in ("design", "models", "distances", "looks")]
        result = summarise_races(*fields, outcomes)
        if len(set(parts[0]["distances"])) > 1:
            add_savings(result, {"the largest sample": parts[0]["looks"][-1]})
        yield result


def summarise(args):
    """Print the tables of docs/stop-sampling.md."""
    result = json.loads(args.result.read_text())
    distances = {name: row["distance"] for name, row in result["coverage"].items()}
    print("\n".join(format_coverage(name, row) for name, row in result["coverage"].items()), end="\n\n")
    print("\n".join(format_race(row, distances) for row in result["races"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    sampling = commands.add_parser("sample")
    sampling.add_argument("folder", type=Path)
    sampling.add_argument("cifar", nargs="?")
    sampling.add_argument("--count", type=int, default=1000)
    sampling.add_argument("--only", default="", help="start of the names of the models to sample")
    sampling.set_defaults(run=sample)
    evaluation = commands.add_parser("evaluate")
    evaluation.add_argument("folder", type=Path)
    evaluation.add_argument("--races", type=int, default=1000)
    evaluation.add_argument("--output", type=Path)
    evaluation.set_defaults(run=evaluate)
    summary = commands.add_parser("summary")
    summary.add_argument("result", type=Path)
    summary.set_defaults(run=summarise)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
