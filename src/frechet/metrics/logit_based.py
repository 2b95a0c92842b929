"""Rows of the table that are computed from class probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from frechet.distances.inception_score import (
    inception_score_infinity,
    is_sorted_by_class,
    legacy_permutation,
    split_inception_scores,
)
from frechet.metrics.base import Metric, MetricInputs, MetricResult, get_all_features


def compute_inception_score(
    inputs: MetricInputs,
    *,
    splits: Sequence[int] | None,
    shuffle: bool,
    seed: int | None,
    split_size: int | None = None,
) -> MetricResult:
    """Compute the Inception Score for one or more numbers of splits; the first gives the value.

    Args:
        inputs: statistics of the logits of the generated images.
        splits: numbers of splits; None if `split_size` defines them.
        shuffle: whether images are split in a seeded random order, or in the order in which they were read.
        seed: seed of that order; None uses the seed of the run.
        split_size: number of images per split, instead of `splits`; the last split may be smaller.
    """
    logits = get_all_features(inputs.generated)
    n = len(logits)
    order = legacy_permutation(n, inputs.seed if seed is None else seed) if shuffle else np.arange(n)
    counts = [max(1, -(-n // split_size))] if split_size is not None else splits or ()
    scores = [split_inception_scores(logits, count, order, size=split_size) for count in counts]
    rows = tuple(
        {"n": count, "mean": score.mean, "std": score.std} for count, score in zip(counts, scores, strict=True)
    )
    ordered = (
        None if shuffle or counts[0] == 1 else _compare_with_random_order(logits, counts[0], split_size, inputs.seed)
    )
    return MetricResult(
        value=scores[0].mean,
        std=scores[0].std,
        splits=rows,
        terms={} if ordered is None else {"shuffled": ordered},
        notes=(_SORTED_NOTE,) if ordered is not None and is_sorted_by_class(logits) else (),
    )


_SORTED_NOTE = (
    "the images look sorted by class, and this score depends on their order, because consecutive images form a split. The "
    "value for images in random order is listed as shuffled; papers report that of unsorted images."
)


def _compare_with_random_order(logits: np.ndarray, count: int, split_size: int | None, seed: int) -> float:
    """Return the score of the same images in a seeded random order."""
    return split_inception_scores(logits, count, legacy_permutation(len(logits), seed), size=split_size).mean


def compute_inception_score_infinity(inputs: MetricInputs) -> MetricResult:
    """Extrapolate the Inception Score to an infinite number of images."""
    return MetricResult(value=inception_score_infinity(get_all_features(inputs.generated), seed=inputs.seed))


ROWS = {
    "is": Metric(
        title="Inception Score",
        summary="how confident and how diverse the classifier's predictions are, for generated images alone",
        paper="Salimans et al. 2016, arXiv:1606.03498",
        lower_is_better=False,
        compute=compute_inception_score,
        settings={"splits": (10,), "shuffle": True, "seed": None},
        presets={
            "torch-fidelity": {"seed": 2020},
            "adm": {"splits": None, "shuffle": False, "split_size": 5000},
            "stylegan3": {"shuffle": False},
        },
        images="10 (50,000)",
        layer="logits",
        uses_reference=False,
        interval_unavailable_reason="the standard deviation between splits is not a standard error, because the score "
        "depends on the number of images per split",
    ),
    "is-infinity": Metric(
        title="Inception Score∞",
        summary="Inception Score extrapolated to an infinite number of images",
        paper="Chong & Forsyth 2020, arXiv:1911.07023",
        lower_is_better=False,
        compute=compute_inception_score_infinity,
        images="8 (50,000)",
        layer="logits",
        uses_reference=False,
        interval_unavailable_reason="the extrapolated line is fitted to subsets that share images",
    ),
}
