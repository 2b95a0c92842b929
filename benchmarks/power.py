"""Whether `frechet power` predicts the number of images that are needed: 20 settings with a known difference.

    python benchmarks/power.py [--count 200] [--output results/power.json]

Model A is the reference distribution moved by a vector, and model B by a longer one, so that both distances and their difference are
known exactly for every distribution. In each setting, one pilot of A predicts n for a power of 80 %. Then --count pairs of models
with n images each are compared as `frechet compare` does, with a new reference each time. The share of significant differences p
gives the number of images that would have been right: n_needed / n = ((z_0.975 + z_0.8) / (z_0.975 + z_p))^2.
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

N_REFERENCE, N_PILOT = 5_000, 1_000
QUANTILE = NormalDist().inv_cdf


def draw_gaussian(rng, n, d):
    return rng.standard_normal((n, d))


def draw_rectified(rng, n, d):
    mixing = np.random.default_rng(1).standard_normal((d, d)) / d**0.5
    return np.maximum(rng.standard_normal((n, d)) @ mixing, 0)


def draw_heavy_tailed(rng, n, d):
    return rng.standard_t(5, (n, d))


DISTRIBUTIONS = {"Gaussian": draw_gaussian, "rectified": draw_rectified, "t(5)": draw_heavy_tailed}
SETTINGS = list(islice(product(DISTRIBUTIONS, (8, 16), (0.5, 2.0), (0.15, 0.3)), 20))  # distance, relative difference


def score(rng, draw, d, distance, n, reference):
    """Score n images of a model whose distance to the reference distribution is `distance`."""
    shift = np.zeros(d)
    shift[0] = distance**0.5
    return frechet.score(draw(rng, n, d) + shift, reference, features=True)["fd"]


def as_estimate(found):
    return Estimate(found.corrected_value, found.variance_components, found.generated_groups, found.reference_groups)


def measure(setting, count, rng):
    name, d, distance, relative = setting
    draw = DISTRIBUTIONS[name]
    pilot = score(rng, draw, d, distance, N_PILOT, draw(rng, N_REFERENCE, d))
    n = frechet.plan_sample_size(pilot, distance * relative).n_by_power[0.8]
    detected = 0
    for _ in range(count):
        reference = frechet.Statistics.from_features(draw(rng, N_REFERENCE, d).astype("float32"))
        one, other = (
            as_estimate(score(rng, draw, d, value, n, reference)) for value in (distance, distance * (1 + relative))
        )
        error = standard_error_of_difference(one, other, shared_reference=True)
        detected += two_sided_p_value(one.value - other.value, error) < 0.05
    power = min(max(detected / count, 1 / count), 1 - 1 / count)
    needed = n * ((QUANTILE(0.975) + QUANTILE(0.8)) / (QUANTILE(0.975) + QUANTILE(power))) ** 2
    return {"predicted": n, "power": power, "needed": round(needed), "factor": max(n / needed, needed / n)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    rows = []
    begin = time.perf_counter()
    for index, setting in enumerate(SETTINGS):
        row = measure(setting, args.count, np.random.default_rng(index))
        rows.append(dict(zip(("distribution", "dims", "distance", "difference"), setting, strict=True)) | row)
        print(rows[-1], f"{time.perf_counter() - begin:.0f} s", flush=True)
    factors = [row["factor"] for row in rows]
    print(f"largest factor {max(factors):.2f}, {sum(factor <= 1.3 for factor in factors)} of {len(rows)} within 1.3")
    if args.output:
        content = {"count": args.count, "settings": rows, "machine": describe_machine()}
        args.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
