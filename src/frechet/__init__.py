"""Measure how close generated images are to reference images: Fréchet Inception Distance and related metrics."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from frechet.version import __version__

if TYPE_CHECKING:
    from frechet.errors import FrechetError, RequestError, RunError
    from frechet.evaluation.compute import score_statistics
    from frechet.evaluation.diagnosis.result import Diagnosis
    from frechet.evaluation.diagnosis.run import diagnose
    from frechet.evaluation.perceptual_path_length import perceptual_path_length
    from frechet.evaluation.race import race
    from frechet.evaluation.race_result import Race
    from frechet.evaluation.run import collect, fd, fid, influence, score
    from frechet.evaluation.sample_size import plan_sample_size
    from frechet.evaluation.until import Until
    from frechet.reports.run_comparison import compare_runs
    from frechet.results import ImageInfluence, Score, Scores
    from frechet.statistics.feature_statistics import FeatureStatistics as Statistics
    from frechet.statistics.npz_format import read_statistics

_HOME = {
    "Diagnosis": "evaluation.diagnosis.result",
    "FrechetError": "errors",
    "ImageInfluence": "results",
    "Race": "evaluation.race_result",
    "RequestError": "errors",
    "RunError": "errors",
    "Score": "results",
    "Scores": "results",
    "Statistics": "statistics.feature_statistics",
    "Until": "evaluation.until",
    "collect": "evaluation.run",
    "compare_runs": "reports.run_comparison",
    "diagnose": "evaluation.diagnosis.run",
    "fd": "evaluation.run",
    "fid": "evaluation.run",
    "influence": "evaluation.run",
    "perceptual_path_length": "evaluation.perceptual_path_length",
    "plan_sample_size": "evaluation.sample_size",
    "race": "evaluation.race",
    "read_statistics": "statistics.npz_format",
    "score": "evaluation.run",
    "score_statistics": "evaluation.compute",
}

_INTERNAL_NAMES = {"Statistics": "FeatureStatistics"}

__all__ = [
    "Diagnosis",
    "FrechetError",
    "ImageInfluence",
    "Race",
    "RequestError",
    "RunError",
    "Score",
    "Scores",
    "Statistics",
    "Until",
    "__version__",
    "collect",
    "compare_runs",
    "diagnose",
    "fd",
    "fid",
    "influence",
    "perceptual_path_length",
    "plan_sample_size",
    "race",
    "read_statistics",
    "score",
    "score_statistics",
]


_FUNCTIONS_OF_OTHER_TOOLS = {
    "compare": "score_statistics",
    "calculate_fid": "fid",
    "calculate_fid_given_paths": "fid",
    "calculate_metrics": "score",
    "compute_fid": "fid",
    "compute_kid": "score",
    "compute_metrics": "score",
    "make_custom_stats": "collect",
    "save_fid_stats": "collect",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"frechet.{_HOME[name]}"), _INTERNAL_NAMES.get(name, name))
    hint = "" if name.startswith("_") else _suggest(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")


def _suggest(name: str) -> str:
    from frechet._internal.choices import find_nearest

    meant = _FUNCTIONS_OF_OTHER_TOOLS.get(name) or find_nearest(name, __all__)
    return f"; did you mean frechet.{meant}?" if meant else ""


def __dir__() -> list[str]:
    return __all__
