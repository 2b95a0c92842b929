"""Read and validate the JSON files that ``frechet score`` writes, and compare their provenance."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain, starmap
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any, NoReturn, TypeAlias

from frechet._internal.missing_path import describe_missing_path
from frechet._internal.special_files import describe_special_file
from frechet._internal.terminal import escape_line
from frechet.errors import MismatchError, RequestError
from frechet.metrics import METRICS
from frechet.results import INTERVAL_FIELDS, JSON_SCHEMA, Scores

_SPEC_FIELDS = ("extractor", "layer", "weights", "preprocessing", "precision")
# Two inputs with the same images have moments that agree up to the rounding of features on different hardware.
_MOMENTS_RTOL = 1e-5
_Moments: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Run:
    """The scores of one run under a display name.

    Attributes:
        name: display name, for example "step-1000".
        scores: for each metric, the fields of its `Score` as plain JSON values, and what differs in its provenance.
        provenance: the settings and inputs of the run.
    """

    name: str
    scores: Mapping[str, Mapping[str, Any]]
    provenance: Mapping[str, Any]

    @classmethod
    def from_scores(cls, name: str, scores: Scores) -> Run:
        """Wrap the result of `frechet.score`."""
        content = scores.to_dict()
        return cls(name=name, scores=content["scores"], provenance=content["provenance"])

    def get_provenance(self, metric: str | None) -> Mapping[str, Any]:
        """Return the provenance of one score, or that which most scores share."""
        own = (self.scores[metric].get("provenance") if metric else None) or {}
        absent = {key for key, value in own.items() if value is None}
        return {key: value for key, value in {**self.provenance, **own}.items() if key not in absent}

    def select(self, metric: str) -> Run:
        """Return a run of one metric alone, with the provenance of its score."""
        score = {key: value for key, value in self.scores[metric].items() if key != "provenance"}
        return Run(name=self.name, scores={metric: score}, provenance=self.get_provenance(metric))


def read_runs(paths: Sequence[str | os.PathLike[str]]) -> list[Run]:
    """Read the JSON files that ``frechet score --output`` (or ``--json``) wrote.

    Args:
        paths: the files. Runs are named after their file without its suffix, or by path if two files share a name.

    Returns:
        One run per file, in the same order.

    Raises:
        RequestError: a file is missing, given twice, of another schema, or not such JSON.
    """
    files = [Path(path) for path in paths]
    _require_distinct(files)
    stems = Counter(path.stem for path in files)
    return [_read_run(path, path.stem if stems[path.stem] == 1 else str(path)) for path in files]


def require_same_spec(runs: Sequence[Run]) -> None:
    """Reject runs that have metrics in common whose features were computed with different settings.

    If no two runs have a metric in common, the settings of the runs as a whole are compared.

    Raises:
        MismatchError: names the settings that differ, with both values.
    """
    counts = Counter(metric for run in runs for metric in run.scores)
    is_any_shared = any(count > 1 for count in counts.values())
    first_with: dict[str | None, Run] = {}
    for run in runs:
        metrics: list[str | None] = [*run.scores] if is_any_shared else [None]
        pairs = [(first_with.setdefault(metric, run), run, metric) for metric in metrics]
        if differences := list(dict.fromkeys(chain.from_iterable(starmap(_iter_differences, pairs)))):
            raise MismatchError(
                f"the runs were computed with different settings and are not ranked: {'; '.join(differences)}. "
                "Score both with the same settings, or compare only runs with the same settings."
            )


def _iter_differences(first: Run, other: Run, metric: str | None) -> Iterator[str]:
    """Yield each setting of a metric that differs; of the runs as a whole if it is None."""
    settings, others = first.get_provenance(metric), other.get_provenance(metric)
    for name in _SPEC_FIELDS:
        one, another = settings.get(name), others.get(name)
        if one != another:
            yield (
                f"{name} {_abbreviate(one)} ({escape_line(first.name)}) and {_abbreviate(another)} ({escape_line(other.name)})"
            )


def has_shared_reference(runs: Sequence[Run], metric: str | None) -> bool:
    """Return whether all runs scored a metric against the same reference images, up to the rounding of features."""
    first, *others = (_get_moments(run.get_provenance(metric).get("reference")) for run in runs)
    return first is not None and all(_are_of_same_images(first, each) for each in others)


def get_reference_label(run: Run, metric: str) -> str | None:
    """Return the display name of the reference of a metric, or None if it is unknown."""
    label = (run.get_provenance(metric).get("reference") or {}).get("label")
    return None if label is None else str(label)


def require_pairs(runs: Sequence[Run], metric: str) -> None:
    """Reject runs whose images cannot have been generated from the same latents or prompts.

    Raises:
        RequestError: the runs have different numbers of generated images, or samples of them by different seeds.
    """
    generated = {run.name: run.get_provenance(metric).get("generated") or {} for run in runs}
    sizes = {name: (images.get("n"), images.get("seed")) for name, images in generated.items()}
    if len(set(sizes.values())) > 1:
        described = ", ".join(f"{escape_line(name)}: {n} images, seed {seed}" for name, (n, seed) in sizes.items())
        raise RequestError(
            f"paired runs need the same number of generated images and the same seed; got {described}. Score the runs with the "
            "same settings, or leave --paired-runs (paired_runs=) out."
        )


def find_duplicate_runs(runs: Sequence[Run], metric: str) -> list[list[str]]:
    """Return the escaped names of runs whose generated images, as a metric sees them, have the same moments, grouped.

    They agree up to rounding: the order in which features are summed depends on the sampling design and the container.
    """
    groups: list[tuple[_Moments, list[str]]] = []
    for run in runs:
        moments = _get_moments(run.get_provenance(metric).get("generated"))
        if moments is None:
            continue
        names = next((names for known, names in groups if _are_of_same_images(known, moments)), None)
        if names is None:
            groups.append((moments, names := []))
        names.append(escape_line(run.name))
    return [names for _, names in groups if len(names) > 1]


def _are_of_same_images(one: _Moments, another: _Moments | None) -> bool:
    """Return whether moments agree up to the rounding of features on different hardware."""
    return another is not None and all(
        math.isclose(a, b, rel_tol=_MOMENTS_RTOL) for a, b in zip(one, another, strict=True)
    )


def _get_moments(provenance: Any) -> _Moments | None:
    """Return (squared norm of the mean, trace of the covariance, n) of one input, or None if unknown."""
    if not isinstance(provenance, Mapping) or provenance.get("moments") is None:
        return None
    return (*provenance["moments"], provenance.get("n") or 0)


def _abbreviate(value: Any) -> str:
    text = escape_line("unknown" if value is None else str(value))
    return f"{text[:12]}..." if len(text) > 32 else text


def _require_distinct(paths: Sequence[Path]) -> None:
    first: dict[str, Path] = {}
    for path in paths:
        earlier = first.setdefault(os.path.realpath(path), path)
        if earlier is not path:
            raise RequestError(f"{path} is the same file as {earlier}; give each run once")


def _read_run(path: Path, name: str) -> Run:
    content = _read_json(path)
    if not isinstance(content, dict):
        raise RequestError(
            f"{path} contains {short_repr(content)}; expected the JSON object that frechet score --output writes"
        )
    _require_schema(path, content)
    scores, provenance = content.get("scores"), content.get("provenance")
    if not (isinstance(scores, dict) and isinstance(provenance, dict) and scores):
        raise RequestError(
            f"{path} contains no scores with their provenance; expected a run file written by frechet score --output"
        )
    for metric, score in scores.items():
        _validate_score(path, metric, score)
    _validate_inputs(path, "provenance", provenance)
    return Run(
        name=name, scores={key: _drop_first_repetition(each) for key, each in scores.items()}, provenance=provenance
    )


def _drop_first_repetition(score: Mapping[str, Any]) -> Mapping[str, Any]:
    """Remove the interval of the first repetition, which version 0.2.0 wrote next to the mean over all repetitions."""
    return {**score, **dict.fromkeys(INTERVAL_FIELDS)} if score.get("repeats") else score


def _read_json(path: Path) -> Any:
    if problem := describe_special_file(path):
        raise RequestError(problem)
    if path.is_dir():
        raise RequestError(f"{path} is a folder; expected a run file written by frechet score --output")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RequestError(describe_missing_path(Path(path), "file")) from None
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or an integer of thousands of digits
        raise RequestError(
            f"{path} is not a JSON file ({error}); expected a run file written by frechet score --output"
        ) from None


def _require_schema(path: Path, content: Mapping[str, Any]) -> None:
    schema = content.get("schema")
    if schema != JSON_SCHEMA:
        found = "no schema" if schema is None else f"schema {short_repr(schema)}"
        is_newer = isinstance(schema, int) and schema > JSON_SCHEMA
        fix = "upgrade frechet" if is_newer else "score the images again with --output"
        raise RequestError(
            f'{path} has {found}; expected "schema": {JSON_SCHEMA}, which frechet score --output writes. To fix this, {fix}.'
        )


def _validate_inputs(path: Path, field_name: str, provenance: Mapping[str, Any]) -> None:
    for name in ("generated", "reference"):
        value = provenance.get(name)
        if value is None:  # some metrics need no reference
            continue
        if not isinstance(value, dict):
            _reject(path, f"{field_name}.{name}", value, "an object")
        for key, (is_valid, expected) in _INPUT_FIELDS.items():
            if value.get(key) is not None and not is_valid(value[key]):
                _reject(path, f"{field_name}.{name}.{key}", value[key], expected)


def _validate_score(path: Path, metric: str, score: Any) -> None:
    key = metric.partition("@")[0]
    if key not in METRICS:
        near = get_close_matches(key, METRICS, 1)
        hint = f"Did you mean {near[0]}?" if near else f"Available metrics: {', '.join(METRICS)}."
        raise RequestError(f"{path} contains the metric {metric!r}, which this version does not support. {hint}")
    if not isinstance(score, dict):
        _reject(path, metric, score, "an object")
    for name, (is_valid, expected) in _SCORE_FIELDS.items():
        value = score.get(name)
        if not (is_valid(value) or (value is None and name not in _REQUIRED_FIELDS)):
            _reject(path, f"{metric}.{name}", value, expected)
    _validate_inputs(path, f"{metric}.provenance", score.get("provenance") or {})


def _reject(path: Path, field_name: str, value: Any, expected: str) -> NoReturn:
    raise RequestError(
        f"{path}: {escape_line(field_name)} is {short_repr(value)}; expected {expected}. "
        "To fix this, write the file again with frechet score --output."
    )


_MAX_MAGNITUDE = 1e150  # so that the square of a number is finite


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_MAX_MAGNITUDE < value < _MAX_MAGNITUDE


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_count(value: Any) -> bool:
    return _is_int(value) and value > 0


def _is_number_list(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(map(_is_number, value))


def _is_pair(value: Any) -> bool:
    return _is_number_list(value) and len(value) == 2


_Check = tuple[Callable[[Any], bool], str]  # (whether a value is valid, what is expected)
_REQUIRED_FIELDS = ("label", "value")
_SCORE_FIELDS: dict[str, _Check] = {
    "label": (lambda value: isinstance(value, str), "text"),
    "value": (_is_number, "a finite number"),
    "corrected_value": (_is_number, "a finite number"),
    "standard_error": (lambda value: _is_number(value) and value >= 0, "a finite number of at least 0"),
    "interval_95": (_is_pair, "two finite numbers"),
    "variance_components": (lambda value: _is_pair(value) and min(value) >= 0, "two finite numbers of at least 0"),
    "generated_groups": (_is_number_list, "two or more finite numbers"),
    "reference_groups": (_is_number_list, "two or more finite numbers"),
    "n_generated": (_is_count, "a whole number of at least 1"),
    "n_reference": (_is_count, "a whole number of at least 1"),
    "provenance": (lambda value: isinstance(value, dict), "an object"),
}
_INPUT_FIELDS: dict[str, _Check] = {
    "moments": (_is_pair, "two finite numbers (the squared norm of the mean, the trace of the covariance)"),
    "n": (_is_count, "a whole number of at least 1"),
    "n_source": (_is_count, "a whole number of at least 1"),
    "seed": (_is_int, "a whole number"),
}
