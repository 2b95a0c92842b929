"""Intervals at every look and races: coverage, width, wrong decisions and images saved, next to naive peeking.

    python benchmarks/anytime.py sample FOLDER [--count 1000] [--only NAME] [IMAGES.zip:FEATURES.npy:REFERENCE.npy]
    python benchmarks/anytime.py evaluate FOLDER [--output results/anytime.json]
    python benchmarks/anytime.py summary results/anytime.json

`sample` grows --count samples of each model (anytime_samples.py) and writes to FOLDER what is measured at each look; those that are
already there are skipped. `evaluate` computes intervals from these measurements, and races between models. A run of `evaluate` takes seconds.

Coverage is the share of samples whose intervals contain the exact distance at all looks. Naive peeking uses the 95 % interval for one look
at every look, or, in a race, the test that `frechet compare` uses. The asymptotic confidence sequence is that of Waudby-Smith et al.
(arXiv 2103.06476, theorem 2.2), narrowest at a tenth of the largest sample. A race is wrong if it eliminates a model that is not worse than all others, or ends with
another one than the best; with equal models, every elimination is wrong. The fixed number of images that a race is compared with is that which
detects a difference of 5 %, or of the true size, with 95 % power (`frechet power`).
"""

import argparse
import json
import os
from pathlib import Path
from statistics import NormalDist

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # for many small matrices, threads only cost time

import numpy as np
from anytime_samples import CLASS_MODELS, measure_growing_sample, resample_classes, simulate
from machine import describe_machine

from frechet.distances.elimination import SuccessiveElimination, count_pairs
from frechet.distances.interval import MIN_UNITS, DistanceEstimate
from frechet.distances.sampling_error import Z_95, SamplingError
from frechet.distances.sequential import EstimateWithBounds, critical_value, plan_looks
from frechet.evaluation.growing import MIN_IMAGES_PER_DIM

ALPHA = 0.05
POWER = 0.95
SMALLEST_GAP = 0.05  # that a fixed number of images is planned for, if the true one is unknown
# distribution, dimensions, distance, number of runs relative to --count
POOLS = [
    ("Gaussian", 32, 8.0, 2),
    ("Gaussian", 32, 8.8, 1),
    ("Gaussian", 32, 10.0, 0.5),
    ("rectified", 32, 8.0, 1),
    ("rectified", 32, 8.8, 1),
    ("rectified", 32, 10.0, 0.5),
    ("t(5)", 32, 8.0, 1),
    ("t(5)", 32, 8.8, 0.5),
    ("t(5)", 32, 10.0, 0.2),
    ("Gaussian", 32, 0.0, 1),
    ("rectified", 128, 8.0, 1),
    ("rectified", 128, 8.8, 1),
    ("t(5)", 64, 0.5, 1),
]
LARGEST = {32: 5333, 64: 2000, 128: 2667}  # images of one sample
PART_SIZE = 50  # samples per file
CLASS_DIMS, LARGEST_CLASS_SAMPLE = 64, 8000
NAMES = ("corrected", "other", "error", "third_cumulant", "rounding")


def first_look(d):
    """Return the number of images at the first look, as frechet chooses it."""
    return max(MIN_UNITS, MIN_IMAGES_PER_DIM * d)


def sample(args):
    """Grow samples of all models that the folder does not contain yet."""
    args.folder.mkdir(exist_ok=True)
    for index, (name, d, distance, factor) in enumerate(POOLS):
        model = f"{name} {d} {distance:g}"
        _write_pool(args, model, simulate(name, d, distance), plan_looks(first_look(d), LARGEST[d]), (index, factor))
    if args.cifar:
        looks = plan_looks(first_look(CLASS_DIMS), LARGEST_CLASS_SAMPLE)
        classes = sorted(resample_classes(args.cifar, CLASS_DIMS).items(), key=lambda each: each[1].distance)
        for index, (name, population) in enumerate(classes[:CLASS_MODELS]):
            _write_pool(args, f"CIFAR {name}", population, looks, (100 + index, 0.3))


def _write_pool(args, model, population, looks, seed_and_factor):
    """Write the samples of a model that are missing, in parts, so that an interrupted run continues."""
    seed, factor = seed_and_factor
    count = round(args.count * factor)
    for start in range(_count_samples(args.folder, model), count if model.startswith(args.only) else 0, PART_SIZE):
        rows = []
        for run in range(start, min(start + PART_SIZE, count)):
            estimates = measure_growing_sample(population, looks, np.random.default_rng([seed, run]))
            rows.append([_as_row(each) for each in estimates])
        np.savez(
            args.folder / f"{model}@{start:06d}.npz", rows=np.array(rows), looks=looks, distance=population.distance
        )
        print(model, start + len(rows), flush=True)


def _count_samples(folder, model):
    return sum(len(np.load(path)["rows"]) for path in folder.glob(f"{model}@*.npz"))


def _as_row(estimate):
    others = [*estimate.other_values, estimate.corrected_value]
    furthest = max(others, key=lambda each: abs(each - estimate.corrected_value))
    errors = estimate.errors
    return estimate.corrected_value, furthest, errors.standard_error, errors.third_cumulant, estimate.rounding


