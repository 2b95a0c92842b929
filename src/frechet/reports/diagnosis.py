"""Show a diagnosis: for a terminal, and as a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from frechet._internal.terminal import escape_line
from frechet.evaluation.diagnosis.result import CombinationScore, Diagnosis, Effect
from frechet.reports.page_template import render_template
from frechet.reports.tables import align_left

_OTHER_CAUSES = "The claimed value has another cause, such as other images, other weights, or another reference."
_MAX_MATCHES, _MAX_CLOSE, _MAX_NEAREST = 10, 5, 3
AXES = {
    "preprocessing": "preprocessing",
    "generated_crop": "generated crop",
    "reference_crop": "reference crop",
    "rounding": "rounding",
    "order": "order",
    "num_images": "images",
}
_VERDICTS = {"match": "match", "close": "close", "far": "-"}


class DiagnosisTable(NamedTuple):
    """Combinations as rows of text.

    Attributes:
        header: names of the columns: the verdict, the value, its difference from the claim, and each axis that differs.
        rows: the cells of each combination.
    """

    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


def format_diagnosis(diagnosis: Diagnosis) -> str:
    """Format a diagnosis for a terminal: the answer, the relevant combinations, the explanation of the difference, and what was not varied."""
    table = tabulate([diagnosis.baseline, *select_relevant(diagnosis)], diagnosis.baseline)
    lines = [describe_verdict(diagnosis), "", *align_left([table.header, *table.rows])]
    if diagnosis.verdict == "none":
        lines += ["", _OTHER_CAUSES]
    elif equal := describe_equivalent(diagnosis.combinations[0]):
        lines += ["", f"Compared with the best combination, these settings do not change the pixels: {equal}."]
    if effects := list(describe_effects(diagnosis)):
        lines += ["", "Differences from the baseline, and the change that each of them causes alone:"]
        lines += [f"  {text}" for text in effects]
    lines += ["", "Not varied:", *(f"  {text}" for text in diagnosis.not_varied)] if diagnosis.not_varied else []
    return "\n".join(map(escape_line, lines))


def select_relevant(diagnosis: Diagnosis) -> list[CombinationScore]:
    """Return the combinations to look at, without the baseline: matches and close ones or, if there are none, the nearest."""
    found = [*diagnosis.matches[:_MAX_MATCHES], *diagnosis.close[:_MAX_CLOSE]]
    return [each for each in found or diagnosis.combinations[:_MAX_NEAREST] if each.changes]


def describe_verdict(diagnosis: Diagnosis) -> str:
    """Say in one sentence whether there is an explanation."""
    claim = f"{diagnosis.label} {diagnosis.claimed:g}"
    n_computed, n_matches = len(diagnosis.combinations), len(diagnosis.matches)
    if not diagnosis.baseline.changes and diagnosis.baseline.verdict == "match":
        return f"The baseline gives {claim}."
    if n_matches:
        return f"{n_matches} of {n_computed} distinct combinations {'gives' if n_matches == 1 else 'give'} {claim}."
    if diagnosis.close:
        return f"None of {n_computed} distinct combinations gives {claim}; {len(diagnosis.close)} within 5 % of it."
    return f"None of {n_computed} distinct combinations gives {claim} or comes within 5 % of it."


def tabulate(scores: Sequence[CombinationScore], baseline: CombinationScore) -> DiagnosisTable:
    """Return combinations as a table, with a column for each axis along which they differ."""
    axes = [axis for axis in AXES if len({score.settings[axis] for score in scores}) > 1]
    rows = [
        (
            "baseline" if score is baseline else _VERDICTS[score.verdict],
            f"{score.value:.6g}",
            f"{score.difference:+.4g}",
            *(score.settings[axis] for axis in axes),
        )
        for score in scores
    ]
    return DiagnosisTable(("", "value", "difference", *(AXES[axis] for axis in axes)), rows)


def describe_equivalent(score: CombinationScore) -> str:
    """Return the other settings that give the same inputs, by axis; empty if there are none."""
    others = {axis: _distinct(each[axis] for each in score.equivalent) for axis in AXES}
    kept = {axis: [name for name in names if name != score.settings[axis]] for axis, names in others.items()}
    return "; ".join(f"{AXES[axis]} {', '.join(names)}" for axis, names in kept.items() if names)


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def describe_effects(diagnosis: Diagnosis) -> Iterator[str]:
    """Yield a line for each difference between the baseline and the best combination, and one for what they do together.

    The nearest combination explains nothing if it is not close to the claimed value.
    """
    if diagnosis.verdict == "none":
        return
    yield from map(_describe_effect, diagnosis.effects)
    if diagnosis.interaction is not None and len(diagnosis.effects) > 1:
        yield f"together, beyond their sum: {diagnosis.interaction:+.3g}"


def _describe_effect(effect: Effect) -> str:
    axis = ", ".join(AXES[name] for name in effect.axis.split(", "))
    change = "not computed" if effect.change is None else f"{effect.change:+.3g}"
    return f"{axis} {effect.value} instead of {effect.baseline}: {change}" + (
        " (estimated on a subset)" if effect.is_estimated else ""
    )


def render_diagnosis_page(diagnosis: Diagnosis) -> str:
    """Render the page of a diagnosis, with every combination that was computed."""
    return render_template(
        "diagnosis.html",
        title=f"{diagnosis.label}: what gives {diagnosis.claimed:g}?",
        diagnosis=diagnosis,
        verdict=describe_verdict(diagnosis) + (f" {_OTHER_CAUSES}" if diagnosis.verdict == "none" else ""),
        relevant=tabulate([diagnosis.baseline, *select_relevant(diagnosis)], diagnosis.baseline),
        equivalent=describe_equivalent(diagnosis.combinations[0]),
        effects=list(describe_effects(diagnosis)),
        everything=tabulate(diagnosis.combinations, diagnosis.baseline),
        json=diagnosis.to_json(),
    )
