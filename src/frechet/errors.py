"""Everything frechet raises on purpose.

FrechetError
├── RequestError (exit code 2): what was asked for cannot be done
│   ├── SourceError         a path, folder or archive that holds no usable images
│   ├── TooFewImages        fewer than two images
│   ├── StatisticsError     a statistics file that cannot be trusted
│   ├── Mismatch            two sides that cannot be compared
│   ├── UnsafeFile          a pickle that asks for more than arrays
│   ├── WeightsError        weights that are missing or wrong
│   └── OutputError         a result that cannot be written there
└── RunError (exit code 3): the run failed underway
    ├── BadImage            an image that cannot be decoded
    ├── BadArchive          an archive that is damaged further on
    ├── Unreachable         a store or a worker that answers no more
    ├── GeneratorFailed     a function that was to make images and did not
    └── BadFeatures         features that are not finite
"""

from __future__ import annotations


class FrechetError(Exception):
    """Base of all. Its text says what was given, what was expected and how to mend it."""

    exit_code = 2


class RequestError(FrechetError, ValueError):
    """The request is wrong; nothing was computed."""


class SourceError(RequestError):
    """Images were expected there and are not."""


class TooFewImagesError(RequestError):
    """A covariance needs at least two images."""


class StatisticsError(RequestError):
    """A statistics file is damaged, incomplete or of an unknown format."""


class MismatchError(RequestError):
    """The two sides were made differently and have no distance."""


class WeightsError(RequestError):
    """A network's weights are missing, damaged or of another network."""


class UnsafeFileError(RequestError):
    """A file that would run code, or whose sizes do not fit its bytes."""


class OutputError(RequestError, OSError):
    """The result cannot be written where it was asked for."""


class RunError(FrechetError, RuntimeError):
    """The run failed after it had begun."""

    exit_code = 3


class ImageDecodeError(RunError):
    """An image cannot be decoded."""


class ArchiveError(RunError):
    """An archive or array file is damaged beyond its header."""


class UnreachableError(RunError):
    """A store or a worker refuses, or does not answer."""


class GeneratorError(RunError):
    """A function that makes images raised, or gave something else; its own error is the cause."""


class NonFiniteFeaturesError(RunError):
    """The network gave NaN or infinity."""
