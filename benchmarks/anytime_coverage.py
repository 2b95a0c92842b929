"""Coverage and width of intervals at every look, next to naive peeking and an asymptotic confidence sequence."""

import numpy as np

from frechet.distances.interval import DistanceEstimate
from frechet.distances.sampling_error import Z_95, SamplingError
from frechet.distances.sequential import critical_value

ALPHA = 0.05
NUM_FIRST_LOOKS = 3  # 2, 2.8 and 4 images per dimension


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
    corrected, other, error, third_cumulant, curvature, rounding = row
    errors = SamplingError((error**2, 0.0), third_cumulant, curvature, None, None)
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
        "anytime": _contains(anytime, pool.distance),
        "naive peeking": _contains(fixed, pool.distance),
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
        "coverage_from_look": [_cover_from_look(pool, first) for first in range(min(NUM_FIRST_LOOKS, len(pool.looks)))],
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


def _cover_from_look(pool, first):
    """Return the coverage at all looks together if the earlier ones are not made, and the rest has a smaller critical value."""
    intervals = pool.intervals(critical_value(pool.looks[first:], ALPHA))[:, first:]
    return float(_contains(intervals, pool.distance).all(axis=1).mean())


def _contains(intervals, distance):
    return (intervals[..., 1] <= distance) & (distance <= intervals[..., 2])


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
        inside = _contains(chosen, pool.distance)
        result[name] = {
            "median_images": float(np.median(np.array(pool.looks)[stop(intervals)])),
            "coverage": float(inside.mean()),
        }
    last = stop(anytime)
    ratio = (anytime[runs, last, 2] - anytime[runs, last, 1]) / (fixed[runs, last, 2] - fixed[runs, last, 1])
    result["anytime"]["width_relative_to_one_look"] = float(np.quantile(ratio, 0.99))
    return result
