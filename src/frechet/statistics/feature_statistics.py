"""The statistics of one set of images: mean, covariance and a sample of the features, with their provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from frechet._internal.home import expand_home
from frechet._internal.masked_arrays import is_masked
from frechet.errors import StatisticsError
from frechet.features.spec import FeatureSpec
from frechet.statistics.accumulator import Accumulator
from frechet.statistics.group_moments import GroupMoments

_BLOCK_ROWS = 4096  # rows converted to float64 at a time, which bounds the memory


@dataclass(frozen=True, kw_only=True)
class FeatureStatistics:
    """Statistics of the features of one set of images: all that a metric needs if it does not need the images.

    Attributes:
        mean: (d,) float64.
        covariance: (d, d) float64, divided by n - 1.
        n: number of images; None if a file does not record it.
        spec: how the features were computed; its fields are None if a file does not record them.
        label: display name of the images or of the file; never parsed or reopened.
        path: local file that the statistics were read from (the cached download if they came from a URL), or None.
        url: URL that the statistics were read from, including any credentials, or None; never displayed or stored.
        rows: (k, d) float32, a seeded sample of the features (all of them if n < 8 d), or None.
        indices: (k,) int64, index of the image that each row belongs to, counted from 0 in the order of the images, or
            None.
        labels: display names of the images that the rows belong to, or None.
        group_moments: moments of random groups of the images, from which a jackknife can be computed without the
            features, or None.
        grouped_by: what one sampling unit is, all of which is in the same group: "image" (images of the same content are
            one unit), "pair" (image i here and image i of the other input), or "cluster".
        n_units: effective number of sampling units, n² / Σ m² for units of m images (Kish 1965), rounded down: the number of
            images, pairs or clusters of equal size; None if unknown.
        unit_skewness: n Σ m³ / (Σ m²)² for units of m images: 1 for units of equal size, more for unequal ones.
        units: (k,) uint64, the unit of each row, or None if every image is a unit of its own.
        thumbnails: (t, h, w, 3) uint8, RGB thumbnails of some images, or None.
        thumbnail_indices: (t,) int64, index of the image that each thumbnail shows, or None.
        n_source: number of images in the source before a subset was taken, or None.
        seed: seed of the subset and of the sample of rows.
        skipped_images: images that were left out, each with the reason.
        notes: what users should know about how the images were read.
        formats: number of images per file format, by Pillow's name of the format.
        crop: crop of the images before the resize, e.g. "adm(256)"; None if there was none or it is unknown.
        sizes: number of images of each of the most frequent sizes after a crop, as "height x width"; the others as "other".
        sha256: hex digest of the downloaded file, or None.
        made_by: program and version that computed the statistics, or None.
        assumed_extractor: the extractor that statistics in files of this format usually come from, or None. It is used if
            `spec` names none, with a warning.
        covariance_eps: relative precision of the covariance: the machine epsilon of the dtype that it was stored in.

    Examples:
        >>> import numpy as np, frechet
        >>> statistics = frechet.Statistics.from_features(np.eye(6, 4, dtype="float32"))
        >>> statistics.n, statistics.dims
        (6, 4)
    """

    mean: np.ndarray
    covariance: np.ndarray
    n: int | None
    spec: FeatureSpec
    label: str
    path: Path | None = None
    url: str | None = field(default=None, repr=False)  # may include a password
    rows: np.ndarray | None = None
    indices: np.ndarray | None = None
    labels: tuple[str, ...] | None = None
    group_moments: GroupMoments | None = None
    grouped_by: str = "image"
    n_units: int | None = None
    unit_skewness: float = 1.0
    units: np.ndarray | None = None
    thumbnails: np.ndarray | None = None
    thumbnail_indices: np.ndarray | None = None
    n_source: int | None = None
    seed: int = 0
    skipped_images: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    formats: Mapping[str, int] = field(default_factory=dict)
    crop: str | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    sha256: str | None = None
    made_by: str | None = None
    assumed_extractor: str | None = None
    covariance_eps: float = float(np.finfo(np.float64).eps)

    @classmethod
    def from_accumulator(
        cls, accumulator: Accumulator, indices: np.ndarray, units: np.ndarray, **metadata: Any
    ) -> FeatureStatistics:
        """Take over what was accumulated of at least two images.

        Args:
            accumulator: moments and rows of the features.
            indices: (n,) ascending, index of each image.
            units: (n,) integers, sampling unit of each image.
            **metadata: the remaining attributes of the class; `spec` and `label` are required.

        Returns:
            The statistics.
        """
        moments, sample = accumulator.moments, accumulator.sample
        sizes = np.unique(units, return_counts=True)[1].astype(float)
        squares = (sizes**2).sum()
        n_units = int(moments.n**2 // squares)
        has_units = n_units < moments.n or metadata.get("grouped_by") == "stratum"
        return cls(
            mean=moments.mean,
            covariance=moments.covariance,
            n=moments.n,
            rows=sample.rows,
            indices=sample.indices,
            group_moments=accumulator.group_moments,
            n_units=n_units,
            unit_skewness=float(moments.n * (sizes**3).sum() / squares**2),
            units=units[np.searchsorted(indices, sample.indices)] if has_units else None,
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
        units: np.ndarray | None = None,
        grouped_by: str = "image",
    ) -> FeatureStatistics:
        """Compute statistics from precomputed features.

        Args:
            features: (n, d) floating-point array with n ≥ 2, or anything that `numpy.asarray` converts to one. Values
                are rounded to float32, the dtype in which features of images are computed. The array is read in blocks,
                so it may be memory-mapped.
            spec: how the features were computed, as far as it is known.
            label: display name of the features.
            seed: seed of the groups and of the row sample.
            keep_all: keep all rows even if n ≥ 8 d. KID and the other metrics that need the features of every image
                require them.
            units: (n,) integers, sampling unit of each row; by default, each row is one.
            grouped_by: what a unit is, "image", "pair" or "cluster", or "stratum" for images that are numbered by
                `number_stratified_images`.

        Returns:
            The statistics, with all rows if n < 8 d or `keep_all` is true.

        Raises:
            StatisticsError: the shape or dtype is wrong, values are masked, there are fewer than two rows, a row is not
                finite, or float32 cannot represent how a column varies.
        """
        require_unmasked(features, label)
        try:
            features = np.asarray(features)
        except Exception as error:  # a tensor on another device, a ragged list: each raises its own type
            raise StatisticsError(f"{label} ({type(features).__name__}) cannot become an array: {error}") from error
        _require_features(features, label)
        n, d = features.shape
        accumulator = Accumulator(d, n, seed, keep_all=keep_all)
        units = np.arange(n) if units is None else np.asarray(units)
        if len(units) != n:
            raise StatisticsError(f"{label} has {n} rows, and {len(units)} clusters are given; expected one per row")
        for start in range(0, n, _BLOCK_ROWS):
            block = features[start : start + _BLOCK_ROWS]
            with np.errstate(over="ignore"):
                rows = block.astype(np.float32)
            non_finite = ~np.isfinite(rows).all(axis=1)
            if non_finite.any():
                raise StatisticsError(
                    f"{label}: row {start + int(non_finite.argmax())} (counted from 0) contains NaN, infinity or a value "
                    "beyond float32; expected finite features. Check the image of that row, or leave the row out."
                )
            block_indices = np.arange(start, start + len(rows))
            accumulator.update(block_indices, rows, units[block_indices])
        _require_float32_precision(features, label)
        return cls.from_accumulator(
            accumulator,
            np.arange(n),
            units,
            grouped_by=grouped_by,
            spec=spec or FeatureSpec(),
            label=label,
        )

    def __repr__(self) -> str:
        images = "unknown number of images" if self.n is None else f"{self.n:,} images"
        names = [
            name for name in (self.spec.extractor, self.spec.preprocessing, self.spec.precision) if name is not None
        ]
        return f"<Statistics: {', '.join([self.label, images, f'{self.dims:,} features', *names])}>"

    @property
    def dims(self) -> int:
        """Number of feature dimensions, d."""
        return len(self.mean)

    @property
    def features(self) -> np.ndarray | None:
        """(n, d) float32 features of all images if every row was kept, else None."""
        return self.rows if self.rows is not None and len(self.rows) == self.n else None

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the statistics to an .npz file, which pytorch-fid reads as well.

        `path` and `url` are not stored, since they may be private. `labels` are stored together with thumbnails only.

        Args:
            path: file to write; it must end in .npz.
            force: replace an existing file.

        Raises:
            OutputError: the path does not end in .npz, the file exists and `force` is false, or the folder is not
                writable.
            RunError: writing failed, for example because the disk is full; an earlier file is left as it was.
        """
        from frechet.statistics.npz_format import write_statistics  # that module imports this one

        write_statistics(self, Path(expand_home(path)), force=force)


