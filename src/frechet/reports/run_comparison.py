"""Compare runs (models or checkpoints): which of their differences are statistically significant."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from frechet._internal.terminal import escape_line
from frechet._internal.words import count_of, join_words
from frechet.distances.difference import Estimate, standard_error_of_difference
from frechet.distances.interval import SIGNIFICANCE_LEVEL
from frechet.distances.sampling_error import Z_95
from frechet.errors import RequestError
from frechet.metrics import METRICS
from frechet.reports.multiple_testing import compact_letter_display, holm_correction, two_sided_p_value
from frechet.reports.run_files import (
    Run,
    find_duplicate_runs,
    get_reference_label,
    has_shared_reference,
    read_runs,
    require_pairs,
    require_same_spec,
)
from frechet.results import Scores


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """One run in a comparison by one metric.

    Attributes:
        run: name of the run. If the run does not have the metric, all other fields keep their defaults.
        n_generated, n_reference: number of images, or None if unknown.
        value: the plain (biased) value.
        corrected_value, standard_error, interval_95: as in `Score`.
        difference: difference to the best run: of the corrected values if all runs have one, otherwise of the plain
            values. None if the runs cannot be ranked.
        difference_95: 95 % confidence interval of the difference, or None if the standard errors are unknown.
        adjusted_p_value: p-value for equality with the best run, adjusted for all pairs of runs (Holm), or None.
        verdict: "best" (also for runs with the same value), "worse than the best" (significantly), "within noise of the
            best"; "best value" if the standard errors are unknown; None if the run was not ranked.
        compact_letters: compact letter display: runs that share a letter do not differ significantly. Empty if the
            standard errors are unknown.
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
    compact_letters: str = ""


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """All runs, compared by one metric.

    Attributes:
        metric: key of the metric, for example "fid".
        label: display name of the metric.
        rows: one per run, best first; in the order given if the runs are not ranked. Runs without the metric come last.
        shared_reference: whether all runs were scored against the same reference images. The sampling error of the
            reference then largely cancels in the differences.
        notes: caveats for the reader.
        reference: display name of the shared reference; None if the references differ or are unknown.
    """

    metric: str
    label: str
    rows: tuple[ComparisonRow, ...]
    shared_reference: bool
    notes: tuple[str, ...]
    reference: str | None = None

    @property
    def has_corrected_values(self) -> bool:
        """Whether every run that has the metric has a corrected value, so that corrected values can be compared."""
        return all(row.corrected_value is not None for row in self.rows if row.value is not None)

    @property
    def has_bias(self) -> bool:
        """Whether corrected values differ from the plain ones."""
        return any(row.corrected_value not in (None, row.value) for row in self.rows)


def compare_runs(
    runs: Mapping[str, Scores] | Sequence[str | os.PathLike[str] | Run], *, paired_runs: bool = False
) -> list[RunComparison]:
    """Rank runs by each of their metrics and test which differences are statistically significant.

    Differences are taken between bias-corrected values and tested with a normal approximation. The p-values are adjusted
    for all pairs of runs (Holm 1979), so that the best run may be selected from the same data. Errors that runs have in common
    are taken into account: those of a shared reference, and those of common latents or prompts if `paired_runs` is set.

    Args:
        runs: the runs to compare, at least two: the JSON files that ``frechet score --output`` wrote, or a mapping from
            display names to results of `frechet.score`.
        paired_runs: whether image i of each run was generated from the same latent or prompt.

    Returns:
        One `RunComparison` for each metric that any run has, with the best run first. A run without the metric has an empty
        row, after the others.

    Raises:
        RequestError: fewer than two runs, no metric in common, a file that is missing or not a result of
            ``frechet score``, or paired runs with different numbers of images.
        MismatchError: the runs differ in extractor, layer, weights, preprocessing or precision.

    Examples:
        >>> import numpy as np
        >>> import frechet
        >>> random = np.random.default_rng(0)
        >>> reference = random.standard_normal((2000, 16))
        >>> samples = {name: random.standard_normal((2000, 16)) + shift for name, shift in [("old", 0.4), ("new", 0.2)]}
        >>> runs = {name: frechet.score(x, reference, features=True) for name, x in samples.items()}
        >>> (comparison,) = frechet.compare_runs(runs)
        >>> [(row.run, row.verdict) for row in comparison.rows]
        [('new', 'best'), ('old', 'worse than the best')]
    """
    runs = _open_runs(runs)
    if len(runs) < 2:
        raise RequestError(
            f"got {count_of(len(runs), 'run')}; a comparison needs at least 2. "
            "Pass two or more run files written by frechet score --output."
        )
    require_same_spec(runs)
    metrics = list(dict.fromkeys(name for run in runs for name in run.scores))
    if not any(sum(name in run.scores for run in runs) > 1 for name in metrics):
        metrics_by_run = "; ".join(f"{escape_line(run.name)} has {', '.join(run.scores)}" for run in runs)
        raise RequestError(
            f"the runs have no metric in common: {metrics_by_run}. Score them with the same --metrics to compare them."
        )
    return [
        _add_missing_runs(_compare_by_metric(name, [run for run in runs if name in run.scores], paired_runs), runs)
        for name in metrics
    ]


