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

from frechet.distances.gaussian import DOUBLE
from frechet.errors import BadFeatures, RequestError, TooFewImages
from frechet.evaluation.compute import computed, layers_of
from frechet.evaluation.request import Plan, plan_of
from frechet.features.registry import EXTRACTORS, check_choice
from frechet.losses.reference import known_reference, require_fit
from frechet.losses.torch_features import ImageFeatures
from frechet.preprocessing.registry import checked_range
from frechet.results import Score, Scores
from frechet.statistics.feature_statistics import Statistics
from frechet.statistics.moments import Gaussian
from frechet.statistics.row_sample import KEPT, Sample, rows_kept
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
        reference: str | Path | Statistics | None = None,
        *,
        metrics: Sequence[str] | None = None,
        extractor: str = "inception",
        dims: int | None = None,
        convention: str | None = None,
        weights: str | Path | None = None,
        precision: str = "float32",
        value_range: tuple[float, float] = (0.0, 1.0),
        reset_real_features: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.value_range = checked_range(value_range)
        wishes: Any = {"extractor": extractor, "dims": dims, "convention": convention, "precision": precision}
        reference = _known(reference, wishes)  # first: what is mistyped should not cost a download
        network = ImageFeatures(**wishes, weights=weights, value_range=(0.0, 255.0))
        # not a submodule: DistributedDataParallel would send its weights around at every step
        object.__setattr__(self, "_network", network.eval())
        self.recipe = network.recipe
        self.metrics = None if metrics is None else tuple(metrics)
        self.reset_real_features = reset_real_features
        self.reference = reference
        if reference is not None:
            require_fit(reference, network.recipe, network.dims)
        plan = self._plan()
        self._keeps_all = any(plan.layers.values())
        self._add_kind()
        compares = any(wish.metric.reference for wish in plan.wishes)
        for side in _SIDES if compares and self.reference is None else _SIDES[:1]:
            self._add_states(side, network.dims)

    def update(self, images: torch.Tensor, real: bool = False, valid: torch.Tensor | None = None) -> None:
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
            why = (
                "the metric is of generated images alone"
                if self.reference is None
                else "the reference is stored already"
            )
            raise RequestError(f"real images are given, but {why}; leave them out")
        pixels = self._as_bytes(images)
        if valid is not None:
            pixels = pixels[_mask(valid, len(images)).to(pixels.device)]
        if len(pixels):
            self._count(_SIDES[real], self._features(pixels))

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """Count a batch. Nothing comes back: a batch alone has no distance worth a decomposition."""
        self.update(*args, **kwargs)

    def compute(self) -> Any:
        """{metric: its value}, of the images of all ranks; float64 where the device has it.

        Raises:
            TooFewImages: fewer than two on a side.
        """
        return {name: self._tensor(score.value) for name, score in self._scores("none").items()}

    def scores(self, *, interval: str = "auto") -> Scores:
        """The same with intervals and provenance, as `frechet.score` gives them. Every rank must call it."""
        with self.sync_context(
            dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync, should_unsync=self._should_unsync
        ):
            return self._scores(interval)

    def reset(self) -> None:
        """Forget the images; the real ones only if `reset_real_features`."""
        names = () if self.reset_real_features else [name for name in self._defaults if name.startswith("real_")]
        kept = {name: _copied(getattr(self, name)) for name in names}
        with torch.inference_mode(False):  # else nothing could be added outside of it any more
            super().reset()  # which empties lists in place
        for name, state in kept.items():
            setattr(self, name, state)

    def set_dtype(self, dst_type: str | torch.dtype) -> ImageMetric:  # noqa: ARG002, torchmetrics' signature
        """Nothing: sums of fewer bits would be another number."""
        return self

    def _plan(self) -> Plan:
        """What to compute.

        Raises:
            RequestError: a metric is unknown, or not for these features, or needs more than the reference holds.
        """
        plan = plan_of(self.metrics, self.recipe)
        plan = plan.given({"reference": self.reference}) if self.reference is not None else plan
        for wish in plan.wishes:
            if wish.metric.layer not in ("features", self.recipe.layer):
                raise RequestError(
                    f"{wish.key} is of the {wish.metric.layer} layer, these features of {self.recipe.layer}"
                )
        if plan.refused:
            raise next(iter(plan.refused.values()))
        return plan

    def _scores(self, interval: str) -> Scores:
        sides = {"generated": self._statistics("generated")}
        if self.reference is not None:
            sides["reference"] = self.reference
        elif "real_n" in self._defaults:
            sides["reference"] = self._statistics("real")
        layers = {name: layers_of(side) for name, side in sides.items()}
        return computed(self._plan(), layers, interval=interval, backend="torch", device=str(self.device))

    def _add_kind(self) -> None:
        """Tell what the other states are of: a `MetricCollection` takes metrics whose states are equal after the first batch for
        one, and never updates the second again. Equal they are after an empty batch, and as long as no rows are thinned out.
        """
        kind = repr((self.recipe, self._keeps_all, self.value_range, self.reset_real_features))
        self.add_state("kind", torch.tensor(list(sha256(kind.encode()).digest()), dtype=torch.uint8), "max")

    def _add_states(self, side: str, dims: int) -> None:
        self.add_state(f"{side}_n", torch.zeros((), dtype=torch.int64), "sum")
        self.add_state(f"{side}_total", torch.zeros(dims, dtype=torch.float64), "sum")
        self.add_state(f"{side}_outer", torch.zeros(dims, dims, dtype=torch.float64), "sum")
        self.add_state(f"{side}_rows", [], "cat")
        self.add_state(f"{side}_places", [], "cat")

    def _as_bytes(self, images: torch.Tensor) -> torch.Tensor:
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

    def _features(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            features: torch.Tensor = self._network.features(images)
        wrong = ~torch.isfinite(features).all(dim=1)
        if bool(wrong.any()):
            raise BadFeatures(f"the network gave NaN or infinity for image {int(wrong.int().argmax())} of the batch")
        return features

    def _count(self, side: str, features: torch.Tensor) -> None:
        total, outer, n = (getattr(self, f"{side}_{name}") for name in ("total", "outer", "n"))
        wide = features.to(total.device).double()
        total += wide.sum(dim=0)
        outer.addmm_(wide.T, wide)
        first = int(n)
        n += len(features)
        rank, world = (dist.get_rank(), dist.get_world_size()) if _distributed() else (0, 1)
        places = (first + torch.arange(len(features), device=features.device)) * world + rank
        getattr(self, f"{side}_rows").append(features)
        getattr(self, f"{side}_places").append(places)
        self._thin_out(side, features.shape[1])

    def _thin_out(self, side: str, dims: int) -> None:
        """Keep no more rows than an interval needs, where no metric needs them all."""
        kept = getattr(self, f"{side}_rows")
        if self._keeps_all or sum(map(len, kept)) < max(8 * dims, 2 * KEPT):
            return
        sample = self._sample(side, KEPT)
        setattr(self, f"{side}_rows", [torch.from_numpy(sample.rows).to(self.device)])
        setattr(self, f"{side}_places", [torch.from_numpy(sample.places).to(self.device)])

    def _sample(self, side: str, limit: int) -> Sample:
        rows, places = (_joined(getattr(self, f"{side}_{name}")) for name in ("rows", "places"))
        return Sample.empty(rows.shape[1], 0, limit).update(places.cpu().numpy(), rows.cpu().numpy())

    def _statistics(self, side: str) -> Statistics:
        """What this rank (or all, once synchronised) has seen of a side."""
        n, dims = int(getattr(self, f"{side}_n")), self._network.dims
        if n < 2:
            raise TooFewImages(
                f"{n} {side} images were counted; a distribution needs at least two: update(images, real={side == 'real'})"
            )
        total, outer = (getattr(self, f"{side}_{name}").cpu().numpy() for name in ("total", "outer"))
        mean = total / n
        gaussian = Gaussian(n, mean, outer - n * np.outer(mean, mean))
        return Statistics.of(
            gaussian,
            self._sample(side, n if self._keeps_all else rows_kept(n, dims)),
            recipe=self.recipe,
            source=f"{side} images of a training loop",
            made_by=f"frechet {__version__}",
            resolution=_resolution(gaussian),
        )

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        """As torchmetrics does it, after making sure that a rank without images has rows of the right width too."""
        for name in self._defaults:
            if name.endswith(("_rows", "_places")) and not getattr(self, name):
                shape = (0, self._network.dims) if name.endswith("_rows") else (0,)
                dtype = torch.float32 if name.endswith("_rows") else torch.int64
                setattr(self, name, [torch.empty(shape, dtype=dtype, device=self.device)])
        super()._sync_dist(*args, **kwargs)

    def _tensor(self, value: float) -> torch.Tensor:
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        return torch.tensor(value, dtype=dtype, device=self.device)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], exclude_state: Sequence[str] = "") -> Any:
        """Move the network too, but keep dtypes (`.to(torch.float16)` would change sums); float64 stays where it can be."""
        self._network._apply(fn)

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(fn(tensor[:0] if tensor.ndim else tensor).device)

        if fn(torch.zeros(1, device=self.device)).device.type == "mps":
            exclude_state = [*exclude_state, *(name for name in self._defaults if name.endswith(("_total", "_outer")))]
        return super()._apply(moved, exclude_state)


