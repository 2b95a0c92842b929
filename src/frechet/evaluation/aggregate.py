"""Several runs combined into one result: repetitions with other seeds, and metrics of several extractors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from frechet.errors import RequestError
from frechet.evaluation.plan import group_by_extractor, is_pair_metric
from frechet.evaluation.request import ScoreRequest
from frechet.results import INTERVAL_FIELDS, Score, Scores

_CONSTANT_WARNING = (
    "the repetitions have the same value, because all of them use the same images or statistics, and nothing is drawn with their seeds. "
    "Pass images and --num-images (num_images=) for different subsets, or leave --repeat (repeat=) out."
)
_NO_INTERVAL = "the value is a mean over repetitions; leave --repeat (repeat=) out for the interval of one run"


def iter_repetitions(request: ScoreRequest) -> Iterator[ScoreRequest]:
    """Yield the request of each repetition: seeds count up, and a work directory of another subset is another one."""
    for repetition in range(request.repeat):
        seed, work_dir = request.seed + repetition, request.work_dir
        if repetition and work_dir is not None and request.num_images is not None:
            work_dir = Path(work_dir) / f"seed-{seed}"
        yield replace(request, seed=seed, work_dir=work_dir, repeat=1)


def average_runs(runs: Sequence[Scores]) -> Scores:
    """Combine repeated runs: the mean of each score, and the standard deviation between runs (divided by n - 1).

    What a single run has and a mean does not (terms, splits, bias-corrected value, interval, test) is dropped. A single run is
    returned unchanged.
    """
    if len(runs) == 1:
        return runs[0]
    first = runs[0]
    return first.with_scores({key: _average([run[key] for run in runs if key in run]) for key in first})


def _average(scores: Sequence[Score]) -> Score:
    first = scores[0]
    values = tuple(score.value for score in scores)
    is_constant = len(values) > 1 and max(values) - min(values) <= 1e-12 * max(map(abs, values))
    class_names = sorted(set().union(*(score.per_class for score in scores)))
    no_interval: dict[str, Any] = dict.fromkeys(INTERVAL_FIELDS)
    return replace(
        first,
        **no_interval,
        interval_unavailable_reason=first.interval_unavailable_reason or _NO_INTERVAL,
        value=float(np.mean(values)),
        std=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        repeats=values,
        warnings=(*first.warnings, _CONSTANT_WARNING) if is_constant else first.warnings,
        terms={},
        splits=(),
        worst_pairs=(),
        per_class={
            name: float(np.mean([score.per_class[name] for score in scores if name in score.per_class]))
            for name in class_names
        },
    )


def split_by_extractor(request: ScoreRequest) -> list[ScoreRequest]:
    """Return one request for each extractor that the metrics are defined on, and one for the metrics of pairs of images.

    If there is only one, it is the request itself.
    """
    of_pairs, of_features = split_pair_metrics(request)
    if of_features is None:
        return [request]
    groups = group_by_extractor(of_features.metric_names)
    split = [of_features]
    if not groups.keys() <= {None, request.extractor}:
        split = [
            replace(request, metrics=names) if extractor is None else _with_extractor(request, extractor, names)
            for extractor, names in groups.items()
        ]
    return split if of_pairs is None else [*split, of_pairs]


def split_pair_metrics(request: ScoreRequest) -> tuple[ScoreRequest | None, ScoreRequest | None]:
    """Return the request of the metrics of pairs of images, and that of all other metrics; None without such metrics."""
    names = request.metric_names
    of_pairs = [name for name in names or () if is_pair_metric(name)]
    if names is None or not of_pairs:
        return None, request
    others = [name for name in names if name not in of_pairs]
    if not others:
        return request, None
    return replace(request, metrics=of_pairs, explain=0), replace(request, metrics=others)


def _with_extractor(request: ScoreRequest, extractor: str, metrics: Sequence[str] | None) -> ScoreRequest:
    """Replace the extractor, and reset what was set for the requested one: layer, preprocessing, weights and backend."""
    work_dir = Path(request.work_dir, extractor) if request.work_dir is not None else None
    return replace(
        request,
        metrics=metrics,
        extractor=extractor,
        dims=None,
        preprocessing=None,
        weights=None,
        backend="auto",
        work_dir=work_dir,
    )


def merge_extractors(request: ScoreRequest, results: Sequence[tuple[ScoreRequest, Scores | RequestError]]) -> Scores:
    """Merge the scores of several extractors in the order in which the metrics were requested.

    Args:
        request: what was requested.
        results: the request of each extractor, and its scores or the reason why it has none.

    Raises:
        RequestError: nothing could be computed; the reason for the first extractor.
    """
    scores: dict[str, Score] = {}
    unavailable: dict[str, str] = {}
    renamed: dict[str, str] = {}
    for each, result in results:
        if isinstance(result, RequestError):
            unavailable |= dict.fromkeys(each.metric_names or (), str(result))
        else:
            scores |= result
            unavailable |= result.unavailable
            renamed |= result.renamed
    if not scores:
        raise next(result for _, result in results if isinstance(result, RequestError))
    requested = [renamed.get(name, name) for name in request.metric_names or scores]
    ordered = {name: scores[name] for name in requested if name in scores}
    return Scores(ordered, next(iter(ordered.values())).provenance, unavailable, renamed=renamed)
