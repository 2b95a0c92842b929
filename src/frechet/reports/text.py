"""Scores as a small table for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from frechet.scores import Score, Scores


def table(scores: Scores) -> str:
    """One block a score: label and value, then what it is made of, then what a reader should know."""
    return "\n".join(line for score in scores.values() for line in _lines(score))


def _lines(score: Score) -> Iterator[str]:
    yield f"{score.label}: {score.value:.6g}"
    rows = [(name, f"{value:.6g}") for name, value in score.terms.items()]
    rows += [("images", f"{_count(score.n_generated)} generated, {_count(score.n_reference)} reference")]
    rows += [
        (name, str(score.provenance[name]))
        for name in ("extractor", "layer", "convention", "precision")
        if score.provenance.get(name)
    ]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        yield f"  {name:<{width}}  {text}"


def _count(n: int | None) -> str:
    return "an unknown number" if n is None else f"{n:,}"
