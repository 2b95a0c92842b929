"""All errors that frechet raises deliberately.

FrechetError
├── RequestError (exit code 2): the request is invalid; nothing was computed
│   ├── SourceError           a path, folder or archive without usable images
│   ├── TooFewImagesError     fewer than two images
│   ├── StatisticsError       a statistics file that is damaged, incomplete or of an unknown format
│   ├── MismatchError         statistics, features or runs that cannot be compared
│   ├── UnsafeFileError       a file that would execute code, or whose declared sizes do not match its bytes
│   ├── WeightsError          missing, damaged or wrong weights
│   ├── OutputError           a result that cannot be written
│   └── ScoreUnavailableError a metric without a score (in ``frechet.results``)
└── RunError (exit code 3): the run failed after it had started
    ├── ImageDecodeError      an image that cannot be decoded
    ├── ArchiveError          an archive or array file that is damaged beyond its header
    ├── UnreachableError      a store or a worker that refuses or does not respond
    ├── GeneratorError        a generator that raised, or returned something other than images
    ├── NonFiniteFeaturesError features that contain NaN or infinity
    └── ToleranceNotReachedError an interval that is too wide after all images
"""

from __future__ import annotations

from typing import Any


class FrechetError(Exception):
    """Base class of all errors of frechet.

    The message states what is wrong with which value, what was expected, and how to fix it.
    """

    exit_code = 2


class RequestError(FrechetError, ValueError):
    """The request is invalid; nothing was computed."""


class SourceError(RequestError):
    """A path, folder, archive or URL contains no usable images."""


class TooFewImagesError(RequestError):
    """There are fewer than two images; a covariance needs at least two."""


class StatisticsError(RequestError):
    """A statistics file is damaged, incomplete or of an unknown format."""


class MismatchError(RequestError):
    """Two inputs or runs were computed with different settings and cannot be compared."""


class WeightsError(RequestError):
    """The weights of a network are missing, damaged or those of another network."""


class UnsafeFileError(RequestError):
    """A file would execute code when it is loaded, or its declared sizes do not match its bytes."""


class OutputError(RequestError, OSError):
    """The result cannot be written to the requested path."""


class RunError(FrechetError, RuntimeError):
    """The run failed after it had started."""

    exit_code = 3


class ImageDecodeError(RunError):
    """An image cannot be decoded."""


class ArchiveError(RunError):
    """An archive or array file is damaged beyond its header."""


class UnreachableError(RunError):
    """A store or a worker refuses access or does not respond."""


class GeneratorError(RunError):
    """A generator raised an error (the cause), or returned something other than images."""


class NonFiniteFeaturesError(RunError):
    """The network returned NaN or infinity."""


class ToleranceNotReachedError(RunError):
    """The interval is wider than requested after all images.

    Attributes:
        scores: the `frechet.Scores` of all images, with this interval.
    """

    def __init__(self, message: str, scores: Any = None) -> None:
        super().__init__(message)
        self.scores = scores