class _OneMetric(ImageMetric):
    def __init__(self, reference: str | Path | Statistics | None = None, **options: Any) -> None:
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


class FID(_OneMetric):
    """The Fréchet distance: FID with Inception's features. Arguments as in `ImageMetric`, without `metrics`."""

    higher_is_better = False


class KID(_OneMetric):
    """The kernel distance of all images, unbiased, with a standard error. Arguments as in `ImageMetric`, without `metrics`."""

    higher_is_better = False
    _metrics = ("kid",)


class InceptionScore(_OneMetric):
    """The Inception Score of ten splits, of generated images alone. Arguments as in `ImageMetric`, without `metrics`, `dims`
    and `reference`.
    """

    higher_is_better = True
    _metrics = ("is",)

    def __init__(self, *, extractor: str = "inception", **options: Any) -> None:
        check_choice(extractor, EXTRACTORS, "extractor")
        super().__init__(extractor=extractor, dims=EXTRACTORS[extractor].taps.get("logits"), **options)


class PrecisionRecall(ImageMetric):
    """{"precision", "recall"}: shares of images within the other side's neighbourhoods (Kynkäänniemi et al. 2019).

    Arguments as in `ImageMetric`, without `metrics`.
    """

    higher_is_better = True

    def __init__(self, reference: str | Path | Statistics | None = None, **options: Any) -> None:
        super().__init__(reference, metrics=("precision", "recall"), **options)


