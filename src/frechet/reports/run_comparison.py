"""Runs side by side: models or checkpoints, and which of them differ by more than noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from frechet._internal.terminal import escape_line
from frechet.distances.interval import SIGNIFICANCE_LEVEL, Z_95
from frechet.errors import MismatchError, RequestError
from frechet.metrics import METRICS
from frechet.reports.multiple_testing import (
    Estimate,
    compact_letter_display,
    holm_correction,
    standard_error_of_difference,
    two_sided_p_value,
)
from frechet.reports.run_files import Run

_SPEC_FIELDS = ("extractor", "layer", "weights", "preprocessing", "precision")
_MOMENTS_RTOL = (
    1e-5  # relative difference of the references' moments up to which they are the same images: rounding of features
)


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
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
    adjusted_p_value: float | None = None
    verdict: str | None = None
    letters: str = ""


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """All runs by one metric.

    Attributes:
        metric, label: its key and its name in public.
        rows: in the order given.
        paired: whether all share a reference, so that its sampling is not counted as noise of a difference.
        notes: what a reader should know.
    """

    metric: str
    label: str
    rows: tuple[ComparisonRow, ...]
    shared_reference: bool
    notes: tuple[str, ...]

    @property
    def corrected(self) -> bool:
        """Whether every run that has the metric has a corrected value, so that those may stand side by side."""
        return all(row.corrected_value is not None for row in self.rows if row.value is not None)


def compare_runs(runs: Sequence[Run]) -> list[RunComparison]:
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
    _require_same_spec(runs)
    metrics = list(dict.fromkeys(name for run in runs for name in run.scores))
    if not any(sum(name in run.scores for run in runs) > 1 for name in metrics):
        metrics_by_run = "; ".join(f"{escape_line(run.name)} has {', '.join(run.scores)}" for run in runs)
        raise RequestError(f"the runs have no metric in common: {metrics_by_run}")
    return [
        _add_missing_runs(_compare_by_metric(name, [run for run in runs if name in run.scores]), runs)
        for name in metrics
    ]


def _add_missing_runs(comparison: RunComparison, runs: Sequence[Run]) -> RunComparison:
    """A comparison of the runs that have its metric, with an empty row for each that has not."""
    present_rows = iter(comparison.rows)
    rows = tuple(next(present_rows) if comparison.metric in run.scores else ComparisonRow(run=run.name) for run in runs)
    missing_names = ", ".join(escape_line(run.name) for run in runs if comparison.metric not in run.scores)
    return replace(
        comparison,
        rows=rows,
        notes=(*comparison.notes, *([f"without this metric: {missing_names}"] if missing_names else [])),
    )


def _compare_by_metric(metric: str, runs: Sequence[Run]) -> RunComparison:
    scores = [run.scores[metric] for run in runs]
    shared_reference = _has_shared_reference(runs)
    estimates = [_estimate_from_score(score) for score in scores]
    known = [estimate for estimate in estimates if estimate is not None]
    lower = METRICS[metric.partition("@")[0]].lower_is_better
    sign = 1 if lower else -1
    notes = list(_collect_notes(scores, runs, shared_reference, known))
    values = [estimate.value for estimate in known] if len(known) == len(runs) else _comparable_values(scores)
    if lower is None:
        values, notes = None, [*notes, "neither direction is better: the runs are not ranked"]
    if len(runs) == 1:
        values, notes = None, ["one run alone has it: there is nothing to rank"]
    best = None if values is None else min(range(len(runs)), key=lambda i: sign * values[i])
    pairwise = (
        _test_pairs(values, known, shared_reference, sign) if values is not None and len(known) == len(runs) else None
    )
    rows = tuple(
        _build_row(run.name, score, i, best, values, pairwise)
        for i, (run, score) in enumerate(zip(runs, scores, strict=True))
    )
    return RunComparison(
        metric=metric, label=scores[0]["label"], rows=rows, shared_reference=shared_reference, notes=tuple(notes)
    )


@dataclass(frozen=True)
class _PairwiseTests:
    """Every pair: its standard error and its adjusted p-value; and the letters."""

    errors: dict[frozenset[int], float]
    adjusted_p_value: dict[frozenset[int], float]
    letters: dict[int, str]


def _test_pairs(
    values: Sequence[float], estimates: Sequence[Estimate], shared_reference: bool, sign: int
) -> _PairwiseTests:
    pairs = list(combinations(range(len(values)), 2))
    errors = [
        standard_error_of_difference(estimates[i], estimates[j], shared_reference=shared_reference) for i, j in pairs
    ]
    adjusted_p_value = holm_correction(
        [two_sided_p_value(values[i] - values[j], error) for (i, j), error in zip(pairs, errors, strict=True)]
    )
    significant_pairs = [
        pair for pair, p_value in zip(pairs, adjusted_p_value, strict=True) if p_value <= SIGNIFICANCE_LEVEL
    ]
    order = sorted(range(len(values)), key=lambda i: sign * values[i])
    keys = [frozenset(pair) for pair in pairs]
    return _PairwiseTests(
        dict(zip(keys, errors, strict=True)),
        dict(zip(keys, adjusted_p_value, strict=True)),
        compact_letter_display(order, significant_pairs),
    )


def _build_row(
    name: str,
    score: Mapping[str, Any],
    i: int,
    best: int | None,
    values: Sequence[float] | None,
    pairwise: _PairwiseTests | None,
) -> ComparisonRow:
    difference = None if best is None or values is None else values[i] - values[best]
    margin = adjusted_p_value = verdict = None
    if i != best and pairwise is not None and best is not None:
        pair = frozenset((i, best))
        margin, adjusted_p_value = Z_95 * pairwise.errors[pair], pairwise.adjusted_p_value[pair]
        verdict = "worse than the best" if adjusted_p_value <= SIGNIFICANCE_LEVEL else "within noise of the best"
    if difference == 0:  # also of others that share its value
        verdict = "best" if pairwise else "best value"
    return ComparisonRow(
        run=name,
        n_generated=score.get("n_generated"),
        n_reference=score.get("n_reference"),
        value=score["value"],
        corrected_value=score.get("corrected_value"),
        standard_error=score.get("standard_error"),
        interval_95=_to_float_pair(score.get("interval_95")),
        difference=difference,
        difference_95=None if margin is None or difference is None else (difference - margin, difference + margin),
        adjusted_p_value=adjusted_p_value,
        verdict=verdict,
        letters=pairwise.letters[i] if pairwise else "",
    )


def _estimate_from_score(score: Mapping[str, Any]) -> Estimate | None:
    """What a score says of the truth, where it says how sure it is."""
    corrected, error = score.get("corrected_value"), score.get("standard_error")
    if corrected is None or error is None:
        return None
    variance_components = _to_float_pair(score.get("variance_components")) or (0.0, error**2)
    return Estimate(corrected, variance_components, score.get("reference_groups"))


def _comparable_values(scores: Sequence[Mapping[str, Any]]) -> list[float] | None:
    """The classical values, where they may be ranked: of the same numbers of images."""
    sizes = {(score.get("n_generated"), score.get("n_reference")) for score in scores}
    return [score["value"] for score in scores] if len(sizes) == 1 else None


def _collect_notes(
    scores: Sequence[Mapping[str, Any]], runs: Sequence[Run], shared_reference: bool, known: Sequence[Estimate]
) -> Iterator[str]:
    if len(known) < len(runs):
        missing = next(run.name for run, score in zip(runs, scores, strict=True) if _estimate_from_score(score) is None)
        yield f"{escape_line(missing)} has no interval: nobody knows which differences are noise"
        if _comparable_values(scores) is None:
            yield "the numbers of images differ and the values hold their bias: they are not ranked"
    if not scores[0].get("uses_reference", True):
        return
    if shared_reference:
        yield from _note_duplicate_runs(runs)
    else:
        yield "the references differ, and their sampling counts as noise of every difference"
    if shared_reference and any(estimate.groups is None and estimate.variance_components[1] for estimate in known):
        yield ("what the reference's sampling does to all alike is not known: it counts as noise of every difference")


def _require_same_spec(runs: Sequence[Run]) -> None:
    first = runs[0]
    for run in runs[1:]:
        differences = [
            f"{field_name} {_abbreviate(first.provenance.get(field_name))} ({escape_line(first.name)}) and "
            f"{_abbreviate(run.provenance.get(field_name))} ({escape_line(run.name)})"
            for field_name in _SPEC_FIELDS
            if first.provenance.get(field_name) != run.provenance.get(field_name)
        ]
        if differences:
            raise MismatchError(
                "these runs were made differently and are not ranked: "
                + "; ".join(differences)
                + ". Score both with the same settings, or compare each kind for itself."
            )


def _has_shared_reference(runs: Sequence[Run]) -> bool:
    """Whether all were scored against the same images, to the rounding of features."""
    reference_moments = [_get_moments(run.provenance.get("reference")) for run in runs]
    first = reference_moments[0]
    return first is not None and all(
        moments is not None
        and all(math.isclose(a, b, rel_tol=_MOMENTS_RTOL) for a, b in zip(first, moments, strict=True))
        for moments in reference_moments
    )


def _note_duplicate_runs(runs: Sequence[Run]) -> Iterator[str]:
    """Runs whose generated images are the same, to the last digit of their moments."""
    names_by_moments: dict[Any, list[str]] = {}
    for run in runs:
        names_by_moments.setdefault(_get_moments(run.provenance.get("generated")), []).append(escape_line(run.name))
    for moments, names in names_by_moments.items():
        if moments and len(names) > 1:
            yield f"{' and '.join(names)} are of the same generated images: one run under several names?"


def _get_moments(side: Any) -> tuple[float, float, float] | None:
    if not isinstance(side, Mapping) or side.get("moments") is None:
        return None
    return (*side["moments"], side.get("n") or 0)


def _abbreviate(value: Any) -> str:
    text = escape_line("not said" if value is None else str(value))
    return f"{text[:12]}..." if len(text) > 32 else text


def _to_float_pair(value: Any) -> tuple[float, float] | None:
    return None if value is None else (float(value[0]), float(value[1]))
