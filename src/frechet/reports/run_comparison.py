"""Runs side by side: models or checkpoints, and which of them differ by more than noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from frechet._internal.terminal import one_line
from frechet.distances.interval import NORMAL_95
from frechet.errors import Mismatch, RequestError
from frechet.metrics import METRICS
from frechet.reports.multiple_testing import LEVEL, Estimate, error_of_difference, holm, letters, two_sided_p
from frechet.reports.run_files import Run

_MADE_HOW = ("extractor", "layer", "weights", "convention", "precision")
_SAME = (
    1e-5  # relative difference of the references' moments up to which they are the same images: rounding of features
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run in a comparison by one metric.

    Attributes:
        run: its name; a run that lacks the metric has no other field.
        n_generated, n_reference: images a side, or None.
        value: the classical value.
        corrected_value, standard_error, interval_95: as in `Score`.
        difference: to the best run, of the corrected values (of the values where there are none), or None.
        difference_95: its interval, or None where the noise is not known.
        p: that the two are equal, adjusted for all pairs of runs, or None.
        verdict: "best" (all runs that share the best value), "worse than the best", "within noise of the best", or None.
        letters: runs that share a letter are not told apart; empty where the noise is not known.
    """

    run: str
    n_generated: int | None = None
    n_reference: int | None = None
    value: float | None = None
    corrected_value: float | None = None
    standard_error: float | None = None
    interval_95: tuple[float, float] | None = None
    difference: float | None = None
    difference_95: tuple[float, float] | None = None
    p: float | None = None
    verdict: str | None = None
    letters: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All runs by one metric.

    Attributes:
        metric, label: its key and its name in public.
        rows: in the order given.
        paired: whether all share a reference, so that its sampling is not counted as noise of a difference.
        notes: what a reader should know.
    """

    metric: str
    label: str
    rows: tuple[Row, ...]
    paired: bool
    notes: tuple[str, ...]

    @property
    def corrected(self) -> bool:
        """Whether every run that has the metric has a corrected value, so that those may stand side by side."""
        return all(row.corrected_value is not None for row in self.rows if row.value is not None)


def compare_runs(runs: Sequence[Run]) -> list[Comparison]:
    """Every metric that a run has, and which of its differences are more than noise; runs that lack it have an empty row.

    Differences are between corrected values, with a normal approximation; p-values are adjusted over all pairs of runs
    (Holm), so that the best may be chosen by looking. Images generated from the same latents err alike, which is not
    counted: the verdict is then on the careful side.

    Raises:
        RequestError: fewer than two runs, or no metric in common.
        Mismatch: they were made differently.
    """
    if len(runs) < 2:
        raise RequestError(f"{len(runs)} run is given; comparing needs at least two files of frechet score --output")
    _require_made_alike(runs)
    metrics = list(dict.fromkeys(name for run in runs for name in run.scores))
    if not any(sum(name in run.scores for run in runs) > 1 for name in metrics):
        had = "; ".join(f"{one_line(run.name)} has {', '.join(run.scores)}" for run in runs)
        raise RequestError(f"the runs have no metric in common: {had}")
    return [_with_lacking(_compared(name, [run for run in runs if name in run.scores]), runs) for name in metrics]


def _with_lacking(found: Comparison, runs: Sequence[Run]) -> Comparison:
    """A comparison of the runs that have its metric, with an empty row for each that has not."""
    having = iter(found.rows)
    rows = tuple(next(having) if found.metric in run.scores else Row(run=run.name) for run in runs)
    lacking = ", ".join(one_line(run.name) for run in runs if found.metric not in run.scores)
    return replace(found, rows=rows, notes=(*found.notes, *([f"without this metric: {lacking}"] if lacking else [])))


def _compared(metric: str, runs: Sequence[Run]) -> Comparison:
    scores = [run.scores[metric] for run in runs]
    shared = _share_reference(runs)
    estimates = [_estimate(score) for score in scores]
    known = [estimate for estimate in estimates if estimate is not None]
    lower = METRICS[metric.partition("@")[0]].lower_is_better
    sign = 1 if lower else -1
    notes = list(_notes(scores, runs, shared, known))
    values = [estimate.value for estimate in known] if len(known) == len(runs) else _plain_values(scores)
    if lower is None:
        values, notes = None, [*notes, "neither direction is better: the runs are not ranked"]
    if len(runs) == 1:
        values, notes = None, ["one run alone has it: there is nothing to rank"]
    best = None if values is None else min(range(len(runs)), key=lambda i: sign * values[i])
    judged = _judged(values, known, shared, sign) if values is not None and len(known) == len(runs) else None
    rows = tuple(
        _row(run.name, score, i, best, values, judged) for i, (run, score) in enumerate(zip(runs, scores, strict=True))
    )
    return Comparison(metric=metric, label=scores[0]["label"], rows=rows, paired=shared, notes=tuple(notes))


@dataclass(frozen=True)
class _Judged:
    """Every pair: its standard error and its adjusted p-value; and the letters."""

    errors: dict[frozenset[int], float]
    p: dict[frozenset[int], float]
    letters: dict[int, str]


def _judged(values: Sequence[float], estimates: Sequence[Estimate], shared: bool, sign: int) -> _Judged:
    pairs = list(combinations(range(len(values)), 2))
    errors = [error_of_difference(estimates[i], estimates[j], shared=shared) for i, j in pairs]
    p = holm([two_sided_p(values[i] - values[j], error) for (i, j), error in zip(pairs, errors, strict=True)])
    differing = [pair for pair, p_value in zip(pairs, p, strict=True) if p_value <= LEVEL]
    order = sorted(range(len(values)), key=lambda i: sign * values[i])
    keys = [frozenset(pair) for pair in pairs]
    return _Judged(dict(zip(keys, errors, strict=True)), dict(zip(keys, p, strict=True)), letters(order, differing))


def _row(
    name: str,
    score: Mapping[str, Any],
    i: int,
    best: int | None,
    values: Sequence[float] | None,
    judged: _Judged | None,
) -> Row:
    difference = None if best is None or values is None else values[i] - values[best]
    margin = p = verdict = None
    if i != best and judged is not None and best is not None:
        pair = frozenset((i, best))
        margin, p = NORMAL_95 * judged.errors[pair], judged.p[pair]
        verdict = "worse than the best" if p <= LEVEL else "within noise of the best"
    if difference == 0:  # also of others that share its value
        verdict = "best" if judged else "best value"
    return Row(
        run=name,
        n_generated=score.get("n_generated"),
        n_reference=score.get("n_reference"),
        value=score["value"],
        corrected_value=score.get("corrected_value"),
        standard_error=score.get("standard_error"),
        interval_95=_pair(score.get("interval_95")),
        difference=difference,
        difference_95=None if margin is None or difference is None else (difference - margin, difference + margin),
        p=p,
        verdict=verdict,
        letters=judged.letters[i] if judged else "",
    )


def _estimate(score: Mapping[str, Any]) -> Estimate | None:
    """What a score says of the truth, where it says how sure it is."""
    corrected, error = score.get("corrected_value"), score.get("standard_error")
    if corrected is None or error is None:
        return None
    variances = _pair(score.get("variances")) or (0.0, error**2)
    return Estimate(corrected, variances, score.get("reference_groups"))


def _plain_values(scores: Sequence[Mapping[str, Any]]) -> list[float] | None:
    """The classical values, where they may be ranked: of the same numbers of images."""
    sizes = {(score.get("n_generated"), score.get("n_reference")) for score in scores}
    return [score["value"] for score in scores] if len(sizes) == 1 else None


def _notes(
    scores: Sequence[Mapping[str, Any]], runs: Sequence[Run], shared: bool, known: Sequence[Estimate]
) -> Iterator[str]:
    if len(known) < len(runs):
        missing = next(run.name for run, score in zip(runs, scores, strict=True) if _estimate(score) is None)
        yield f"{one_line(missing)} has no interval: nobody knows which differences are noise"
        if _plain_values(scores) is None:
            yield "the numbers of images differ and the values hold their bias: they are not ranked"
    if not scores[0].get("compares", True):
        return
    if shared:
        yield from _under_two_names(runs)
    else:
        yield "the references differ, and their sampling counts as noise of every difference"
    if shared and any(estimate.groups is None and estimate.variances[1] for estimate in known):
        yield ("what the reference's sampling does to all alike is not known: it counts as noise of every difference")


def _require_made_alike(runs: Sequence[Run]) -> None:
    first = runs[0]
    for run in runs[1:]:
        differences = [
            f"{what} {_short(first.provenance.get(what))} ({one_line(first.name)}) and "
            f"{_short(run.provenance.get(what))} ({one_line(run.name)})"
            for what in _MADE_HOW
            if first.provenance.get(what) != run.provenance.get(what)
        ]
        if differences:
            raise Mismatch(
                "these runs were made differently and are not ranked: "
                + "; ".join(differences)
                + ". Score both with the same settings, or compare each kind for itself."
            )


def _share_reference(runs: Sequence[Run]) -> bool:
    """Whether all were scored against the same images, to the rounding of features."""
    marks = [_mark(run.provenance.get("reference")) for run in runs]
    first = marks[0]
    return first is not None and all(
        mark is not None and all(math.isclose(a, b, rel_tol=_SAME) for a, b in zip(first, mark, strict=True))
        for mark in marks
    )


def _under_two_names(runs: Sequence[Run]) -> Iterator[str]:
    """Runs whose generated images are the same, to the last digit of their moments."""
    named: dict[Any, list[str]] = {}
    for run in runs:
        named.setdefault(_mark(run.provenance.get("generated")), []).append(one_line(run.name))
    for mark, names in named.items():
        if mark and len(names) > 1:
            yield f"{' and '.join(names)} are of the same generated images: one run under several names?"


def _mark(side: Any) -> tuple[float, float, float] | None:
    if not isinstance(side, Mapping) or side.get("moments") is None:
        return None
    return (*side["moments"], side.get("n") or 0)


def _short(value: Any) -> str:
    text = one_line("not said" if value is None else str(value))
    return f"{text[:12]}..." if len(text) > 32 else text


def _pair(value: Any) -> tuple[float, float] | None:
    return None if value is None else (float(value[0]), float(value[1]))