def require_unmasked(array: Any, label: str) -> None:
    """Raise StatisticsError if values of an array are masked, since they would be used as if they were not."""
    if is_masked(array):
        raise StatisticsError(
            f"{label} has {int(np.ma.getmaskarray(array).sum()):,} masked values; expected an array without any. Leave out the rows that "
            "contain one: np.ma.compress_rows(x)"
        )


def _require_features(features: np.ndarray, label: str) -> None:
    """Raise StatisticsError unless `features` is a floating-point (n, d) array with n ≥ 2 and d ≥ 1."""
    description = f"{label} has dtype {features.dtype} and shape {features.shape}"
    if features.dtype == np.uint8 and features.ndim in (3, 4):
        raise StatisticsError(
            f"{description}: these look like images, not features (n, d). To score images, leave --features "
            "(features=True) out."
        )
    if features.ndim != 2 or not features.shape[1]:
        fix = " To turn feature maps (n, d, h, w) into rows, take the mean over h and w." if features.ndim == 4 else ""
        raise StatisticsError(f"{description}; expected features (n, d), one row per image.{fix}")
    if features.dtype.kind != "f":
        raise StatisticsError(f"{description}; expected floating-point features, not labels or pixels")
    if len(features) < 2:
        raise StatisticsError(f"{description}; a covariance needs at least two rows")


