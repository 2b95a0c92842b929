"""Races between models whose distances are known, next to naive peeking, and to fixed numbers of images.

A race is wrong if it eliminates a model that is not worse than all others; with equal models, every elimination is wrong. Naive peeking is the same
procedure with the test that `frechet compare` uses, at every look.
"""

from functools import cache
from statistics import NormalDist

import numpy as np
from anytime_coverage import ALPHA
from anytime_samples import GrowingRows, simulate

from frechet.distances.difference import Estimate, relative_error_of_difference
from frechet.distances.elimination import SuccessiveElimination, count_pairs, independent
from frechet.distances.interval import estimate_distance
from frechet.distances.sampling_error import NUM_INFLUENCE_GROUPS
from frechet.distances.sequential import EstimateWithBounds, critical_value, student_quantile

POWER = 0.95
SMALLEST_GAP = 0.05  # that a fixed number of images is planned for, if the true one is unknown
COMMON_LATENTS, SAMPLED_REFERENCE = "common latents", "sampled reference"
NUM_REFERENCES = 2000  # images of a sampled reference
# design, distribution, dimensions, distances of the models
SIMULATED_RACES = [
    (design, name, 32, distances)
    for design in (COMMON_LATENTS, SAMPLED_REFERENCE)
    for name in ("Gaussian", "rectified", "t(5)")
    for distances in ((8.0, 8.0), (8.0, 8.8))
]
_QUANTILE = NormalDist().inv_cdf


def run_race(bounds, looks, names, scale=None):
    """Run one race, in which every model is compared with every other one at every look.

    Args:
        bounds: function of (model, look) that returns an `EstimateWithBounds`.
        looks: numbers of images.
        names: the models.
        scale: function of a look that returns the `scale` of `SuccessiveElimination.update`; None for independent errors.

    Returns:
        The models that were eliminated, the number of images used, and whether one model is left.
    """
    elimination, used = SuccessiveElimination(names), 0
    for look, n in enumerate(looks):
        used += len(elimination.active) * (n - (looks[look - 1] if look else 0))
        found = {name: bounds(name, look) for name in elimination.active}
        elimination.update(found, scale(look) if scale else independent)
        if elimination.is_decided:
            break
    return set(elimination.eliminated_by), used, len(elimination.active) == 1


@cache
def critical_values(looks, num_models, has_common_errors=False):
    """Return the half widths in standard errors of a race and of naive peeking at a tuple of looks."""
    pairs = count_pairs(num_models)
    bound = critical_value(looks, ALPHA / pairs)
    if has_common_errors:
        bound = student_quantile(bound, NUM_INFLUENCE_GROUPS - 1)
    return {"race": bound, "naive peeking": _QUANTILE(1 - ALPHA / pairs / 2)}


def evaluate_race(pools, names, count):
    """Run races between models without common errors.

    Args:
        pools: by name.
        names: the model of each competitor; the same name several times stands for models with equal distances.
        count: number of races.
    """
    members = _choose_samples(pools, names, count, np.random.default_rng(0))
    looks = pools[names[0]].looks
    outcomes = {
        method: _run_races([pools[name].intervals(z)[members[:, model]] for model, name in enumerate(names)], looks)
        for method, z in critical_values(tuple(looks), len(names)).items()
    }
    distances = [pools[name].distance for name in names]
    result = summarise_races("independent", names, distances, looks, outcomes)
    first, second, *_ = sorted(distances)
    if first < second:
        gaps = {"5 %": SMALLEST_GAP, "the true gap": second / first - 1}
        planned = {label: _plan_fixed(pools[names[0]], gap, len(names)) for label, gap in gaps.items()}
        add_savings(result, {"the largest sample": looks[-1]} | planned)
    return result


def _run_races(intervals, looks):
    """Run races between models with independent errors; `intervals` are (runs, looks, 3) of each model."""
    models = range(len(intervals))
    return [
        run_race(lambda model, look, run=run: EstimateWithBounds(*intervals[model][run, look]), looks, models)
        for run in range(len(intervals[0]))
    ]


