"""What a caller asks for: one object that the command line, `frechet.score` and the report writer all build."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, TypeAlias

import numpy as np

from frechet._internal.choices import validate_choice
from frechet._internal.download import ProgressCallback
from frechet._internal.fields import name_option, option
from frechet._internal.home import expand_home
from frechet.errors import RequestError
from frechet.evaluation.sampling_request import SamplingRequest
from frechet.evaluation.until import Until
from frechet.execution.settings import Settings
from frechet.images.image import ImagesLike
from frechet.metrics import METRICS
from frechet.preprocessing.aliases import resolve_alias
from frechet.preprocessing.registry import PREPROCESSINGS
from frechet.statistics.feature_statistics import FeatureStatistics

ReferenceLike: TypeAlias = ImagesLike | FeatureStatistics


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreRequest(SamplingRequest):
    """Generated images, what to compare them with, and what to compute.

    Attributes:
        generated: a folder, an archive or array file of images, a statistics file or its URL, `FeatureStatistics`, an iterable
            of images, or a function that makes as many images as it is asked for (`num_images` in all).
        reference: the same kinds of input; None for metrics that use no reference.
        metrics: metric names as a sequence or as one comma-separated text, each optionally with "@" and a preset
            ("kid@torch-fidelity"); "all" for every metric that applies; None for the Fréchet distance.
        protocol: name of a protocol (`frechet protocols`) or path of a TOML file that defines one. It sets the metrics, extractor,
            preprocessing, crops and reference; a run that deviates from it is rejected.
        relax: whether deviations from the protocol are recorded instead of rejected.
        reference_images: images of the reference for metrics that need the features of every image, if `reference` is
            statistics without them.
        held_out: real images that the generator was not trained on.
        splits: numbers of splits for the Inception Score.
        reference_preprocessing: preprocessing of a reference statistics file that does not record it.
        reference_size: number of images behind a reference statistics file that does not record it, at least 2.
        generated_crop, reference_crop: crop of the generated, and of the reference and held-out images, instead of `crop`.
        interval: "auto" for the bias-corrected value and its 95 % confidence interval if there are enough images, or "none".
        reference_is: "sample" if the interval is for the distance to the distribution that the reference was sampled from,
            "fixed" if it is for the distance to this reference as it is (what papers mean by FID against a given file); None
            for "sample" if the sampling error of the reference can be computed, otherwise "fixed".
        until: when to stop sampling: the generated images are then taken in a seeded random order, as many as the width of the
            interval needs, and `reference_is` is "fixed" by default.
        explain: number of images to list that raise the score most, and of those that lower it most.
        per_class: whether each class is also scored by itself.
        repeat: number of repetitions, each with a different seed (seed, seed + 1, ...); values are then means.
        features: whether inputs other than statistics are (n, d) feature arrays instead of images.
        progress: called with (stage, images done, images in all).
    """

    KEYWORDS_OF_OTHER_TOOLS: ClassVar[Mapping[str, str]] = {
        **Settings.KEYWORDS_OF_OTHER_TOOLS,
        **dict.fromkeys(("fdir1", "input1", "path1"), "generated"),
        **dict.fromkeys(("dataset_name", "fdir2", "input2", "path2"), "reference"),
        **dict.fromkeys(("fid", "isc", "kid", "prc"), "metrics"),
        "isc_splits": "splits",
    }
    CROP_FIELDS: ClassVar[tuple[str, ...]] = ("crop", "generated_crop", "reference_crop")

    generated: ReferenceLike = field(kw_only=False)
    reference: ReferenceLike | None = field(default=None, kw_only=False)
    metrics: Sequence[str] | str | None = option(
        None,
        "Comma-separated names from `frechet metrics`, or all (default: fid with inception, fd with another extractor).",
        metavar="LIST",
    )
    protocol: str | Path | None = option(
        None, "Follow a protocol listed by `frechet protocols`, or defined in a TOML file.", metavar="NAME|FILE"
    )
    relax: bool = option(False, "Accept deviations from --protocol; the score is then marked as relaxed.")
    reference_images: ReferenceLike | None = option(
        None,
        "Reference images for metrics that need the features of every image, if REFERENCE is a statistics file.",
        metavar="IMAGES",
    )
    held_out: ReferenceLike | None = option(
        None, "Held-out real images (not used for training); needed by ct and fls.", metavar="IMAGES"
    )
    splits: Sequence[int] | str | None = option(
        None, "Comma-separated numbers of splits for the Inception Score, e.g. 5,10,20.", metavar="LIST"
    )
    reference_preprocessing: str | None = option(
        None, "Preprocessing of the statistics file REFERENCE, if the file does not record it.", metavar="NAME"
    )
    reference_size: int | None = option(
        None,
        "Number of images that REFERENCE was computed from, if the statistics file does not record it.",
        metavar="N",
    )
    generated_crop: str | None = option(None, "Crop of the generated images, instead of --crop.", metavar="NAME")
    reference_crop: str | None = option(
        None, "Crop of the reference and held-out images, instead of --crop.", metavar="NAME"
    )
    interval: str = option(
        "auto",
        "Whether to compute the bias-corrected value and its 95 % confidence interval: auto (if there are enough images) or none.",
        metavar="auto|none",
    )
    reference_is: str | None = option(
        None,
        "Whether the interval is for the distance to the distribution that REFERENCE was sampled from (sample), or to REFERENCE itself (fixed).",
        metavar="sample|fixed",
    )
    until: Until | None = None
    explain: int = option(0, "List the N images that raise the score most and the N that lower it most.", metavar="N")
    per_class: bool = option(False, "Also score each class (sub-folder, or label in arr_1 of an .npz) separately.")
    repeat: int = option(1, "Score K times with different seeds and report mean and standard deviation.", metavar="K")
    features: bool = option(False, "Treat .npy/.npz inputs as precomputed (n, d) feature arrays instead of images.")
    progress: ProgressCallback | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_crop_for_size()
        if self.relax and self.protocol is None:
            raise RequestError(
                f"{name_option('relax')} applies to a protocol, and none is given; pass --protocol (protocol=), or leave it out"
            )
        if self.interval not in ("auto", "none"):
            raise RequestError(f"{name_option('interval')} is {self.interval!r}; expected 'auto' or 'none'")
        if self.reference_is not in (None, "sample", "fixed"):
            raise RequestError(
                f"{name_option('reference_is')} is {self.reference_is!r}; expected 'sample', 'fixed' or None"
            )
        if self.until is not None and not isinstance(self.until, Until):
            raise RequestError(
                f"until is {reprlib.repr(self.until)}; expected frechet.Until(half_width=..., max_images=...)"
            )
        if not isinstance(self.explain, (int, np.integer)) or self.explain < 0:
            raise RequestError(
                f"{name_option('explain')} is {self.explain!r}; expected the number of images to list, at least 0"
            )
        if not isinstance(self.repeat, (int, np.integer)) or self.repeat < 1:
            raise RequestError(
                f"{name_option('repeat')} is {self.repeat!r}; expected the number of repetitions, at least 1"
            )
        self._require_effect()

    def _require_effect(self) -> None:
        """Reject options that would have no effect because of another one."""
        if self.explain and self.repeat != 1:
            raise RequestError(
                f"{name_option('explain')} lists images of a single run, but {name_option('repeat')} is {self.repeat}; leave out one of them"
            )
        has_interval = self.interval != "none" and self.repeat == 1
        for name in ("reference_is", "strata", "cluster_by", "clusters"):
            if getattr(self, name) is not None and not has_interval:
                shown = "clusters=" if name == "clusters" else name_option(name)
                other = "interval" if self.interval == "none" else "repeat"
                raise RequestError(
                    f"{shown} is given and only affects the interval, which {name_option(other)} {getattr(self, other)} leaves out; leave "
                    "out one of the two"
                )
        if self.reference is not None or self.protocol is not None:
            return
        names = ["reference_preprocessing", "reference_size", "reference_is"]
        names += ["reference_crop"] if self.held_out is None else []
        for name in names:
            if getattr(self, name) is not None:
                raise RequestError(
                    f"{name_option(name)} is {getattr(self, name)}, but no reference is given; pass a reference, or leave the option out"
                )

    def settings_of(self, input_name: str) -> Settings:
        """Return how the images of an input become features, with the crop of that input."""
        crop = self.generated_crop if input_name == "generated" else self.reference_crop
        return replace(self.settings, crop=crop or self.crop)

    def _resolve_names(self) -> None:
        super()._resolve_names()
        object.__setattr__(self, "reference_preprocessing", resolve_alias(self.reference_preprocessing))
        if self.reference_preprocessing is not None:
            validate_choice(self.reference_preprocessing, PREPROCESSINGS, name_option("reference_preprocessing"))
        for name in ("generated", "reference", "held_out", "reference_images"):
            object.__setattr__(self, name, expand_home(getattr(self, name)))

    @property
    def metric_names(self) -> list[str] | None:
        """The metrics by name; None for the default.

        Raises:
            RequestError: no name, or an empty one.
        """
        if self.metrics is None:
            return None
        if not isinstance(self.metrics, Iterable):
            raise RequestError(f"{name_option('metrics')} is {self.metrics!r}; expected names such as fid,kid")
        names = (
            [name.strip() for name in self.metrics.split(",")] if isinstance(self.metrics, str) else list(self.metrics)
        )
        if isinstance(self.metrics, Mapping) or not names or not all(isinstance(name, str) and name for name in names):
            raise RequestError(
                f"{name_option('metrics')} is {self.metrics!r}; expected names such as fid,kid. `frechet metrics` lists them; leave it "
                "out for the default."
            )
        return [name if name.partition("@")[0] in METRICS else name.lower() for name in names]

    @property
    def split_counts(self) -> tuple[int, ...] | None:
        """The numbers of splits; None for the metric's own.

        Raises:
            RequestError: not whole numbers of at least 1.
        """
        if self.splits is None:
            return None
        try:
            counts = tuple(
                int(count) for count in (self.splits.split(",") if isinstance(self.splits, str) else self.splits)
            )
        except (TypeError, ValueError):
            counts = ()
        if not counts or min(counts) < 1:
            raise RequestError(
                f"{name_option('splits')} is {self.splits!r}; expected whole numbers of at least 1, e.g. 5,10,20"
            )
        return counts