_SIDES = ("generated", "real")


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _known(reference: Any, wishes: dict[str, Any]) -> Statistics | None:
    found = known_reference(reference, **wishes)
    if found is not None and not isinstance(found, Statistics):
        raise RequestError(
            f"the reference is a {type(found).__name__}; expected a statistics file or Statistics (frechet.collect(images))"
        )
    return found


def _mask(valid: Any, n: int) -> torch.Tensor:
    mask = torch.as_tensor(valid)
    if mask.dtype != torch.bool or mask.shape != (n,):
        raise RequestError(f"valid is {mask.dtype} of shape {tuple(mask.shape)}; expected bool of shape ({n},)")
    return mask


def _resolution(gaussian: Gaussian) -> float:
    """What the sums leave of the covariance: where all images look alike (a collapsed generator), it is nothing but rounding."""
    rounding = DOUBLE * gaussian.n**0.5 * float((gaussian.mean**2).max())
    largest = float(gaussian.covariance.diagonal().max())
    return max(DOUBLE, rounding / largest if largest > rounding else 1.0)


def _copied(state: torch.Tensor | list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
    return list(state) if isinstance(state, list) else state


def _joined(state: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    """A list state, which torchmetrics joins when it synchronises."""
    return state if isinstance(state, torch.Tensor) else torch.cat(state)
