"""What a diagnosis is asked for: images, a claimed value, and the settings that gave another value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from frechet._internal.download import ProgressCallback
from frechet._internal.fields import name_option, option
from frechet.errors import RequestError
from frechet.evaluation.diagnosis.axes import COUNTS
from frechet.evaluation.diagnosis.claim import Claim
from frechet.evaluation.diagnosis.float_images import ValueRange
from frechet.evaluation.request import ReferenceLike
from frechet.execution.settings import Settings


@dataclass(frozen=True, kw_only=True, eq=False)
class DiagnoseRequest(Settings):
    """Images, what they are compared with, and the value that somebody else reports for them.

    `preprocessing` and `crop` of `Settings` are the baseline; `size` is that of all crops.

    Attributes:
        generated: images as in `ScoreRequest`, or floating-point images (n, h, w, 3): an array or an .npy file.
        reference: images, or statistics, as in `ScoreRequest`.
        claimed: the reported value; as text, with the digits that were printed ("2.070").
        metric: name of the metric, optionally with "@" and a preset; None for the Fréchet distance.
        counts: numbers of generated images to try in addition to all of them, comma-separated text or numbers; None for those
            that papers use.
        quick: whether combinations that cannot give the value are dropped after a pass over a seeded subset.
        value_range: the values (black, white) of floating-point images; None for (-1, 1) if there are negative ones, else (0, 1).
        progress: called with (stage, done, total).
    """

    generated: ReferenceLike = field(kw_only=False)
    reference: ReferenceLike | None = field(default=None, kw_only=False)
    claimed: str | float | None = option(
        None, "Reported value to explain, with all of its published digits, e.g. 2.07.", metavar="X"
    )
    metric: str | None = option(
        None,
        "Metric of the value, from `frechet metrics` (default: fid with inception, fd with another extractor).",
        metavar="NAME",
    )
    counts: Sequence[int] | str | None = option(
        None,
        f"Comma-separated numbers of images to try, in addition to all images (default: {', '.join(map(str, COUNTS))}).",
        metavar="LIST",
    )
    quick: bool = option(
        False, "First score a seeded subset of the images, and drop combinations that cannot give the value."
    )
    value_range: ValueRange | None = None
    progress: ProgressCallback | None = None
    # a diagnosis reads its images once, in this process
    num_images: int | None = field(default=None, init=False)
    cache: bool = field(default=False, init=False)
    work_dir: str | Path | None = field(default=None, init=False)
    engine: str = field(default="local", init=False)
    rendezvous_timeout: int = field(default=600, init=False)
    ray_address: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        Claim.parse(self.claimed)
        _ = self.count_list

    @property
    def claim(self) -> Claim:
        """The claimed value and its tolerance."""
        return Claim.parse(self.claimed)

    @property
    def count_list(self) -> tuple[int, ...]:
        """The numbers of generated images to try besides all of them.

        Raises:
            RequestError: not whole numbers of at least 2.
        """
        if self.counts is None:
            return COUNTS
        given = self.counts.split(",") if isinstance(self.counts, str) else self.counts
        try:
            counts = tuple(int(count) for count in given)
        except (TypeError, ValueError):
            counts = (0,)
        if counts and min(counts) < 2:
            raise RequestError(
                f"{name_option('counts')} is {self.counts!r}; expected whole numbers of at least 2, e.g. 5000,10000"
            )
        return counts