def _require_float32_precision(features: np.ndarray, label: str) -> None:
    """Raise StatisticsError if a column varies by less than float32 can represent around its values."""
    if features.dtype.itemsize <= np.dtype(np.float32).itemsize:
        return
    origin, total, squares, largest = features[0].astype(np.float64), 0.0, 0.0, 0.0
    for start in range(0, len(features), _BLOCK_ROWS):
        shifted = features[start : start + _BLOCK_ROWS] - origin
        total, squares = total + shifted.sum(axis=0), squares + (shifted**2).sum(axis=0)
        largest = np.maximum(largest, np.abs(shifted).max(axis=0))
    std = np.sqrt(np.maximum(squares - total**2 / len(features), 0.0) / (len(features) - 1))
    std = np.where(std > 0, std, largest)  # squares of tiny values underflow to 0
    step = 2 * np.spacing(np.abs(origin).astype(np.float32) / 2)  # halved first: the largest float32 has no successor
    is_lost = (step > 0.1 * std) & (std > 4 * np.spacing(np.abs(origin)))
    if is_lost.any():
        column = int(is_lost.argmax())
        raise StatisticsError(
            f"{label}: column {column} (counted from 0) varies by {std[column]:.3g} around {origin[column]:.6g}, which "
            "float32 cannot represent; expected features whose variation survives rounding to float32. Subtract the same "
            "constant from this column of the generated and the reference features."
        )
