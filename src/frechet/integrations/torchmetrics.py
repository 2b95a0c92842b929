"""Metrics of training loops: torchmetrics' interface, this engine's numbers.

    fid = FID("reference.npz")                                 # a statistics file, or update(images, real=True)
    for images in batches:
        fid.update(images)                                     # (n, 3, h, w), uint8 or floats in [0, 1]
    fid.compute(), fid.score()                                 # a tensor; the same with interval and provenance

Floats are rounded to 8 bits first, as if the images had been saved, so that the numbers are those of `frechet score`.
"""

from __future__ import annotations

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
from frechet.errors import NonFiniteFeaturesError, RequestError, TooFewImagesError
from frechet.evaluation.compute import as_layers, compute_scores
from frechet.evaluation.plan import MetricPlan, plan_metrics
from frechet.features.registry import EXTRACTORS
from frechet.losses.reference import load_reference, validate_reference
from frechet.losses.torch_features import ImageFeatures
from frechet.preprocessing.value_range import validate_value_range
from frechet.results import Score, Scores
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.moments import RunningMoments
from frechet.statistics.row_sample import MAX_SAMPLE_ROWS, RowSample, row_sample_size
from frechet.version import __version__


class ImageMetric(Metric):
    """Metrics of generated images against real ones, from one pass of the network.

    Args:
        reference: a statistics file or `Statistics` of the real images; without it they come by `update(..., real=True)`.
        metrics: keys of the table of metrics; by default the Fréchet distance of the extractor's features.
        extractor, dims, convention, weights, precision: as in `frechet.score`.
        value_range: the values that stand for black and white in images of floats.
        reset_real_features: whether `reset` forgets the real images too.
        **options: torchmetrics' own, such as `sync_on_compute` or `process_group`.

    The states are sums (added over ranks) and feature rows (gathered over ranks, of any number on each, also none). Rows
    are kept of every image where a metric needs them, else of at most 8 d (and 8,192 of few dimensions); the sums are float64,
    on MPS on the processor.

    Raises:
        RequestError: an unknown name; what exists is named.
        Mismatch: the reference was made in another way.
        WeightsError: the weights cannot be had.
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
        reset_real_features: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.value_range = validate_value_range(value_range)
        extractor_options: Any = {
            "extractor": extractor,
            "dims": dims,
            "preprocessing": preprocessing,
            "precision": precision,
        }
        reference = _load_reference(reference, extractor_options)  # first: what is mistyped should not cost a download
        network = ImageFeatures(**extractor_options, weights=weights, value_range=(0.0, 255.0))
        # not a submodule: DistributedDataParallel would send its weights around at every step
        object.__setattr__(self, "_network", network.eval())
        self.spec = network.spec
        self.metrics = None if metrics is None else tuple(metrics)
        self.reset_real_features = reset_real_features
        self.reference = reference
        if reference is not None:
            validate_reference(reference, network.spec, network.dims)
        plan = self._make_plan()
        self._keeps_all_rows = any(plan.layers.values())
        self._add_identity_state()
        uses_reference = any(request.metric.uses_reference for request in plan.requests)
        for image_set in _IMAGE_SETS if uses_reference and self.reference is None else _IMAGE_SETS[:1]:
            self._add_states(image_set, network.dims)

    def update(self, images: torch.Tensor, real: bool = False, mask: torch.Tensor | None = None) -> None:
        """Count a batch.

        Args:
            images: (n, 3, h, w), uint8 or floating point in `value_range`, on this metric's device; n may be 0.
            real: whether they are real ones.
            valid: (n,) bool; False leaves an image out, such as one that a sampler repeated to fill a batch.

        Raises:
            RequestError: images of another shape, dtype, range or device, or real ones beside a stored reference.
            BadFeatures: NaN or infinity came out of the network.
        """
        if real and "real_n" not in self._defaults:
            reason = (
                "the metric is of generated images alone"
                if self.reference is None
                else "the reference is stored already"
            )
            raise RequestError(f"real images are given, but {reason}; leave them out")
        pixels = self._quantize(images)
        if mask is not None:
            pixels = pixels[_validate_mask(mask, len(images)).to(pixels.device)]
        if len(pixels):
            self._accumulate(_IMAGE_SETS[real], self._extract_features(pixels))

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """Count a batch. Nothing comes back: a batch alone has no distance worth a decomposition."""
        self.update(*args, **kwargs)

    def compute(self) -> Any:
        """{metric: its value}, of the images of all ranks; float64 where the device has it.

        Raises:
            TooFewImages: fewer than two on a side.
        """
        return {name: self._as_tensor(score.value) for name, score in self._compute_scores("none").items()}

    def scores(self, *, interval: str = "auto") -> Scores:
        """The same with intervals and provenance, as `frechet.score` gives them. Every rank must call it."""
        with self.sync_context(
            dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync, should_unsync=self._should_unsync
        ):
            return self._compute_scores(interval)

    def reset(self) -> None:
        """Forget the images; the real ones only if `reset_real_features`."""
        names = () if self.reset_real_features else [name for name in self._defaults if name.startswith("real_")]
        kept = {name: _copy_state(getattr(self, name)) for name in names}
        with torch.inference_mode(False):  # else nothing could be added outside of it any more
            super().reset()  # which empties lists in place
        for name, state in kept.items():
            setattr(self, name, state)

    def set_dtype(self, dst_type: str | torch.dtype) -> ImageMetric:  # noqa: ARG002, torchmetrics' signature
        """Nothing: sums of fewer bits would be another number."""
        return self

    def _make_plan(self) -> MetricPlan:
        """What to compute.

        Raises:
            RequestError: a metric is unknown, or not for these features, or needs more than the reference holds.
        """
        plan = plan_metrics(self.metrics, self.spec)
        plan = plan.restrict_to({"reference": self.reference}) if self.reference is not None else plan
        for request in plan.requests:
            if request.metric.layer not in ("features", self.spec.layer):
                raise RequestError(
                    f"{request.key} is of the {request.metric.layer} layer, these features of {self.spec.layer}"
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
        """Tell what the other states are of: a `MetricCollection` takes metrics whose states are equal after the first batch for
        one, and never updates the second again. Equal they are after an empty batch, and as long as no rows are thinned out.
        """
        identity = repr((self.spec, self._keeps_all_rows, self.value_range, self.reset_real_features))
        self.add_state("kind", torch.tensor(list(sha256(identity.encode()).digest()), dtype=torch.uint8), "max")

    def _add_states(self, image_set: str, dims: int) -> None:
        self.add_state(f"{image_set}_n", torch.zeros((), dtype=torch.int64), "sum")
        self.add_state(f"{image_set}_total", torch.zeros(dims, dtype=torch.float64), "sum")
        self.add_state(f"{image_set}_outer", torch.zeros(dims, dims, dtype=torch.float64), "sum")
        self.add_state(f"{image_set}_rows", [], "cat")
        self.add_state(f"{image_set}_places", [], "cat")

    def _quantize(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) float32 whole numbers in 0..255."""
        if not isinstance(images, torch.Tensor) or images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
            given = tuple(images.shape) if isinstance(images, torch.Tensor) else type(images).__name__
            raise RequestError(
                f"images are {given}; expected a tensor (n, 3, h, w). Grey ones: images.expand(-1, 3, -1, -1)"
            )
        if images.device != self.device:
            raise RequestError(
                f"images are on {images.device} and the metric on {self.device}; move it: metric.to(...)"
            )
        if images.dtype == torch.uint8:
            return images.float()
        if not images.is_floating_point():
            raise RequestError(f"images are {images.dtype}; expected uint8, or floats in {self.value_range}")
        low, high = self.value_range
        x = images.float()
        slack = 0.01 * (high - low)
        if len(x) and not bool(((x >= low - slack) & (x <= high + slack)).all()):
            raise RequestError(
                f"images range from {float(x.min()):.4g} to {float(x.max()):.4g}; expected {low:g} to {high:g}. Clamp them, "
                "or say value_range=(black, white), for instance (-1, 1)"
            )
        return ((x - low) * (255 / (high - low))).clamp(0, 255).round()

    def _extract_features(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            features: torch.Tensor = self._network.features(images)
        is_nonfinite = ~torch.isfinite(features).all(dim=1)
        if bool(is_nonfinite.any()):
            raise NonFiniteFeaturesError(
                f"the network gave NaN or infinity for image {int(is_nonfinite.int().argmax())} of the batch"
            )
        return features

    def _accumulate(self, image_set: str, features: torch.Tensor) -> None:
        total, outer, n = (getattr(self, f"{image_set}_{name}") for name in ("total", "outer", "n"))
        wide = features.to(total.device).double()
        total += wide.sum(dim=0)
        outer.addmm_(wide.T, wide)
        first = int(n)
        n += len(features)
        rank, world = (dist.get_rank(), dist.get_world_size()) if _is_distributed() else (0, 1)
        indices = (first + torch.arange(len(features), device=features.device)) * world + rank
        getattr(self, f"{image_set}_rows").append(features)
        getattr(self, f"{image_set}_places").append(indices)
        self._subsample_rows(image_set, features.shape[1])

    def _subsample_rows(self, image_set: str, dims: int) -> None:
        """Keep no more rows than an interval needs, where no metric needs them all."""
        kept = getattr(self, f"{image_set}_rows")
        if self._keeps_all_rows or sum(map(len, kept)) < max(8 * dims, 2 * MAX_SAMPLE_ROWS):
            return
        sample = self._sample_rows(image_set, MAX_SAMPLE_ROWS)
        setattr(self, f"{image_set}_rows", [torch.from_numpy(sample.rows).to(self.device)])
        setattr(self, f"{image_set}_places", [torch.from_numpy(sample.indices).to(self.device)])

    def _sample_rows(self, image_set: str, limit: int) -> RowSample:
        rows, indices = (_concatenate_state(getattr(self, f"{image_set}_{name}")) for name in ("rows", "places"))
        return RowSample.empty(rows.shape[1], 0, limit).update(indices.cpu().numpy(), rows.cpu().numpy())

    def _collect_statistics(self, image_set: str) -> FeatureStatistics:
        """What this rank (or all, once synchronised) has seen of a side."""
        n, dims = int(getattr(self, f"{image_set}_n")), self._network.dims
        if n < 2:
            raise TooFewImagesError(
                f"{n} {image_set} images were counted; a distribution needs at least two: update(images, real={image_set == 'real'})"
            )
        total, outer = (getattr(self, f"{image_set}_{name}").cpu().numpy() for name in ("total", "outer"))
        mean = total / n
        moments = RunningMoments(n, mean, outer - n * np.outer(mean, mean))
        return FeatureStatistics.from_moments(
            moments,
            self._sample_rows(image_set, n if self._keeps_all_rows else row_sample_size(n, dims)),
            spec=self.spec,
            label=f"{image_set} images of a training loop",
            made_by=f"frechet {__version__}",
            covariance_eps=_compute_resolution(moments),
        )

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        """As torchmetrics does it, after making sure that a rank without images has rows of the right width too."""
        for name in self._defaults:
            if name.endswith(("_rows", "_places")) and not getattr(self, name):
                shape = (0, self._network.dims) if name.endswith("_rows") else (0,)
                dtype = torch.float32 if name.endswith("_rows") else torch.int64
                setattr(self, name, [torch.empty(shape, dtype=dtype, device=self.device)])
        super()._sync_dist(*args, **kwargs)

    def _as_tensor(self, value: float) -> torch.Tensor:
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        return torch.tensor(value, dtype=dtype, device=self.device)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], exclude_state: Sequence[str] = "") -> Any:
        """Move the network too, but keep dtypes (`.to(torch.float16)` would change sums); float64 stays where it can be."""
        self._network._apply(fn)

        def move(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(fn(tensor[:0] if tensor.ndim else tensor).device)

        if fn(torch.zeros(1, device=self.device)).device.type == "mps":
            exclude_state = [*exclude_state, *(name for name in self._defaults if name.endswith(("_total", "_outer")))]
        return super()._apply(move, exclude_state)


class _SingleMetric(ImageMetric):
    def __init__(self, reference: str | Path | FeatureStatistics | None = None, **options: Any) -> None:
        super().__init__(reference, metrics=self._metrics, **options)

    _metrics: tuple[str, ...] | None = None

    def compute(self) -> torch.Tensor:
        """The classical value. Errors as in `ImageMetric.compute`."""
        (value,) = super().compute().values()
        return value

    def score(self, *, interval: str = "auto") -> Score:
        """The value with its interval and provenance. Every rank must call it."""
        (score,) = self.scores(interval=interval).values()
        return score


class FID(_SingleMetric):
    """The Fréchet distance: FID with Inception's features. Arguments as in `ImageMetric`, without `metrics`."""

    higher_is_better = False


class KID(_SingleMetric):
    """The kernel distance of all images, unbiased, with a standard error. Arguments as in `ImageMetric`, without `metrics`."""

    higher_is_better = False
    _metrics = ("kid",)


class InceptionScore(_SingleMetric):
    """The Inception Score of ten splits, of generated images alone. Arguments as in `ImageMetric`, without `metrics`, `dims`
    and `reference`.
    """

    higher_is_better = True
    _metrics = ("is",)

    def __init__(self, *, extractor: str = "inception", **options: Any) -> None:
        validate_choice(extractor, EXTRACTORS, "extractor")
        super().__init__(extractor=extractor, dims=EXTRACTORS[extractor].layers.get("logits"), **options)


class PrecisionRecall(ImageMetric):
    """{"precision", "recall"}: shares of images within the other side's neighbourhoods (Kynkäänniemi et al. 2019).

    Arguments as in `ImageMetric`, without `metrics`.
    """

    higher_is_better = True

    def __init__(self, reference: str | Path | FeatureStatistics | None = None, **options: Any) -> None:
        super().__init__(reference, metrics=("precision", "recall"), **options)


_IMAGE_SETS = ("generated", "real")


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _load_reference(reference: Any, options: dict[str, Any]) -> FeatureStatistics | None:
    found = load_reference(reference, **options)
    if found is not None and not isinstance(found, FeatureStatistics):
        raise RequestError(
            f"the reference is a {type(found).__name__}; expected a statistics file or Statistics (frechet.collect(images))"
        )
    return found


def _validate_mask(mask: Any, n: int) -> torch.Tensor:
    mask = torch.as_tensor(mask)
    if mask.dtype != torch.bool or mask.shape != (n,):
        raise RequestError(f"valid is {mask.dtype} of shape {tuple(mask.shape)}; expected bool of shape ({n},)")
    return mask


def _compute_resolution(moments: RunningMoments) -> float:
    """What the sums leave of the covariance: where all images look alike (a collapsed generator), it is nothing but rounding."""
    rounding = FLOAT64_EPS * moments.n**0.5 * float((moments.mean**2).max())
    largest = float(moments.covariance.diagonal().max())
    return max(FLOAT64_EPS, rounding / largest if largest > rounding else 1.0)


def _copy_state(state: torch.Tensor | list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
    return list(state) if isinstance(state, list) else state


def _concatenate_state(state: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    """A list state, which torchmetrics joins when it synchronises."""
    return state if isinstance(state, torch.Tensor) else torch.cat(state)