class Pool:
    """Measurements of growing samples of one model, read from the files of its parts."""

    def __init__(self, paths):
        parts = [np.load(path) for path in paths]
        self.rows = np.concatenate([part["rows"] for part in parts])
        self.looks, self.distance = parts[0]["looks"].tolist(), float(parts[0]["distance"])

    def intervals(self, z):
        """Return (runs, looks, 3): corrected value, low and high of the intervals of ± z standard errors."""
        return np.array([[_interval(row, z) for row in run] for run in self.rows])


def _interval(row, z):
    corrected, other, error, third_cumulant, rounding = row
    errors = SamplingError((error**2, 0.0), third_cumulant, None, None)
    found = DistanceEstimate(corrected, (other,), errors, rounding).interval(z)
    return found.corrected_value, found.low, found.high


def confidence_sequence(rows, looks):
    """Return half widths (runs, looks) of an asymptotic confidence sequence, narrowest at a tenth of the largest sample."""
    best = looks[-1] / 10
    # equation (15) of arXiv 2103.06476: the ρ that minimises the width at `best`
    rho2 = (-2 * np.log(ALPHA) + np.log(-2 * np.log(ALPHA)) + 1) / best
    n = np.array(looks, float)
    return rows[:, :, 2] * np.sqrt((n * rho2 + 1) / (n * rho2) * np.log((n * rho2 + 1) / ALPHA**2))


def evaluate_coverage(pool):
    """Return coverage at all looks together, and the width relative to the interval for one look."""
    bound = critical_value(pool.looks, ALPHA)
    anytime, fixed = pool.intervals(bound), pool.intervals(Z_95)
    half = confidence_sequence(pool.rows, pool.looks)
    contains = {
        "anytime": (anytime[..., 1] <= pool.distance) & (pool.distance <= anytime[..., 2]),
        "naive peeking": (fixed[..., 1] <= pool.distance) & (pool.distance <= fixed[..., 2]),
        "asymptotic confidence sequence": np.abs(pool.rows[..., 0] - pool.distance) <= half,
    }
    widths = anytime[..., 2] - anytime[..., 1], fixed[..., 2] - fixed[..., 1]
    tolerance = {f"{share:g}": _evaluate_stopping(anytime, fixed, pool, share) for share in (0.2, 0.1)}
    return {
        "runs": len(pool.rows),
        "distance": pool.distance,
        "looks": pool.looks,
        "critical_value": bound,
        "coverage": {name: float(each.all(axis=1).mean()) for name, each in contains.items()},
        "first_misses_by_look": _count_first_misses(contains["anytime"]),
        "standard_deviation_of_standardised_error": np.std(
            (pool.rows[..., 0] - pool.distance) / pool.rows[..., 2], axis=0
        ).tolist(),
        "coverage_at_one_look": float(contains["naive peeking"].mean()),
        "width_relative_to_one_look": float(np.median(widths[0] / widths[1])),
        "largest_width_relative_to_one_look": float(np.quantile(widths[0] / widths[1], 0.99)),
        "confidence_sequence_width_relative_to_one_look": float(np.median(2 * half / widths[1])),
        "stopping": tolerance if pool.distance else {},
    }


def _count_first_misses(contains):
    """Return for each look how many samples miss there for the first time."""
    missing = ~contains
    return np.bincount(missing[missing.any(axis=1)].argmax(axis=1), minlength=missing.shape[1]).tolist()


def _evaluate_stopping(anytime, fixed, pool, share):
    """Return what happens if sampling stops when half the width is at most a share of the corrected value."""

    def stop(intervals):
        reached = (intervals[..., 2] - intervals[..., 1]) / 2 <= share * np.maximum(intervals[..., 0], 0)
        reached[:, -1] = True
        return reached.argmax(axis=1)

    runs = np.arange(len(anytime))
    result = {}
    for name, intervals in (("anytime", anytime), ("naive peeking", fixed)):
        chosen = intervals[runs, stop(intervals)]
        inside = (chosen[:, 1] <= pool.distance) & (pool.distance <= chosen[:, 2])
        result[name] = {
            "median_images": float(np.median(np.array(pool.looks)[stop(intervals)])),
            "coverage": float(inside.mean()),
        }
    last = stop(anytime)
    ratio = (anytime[runs, last, 2] - anytime[runs, last, 1]) / (fixed[runs, last, 2] - fixed[runs, last, 1])
    result["anytime"]["width_relative_to_one_look"] = float(np.quantile(ratio, 0.99))
    return result


