"""What is known of one side: a Gaussian, a sample of rows, and how they were made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from frechet.features.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """One side of a comparison, ready for any distance that needs no images.

    Attributes:
        mean: (d,) float64.
        covariance: (d, d) float64, divided by n - 1.
        n: how many images; None where a file does not say.
        rows: (k, d) float32, a seeded sample of the features (all of them where n < 8 d), or None.
        places: (k,) int64, which images the rows belong to, or None.
        names: (k,) what the user knows those images by, or None; not stored in files.
        recipe: how the features were made; fields are None where a file does not say.
        source: what the images or statistics were read from.
        n_source: how many images the source had before a subset was taken.
        seed: of the subset and of the sample of rows.
        bad_images: images that were left out, with the reason.
        remarks: what was done to images that a user should know.
        made_by: program and version.
        resolution: relative precision of the covariance: ε of the dtype it was stored in.
    """

    mean: np.ndarray
    covariance: np.ndarray
    n: int | None
    recipe: Recipe
    source: str
    rows: np.ndarray | None = None
    places: np.ndarray | None = None
    names: tuple[str, ...] | None = None
    n_source: int | None = None
    seed: int = 0
    bad_images: tuple[str, ...] = ()
    remarks: tuple[str, ...] = field(default=())
    made_by: str | None = None
    resolution: float = float(np.finfo(np.float64).eps)

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
        from frechet.statistics.files import write_statistics  # the file format knows this class

        write_statistics(self, Path(path), force=force)
