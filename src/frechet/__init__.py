"""How close generated images are to reference images: Fréchet Inception Distance and its kin."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from frechet.version import __version__

if TYPE_CHECKING:
    from frechet.comparison import compare
    from frechet.errors import FrechetError, RequestError, RunError
    from frechet.pathlength import perceptual_path_length
    from frechet.pipeline import collect, fid, influence, score
    from frechet.scores import Influences, Score, Scores
    from frechet.statistics.files import read_statistics
    from frechet.statistics.statistics import Statistics

_HOME = {
    "FrechetError": "errors",
    "Influences": "scores",
    "RequestError": "errors",
    "RunError": "errors",
    "Score": "scores",
    "Scores": "scores",
    "Statistics": "statistics.statistics",
    "collect": "pipeline",
    "compare": "comparison",
    "fid": "pipeline",
    "influence": "pipeline",
    "perceptual_path_length": "pathlength",
    "read_statistics": "statistics.files",
    "score": "pipeline",
}

__all__ = [
    "FrechetError",
    "Influences",
    "RequestError",
    "RunError",
    "Score",
    "Scores",
    "Statistics",
    "__version__",
    "collect",
    "compare",
    "fid",
    "influence",
    "perceptual_path_length",
    "read_statistics",
    "score",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"frechet.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
