"""Scores for publication: the sentence and BibTeX entry for a paper, and the metadata of a Hugging Face model card."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import PurePath

from frechet.metrics import METRICS
from frechet.reports.text import format_number
from frechet.results import Score, Scores
from frechet.version import __version__

_URL = "https://github.com/frechet-metrics/frechet"
_BIBTEX = f"""@software{{frechet,
  title   = {{frechet: exact, fast and reproducible metrics of generated images}},
  author  = {{{{The frechet developers}}}},
  year    = {{2026}},
  version = {{{__version__}}},
  url     = {{{_URL}}}
}}"""


def format_citation(scores: Scores) -> str:
    """Return a sentence for a paper that names everything that the values depend on, the papers of the metrics, and BibTeX.

    Args:
        scores: the scores of one run.

    Returns:
        Several lines of text.

    Example:
        >>> import numpy as np, frechet
        >>> rows = np.random.default_rng(0).standard_normal((2, 50, 4))
        >>> print(format_citation(frechet.score(*rows, features=True)).splitlines()[0][:4])
        We c
    """
    (first, *_) = scores.values()
    values = ", ".join(map(_describe_value, scores.values()))
    features = "; ".join(dict.fromkeys(map(_describe_features, scores.values())))
    images = " and ".join(_iter_images(first))
    protocol = f", following protocol {scores.protocol.label}" if scores.protocol else ""
    source = f" from {images}" if images else ""
    sentence = f"We computed {values} with frechet {__version__} ({features}){source}{protocol}."
    labels: dict[str, list[str]] = {}
    for score in scores.values():
        labels.setdefault(METRICS[score.metric.partition("@")[0]].paper, []).append(score.label)
    papers = [f"{', '.join(names)}: {paper}." for paper, names in labels.items()]
    return "\n".join([sentence, *papers, "", _BIBTEX])


def format_model_card(scores: Scores, name: str, dataset: str) -> str:
    """Return the front matter of a model card on the Hugging Face Hub, with the scores as `model-index`.

    Args:
        scores: the scores of one run.
        name: name of the model.
        dataset: name of the reference images.

    Returns:
        YAML between two lines of `---`; strings are quoted as in JSON, which is a subset of YAML.
    """
    lines = [
        "---",
        "model-index:",
        f"- name: {json.dumps(name)}",
        "  results:",
        "  - task:",
        "      type: unconditional-image-generation",
        "    dataset:",
        f"      name: {json.dumps(dataset)}",
        f"      type: {json.dumps(PurePath(dataset).name)}",
        "    metrics:",
    ]
    for score in scores.values():
        lines += [
            f"    - type: {json.dumps(score.metric)}",
            f"      name: {json.dumps(score.label)}",
            f"      value: {score.value!r}",
        ]
    lines += ["    source:", f"      name: {json.dumps(f'frechet {__version__}')}", f"      url: {_URL}", "---", ""]
    return "\n".join(lines)


def _describe_value(score: Score) -> str:
    text = f"{score.label} = {format_number(score.value)}"
    if score.interval_95 is None:
        return text
    low, high = map(format_number, score.interval_95)
    is_biased = score.corrected_value is not None and score.corrected_value != score.value
    corrected = f"bias-corrected {format_number(score.corrected_value)}, " if is_biased else ""  # type: ignore[arg-type]
    return f"{text} ({corrected}95 % confidence interval {low} to {high})"


def _describe_features(score: Score) -> str:
    record = score.provenance
    names = {"extractor": "", "layer": "layer ", "preprocessing": "preprocessing ", "precision": ""}
    parts = [f"{prefix}{record[key]}" for key, prefix in names.items() if record.get(key)]
    if record.get("weights"):
        parts.append(f"weights {str(record['weights'])[:8]}")
    return ", ".join(parts) or "features of unknown origin"


def _iter_images(score: Score) -> Iterator[str]:
    """Yield the number of images of each input, if it is known, and their crop."""
    for kind, n in (
        ("generated", score.n_generated),
        ("reference", score.n_reference if score.uses_reference else None),
    ):
        crop = (score.provenance.get(kind) or {}).get("crop")
        if n:
            yield f"{n:,} {kind} images{f' cropped by {crop}' if crop else ''}"
