"""Rows of the table that need class probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from frechet.distances.inception_score import inception_score_infinity, old_permutation, split_inception_scores
from frechet.metrics.base import Metric, Outcome, Sides, all_features


def inception_score_of(
    sides: Sides, *, splits: Sequence[int] | None, shuffled: bool, seed: int | None, split_size: int | None = None
) -> Outcome:
    """The Inception Score by the first number of splits, and beside it by the others.

    Args:
        sides: with class scores; only the generated side counts.
        splits: how many splits, each time; None where `split_size` says it.
        shuffled: whether images are taken in a seeded random order, or as they come.
        seed: of that order; None is the run's.
        split_size: images in a split, instead of `splits`; the last one may be smaller.
    """
    logits = all_features(sides.generated)
    n = len(logits)
    order = old_permutation(n, sides.seed if seed is None else seed) if shuffled else np.arange(n)
    counts = [max(1, -(-n // split_size))] if split_size is not None else splits or ()
    found = [split_inception_scores(logits, count, order, size=split_size) for count in counts]
    table: dict[str, float] = {}
    for count, scores in zip(counts, found, strict=True) if len(counts) > 1 else ():
        table |= {f"mean of {count} splits": scores.mean, f"deviation of {count} splits": scores.deviation}
    return Outcome(value=found[0].mean, deviation=found[0].deviation, terms=table)


def inception_score_infinity_of(sides: Sides) -> Outcome:
    """The Inception Score extrapolated to endlessly many images."""
    return Outcome(value=inception_score_infinity(all_features(sides.generated), seed=sides.seed))


ROWS = {
    "is": Metric(
        title="Inception Score",
        summary="how sure and how varied the classifier's answers are; of generated images alone",
        paper="Salimans et al. 2016, arXiv:1606.03498",
        lower_is_better=False,
        compute=inception_score_of,
        settings={"splits": (10,), "shuffled": True, "seed": None},
        presets={
            "torch-fidelity": {"seed": 2020},
            "adm": {"splits": None, "shuffled": False, "split_size": 5000},
            "stylegan3": {"shuffled": False},
        },
        layer="logits",
        reference=False,
        no_interval="the deviation between splits is no standard error: the score grows with the images in a split",
    ),
    "is-infinity": Metric(
        title="Inception Score∞",
        summary="the same, extrapolated to endlessly many images",
        paper="Chong & Forsyth 2020, arXiv:1911.07023",
        lower_is_better=False,
        compute=inception_score_infinity_of,
        layer="logits",
        reference=False,
        no_interval="its line is fitted to subsets that share images",
    ),
}
