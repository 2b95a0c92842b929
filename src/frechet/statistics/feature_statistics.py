"""What is known of one side: a Gaussian, a sample of rows, and how they were made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from frechet.errors import StatisticsError
from frechet.features.spec import FeatureSpec
from frechet.statistics.accumulator import Accumulator
from frechet.statistics.moments import RunningMoments
from frechet.statistics.row_sample import RowSample

_BLOCK_ROWS = 4096  # rows of features that are turned into float64 at a time


@dataclass(frozen=True, kw_only=True)
class FeatureStatistics:
    """One side of a comparison, ready for any distance that needs no images.

    Attributes:
        mean: (d,) float64.
        covariance: (d, d) float64, divided by n - 1.
        n: how many images; None where a file does not say.
        rows: (k, d) float32, a seeded sample of the features (all of them where n < 8 d), or None.
        places: (k,) int64, which images the rows belong to, or None.
        names: (k,) what the user knows those images by, or None; not stored in files.
        recipe: how the features were made; fields are None where a file does not say.
        label: what the images or statistics were read from.
        n_source: how many images the source had before a subset was taken.
        seed: of the subset and of the sample of rows.
        bad_images: images that were left out, with the reason.
        remarks: what was done to images that a user should know.
        formats: how many images came from files of each format, by Pillow's name.
        sha256: of the file they were downloaded as, or None.
        made_by: program and version.
        resolution: relative precision of the covariance: ε of the dtype it was stored in.
    """

    mean: np.ndarray
    covariance: np.ndarray
    n: int | None
    spec: FeatureSpec
    label: str
    rows: np.ndarray | None = None
    indices: np.ndarray | None = None
    labels: tuple[str, ...] | None = None
    n_source: int | None = None
    seed: int = 0
    skipped_images: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    formats: Mapping[str, int] = field(default_factory=dict)
    sha256: str | None = None
    made_by: str | None = None
    covariance_eps: float = float(np.finfo(np.float64).eps)

    @classmethod
    def from_moments(cls, moments: RunningMoments, sample: RowSample, **metadata: Any) -> FeatureStatistics:
        """What two streams over the same features gathered.

        Args:
            gaussian: of at least two rows.
            sample: of the same rows.
            **about: the attributes that say how they were made.
        """
        return cls(
            mean=moments.mean,
            covariance=moments.covariance,
            n=moments.n,
            rows=sample.rows,
            indices=sample.indices,
            seed=sample.seed,
            **metadata,
        )

    @classmethod
    def from_features(
        cls,
        features: Any,
        *,
        spec: FeatureSpec | None = None,
        label: str = "features in memory",
        seed: int = 0,
        keep_all: bool = False,
    ) -> FeatureStatistics:
        """Statistics of features that are at hand.

        Args:
            features: (n, d) floating point, n of at least two: an array, or what NumPy makes one of. They count as what
                float32 makes of them. It is read block by block, so it may be mapped from a file.
            recipe: how they were made, as far as that is known.
            label: what the user knows them by.
            seed: of the sample of rows.
            keep_all: whether all rows are kept, also of 8 d or more; KID and other metrics of every image need them.

        Raises:
            StatisticsError: another shape or type, fewer than two rows, a row that is not finite, or a spread that
                float32 does not hold.
        """
        try:
            features = np.asarray(features)
        except Exception as error:  # a tensor of another device, a ragged list: their errors have many names
            raise StatisticsError(f"{label} ({type(features).__name__}) cannot become an array: {error}") from error
        _require_features(features, label)
        n, d = features.shape
        accumulator = Accumulator(slice(0, d), n, seed, keep_all=keep_all)
        for start in range(0, n, _BLOCK_ROWS):
            block = features[start : start + _BLOCK_ROWS]
            with np.errstate(over="ignore"):
                rows = block.astype(np.float32)
            wrong = ~np.isfinite(rows).all(axis=1)
            if wrong.any():
                raise StatisticsError(
                    f"{label}: row {start + int(wrong.argmax())} (counted from 0) holds NaN, infinity or a number "
                    "beyond float32; expected finite features. Find out what became of that image, or leave its row out"
                )
            accumulator.update(np.arange(start, start + len(rows)), rows)
        _require_float32_range(features, label)
        return cls.from_moments(accumulator.moments, accumulator.sample, spec=spec or FeatureSpec(), label=label)

    @property
    def dims(self) -> int:
        """d."""
        return len(self.mean)

    @property
    def features(self) -> np.ndarray | None:
        """(n, d) float32 where every row was kept, else None."""
        return self.rows if self.rows is not None and len(self.rows) == self.n else None

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write an .npz that pytorch-fid reads too.

        Raises:
            OutputError: the file exists and `force` is false, or it cannot be written; nothing is left behind.
        """
        from frechet.statistics.npz_format import write_statistics  # the file format knows this class

        write_statistics(self, Path(path), force=force)


def _require_features(features: np.ndarray, label: str) -> None:
    description = f"{label} holds {features.dtype} of shape {features.shape}"
    if features.dtype == np.uint8 and features.ndim in (3, 4):
        raise StatisticsError(
            f"{description}: these look like images, not features (n, d); leave --features (features=True) out"
        )
    if features.ndim != 2 or not features.shape[1]:
        raise StatisticsError(
            f"{description}; expected features (n, d), a row for each image. Maps (n, d, h, w) become such rows by the mean "
            "over h and w"
            if features.ndim == 4
            else f"{description}; expected features (n, d), a row for each image"
        )
    if features.dtype.kind != "f":
        raise StatisticsError(f"{description}; expected floating-point features, not labels or pixels")
    if len(features) < 2:
        raise StatisticsError(f"{description}; a covariance needs at least two rows")


def _require_float32_range(features: np.ndarray, label: str) -> None:
    """Refuse features whose spread is lost in float32, in which images' features are kept."""
    if features.dtype.itemsize <= np.dtype(np.float32).itemsize:
        return
    first, total, squares, reach = features[0].astype(np.float64), 0.0, 0.0, 0.0
    for start in range(0, len(features), _BLOCK_ROWS):
        gaps = features[start : start + _BLOCK_ROWS] - first
        total, squares = total + gaps.sum(axis=0), squares + (gaps**2).sum(axis=0)
        reach = np.maximum(reach, np.abs(gaps).max(axis=0))
    spread = np.sqrt(np.maximum(squares - total**2 / len(features), 0.0) / (len(features) - 1))
    spread = np.where(spread > 0, spread, reach)  # squares so small are 0
    step = 2 * np.spacing(np.abs(first).astype(np.float32) / 2)  # the largest number itself has no next one
    lost = (step > 0.1 * spread) & (spread > 4 * np.spacing(np.abs(first)))
    if lost.any():
        column = int(lost.argmax())
        raise StatisticsError(
            f"{label}: column {column} (counted from 0) varies by {spread[column]:.3g} about {first[column]:.6g}, which "
            "float32 does not hold, and images' features are kept in it; subtract the same constant from both sides"
        )
