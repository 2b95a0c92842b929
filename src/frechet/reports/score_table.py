"""The table of scores of a page: numbers, intervals drawn to scale, and sentences that explain them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from frechet._internal.words import join_words
from frechet.distances.interval import SIGNIFICANCE_LEVEL
from frechet.reports.page_template import format_page_number
from frechet.results import INTERVAL_NOT_REQUESTED, Score

WHISKER_WIDTH = 160  # pixels
_MARGIN = 6


@dataclass(frozen=True, kw_only=True)
class Whisker:
    """Positions in pixels on an axis that starts at 0 (or at a negative lower end of the interval).

    Attributes:
        zero, value: positions of 0 and of the value.
        corrected: position of the bias-corrected value, or None.
        interval: positions of the ends of the interval.
    """

    zero: float
    value: float
    corrected: float | None
    interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """A row of the table, formatted; `whisker` is drawn next to the interval.

    Attributes:
        label, value, corrected, interval: cells; empty if there is none.
        better: arrow towards better values, with words for screen readers.
        whisker: the same numbers to scale, or None without an interval.
    """

    label: str
    value: str
    corrected: str
    interval: str
    better: tuple[str, str]
    whisker: Whisker | None


_BETTER = {True: ("↓", "lower is better"), False: ("↑", "higher is better"), None: ("→ 0", "better near 0")}


def build_score_rows(scores: Sequence[Score]) -> list[ScoreRow]:
    """Build the rows of the table of scores."""
    return [
        ScoreRow(
            label=score.label,
            value=format_page_number(score.value),
            corrected="" if (value := _get_corrected(score)) is None else format_page_number(value),
            interval=" to ".join(map(format_page_number, score.interval_95 or ())),
            better=_BETTER[score.lower_is_better],
            whisker=None if score.interval_95 is None else _draw_whisker(score, score.interval_95),
        )
        for score in scores
    ]


def describe_scores(scores: Sequence[Score]) -> list[str]:
    """Describe what the intervals are for, why there are none, and which differences are not significant."""
    with_interval = [score for score in scores if score.interval_95 is not None]
    estimands = _group(with_interval, lambda score: score.estimand)
    designs = _group(
        with_interval, lambda score: None if score.sampling_design == "independent" else score.sampling_design
    )
    reasons = _group([score for score in scores if score.interval_95 is None], _get_reason)
    return [
        *(f"{_name_intervals(labels)} for {text}." for text, labels in estimands),
        *(
            f"The interval of {join_words(labels)} takes dependent images into account: {text}."
            for text, labels in designs
        ),
        *(f"No confidence interval for {join_words(labels)}: {text}." for text, labels in reasons),
        *(
            _describe_test(score, score.permutation_p_value)
            for score in scores
            if score.permutation_p_value is not None
        ),
    ]


def _describe_test(score: Score, p_value: float) -> str:
    if p_value > SIGNIFICANCE_LEVEL:
        return (
            f"With these sample sizes, {_short_label(score)} shows no significant difference between the two inputs "
            f"(permutation test, p = {p_value:.3f})."
        )
    return (
        f"{_short_label(score)} shows a significant difference between the two inputs (permutation test, p = {p_value:.3f}). The interval "
        "reaches 0, near which this test has more power."
    )


def _get_reason(score: Score) -> str | None:
    reason = score.interval_unavailable_reason
    return "it was not requested" if reason == INTERVAL_NOT_REQUESTED else reason and reason.rstrip(".")


def _name_intervals(labels: Sequence[str]) -> str:
    return f"The 95 % CI of {labels[0]} is" if len(labels) == 1 else f"The 95 % CIs of {join_words(labels)} are"


def _group(scores: Sequence[Score], describe: Callable[[Score], str | None]) -> Iterator[tuple[str, list[str]]]:
    """Yield each distinct text with the labels of the scores that it is about."""
    labels: dict[str, list[str]] = {}
    for score in scores:
        if text := describe(score):
            labels.setdefault(text, []).append(_short_label(score))
    return iter(labels.items())


def _short_label(score: Score) -> str:
    return score.label.partition(" (")[0]


def _get_corrected(score: Score) -> float | None:
    """Return the bias-corrected value, or None if the metric has no bias."""
    return None if score.corrected_value in (None, score.value) else score.corrected_value


def _draw_whisker(score: Score, interval: tuple[float, float]) -> Whisker:
    corrected = _get_corrected(score)
    numbers = [0.0, score.value, *interval, *(() if corrected is None else (corrected,))]
    low, high = min(numbers), max(numbers)
    scale = (WHISKER_WIDTH - 2 * _MARGIN) / ((high - low) or 1.0)

    def place(number: float) -> float:
        return round(_MARGIN + (number - low) * scale, 2)

    return Whisker(
        zero=place(0.0),
        value=place(score.value),
        corrected=None if corrected is None else place(corrected),
        interval=(place(interval[0]), place(interval[1])),
    )
