"""Scores for publication: the sentence and BibTeX entry for a paper, and a Hugging Face model card."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from frechet._internal.terminal import escape_line
from frechet._internal.words import count_of, join_words
from frechet.evaluation.plan import is_pair_metric
from frechet.evaluation.request import ScoreRequest
from frechet.metrics import METRICS
from frechet.reports.command_line import format_command
from frechet.reports.protocol_facts import iter_protocol_facts
from frechet.reports.tables import Table, escape_markdown, format_markdown
from frechet.reports.text import collect_warnings, format_images, format_number, iter_facts, tabulate_scores
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


def format_model_card(scores: Scores, request: ScoreRequest) -> str:
    """Return a model card for the Hugging Face Hub: the scores as `model-index`, and a table of what they depend on.

    Args:
        scores: the scores of one run.
        request: what was scored.

    Returns:
        YAML between two lines of `---` (strings are quoted as in JSON, a subset of YAML), followed by Markdown.
    """
    (first, *_) = scores.values()
    lines = [
        "---",
        "model-index:",
        f"- name: {_format_yaml(_get_name(first, 'generated'))}",
        "  results:",
        "  - task:",
        "      type: unconditional-image-generation",
        "    dataset:",
        f"      name: {_format_yaml(_get_name(first, 'reference') or 'no reference')}",
        *_format_dataset_type(request.reference),
        "    metrics:",
    ]
    for score in scores.values():
        preprocessing = score.provenance.get("preprocessing")
        name = (
            score.label
            if is_pair_metric(score.metric) or not preprocessing
            else f"{score.label}, preprocessing {preprocessing}"
        )
        lines += [
            f"    - type: {_format_yaml(score.metric)}",
            f"      name: {_format_yaml(name)}",
            f"      value: {_format_yaml(score.value)}",
            "      args:",
            *(f"        {key}: {_format_yaml(value)}" for key, value in _iter_arguments(score)),
        ]
    lines += ["    source:", f"      name: {_format_yaml(f'frechet {__version__}')}", f"      url: {_URL}", "---", ""]
    return "\n".join([*lines, *_format_evaluation(scores, request), ""])


def _get_name(score: Score, side: str) -> str:
    """Return the file name of an input, or an empty string if the run has no such input."""
    label = (score.provenance.get(side) or {}).get("label")
    return PurePath(label).name if label else ""


def _format_dataset_type(reference: object) -> list[str]:
    """Return the line with the identifier of the data set on the Hub."""
    found = re.match(r"(?:hf://|https://huggingface\.co/)datasets/([\w.-]+/[\w.-]+)", str(reference))
    if found:
        return [f"      type: {_format_yaml(found[1])}"]
    return ["      type: custom  # replace it by the identifier of the data set on the Hub, if there is one"]


def _iter_arguments(score: Score) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a score, and of its provenance, without which its value cannot be judged."""
    values = {
        name: getattr(score, name) for name in ("corrected_value", "interval_95", "reference_is", "std", "n_generated")
    }
    values["n_reference"] = score.n_reference if score.uses_reference else None
    values |= {
        name: score.provenance.get(name) for name in ("extractor", "layer", "weights", "preprocessing", "precision")
    }
    yield from ((name, value) for name, value in values.items() if value is not None)


def _format_yaml(value: Any) -> str:
    """Format a value as JSON that YAML 1.1 reads as the same value, with control characters in text escaped."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_format_yaml, value))}]"
    if isinstance(value, float):
        mantissa, e, exponent = repr(float(value)).partition("e")
        return f"{mantissa}{'' if '.' in mantissa else '.0'}{e}{exponent}"  # YAML 1.1 reads 1e-05 as text
    return json.dumps(escape_line(value) if isinstance(value, str) else value, ensure_ascii=False)


def _format_evaluation(scores: Scores, request: ScoreRequest) -> Iterator[str]:
    """Yield lines of Markdown: the table of scores, what they depend on, warnings and the command."""
    columns = tabulate_scores(scores)
    columns["images"] = [format_images(score) for score in scores.values()]
    rows = list(zip(*columns.values(), strict=True))
    yield format_markdown([Table(title="Evaluation", header=list(columns), rows=rows)])
    yield ""
    facts = [(name, text) for name, text in iter_facts(scores) if name != "images"]
    facts += [(name, text) for name, text in iter_protocol_facts(scores) if name in ("protocol", "deviation")]
    facts += [("warning", warning) for warning in collect_warnings(scores)]
    compared = next((score for score in scores.values() if _get_name(score, "reference")), None)
    if compared is not None:
        sha256 = compared.provenance["reference"].get("sha256")
        facts.insert(0, ("reference", f"{_get_name(compared, 'reference')}{f', sha256 {sha256}' if sha256 else ''}"))
    yield from (f"- {escape_markdown(name)}: {escape_markdown(text)}" for name, text in facts)
    yield f"- computed with [frechet]({_URL}) {__version__}:"
    yield ""
    yield f"      {escape_line(format_command(request, scores))}"


def _describe_value(score: Score) -> str:
    text = f"{score.label} = {format_number(score.value)}"
    if score.repeats:
        return f"{text}{_describe_repetitions(score)}"
    if score.interval_95 is None:
        return text
    low, high = map(format_number, score.interval_95)
    is_biased = score.corrected_value is not None and score.corrected_value != score.value
    corrected = f"bias-corrected {format_number(score.corrected_value)}, " if is_biased else ""  # type: ignore[arg-type]
    design = f"; sampling design: {score.sampling_design}" if score.sampling_design not in (None, "independent") else ""
    return f"{text} ({corrected}95 % confidence interval {low} to {high}{design})"


def _describe_repetitions(score: Score) -> str:
    """Return the standard deviation between repetitions, and their number and seeds."""
    if score.std is None:
        return ""
    n, seed = len(score.repeats), score.provenance.get("seed")
    seeds = "" if seed is None else f" with seeds {seed} to {seed + n - 1}"
    return f" ± {format_number(score.std)} (mean ± standard deviation of {n} repetitions{seeds})"


def _describe_features(score: Score) -> str:
    record = score.provenance
    names = {"extractor": "", "layer": "layer ", "preprocessing": "preprocessing ", "precision": ""}
    parts = [f"{prefix}{record[key]}" for key, prefix in names.items() if record.get(key)]
    if record.get("weights"):
        parts.append(f"weights {str(record['weights'])[:8]}")
    return ", ".join(parts) or "features of unknown origin"


def _iter_images(score: Score) -> Iterator[str]:
    """Yield the number of images of each input, if it is known, how they were chosen, and their crop."""
    for kind, n in (
        ("generated", score.n_generated),
        ("reference", score.n_reference if score.uses_reference else None),
    ):
        if n:
            yield _describe_images(score, kind, n)


def _describe_images(score: Score, kind: str, n: int) -> str:
    record = score.provenance.get(kind) or {}
    n_skipped, n_source = len(record.get("skipped_images") or ()), record.get("n_source")
    is_subset = n_source is not None and n_source > n + n_skipped
    if is_subset and score.repeats:
        count = f"random subsets of {n:,} of {n_source:,}"
    else:
        count = f"a random subset of {n:,} of {n_source:,}" if is_subset else f"{n:,}"
    details = [f"seed {record['seed']}"] if is_subset and record.get("seed") is not None and not score.repeats else []
    if n_skipped:
        details.append(f"{count_of(n_skipped, 'image')} skipped that could not be decoded")
    crop = f" cropped by {record['crop']}" if record.get("crop") else ""
    return f"{count} {kind} images{crop}{f' ({join_words(details)})' if details else ''}"
