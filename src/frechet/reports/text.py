"""Scores as a small table for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from frechet._internal.terminal import escape_line
from frechet.distances.interval import SIGNIFICANCE_LEVEL
from frechet.results import Score, Scores


def format_scores(scores: Scores) -> str:
    """One block a score: label and value, then what it is made of, then what a reader should know.

    Names of files and classes, and what statistics files say of themselves, have their control characters made visible.
    """
    return "\n".join(escape_line(line) for score in scores.values() for line in _format_score(score))


def collect_warnings(scores: Scores) -> list[str]:
    """What a reader should know of any of the scores, each once: some is of one metric alone."""
    return list(dict.fromkeys(warning for score in scores.values() for warning in score.warnings))


def _format_score(score: Score) -> Iterator[str]:
    yield f"{score.label}: {score.value:.6g}"
    rows = list(_format_interval(score))
    rows += [(name, f"{value:.6g}") for name, value in score.terms.items()]
    rows += list(_format_splits(score))
    rows += [("std", f"{score.std:.6g} between {_describe_replicates(score)}")] if score.std is not None else []
    rows += (
        [("settings", ", ".join(f"{name} {_format_setting(value)}" for name, value in _get_settings(score)))]
        if _get_settings(score)
        else []
    )
    images = f"{_format_count(score.n_generated)} generated"
    rows += [("images", images + (f", {_format_count(score.n_reference)} reference" if score.uses_reference else ""))]
    rows += [
        (name, str(score.provenance[name]))
        for name in ("extractor", "layer", "preprocessing", "precision")
        if score.provenance.get(name)
    ]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        yield f"  {name:<{width}}  {text}"
    yield from _format_classes(score)
    yield from _format_influential_images(score)


def _format_splits(score: Score) -> Iterator[tuple[str, str]]:
    for row in score.splits if len(score.splits) > 1 else ():  # a single one is the value itself
        yield f"mean of {row['n']} splits", f"{row['mean']:.6g} (std {row['std']:.6g})"


def _describe_replicates(score: Score) -> str:
    return f"{len(score.repeats)} runs" if score.repeats else "splits or subsets"


def _format_classes(score: Score) -> Iterator[str]:
    if score.per_class:
        yield f"  by class (mean {sum(score.per_class.values()) / len(score.per_class):.6g} of {len(score.per_class)})"
    for name, value in score.per_class.items():
        yield f"    {name}  {value:.6g}"


def _get_settings(score: Score) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in score.settings.items() if value is not None]


def _format_setting(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _format_interval(score: Score) -> Iterator[tuple[str, str]]:
    if score.interval_95 is None or score.corrected_value is None:
        yield "interval", f"none: {score.interval_unavailable_reason}"
        return
    low, high = score.interval_95
    yield "corrected", f"{score.corrected_value:.6g}   95 %: {low:.4g} to {high:.4g}   ({score.interval_method})"
    if score.permutation_p_value is not None:
        verdict = "not told apart from equal" if score.permutation_p_value > SIGNIFICANCE_LEVEL else "they differ"
        yield "equality", f"p = {score.permutation_p_value:.3f}: {verdict}"
    if score.n_to_halve_interval:
        generated, reference = score.n_to_halve_interval
        yield (
            "half of it",
            f"would take about {_format_count(generated)} generated, {_format_count(reference)} reference",
        )


def _format_influential_images(score: Score) -> Iterator[str]:
    for direction, title in (("raise", "raise it most"), ("lower", "lower it most")):
        images = (score.influence or {}).get(direction, [])
        if images:
            yield f"  images that {title} (change if removed = by mean + by covariance)"
        for row in images:
            yield f"    {row['change']:+.3g} = {row['mean']:+.3g} {row['covariance']:+.3g}   {row['image']}"


def _format_count(n: int | None) -> str:
    return "an unknown number" if n is None else f"{n:,}"
