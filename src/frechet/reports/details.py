"""Format everything that is known of scores, for `frechet score --verbose`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from frechet._internal.terminal import escape_line
from frechet._internal.words import count_of
from frechet.reports.text import format_counts_to_halve_interval, format_test
from frechet.results import Score, Scores


def format_details(scores: Scores) -> str:
    """Format each score as a block of lines: label and value in six digits, its parts, its settings and its provenance.

    Control characters (in names of files and classes, and in the metadata of statistics files) are escaped.
    """
    return "\n".join(escape_line(line) for score in scores.values() for line in _format_score(score))


def _format_score(score: Score) -> Iterator[str]:
    yield f"{score.label}: {score.value:.6g}"
    rows = [*_format_interval(score), *_format_parts(score), *_format_provenance(score)]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        yield f"  {name:<{width}}  {text}"


def _format_interval(score: Score) -> Iterator[tuple[str, str]]:
    if score.interval_95 is None:
        yield "95 % CI", f"none: {score.interval_unavailable_reason}"
        return
    low, high = score.interval_95
    interval = f"{low:.4g} to {high:.4g}   ({score.interval_method})"
    if score.corrected_value is None:
        yield "95 % CI", interval
    else:
        yield "bias-corrected", f"{score.corrected_value:.6g}   95 % CI: {interval}"
    if score.estimand is not None:
        yield "95 % CI of", score.estimand
    if score.sampling_design not in (None, "independent"):
        yield "sampling", str(score.sampling_design)
    if score.permutation_p_value is not None:
        yield "permutation test", format_test(score.permutation_p_value)
    if counts := format_counts_to_halve_interval(score):
        yield "to halve CI", f"about {counts} images"


def _format_parts(score: Score) -> Iterator[tuple[str, str]]:
    for name, value in score.terms.items():
        yield name, f"{value:.6g}"
    for row in score.splits if len(score.splits) > 1 else ():  # a single entry equals the value
        yield f"mean of {count_of(int(row['n']), 'split')}", f"{row['mean']:.6g} (std {row['std']:.6g})"
    if score.std is not None:
        yield "std", f"{score.std:.6g} between {f'{len(score.repeats)} runs' if score.repeats else 'splits or subsets'}"
    settings = [f"{name} {_format_setting(value)}" for name, value in score.settings.items() if value is not None]
    if settings:
        yield "settings", ", ".join(settings)


def _format_setting(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _format_provenance(score: Score) -> Iterator[tuple[str, str]]:
    reference = f", {_format_count(score.n_reference, 'reference')}" if score.uses_reference else ""
    yield "images", f"{_format_count(score.n_generated, 'generated')}{reference}"
    for name in ("extractor", "layer", "preprocessing", "precision"):
        if score.provenance.get(name):
            yield name, str(score.provenance[name])
    crops = {
        name: (score.provenance.get(name) or {}).get("crop")
        for name in ("generated", "reference")
        if score.uses_reference or name == "generated"
    }
    if any(crops.values()):
        yield "crop", ", ".join(f"{crop or 'none'} ({name})" for name, crop in crops.items())


def _format_count(n: int | None, kind: str) -> str:
    return f"unknown number of {kind} images" if n is None else f"{n:,} {kind}"
