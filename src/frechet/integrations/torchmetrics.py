"""Metrics for PyTorch training loops with the interface of torchmetrics.

    fid = FID("reference.npz")                                 # a statistics file; without one, update(images, real=True)
    for images in batches:
        fid.update(images)                                     # (n, 3, h, w), uint8 or floating point in [0, 1]
    fid.compute(), fid.score()                                 # a tensor; a Score with interval and provenance

Floating-point images are rounded to 8 bits first, as if they had been saved to files, so that the values equal those of
`frechet score`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from frechet._internal.choices import validate_choice
from frechet.distances.interval import DistanceEstimate
from frechet.errors import RequestError
from frechet.features.registry import EXTRACTORS
from frechet.integrations.early_decision import EarlyDecision, require_same_comparison
from frechet.integrations.image_metric import ImageMetric
from frechet.integrations.padding import padding_mask
from frechet.metrics.frechet import estimate_frechet
from frechet.results import Score
from frechet.statistics.feature_statistics import FeatureStatistics

__all__ = ["FID", "KID", "ImageMetric", "InceptionScore", "MiFID", "PrecisionRecall", "padding_mask"]


class _SingleMetric(ImageMetric):
    """An `ImageMetric` whose `compute` and `score` return one value instead of a mapping."""

    _metrics: tuple[str, ...] | None = None

    def __init__(self, reference: str | Path | FeatureStatistics | None = None, **options: Any) -> None:
        _reject_fixed_options(self, options, metrics="use ImageMetric(metrics=...) for others")
        super().__init__(reference, metrics=self._metrics, **options)

    @classmethod
    def _list_keywords(cls) -> list[str]:
        return [name for name in super()._list_keywords() if name != "metrics"]

    def compute(self) -> torch.Tensor:
        """Compute the plain value of the images of all ranks.

        Returns:
            A scalar tensor, float64 (float32 on MPS).

        Raises:
            TooFewImagesError: there are fewer than two generated, or fewer than two real images.
        """
        (value,) = super().compute().values()
        return value

    def score(self, *, interval: str = "auto") -> Score:
        """Compute the score with its confidence interval and provenance. Every rank must call it.

        Args:
            interval: method of the confidence interval, as in `frechet.score`; "none" for no interval.

        Returns:
            The score of the images of all ranks.

        Raises:
            TooFewImagesError: there are fewer than two generated, or fewer than two real images.
        """
        (score,) = self.scores(interval=interval).values()
        return score


class FID(_SingleMetric):
    """Fréchet distance; with Inception features this is FID (Heusel et al. 2017, arXiv:1706.08500).

    Args:
        reference: the path or URL of a statistics file, ref:NAME, or `frechet.Statistics`, of the real images; None if they are passed by
            `update(images, real=True)`.
        **options: other arguments of `ImageMetric`, except `metrics`.

    Raises:
        RequestError, MismatchError, WeightsError: as in `ImageMetric`.

    Examples:
        >>> fid = FID(extractor="efficientnet-lite0")
        >>> images = torch.randint(0, 256, (2, 8, 3, 32, 32), dtype=torch.uint8)
        >>> fid.update(images[0])
        >>> fid.update(images[1], real=True)
        >>> fid.compute() > 0
        tensor(True)
    """

    higher_is_better = False

    def __init__(self, reference: str | Path | FeatureStatistics | None = None, **options: Any) -> None:
        super().__init__(reference, **options)
        self._decisions: dict[tuple[Any, ...], EarlyDecision] = {}

    def is_decided(self, against: Score, *, alpha: float = 0.05, max_images: int = 50_000) -> bool:
        """Return whether the images so far show if their distance is smaller or larger than that of an earlier score.

        Call it as often as you like while images are added, and stop when it is true. The intervals hold at all looks together: at
        most once per √2 times as many images, from 2 images per feature dimension on. Other calls cost next to nothing. Every rank
        must call it; all of them get the same answer.

        Args:
            against: a score of other images against the same reference, such as that of an earlier checkpoint, with an interval.
            alpha: probability that a difference is reported where there is none, at any look.
            max_images: number of images of all ranks that is planned for; the first call with as many or more is the last look.

        Returns:
            Whether it is certain which of the two distances is smaller; compare `score()` with `against` to find out which. It stays true until `reset`.

        Raises:
            RequestError: `against` has no interval for independent images, alpha is not a probability, or `max_images` is not an integer.
            TooFewImagesError: there are fewer than two generated or real images at a look, or `max_images` is too small for one.
            MismatchError: `against` has other features or another reference.

        Examples:
            >>> previous = fid.score()  # doctest: +SKIP
            >>> for images in batches:  # doctest: +SKIP
            ...     fid.update(images)
            ...     if fid.is_decided(against=previous):
            ...         break
        """
        key = (against.corrected_value, against.standard_error, alpha, max_images) if isinstance(against, Score) else ()
        if key not in self._decisions:
            decision = EarlyDecision.plan(against, self._network.dims, alpha, max_images)
            require_same_comparison(against, self.spec, self.reference)
            self._decisions[key] = decision
        decision = self._decisions[key]
        n = self._count_images()
        if decision.is_due(n):
            is_certain = decision.look(n, self._on_all_ranks(lambda: self._estimate(against)))
            decision.is_decided = bool(all(self._gather(torch.tensor(is_certain, device=self.device))))
        return decision.is_decided

    def reset(self) -> None:
        """Discard the images; the real ones only if `reset_real_features` is set."""
        super().reset()
        self._decisions = {}

    def _count_images(self) -> int:
        """Return the number of generated images of all ranks."""
        name = self._layers["generated", "features"].sum_names[0]
        return sum(int(n) for n in self._gather(getattr(self, name)))

    def _estimate(self, against: Score) -> DistanceEstimate:
        """Estimate the distance that an earlier score estimates as well."""
        generated = self._collect_layers("generated")["features"]
        reference = self._collect_layers("real")["features"] if self.reference is None else self.reference
        require_same_comparison(against, generated.spec, reference)
        found = estimate_frechet(generated, reference, str(against.reference_is))
        if isinstance(found, str):
            raise RequestError(found)
        return found


class KID(_SingleMetric):
    """Kernel distance: the unbiased squared MMD of all images (Bińkowski et al. 2018, arXiv:1801.01401).

    All pairs of rows are used, not subsets; the standard error is a bias-corrected delete-one jackknife.

    Args:
        reference: the path or URL of a statistics file, ref:NAME, or `frechet.Statistics`, of the real images, with feature rows; None if
            they are passed by `update(images, real=True)`.
        **options: other arguments of `ImageMetric`, except `metrics`.

    Raises:
        RequestError, MismatchError, WeightsError: as in `ImageMetric`.
    """

    higher_is_better = False
    _metrics = ("kid",)


class InceptionScore(_SingleMetric):
    """Inception Score of generated images, the mean over ten splits (Salimans et al. 2016, arXiv:1606.03498).

    Args:
        extractor: name of an extractor with a classifier.
        **options: other arguments of `ImageMetric`, except `metrics`, `dims` and `reference`.

    Raises:
        RequestError, WeightsError: as in `ImageMetric`.
    """

    higher_is_better = True
    _metrics = ("is",)

    def __init__(self, *, extractor: str = "inception", **options: Any) -> None:
        _reject_fixed_options(self, options, dims="its features are the logits of the extractor")
        validate_choice(extractor, EXTRACTORS, "extractor")
        super().__init__(extractor=extractor, dims=EXTRACTORS[extractor].layers.get("logits"), **options)


class MiFID(_SingleMetric):
    """Memorisation-informed FID (Bai et al. 2021, arXiv:2106.03062).

    Args:
        reference: the path or URL of a statistics file, ref:NAME, or `frechet.Statistics`, of the real images, with feature rows; None if
            they are passed by `update(images, real=True)`.
        **options: other arguments of `ImageMetric`, except `metrics`.

    Raises:
        RequestError, MismatchError, WeightsError: as in `ImageMetric`.
    """

    higher_is_better = False
    _metrics = ("mifid",)


class PrecisionRecall(ImageMetric):
    """Precision and recall: fractions of images within the neighbourhoods of the other set (Kynkäänniemi et al. 2019).

    `compute` returns {"precision": ..., "recall": ...}. Source: arXiv:1904.06991.

    Args:
        reference: the path or URL of a statistics file, ref:NAME, or `frechet.Statistics`, of the real images, with feature rows; None if
            they are passed by `update(images, real=True)`.
        **options: other arguments of `ImageMetric`, except `metrics`.

    Raises:
        RequestError, MismatchError, WeightsError: as in `ImageMetric`.
    """

    higher_is_better = True

    def __init__(self, reference: str | Path | FeatureStatistics | None = None, **options: Any) -> None:
        _reject_fixed_options(self, options, metrics="use ImageMetric(metrics=...) for others")
        super().__init__(reference, metrics=("precision", "recall"), **options)

    @classmethod
    def _list_keywords(cls) -> list[str]:
        return [name for name in super()._list_keywords() if name != "metrics"]


def _reject_fixed_options(metric: ImageMetric, options: Mapping[str, Any], **fixed: str) -> None:
    """Reject arguments of `ImageMetric` that a class sets itself; `fixed` maps each to what replaces it.

    Raises:
        TypeError: names the first one.
    """
    for name in fixed.keys() & options.keys():
        raise TypeError(f"{type(metric).__name__}() has no keyword argument {name!r}; {fixed[name]}")