def _open_runs(runs: Mapping[str, Scores] | Sequence[str | os.PathLike[str] | Run]) -> list[Run]:
    if isinstance(runs, Mapping):
        return [Run.from_scores(name, scores) for name, scores in runs.items()]
    paths = [run for run in runs if not isinstance(run, Run)]
    return read_runs(paths) if paths else [run for run in runs if isinstance(run, Run)]


def _add_missing_runs(comparison: RunComparison, runs: Sequence[Run]) -> RunComparison:
    """Append an empty row for each run without the metric of the comparison."""
    missing = [run.name for run in runs if comparison.metric not in run.scores]
    notes = [f"without this metric: {', '.join(map(escape_line, missing))}"] if missing else []
    return replace(
        comparison,
        rows=(*comparison.rows, *(ComparisonRow(run=name) for name in missing)),
        notes=(*comparison.notes, *notes),
    )


def _compare_by_metric(metric: str, runs: Sequence[Run], paired_runs: bool) -> RunComparison:
    if paired_runs:
        require_pairs(runs, metric)
    scores = [run.scores[metric] for run in runs]
    shared_reference = has_shared_reference(runs, metric)
    known = _collect_estimates(scores)
    lower_is_better = METRICS[metric.partition("@")[0]].lower_is_better
    sign = 1 if lower_is_better else -1
    notes = list(_collect_notes(metric, runs, shared_reference, known))
    values = [estimate.value for estimate in known] if len(known) == len(runs) else _comparable_values(scores)
    if lower_is_better is None:
        values, notes = (
            None,
            [*notes, "values of this metric are better the closer they are to 0; the runs are not ranked"],
        )
    if len(runs) == 1:
        values, notes = None, ["only one run has this metric: there is nothing to rank"]
    order = list(range(len(runs))) if values is None else sorted(range(len(runs)), key=lambda i: sign * values[i])
    best = None if values is None else order[0]
    tests = (
        _test_pairs(values, known, shared_reference, paired_runs, order)
        if values is not None and len(known) == len(runs)
        else None
    )
    rows = tuple(_build_row(runs[i].name, scores[i], i, best, values, tests) for i in order)
    return RunComparison(
        metric=metric,
        label=scores[0]["label"],
        rows=rows,
        shared_reference=shared_reference,
        notes=tuple(notes),
        reference=get_reference_label(runs[0], metric) if shared_reference else None,
    )


@dataclass(frozen=True)
class _PairwiseTests:
    """Standard error and adjusted p-value of each pair of runs, and the compact letters of each run."""

    errors: dict[frozenset[int], float]
    adjusted_p_values: dict[frozenset[int], float]
    compact_letters: dict[int, str]


def _test_pairs(
    values: Sequence[float],
    estimates: Sequence[Estimate],
    shared_reference: bool,
    paired_runs: bool,
    order: Sequence[int],
) -> _PairwiseTests:
    pairs = list(combinations(range(len(values)), 2))
    errors = [
        standard_error_of_difference(
            estimates[i], estimates[j], shared_reference=shared_reference, paired_runs=paired_runs
        )
        for i, j in pairs
    ]
    p_values = [two_sided_p_value(values[i] - values[j], error) for (i, j), error in zip(pairs, errors, strict=True)]
    adjusted_p_values = holm_correction(p_values)
    significant_pairs = [
        pair for pair, p_value in zip(pairs, adjusted_p_values, strict=True) if p_value <= SIGNIFICANCE_LEVEL
    ]
    keys = [frozenset(pair) for pair in pairs]
    return _PairwiseTests(
        dict(zip(keys, errors, strict=True)),
        dict(zip(keys, adjusted_p_values, strict=True)),
        compact_letter_display(order, significant_pairs),
    )


