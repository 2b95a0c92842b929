"""Metrics for PyTorch training loops with the interface of torchmetrics.

    fid = FID("reference.npz")                                 # a statistics file; without one, update(images, real=True)
    for images in batches:
        fid.update(images)                                     # (n, 3, h, w), uint8 or floating point in [0, 1]
    fid.compute(), fid.score()                                 # a tensor; a Score with interval and provenance

Floating-point images are rounded to 8 bits first, as if they had been saved to files, so that the values equal those of
`frechet score`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torchmetrics import Metric

from frechet._internal.choices import validate_choice
from frechet.distances.gaussian import FLOAT64_EPS
from frechet.errors import RequestError, TooFewImagesError
from frechet.evaluation.compute import compute_scores
from frechet.evaluation.layers import as_layers
from frechet.evaluation.plan import MetricPlan, plan_metrics
from frechet.features.registry import EXTRACTORS
from frechet.losses.reference import load_reference, validate_reference
from frechet.losses.torch_features import ImageFeatures, validate_finite_features, validate_image_tensor
from frechet.preprocessing.quantize import ROUNDINGS, scale_to_bytes
from frechet.preprocessing.value_range import is_out_of_range, make_range_error, validate_value_range
from frechet.results import Score, Scores
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.group_moments import GroupMoments
from frechet.statistics.moments import RunningMoments
from frechet.statistics.row_sample import MAX_SAMPLE_ROWS, RowSample, row_sample_size
from frechet.version import __version__


class ImageMetric(Metric):
    """Metrics of generated images, against real images if a metric needs them, from one pass of the network.

    The states are sums (added over ranks) and feature rows (concatenated over ranks, any number on each). All rows are kept
    if a metric needs them; otherwise a sample of at most max(8 d, 8192) rows is kept for the interval. The sums are float64;
    on MPS, which has no float64, they stay on the CPU.

    Args:
        reference: the path of a statistics file, or `frechet.Statistics`, of the real images. If None, the real images are
            passed by `update(images, real=True)`.
        metrics: names of metrics as in `frechet.score`; by default the Fréchet distance of the extractor's features.
        extractor, dims, preprocessing, weights, precision: as in `frechet.score`.
        value_range: pixel values (black, white) of floating-point images.
        rounding: how floating-point images become 8 bits, "round" or "truncate" (see `frechet.preprocessing.quantize`).
        reset_real_features: whether `reset` also discards the real images.
        **options: arguments of `torchmetrics.Metric`, such as `sync_on_compute` or `process_group`.

    Raises:
        RequestError: a name is unknown, or a metric cannot be computed from these features or this reference.
        MismatchError: the reference has another extractor, layer, preprocessing, precision or other weights.
        WeightsError: the weights are missing or damaged.

    Examples:
        >>> metric = ImageMetric(metrics=["kid", "precision"], extractor="efficientnet-lite0")
        >>> images = torch.randint(0, 256, (2, 8, 3, 32, 32), dtype=torch.uint8)
        >>> metric.update(images[0])
        >>> metric.update(images[1], real=True)
        >>> sorted(metric.compute())
        ['kid', 'precision']
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better: bool | None = None
    _network: ImageFeatures

    def __init__(
        self,
        reference: str | Path | FeatureStatistics | None = None,
        *,
        metrics: Sequence[str] | None = None,
        extractor: str = "inception",
        dims: int | None = None,
        preprocessing: str | None = None,
        weights: str | Path | None = None,
        precision: str = "float32",
        value_range: tuple[float, float] = (0.0, 1.0),
        rounding: str = "round",
        reset_real_features: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.value_range = validate_value_range(value_range)
        validate_choice(rounding, ROUNDINGS, "rounding")
        self.rounding = rounding
        feature_options: Any = {
            "extractor": extractor,
            "dims": dims,
            "preprocessing": preprocessing,
            "precision": precision,
        }
        # before the network, so that a wrong reference does not cost a download
        loaded = None if reference is None else load_reference(reference, **feature_options)
        network = ImageFeatures(**feature_options, weights=weights, value_range=(0.0, 255.0))
        # not a submodule: DistributedDataParallel would broadcast its weights at every step
        object.__setattr__(self, "_network", network.eval())
        self.spec = network.spec
        self.metrics = None if metrics is None else tuple(metrics)
        self.reset_real_features = reset_real_features
        self.reference: FeatureStatistics | None = loaded
        if self.reference is not None:
            validate_reference(self.reference, network.spec, network.dims)
        plan = self._make_plan()
        self._keeps_all_rows = any(plan.layers.values())
        self._add_identity_state()
        uses_reference = any(request.metric.uses_reference for request in plan.requests)
        for image_set in _IMAGE_SETS if uses_reference and self.reference is None else _IMAGE_SETS[:1]:
            self._add_states(image_set, network.dims)

    def update(self, images: torch.Tensor, real: bool = False, mask: torch.Tensor | None = None) -> None:
        """Add a batch of images.

        Args:
            images: (n, 3, h, w), uint8 or floating point in `value_range`, on the metric's device; n may be 0.
            real: whether the images are real rather than generated.
            mask: (n,) bool, False for images that are not counted, such as those a sampler repeats to fill a batch.

        Raises:
            RequestError: the images have another shape, dtype, device or range of values, or real images are passed
                although the metric uses none or has a reference.
            NonFiniteFeaturesError: the network returned NaN or infinity; the message names the image by its index.
        """
        if real and "real_n" not in self._defaults:
            reason = "its metrics use none" if self.reference is None else "it was created with a reference"
            raise RequestError(f"update was called with real=True, but this metric takes no real images: {reason}")
        pixels = self._quantize(images)
        if mask is not None:
            pixels = pixels[_validate_mask(mask, len(images)).to(pixels.device)]
        if len(pixels):
            self._accumulate(_IMAGE_SETS[real], self._extract_features(pixels))

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """Add a batch of images, as `update` does, and return None. Call `compute` for the value."""
        self.update(*args, **kwargs)

    def compute(self) -> Any:
        """Compute the metrics of the images of all ranks.

        Returns:
            Mapping from the name of each metric to its value, a scalar tensor, float64 (float32 on MPS).

        Raises:
            TooFewImagesError: there are fewer than two generated, or fewer than two real images.
        """
        return {name: self._as_tensor(score.value) for name, score in self._compute_scores("none").items()}

    def scores(self, *, interval: str = "auto") -> Scores:
        """Compute the metrics with confidence intervals and provenance. Every rank must call it.

        Args:
            interval: method of the confidence interval, as in `frechet.score`; "none" for no interval.

        Returns:
            The scores of the images of all ranks.

        Raises:
            TooFewImagesError: there are fewer than two generated, or fewer than two real images.
        """
        with self.sync_context(
            dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync, should_unsync=self._should_unsync
        ):
            return self._compute_scores(interval)

    def reset(self) -> None:
        """Discard the images; the real ones only if `reset_real_features` is set."""
        names = () if self.reset_real_features else [name for name in self._defaults if name.startswith("real_")]
        kept = {name: _copy_state(getattr(self, name)) for name in names}
        with torch.inference_mode(False):  # inference tensors could not be updated in place outside of inference mode
            super().reset()  # clears lists in place
        for name, state in kept.items():
            setattr(self, name, state)

    def set_dtype(self, dst_type: str | torch.dtype) -> ImageMetric:  # noqa: ARG002, torchmetrics' signature
        """Return the metric unchanged, since sums of lower precision would change its value."""
        return self

    def _make_plan(self) -> MetricPlan:
        """Plan the metrics.

        Raises:
            RequestError: a metric is unknown, needs another layer, or needs more than the reference holds.
        """
        plan = plan_metrics(self.metrics, self.spec)
        plan = plan.restrict_to({"reference": as_layers(self.reference)}) if self.reference is not None else plan
        for request in plan.requests:
            if request.metric.layer not in ("features", self.spec.layer):
                raise RequestError(
                    f"{request.key} needs the {request.metric.layer} layer, but the features are from layer {self.spec.layer}; "
                    "use a metric object of its own for it (InceptionScore for 'is')"
                )
        if plan.unavailable:
            raise next(iter(plan.unavailable.values()))
        return plan

    def _compute_scores(self, interval: str) -> Scores:
        inputs = {"generated": self._collect_statistics("generated")}
        if self.reference is not None:
            inputs["reference"] = self.reference
        elif "real_n" in self._defaults:
            inputs["reference"] = self._collect_statistics("real")
        layers = {name: as_layers(image_set) for name, image_set in inputs.items()}
        return compute_scores(self._make_plan(), layers, interval=interval, backend="torch", device=str(self.device))

    def _add_identity_state(self) -> None:
        """Add a state that identifies what the other states were computed from.

        A `MetricCollection` merges metrics whose states are equal after the first batch and then updates only one of them.
        After an empty batch, or before rows are subsampled, the other states of different metrics can be equal.
        """
        identity = repr((self.spec, self._keeps_all_rows, self.value_range, self.rounding, self.reset_real_features))
        self.add_state("identity", torch.tensor(list(sha256(identity.encode()).digest()), dtype=torch.uint8), "max")

    def _add_states(self, image_set: str, dims: int) -> None:
        self.add_state(f"{image_set}_n", torch.zeros((), dtype=torch.int64), "sum")
        self.add_state(f"{image_set}_total", torch.zeros(dims, dtype=torch.float64), "sum")
        self.add_state(f"{image_set}_outer", torch.zeros(dims, dims, dtype=torch.float64), "sum")
        self.add_state(f"{image_set}_rows", [], "cat")
        self.add_state(f"{image_set}_indices", [], "cat")

    def _quantize(self, images: torch.Tensor) -> torch.Tensor:
        """Validate images and convert them to float32 whole numbers in 0..255."""
        validate_image_tensor(images, self.device)
        if images.dtype == torch.uint8:
            return images.float()
        if not images.is_floating_point():
            raise RequestError(f"images are {images.dtype}; expected uint8, or floating point in {self.value_range}")
        x = images.float()
        if len(x):
            lowest, highest = (float(value) for value in torch.aminmax(x))
            if math.isnan(lowest) or is_out_of_range(lowest, highest, self.value_range):
                raise make_range_error(lowest, highest, self.value_range)
        return scale_to_bytes(x, self.value_range, self.rounding)

    def _extract_features(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            features: torch.Tensor = self._network.features(images)
        validate_finite_features(features)
        return features

    def _accumulate(self, image_set: str, features: torch.Tensor) -> None:
        total, outer, n = (getattr(self, f"{image_set}_{name}") for name in ("total", "outer", "n"))
        wide = features.to(total.device).double()
        total += wide.sum(dim=0)
        outer.addmm_(wide.T, wide)
        first = int(n)
        n += len(features)
        is_distributed = dist.is_available() and dist.is_initialized()
        rank, world_size = (dist.get_rank(), dist.get_world_size()) if is_distributed else (0, 1)
        indices = (first + torch.arange(len(features), device=features.device)) * world_size + rank
        getattr(self, f"{image_set}_rows").append(features)
        getattr(self, f"{image_set}_indices").append(indices)
        self._subsample_rows(image_set, features.shape[1])

    def _subsample_rows(self, image_set: str, dims: int) -> None:
        """Keep only as many rows as an interval needs, unless a metric needs them all."""
        kept = getattr(self, f"{image_set}_rows")
        if self._keeps_all_rows or sum(map(len, kept)) < max(8 * dims, 2 * MAX_SAMPLE_ROWS):
            return
        sample = self._sample_rows(image_set, MAX_SAMPLE_ROWS)
        setattr(self, f"{image_set}_rows", [torch.from_numpy(sample.rows).to(self.device)])
        setattr(self, f"{image_set}_indices", [torch.from_numpy(sample.indices).to(self.device)])

    def _sample_rows(self, image_set: str, limit: int) -> RowSample:
        rows, indices = (_concatenate_state(getattr(self, f"{image_set}_{name}")) for name in ("rows", "indices"))
        return RowSample.empty(rows.shape[1], 0, limit).update(indices.cpu().numpy(), rows.cpu().numpy())

    def _collect_statistics(self, image_set: str) -> FeatureStatistics:
        """Return statistics of one set of images, of this rank or, once synchronised, of all ranks."""
        n, dims = int(getattr(self, f"{image_set}_n")), self._network.dims
        if n < 2:
            raise TooFewImagesError(
                f"got {n} {image_set} images; a distribution needs at least two. Pass them to "
                f"update(images, real={image_set == 'real'})."
            )
        total, outer = (getattr(self, f"{image_set}_{name}").cpu().numpy() for name in ("total", "outer"))
        mean = total / n
        moments = RunningMoments(n, mean, outer - n * np.outer(mean, mean))
        sample = self._sample_rows(image_set, n if self._keeps_all_rows else row_sample_size(n, dims))
        has_all_rows = len(sample.rows) == n
        return FeatureStatistics(
            mean=mean,
            covariance=moments.covariance,
            n=n,
            rows=sample.rows,
            indices=sample.indices,
            group_moments=GroupMoments.from_features(sample.rows, sample.indices, seed=0) if has_all_rows else None,
            n_units=n,
            spec=self.spec,
            label=f"{image_set} images of a training loop",
            made_by=f"frechet {__version__}",
            covariance_eps=_compute_resolution(moments),
        )

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        """Synchronise as torchmetrics does, with rows of the right width also on ranks that have no images."""
        for name in self._defaults:
            if name.endswith(("_rows", "_indices")) and not getattr(self, name):
                shape = (0, self._network.dims) if name.endswith("_rows") else (0,)
                dtype = torch.float32 if name.endswith("_rows") else torch.int64
                setattr(self, name, [torch.empty(shape, dtype=dtype, device=self.device)])
        super()._sync_dist(*args, **kwargs)

    def _as_tensor(self, value: float) -> torch.Tensor:
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        return torch.tensor(value, dtype=dtype, device=self.device)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], exclude_state: Sequence[str] = "") -> Any:
        """Move the states and the network but keep their dtypes; float64 states stay on a device that supports them."""
        self._network._apply(fn)

        def move(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(fn(tensor[:0] if tensor.ndim else tensor).device)

        if fn(torch.zeros(1, device=self.device)).device.type == "mps":
            exclude_state = [*exclude_state, *(name for name in self._defaults if name.endswith(("_total", "_outer")))]
        return super()._apply(move, exclude_state)


class _SingleMetric(ImageMetric):
    """An `ImageMetric` whose `compute` and `score` return one value instead of a mapping."""

    _metrics: tuple[str, ...] | None = None

    def __init__(self, reference: str | Path | FeatureStatistics | None = None, **options: Any) -> None:
        super().__init__(reference, metrics=self._metrics, **options)

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
        reference: the path of a statistics file, or `frechet.Statistics`, of the real images; None if they are passed by
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


class KID(_SingleMetric):
    """Kernel distance: the unbiased squared MMD of all images (Bińkowski et al. 2018, arXiv:1801.01401).

    All pairs of rows are used, not subsets; the standard error is a bias-corrected delete-one jackknife.

    Args:
        reference: the path of a statistics file, or `frechet.Statistics`, of the real images, with feature rows; None if
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
        validate_choice(extractor, EXTRACTORS, "extractor")
        super().__init__(extractor=extractor, dims=EXTRACTORS[extractor].layers.get("logits"), **options)


class PrecisionRecall(ImageMetric):
    """Precision and recall: fractions of images within the neighbourhoods of the other set (Kynkäänniemi et al. 2019).

    `compute` returns {"precision": ..., "recall": ...}. Source: arXiv:1904.06991.

    Args:
        reference: the path of a statistics file, or `frechet.Statistics`, of the real images, with feature rows; None if
            they are passed by `update(images, real=True)`.
        **options: other arguments of `ImageMetric`, except `metrics`.

    Raises:
        RequestError, MismatchError, WeightsError: as in `ImageMetric`.
    """

    higher_is_better = True

    def __init__(self, reference: str | Path | FeatureStatistics | None = None, **options: Any) -> None:
        super().__init__(reference, metrics=("precision", "recall"), **options)


_IMAGE_SETS = ("generated", "real")


def _validate_mask(mask: Any, n: int) -> torch.Tensor:
    mask = torch.as_tensor(mask)
    if mask.dtype != torch.bool or mask.shape != (n,):
        raise RequestError(f"mask is {mask.dtype} of shape {tuple(mask.shape)}; expected bool of shape ({n},)")
    return mask


def _compute_resolution(moments: RunningMoments) -> float:
    """Return the relative precision of a covariance computed from sums.

    If all images look alike (a collapsed generator), the covariance consists of rounding errors and the result is 1.
    """
    rounding = FLOAT64_EPS * moments.n**0.5 * float((moments.mean**2).max())
    largest = float(moments.covariance.diagonal().max())
    return max(FLOAT64_EPS, rounding / largest if largest > rounding else 1.0)


def _copy_state(state: torch.Tensor | list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
    return list(state) if isinstance(state, list) else state


def _concatenate_state(state: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    """Return a list state as one tensor; after synchronisation torchmetrics has concatenated it already."""
    return state if isinstance(state, torch.Tensor) else torch.cat(state)