def evaluate_race(pools, names, count, find="best"):
    """Run races between models, of which the first one is the best.

    Args:
        pools: by name.
        names: the model of each competitor; the same name several times stands for models with equal distances.
        count: number of races.
        find: as in `frechet.race`.
    """
    rng = np.random.default_rng(0)
    members = _choose_samples(pools, names, count, rng)
    looks, num_pairs = pools[names[0]].looks, count_pairs(len(names))
    bound = critical_value(looks, ALPHA / num_pairs)
    distances = [pools[name].distance for name in names]
    best = [index for index, distance in enumerate(distances) if distance == min(distances)]
    methods = {"race": bound, "naive peeking": NormalDist().inv_cdf(1 - ALPHA / num_pairs / 2)}
    result = {"models": names, "races": count, "looks": looks}
    cache = {}
    for method, z in methods.items():
        for name in set(names):
            cache[name, method] = pools[name].intervals(z)
        outcomes = [
            _run_race(
                [cache[name, method][index] for name, index in zip(names, chosen, strict=True)], looks, best, find
            )
            for chosen in members
        ]
        result[method] = {
            "wrong": float(np.mean([wrong for wrong, _, _ in outcomes])),
            "decided": float(np.mean([decided for _, decided, _ in outcomes])),
            "median_images": float(np.median([used for _, _, used in outcomes])),
        }
    return result | _compare_with_fixed(pools, names, result["race"]["median_images"])


def _choose_samples(pools, names, count, rng):
    """Return (count, models): the sample of each competitor in each race; a sample appears once per race."""
    columns, used = [], {}
    for name in names:
        size = len(pools[name].rows)
        repeats = -(-count // size)
        column = np.concatenate([rng.permutation(size) for _ in range(repeats)])[:count]
        for earlier in used.get(name, []):
            clash = column == earlier
            while clash.any():
                column[clash] = rng.integers(size, size=int(clash.sum()))
                clash = np.any([column == each for each in used[name]], axis=0)
        used.setdefault(name, []).append(column)
        columns.append(column)
    return np.stack(columns, axis=1)


def _run_race(samples, looks, best, find):
    """Return whether a race made a mistake, whether it found the best model, and the number of images it used."""
    names = list(range(len(samples)))
    elimination = SuccessiveElimination(names, find)
    used = 0
    for look, n in enumerate(looks):
        used += len(elimination.active) * (n - (looks[look - 1] if look else 0))
        elimination.update({name: EstimateWithBounds(*samples[name][look]) for name in elimination.active})
        if elimination.is_decided:
            break
    eliminated = set(elimination.eliminated_by)
    wrong = bool(eliminated & set(best))
    return wrong, len(elimination.active) == 1 and not wrong, used


def _compare_with_fixed(pools, names, images):
    """Return the share of images that a race saves, compared with fixed numbers for all models."""
    first, second, *_ = sorted(pools[name].distance for name in names)
    if first == second:
        return {}
    gap = second / first - 1
    saved = {}
    for label, relative in (("5 %", SMALLEST_GAP), ("the true gap", gap)):
        n = _plan_fixed(pools[names[0]], relative, len(names))
        saved[label] = {"images_per_model": n, "saving": 1 - images / (n * len(names))}
    return {"gap": gap, "fixed": saved}


def _plan_fixed(pool, relative, num_models):
    """Return how many images per model detect a relative difference, as `frechet power` computes it, at α / number of pairs."""
    quantile = NormalDist().inv_cdf
    variance = float(np.mean(pool.rows[:, -1, 2] ** 2)) * pool.looks[-1] * (2 + relative)
    z = quantile(1 - ALPHA / count_pairs(num_models) / 2) + quantile(POWER)
    return int(np.ceil(variance * (z / (relative * pool.distance)) ** 2))


def evaluate(args):
    """Evaluate all pools in the folder, and races between them."""
    names = dict.fromkeys(path.stem.partition("@")[0] for path in sorted(args.folder.glob("*.npz")))
    pools = {name: Pool(sorted(args.folder.glob(f"{name}@*.npz"))) for name in names}
    result = {"machine": describe_machine("frechet", "numpy"), "coverage": {}, "races": []}
    for name, pool in pools.items():
        result["coverage"][name] = evaluate_coverage(pool)
        print(name, json.dumps(result["coverage"][name]), flush=True)
    for names in _list_races(pools):
        result["races"].append(evaluate_race(pools, names, args.races))
        print(json.dumps(result["races"][-1]), flush=True)
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
        yield classes[:2]
        yield [classes[0], classes[3]]
        yield classes[:CLASS_MODELS]


def summarise(args):
    """Print the tables of docs/stop-sampling.md."""
    result = json.loads(args.result.read_text())
    for name, row in result["coverage"].items():
        cells = [
            f"{100 * row['coverage'][key]:.1f} %"
            for key in ("anytime", "naive peeking", "asymptotic confidence sequence")
        ]
        widths = [
            f"{row[key]:.2f}"
            for key in ("width_relative_to_one_look", "confidence_sequence_width_relative_to_one_look")
        ]
        print(f"| {name} | {row['runs']:,} | {len(row['looks'])} | {' | '.join(cells)} | {' | '.join(widths)} |")
    for row in result["races"]:
        wrong = [f"{100 * row[key]['wrong']:.1f} %" for key in ("race", "naive peeking")]
        saved = [f"{100 * each['saving']:.0f} %" for each in row["fixed"].values()] if "fixed" in row else ["", ""]
        print(
            f"| {', '.join(row['models'])} | {' | '.join(wrong)} | {row['race']['median_images']:,.0f} | {' | '.join(saved)} |"
        )


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