def _build_row(
    name: str,
    score: Mapping[str, Any],
    i: int,
    best: int | None,
    values: Sequence[float] | None,
    tests: _PairwiseTests | None,
) -> ComparisonRow:
    difference = None if best is None or values is None else values[i] - values[best]
    margin = adjusted_p_value = verdict = None
    if i != best and tests is not None and best is not None:
        pair = frozenset((i, best))
        margin, adjusted_p_value = Z_95 * tests.errors[pair], tests.adjusted_p_values[pair]
        verdict = "worse than the best" if adjusted_p_value <= SIGNIFICANCE_LEVEL else "within noise of the best"
    if difference == 0:  # also for other runs with the best value
        verdict = "best" if tests else "best value"
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
        compact_letters=tests.compact_letters[i] if tests else "",
    )


def _estimate_from_score(score: Mapping[str, Any]) -> Estimate | None:
    """Return the corrected value (or the value, if none applies) with its error, or None if there is no standard error."""
    error = score.get("standard_error")
    if error is None:
        return None
    value = score["value"] if score.get("corrected_value") is None else score["corrected_value"]
    variance_components = _to_float_pair(score.get("variance_components")) or (0.0, error**2)
    return Estimate(value, variance_components, score.get("generated_groups"), score.get("reference_groups"))


def _collect_estimates(scores: Sequence[Mapping[str, Any]]) -> list[Estimate]:
    """Return the estimates of the scores that can be compared: expectations of values without a bias correction cannot if
    sample sizes differ.
    """
    if any(score.get("corrected_value") is None for score in scores) and _comparable_values(scores) is None:
        scores = [score for score in scores if score.get("corrected_value") is not None]
    return [estimate for estimate in map(_estimate_from_score, scores) if estimate is not None]


def _comparable_values(scores: Sequence[Mapping[str, Any]]) -> list[float] | None:
    """Return the plain values, or None if sample sizes, and thus biases, differ."""
    sizes = {(score.get("n_generated"), score.get("n_reference")) for score in scores}
    return [score["value"] for score in scores] if len(sizes) == 1 else None


def _collect_notes(
    metric: str, runs: Sequence[Run], shared_reference: bool, known: Sequence[Estimate]
) -> Iterator[str]:
    scores = [run.scores[metric] for run in runs]
    if repeated := [escape_line(run.name) for run in runs if run.scores[metric].get("repeats")]:
        yield f"{join_words(repeated)}: mean over repetitions (--repeat), which has no confidence interval."
    if len(known) < len(runs):
        missing = [
            escape_line(run.name)
            for run, score in zip(runs, scores, strict=True)
            if _estimate_from_score(score) is None
        ]
        if missing:
            verb = "has" if len(missing) == 1 else "have"
            yield f"{join_words(missing)} {verb} no confidence interval, so differences cannot be tested."
        if _comparable_values(scores) is None:
            yield "The sample sizes differ, and values depend on the sample size, so the runs are not ranked."
    yield from _iter_design_notes(runs, metric)
    if not scores[0].get("uses_reference", True):
        return
    if shared_reference:
        for names in find_duplicate_runs(runs, metric):
            yield f"{join_words(names)} were scored on identical generated images; they may be the same run."
    else:
        yield "The references differ. Their sampling error is therefore added to the error of every difference."
    if shared_reference and any(
        estimate.reference_groups is None and estimate.variance_components[1] for estimate in known
    ):
        yield (
            "These runs do not record how the shared reference affects each score. Its sampling error is therefore added to the "
            "error of every difference, and the tests are conservative."
        )


def _iter_design_notes(runs: Sequence[Run], metric: str) -> Iterator[str]:
    """Yield a note if the intervals assume different sampling designs; detected duplicates are not one by themselves."""
    names: dict[str, list[str]] = {}
    for run in runs:
        if design := run.scores[metric].get("sampling_design"):
            parts = [part for part in str(design).split("; ") if not part.startswith("duplicates:")]
            kinds = [re.sub(r"^[\d,]+ |, as informative as .*", "", part) for part in parts]
            kind = "; ".join(re.sub(r": [\d,]+ ", " of ", each) for each in kinds)
            names.setdefault(escape_line(kind or "independent"), []).append(escape_line(run.name))
    if len(names) > 1:
        listed = "; ".join(f"{join_words(of)}: {kind}" for kind, of in names.items())
        yield f"The sampling designs differ ({listed}). An interval only holds if its design is how the images of the run were sampled."


def _to_float_pair(value: Any) -> tuple[float, float] | None:
    return None if value is None else (float(value[0]), float(value[1]))