def summarise_races(design, names, distances, looks, outcomes):
    """Return the shares of races that are wrong and decided, and the number of images that they used, by method."""
    best = {model for model, distance in enumerate(distances) if distance == min(distances)}
    result = {"design": design, "models": list(names), "races": len(outcomes["race"]), "looks": list(looks)}
    for method, races in outcomes.items():
        wrong = [bool(eliminated & best) for eliminated, _, _ in races]
        result[method] = {
            "wrong": float(np.mean(wrong)),
            "decided": float(np.mean([decided and not bad for bad, (_, _, decided) in zip(wrong, races, strict=True)])),
            "median_images": float(np.median([used for _, used, _ in races])),
            "mean_images": float(np.mean([used for _, used, _ in races])),
        }
    return result


def add_savings(result, images_per_model):
    """Add the median share of images that a race saves, compared with fixed numbers for all models."""
    count = len(result["models"])
    result["fixed"] = {
        label: {"images_per_model": n, "saving": 1 - result["race"]["median_images"] / (n * count)}
        for label, n in images_per_model.items()
    }


def _choose_samples(pools, names, count, rng):
    """Return (count, models): the sample of each competitor in each race; a sample appears once per race."""
    columns, used = [], {}
    for name in names:
        size = len(pools[name].rows)
        if size < names.count(name):
            raise ValueError(
                f"there are {size} samples of {name}; expected at least {names.count(name)}, one per competitor"
            )
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


def _plan_fixed(pool, relative, num_models):
    """Return how many images per model detect a relative difference at α / number of pairs, from the variance of the largest samples."""
    variance = float(np.mean(pool.rows[:, -1, 2] ** 2)) * pool.looks[-1] * (2 + relative)
    z = _QUANTILE(1 - ALPHA / count_pairs(num_models) / 2) + _QUANTILE(POWER)
    return int(np.ceil(variance * (z / (relative * pool.distance)) ** 2))


def simulate_competitors(name, d, distances):
    """Return models that are moved in different directions, so that their errors are correlated but not equal."""
    return [simulate(name, d, distance, axis) for axis, distance in enumerate(distances, 1)]


def run_race_with_common_errors(design, populations, looks, seed):
    """Run a race between models that share latents or a sampled reference.

    Args:
        design: `COMMON_LATENTS` or `SAMPLED_REFERENCE`.
        populations: of the models, the best one first.
        looks: numbers of images.
        seed: of this race, a list of integers.

    Returns:
        By method, what `run_race` returns.
    """
    is_sampled = design == SAMPLED_REFERENCE
    reference = populations[0].reference
    if is_sampled:
        rows = populations[0].draw_reference(np.random.default_rng([*seed, 0]), NUM_REFERENCES)
        reference = GrowingRows(rows).grow(NUM_REFERENCES)
    samples = [
        GrowingRows(each.draw(np.random.default_rng([*seed, 1 + (model if is_sampled else 0)]), looks[-1]))
        for model, each in enumerate(populations)
    ]

    @cache
    def estimate(model, look):
        if look:
            estimate(model, look - 1)  # samples grow look by look
        return estimate_distance(samples[model].grow(looks[look]), reference)

    def scale(look):
        return lambda one, other: relative_error_of_difference(
            *(_as_estimate(estimate(model, look)) for model in (one, other)),
            shared_reference=True,
            paired_runs=not is_sampled,
        )

    def bounds(z):
        return lambda model, look: _as_bounds(estimate(model, look).interval(z))

    values = critical_values(looks, len(populations), has_common_errors=True)
    return {method: run_race(bounds(z), looks, range(len(populations)), scale) for method, z in values.items()}


def _as_estimate(found):
    errors = found.errors
    return Estimate(found.corrected_value, errors.variance_components, errors.generated_groups, errors.reference_groups)


def _as_bounds(interval):
    return EstimateWithBounds(interval.corrected_value, interval.low, interval.high)


def largest_mean_saving(miss):
    """Return the largest share of images that any sequential test saves on average, compared with a fixed number planned for the true gap.

    That number detects the gap at level α with a power of 95 %. A test with error probabilities α/2 and `miss` needs at least the
    images of Wald's sequential probability ratio test (Wald & Wolfowitz 1948).

    Args:
        miss: probability that the sequential test does not find the better model, 0 or more.
    """
    alpha = ALPHA / 2
    information = (1 - miss) * np.log((1 - miss) / alpha) + (miss * np.log(miss / (1 - alpha)) if miss else 0.0)
    return 1 - 2 * information / (_QUANTILE(1 - alpha) + _QUANTILE(POWER)) ** 2
