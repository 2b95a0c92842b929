"""What `frechet score` wrote, read back with the suspicion that a file deserves."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frechet.errors import RequestError
from frechet.metrics import METRICS


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run wrote: `Scores.to_dict()` under a name."""

    name: str
    scores: Mapping[str, Mapping[str, Any]]
    provenance: Mapping[str, Any]


def read_runs(paths: Sequence[str | os.PathLike[str]]) -> list[Run]:
    """The JSON files that `frechet score --json` or `--output` wrote, named by file, or by path where files are named alike.

    Raises:
        RequestError: a file is missing, is given twice, or not such JSON.
    """
    _require_distinct([Path(path) for path in paths])
    names = _make_names([Path(path) for path in paths])
    return [_read_run(Path(path), name) for path, name in zip(paths, names, strict=True)]


def _require_distinct(paths: Sequence[Path]) -> None:
    first: dict[str, Path] = {}
    for path in paths:
        earlier = first.setdefault(os.path.realpath(path), path)
        if earlier is not path:
            raise RequestError(f"{path} is the same file as {earlier}; give each run once")


def _make_names(paths: Sequence[Path]) -> list[str]:
    stems = Counter(path.stem for path in paths)
    return [path.stem if stems[path.stem] == 1 else str(path) for path in paths]


def _read_run(path: Path, name: str) -> Run:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RequestError(f"no such file: {path}") from None
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, no JSON, or a number of thousands of digits
        raise RequestError(f"{path} is not JSON ({error}); expected what frechet score --output wrote") from None
    scores = content.get("scores") if isinstance(content, dict) else None
    provenance = content.get("provenance") if isinstance(content, dict) else None
    if not (isinstance(scores, dict) and isinstance(provenance, dict) and scores):
        raise RequestError(f"{path} holds no scores with their provenance; expected what frechet score --output wrote")
    for metric, score in scores.items():
        _validate_score(path, metric, score)
    for side in ("generated", "reference"):
        _validate_side(path, side, provenance.get(side) or {})  # metrics of one side have no reference
    return Run(name=name, scores=scores, provenance=provenance)


def _validate_side(path: Path, name: str, side: Any) -> None:
    if not isinstance(side, dict) or not _is_number_list(side.get("moments", [0, 0]), 2):
        raise RequestError(f"{path} does not say what its {name} images were; write the file anew")
    if not isinstance(side.get("n"), (int, type(None))):
        raise RequestError(f"{path} has no number of {name} images but {side['n']!r}; write the file anew")


_NUMERIC_FIELDS = {"value": True, "corrected_value": False, "standard_error": False}  # whether it must be there
_LIST_FIELDS = {
    "interval_95": 2,
    "variance_components": 2,
    "reference_groups": None,
}  # and of how many numbers; None: two or more
_MAX_MAGNITUDE = 1e150  # of a number, so that its square is one


def _validate_score(path: Path, metric: str, score: Any) -> None:
    if metric.partition("@")[0] not in METRICS:
        raise RequestError(
            f"{path} holds the metric {metric!r}, which this version does not know: {', '.join(METRICS)}"
        )
    is_valid = isinstance(score, dict) and isinstance(score.get("label"), str)
    is_valid = is_valid and all(
        _is_number(score.get(key)) or (score.get(key) is None and not required)
        for key, required in _NUMERIC_FIELDS.items()
    )
    is_valid = is_valid and all(
        score.get(key) is None or _is_number_list(score[key], length) for key, length in _LIST_FIELDS.items()
    )
    is_valid = is_valid and all(isinstance(score.get(key), (int, type(None))) for key in ("n_generated", "n_reference"))
    is_valid = is_valid and min([score.get("standard_error") or 0, *(score.get("variance_components") or ())]) >= 0
    if not is_valid:
        raise RequestError(f"{path}: its {metric} is not what frechet score writes; write the file anew")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_MAX_MAGNITUDE < value < _MAX_MAGNITUDE


def _is_number_list(value: Any, length: int | None) -> bool:
    return (
        isinstance(value, list) and (len(value) == length if length else len(value) > 1) and all(map(_is_number, value))
    )
