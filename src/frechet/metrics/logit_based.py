"""Rows of the table that need class probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from frechet.distances.inception_score import inception_score_infinity, legacy_permutation, split_inception_scores
from frechet.metrics.base import Metric, MetricInputs, MetricResult, get_all_features


def compute_inception_score(
    inputs: MetricInputs,
    *,
    splits: Sequence[int] | None,
    shuffle: bool,
    seed: int | None,
    split_size: int | None = None,
) -> MetricResult:
    """The Inception Score by the first number of splits, and beside it by the others.

    Args:
        sides: with class scores; only the generated side counts.
        splits: how many splits, each time; None where `split_size` says it.
        shuffled: whether images are taken in a seeded random order, or as they come.
        seed: of that order; None is the run's.
        split_size: images in a split, instead of `splits`; the last one may be smaller.
    """
    logits = get_all_features(inputs.generated)
    n = len(logits)
    order = legacy_permutation(n, inputs.seed if seed is None else seed) if shuffle else np.arange(n)
    counts = [max(1, -(-n // split_size))] if split_size is not None else splits or ()
    found = [split_inception_scores(logits, count, order, size=split_size) for count in counts]
    table: dict[str, float] = {}
    for count, scores in zip(counts, found, strict=True) if len(counts) > 1 else ():
        table |= {f"mean of {count} splits": scores.mean, f"deviation of {count} splits": scores.std}
    return MetricResult(value=found[0].mean, std=found[0].std, terms=table)


def compute_inception_score_infinity(inputs: MetricInputs) -> MetricResult:
    """The Inception Score extrapolated to endlessly many images."""
    return MetricResult(value=inception_score_infinity(get_all_features(inputs.generated), seed=inputs.seed))


ROWS = {
    "is": Metric(
        title="Inception Score",
        summary="how sure and how varied the classifier's answers are; of generated images alone",
        paper="Salimans et al. 2016, arXiv:1606.03498",
        lower_is_better=False,
        compute=compute_inception_score,
        settings={"splits": (10,), "shuffle": True, "seed": None},
        presets={
            "torch-fidelity": {"seed": 2020},
            "adm": {"splits": None, "shuffle": False, "split_size": 5000},
            "stylegan3": {"shuffle": False},
        },
        layer="logits",
        uses_reference=False,
        interval_unavailable_reason="the deviation between splits is no standard error: the score grows with the images in a split",
    ),
    "is-infinity": Metric(
        title="Inception Score∞",
        summary="the same, extrapolated to endlessly many images",
        paper="Chong & Forsyth 2020, arXiv:1911.07023",
        lower_is_better=False,
        compute=compute_inception_score_infinity,
        layer="logits",
        uses_reference=False,
        interval_unavailable_reason="its line is fitted to subsets that share images",
    ),
}
