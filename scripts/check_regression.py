"""Exit with 1 if a run of `frechet score --output` is significantly worse than a baseline in any metric.

python scripts/check_regression.py BASELINE.json RUN.json
"""

from __future__ import annotations

import sys

import frechet


def main() -> int:
    """Compare both runs, print one line per metric, and return the exit code."""
    baseline, run = sys.argv[1:]
    is_worse = False
    for comparison in frechet.compare_runs([baseline, run]):
        before, after = comparison.rows
        if before.value is None or after.value is None:
            continue
        verdict = after.verdict or "not tested, because a run has no confidence interval"
        print(f"{comparison.label}: {before.value:.4g} before, {after.value:.4g} now: {verdict}")
        is_worse |= verdict == "worse than the best"
    return int(is_worse)


if __name__ == "__main__":
    sys.exit(main())
