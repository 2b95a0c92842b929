"""Whether `frechet power` predicts the number of images that are needed: 20 settings with a known difference.

    python benchmarks/power.py [--count 200] [--output results/power.json]

Model A is the reference distribution moved by a vector, and model B by a longer one, so that both distances and their difference are
known exactly for every distribution. In each setting, NUM_PILOTS pilots of A predict n for a power of 80 %. Then --count pairs of models
with n images each, the median of the predictions, are compared as `frechet compare` does, with a new reference each time. The share of significant differences p
gives the number of images that would have been right: n_needed / n = ((z_0.975 + z_0.8) / (z_0.975 + z_p))^2. If p is not near 80 %, this is
repeated with that number. It is compared with the prediction of the first pilot, and with the median over all pilots. Settings that are already in the
output are skipped.
"""

import argparse
import json
import time
from itertools import islice, product
from pathlib import Path
from statistics import NormalDist

import numpy as np
from machine import describe_machine

import frechet
from frechet.distances.difference import Estimate, standard_error_of_difference
from frechet.reports.multiple_testing import two_sided_p_value

N_REFERENCE, N_PILOT, NUM_PILOTS = 5_000, 1_000, 25
MAX_ROUNDS, TOLERANCE = 3, 0.05  # of the search for the number that is needed
QUANTILE = NormalDist().inv_cdf


def draw_gaussian(rng, n, d):
    return rng.standard_normal((n, d))


def draw_rectified(rng, n, d):
    mixing = np.random.default_rng(1).standard_normal((d, d)) / d**0.5
    return np.maximum(rng.standard_normal((n, d)) @ mixing, 0)


def draw_heavy_tailed(rng, n, d):
    return rng.standard_t(5, (n, d))


DISTRIBUTIONS = {"Gaussian": draw_gaussian, "rectified": draw_rectified, "t(5)": draw_heavy_tailed}
KEYS = ("distribution", "dims", "distance", "difference")
SETTINGS = list(islice(product(DISTRIBUTIONS, (8, 16), (0.5, 2.0), (0.15, 0.3)), 20))  # distance, relative difference


def score(rng, draw, d, distance, n, reference):
    """Score n images of a model whose distance to the reference distribution is `distance`."""
    shift = np.zeros(d)
    shift[0] = distance**0.5
    return frechet.score(draw(rng, n, d) + shift, reference, features=True)["fd"]


def as_estimate(found):
    return Estimate(found.corrected_value, found.variance_components, found.generated_groups, found.reference_groups)


def measure(setting, count, rng):
    predicted = [predict(rng, setting) for _ in range(NUM_PILOTS)]
    median = n = round(np.median(predicted))
    for _ in range(MAX_ROUNDS):
        measured_at, power = n, measure_power(rng, setting, n, count)
        n = round(measured_at * ((QUANTILE(0.975) + QUANTILE(0.8)) / (QUANTILE(0.975) + QUANTILE(power))) ** 2)
        if abs(power - 0.8) <= TOLERANCE:
            break
    return {
        "predicted": predicted[0],
        "median_predicted": median,
        "relative_deviation_of_predictions": float(np.std(np.log(predicted), ddof=1)),
        "measured_at": measured_at,
        "power": power,
        "needed": n,
        "factor": _factor(predicted[0], n),
        "factor_of_median": _factor(median, n),
        "share_of_pilots_within_1.3": float(np.mean([_factor(each, n) <= 1.3 for each in predicted])),
    }


def predict(rng, setting):
    name, d, distance, relative = setting
    draw = DISTRIBUTIONS[name]
    pilot = score(rng, draw, d, distance, N_PILOT, draw(rng, N_REFERENCE, d))
    return frechet.plan_sample_size(pilot, distance * relative).n_by_power[0.8]


def measure_power(rng, setting, n, count):
    """Return the share of pairs of models whose difference is significant, at least 1 / count from 0 and 1."""
    name, d, distance, relative = setting
    draw, detected = DISTRIBUTIONS[name], 0
    for _ in range(count):
        reference = frechet.Statistics.from_features(draw(rng, N_REFERENCE, d).astype("float32"))
        one, other = (
            as_estimate(score(rng, draw, d, value, n, reference)) for value in (distance, distance * (1 + relative))
        )
        error = standard_error_of_difference(one, other, shared_reference=True)
        detected += two_sided_p_value(one.value - other.value, error) < 0.05
    return min(max(detected / count, 1 / count), 1 - 1 / count)


def _factor(one, other):
    return float(max(one / other, other / one))


def summarise(rows):
    for name in ("factor", "factor_of_median"):
        factors = [row[name] for row in rows]
        within = sum(factor <= 1.3 for factor in factors)
        print(f"{name} at most {max(factors):.2f}, {within} of {len(rows)} within 1.3")
    shares = [row["share_of_pilots_within_1.3"] for row in rows]
    print(f"{np.mean(shares):.2f} of all pilots within 1.3, at least {min(shares):.2f} in a setting")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    content = json.loads(args.output.read_text()) if args.output and args.output.exists() else {"settings": []}
    rows = {tuple(row[name] for name in KEYS): row for row in content["settings"]}
    begin = time.perf_counter()
    for index, setting in enumerate(SETTINGS):
        if setting in rows:
            continue
        row = measure(setting, args.count, np.random.default_rng(index))
        rows[setting] = dict(zip(KEYS, setting, strict=True)) | row
        print(rows[setting], f"{time.perf_counter() - begin:.0f} s", flush=True)
        if args.output:
            found = [rows[each] for each in SETTINGS if each in rows]
            content = {"count": args.count, "settings": found, "machine": describe_machine()}
            args.output.write_text(json.dumps(content, indent=1) + "\n")
    summarise(list(rows.values()))


if __name__ == "__main__":
    main()
