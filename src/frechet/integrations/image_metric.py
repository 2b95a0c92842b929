"""A metric of torchmetrics whose states are those of several metrics of one network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors

from frechet._internal.choices import validate_choice
from frechet._internal.fields import list_keywords, validate_keywords
from frechet.errors import RequestError
from frechet.evaluation.compute import compute_scores
from frechet.evaluation.layers import LayerStatistics, as_layers
from frechet.evaluation.plan import MetricPlan, plan_metrics
from frechet.features.registry import DEFAULT_EXTRACTOR, build_spec, find_extractor
from frechet.integrations.foreign_arguments import reject_foreign_arguments
from frechet.integrations.layer_states import LayerStates, get_rank
from frechet.integrations.saved_state import encode_identity, validate_identity, validate_rank
from frechet.integrations.shared_network import SharedNetwork, load_shared_network
from frechet.losses.reference import load_reference, validate_reference
from frechet.losses.torch_features import validate_finite_features, validate_image_tensor
from frechet.preprocessing.quantize import ROUNDINGS, scale_to_bytes
from frechet.preprocessing.value_range import is_out_of_range, make_range_error, validate_value_range
from frechet.results import Scores
from frechet.statistics.feature_statistics import FeatureStatistics

T = TypeVar("T")
_RANK = "rank"  # in state dicts: the rank that saved them and the number of ranks


class ImageMetric(Metric):
    """Metrics of generated images, against real images if a metric needs them, from one pass of the network.

    The states are sums (added over ranks) and feature rows (concatenated over ranks, any number on each). All rows are kept
    if a metric needs them; otherwise a sample of at most max(8 d, 8192) rows is kept for the interval, next to the moments of
    groups of the other images (168 MB for d = 2,048), and `compute` sends only the sums to the other ranks. The sums are float64; on MPS, which has no float64, they stay on the CPU. Metrics with
    the same extractor and weights share one network in memory, and so do copies of a metric.

    Args:
        reference: the path or URL of a statistics file, ref:NAME, or `frechet.Statistics`, of the real images. If None, the real images are
            passed by `update(images, real=True)`.
        metrics: names of metrics as in `frechet.score`, as a sequence or one comma-separated text; by default the Fréchet distance of the extractor's features. They
            may need different layers of the network, such as "fid" and "is".
        extractor, dims, preprocessing, weights, precision: as in `frechet.score`; the extractor may be a torch.nn.Module.
            Unless they are passed, the extractor, the layer and the preprocessing are those of the reference.
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
    _network: SharedNetwork

    def __init__(
        self,
        reference: str | Path | FeatureStatistics | None = None,
        *,
        metrics: str | Sequence[str] | None = None,
        extractor: Any = DEFAULT_EXTRACTOR,
        dims: int | None = None,
        preprocessing: str | None = None,
        weights: str | Path | None = None,
        precision: str = "float32",
        value_range: tuple[float, float] = (0.0, 1.0),
        rounding: str = "round",
        reset_real_features: bool = True,
        **options: Any,
    ) -> None:
        reject_foreign_arguments(options)
        try:
            super().__init__(**options)
        except ValueError as error:
            unexpected = [name for name in options if f"`{name}`" in str(error) and "Unexpected" in str(error)]
            validate_keywords(type(self).__name__, unexpected, self._list_keywords())
            raise
        self.value_range = validate_value_range(value_range)
        validate_choice(rounding, ROUNDINGS, "rounding")
        self.rounding = rounding
        self.metrics = _split_names(metrics)
        self.reset_real_features = reset_real_features
        feature_options: Any = {
            "extractor": extractor,
            "dims": dims,
            "preprocessing": preprocessing,
            "precision": precision,
        }
        # before the network, so that a wrong reference does not cost a download
        self.reference: FeatureStatistics | None = None
        if reference is not None:
            self.reference, feature_options = load_reference(reference, **feature_options)
        network = load_shared_network(
            **feature_options, weights=weights, extra_layers=_find_extra_layers(self.metrics, feature_options)
        )
        self.spec = network.spec
        if self.reference is not None:
            validate_reference(self.reference, network.spec, network.dims)
        self._layers = self._plan_layers(network)
        self._gathers_rows = False
        self._add_identity_state()
        for states in self._layers.values():
            states.add_to(self)
        # not a submodule: DistributedDataParallel would broadcast its weights at every step
        object.__setattr__(self, "_network", network.on(self.device))

    @classmethod
    def _list_keywords(cls) -> list[str]:
        """Return the arguments of the class that are not torchmetrics'."""
        return list_keywords(ImageMetric)

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
        if real and not any(image_set == "real" for image_set, _ in self._layers):
            reason = "its metrics do not use them" if self.reference is None else "it was created with a reference"
            raise RequestError(
                f"update was called with real=True, but this metric does not accept real images, because {reason}. Pass only "
                "generated images."
            )
        pixels = self._quantize(images)
        if mask is not None:
            pixels = pixels[_validate_mask(mask, len(images)).to(pixels.device)]
        if len(pixels):
            for layer, features in self._extract_features(pixels).items():
                if states := self._layers.get(("real" if real else "generated", layer)):
                    states.accumulate(self, features)

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
        return self._on_all_ranks(lambda: self._compute_scores(interval))

    def _on_all_ranks(self, compute: Callable[[], T]) -> T:
        """Return what a function computes from the states of all ranks, with their rows."""
        self._gathers_rows = True
        try:
            with self.sync_context(
                dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync, should_unsync=self._should_unsync
            ):
                return compute()
        finally:
            self._gathers_rows = False

    def _gather(self, value: torch.Tensor) -> list[torch.Tensor]:
        """Return a tensor of each rank; that of this one if it is alone."""
        is_distributed = self._to_sync and self.distributed_available_fn is not None and self.distributed_available_fn()
        gathered: list[torch.Tensor] = (
            (self.dist_sync_fn or gather_all_tensors)(value, self.process_group) if is_distributed else [value]
        )
        return gathered

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Add the images of another metric, or of its states.

        Raises:
            MismatchError: they are those of a metric with other features or settings.
        """
        states: Any = incoming_state.metric_state if isinstance(incoming_state, Metric) else incoming_state
        if isinstance(states, dict) and "identity" in states:
            validate_identity(bytes(states["identity"].tolist()), self._identity)
        super().merge_state(incoming_state)

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
            RequestError: a metric is unknown, or needs more than the extractor or the reference has.
        """
        plan = plan_metrics(self.metrics, self.spec)
        plan = plan.restrict_to({"reference": as_layers(self.reference)}) if self.reference is not None else plan
        if plan.unavailable:
            raise next(iter(plan.unavailable.values()))
        return plan

    def _plan_layers(self, network: SharedNetwork) -> dict[tuple[str, str], LayerStates]:
        """Return what is stored of each set of images and each layer; "features" is the layer of `dims`."""
        plan = self._make_plan()
        needed = plan.layers
        main = LayerStates(
            image_set="generated",
            spec=network.spec,
            dims=network.dims,
            keeps_all_rows=needed["features"] or needed.get(str(network.spec.layer), False),
        )
        layers = {"features": main} | {
            name: LayerStates(
                image_set="generated",
                spec=layer.spec,
                dims=layer.dims,
                keeps_all_rows=needed[name],
                is_main=False,
            )
            for name, layer in network.extra_layers.items()
        }
        takes_real = self.reference is None and any(request.metric.uses_reference for request in plan.requests)
        of_reference = {"features", *plan.layers_of("reference")} if takes_real else set()
        return {("generated", name): states for name, states in layers.items()} | {
            ("real", name): replace(states, image_set="real") for name, states in layers.items() if name in of_reference
        }

    def _compute_scores(self, interval: str) -> Scores:
        inputs: dict[str, LayerStatistics] = {"generated": self._collect_layers("generated")}
        if self.reference is not None:
            inputs["reference"] = as_layers(self.reference)
        elif ("real", "features") in self._layers:
            inputs["reference"] = self._collect_layers("real")
        return compute_scores(self._make_plan(), inputs, interval=interval, backend="torch", device=str(self.device))

    def _collect_layers(self, image_set: str) -> LayerStatistics:
        """Return statistics by layer of one set of images, of this rank or, once synchronised, of all ranks."""
        collected = {
            layer: states.collect(self, has_rows=states.keeps_all_rows or self._gathers_rows or not self._is_synced)
            for (owner, layer), states in self._layers.items()
            if owner == image_set
        }
        return {**as_layers(collected["features"]), **collected}

    def _add_identity_state(self) -> None:
        """Add a state that identifies what the other states were computed from.

        A `MetricCollection` merges metrics whose states are equal after the first batch and then updates only one of them.
        After an empty batch, or before rows are subsampled, the other states of different metrics can be equal.
        """
        settings = {name: getattr(self, name) for name in ("value_range", "rounding", "reset_real_features")}
        self._identity = encode_identity(self.spec, self._layers.values(), **settings)
        self.add_state("identity", torch.tensor(list(self._identity), dtype=torch.uint8), "max")

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
            if math.isnan(lowest):
                index = int(torch.isnan(x).flatten(1).any(dim=1).int().argmax())
                raise RequestError(
                    f"image {index} of the batch contains NaN; expected finite values. Check what generated or loaded the image."
                )
            if is_out_of_range(lowest, highest, self.value_range):
                raise make_range_error(lowest, highest, self.value_range)
        return scale_to_bytes(x, self.value_range, self.rounding)

    def _extract_features(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the features (n, d) of each layer in one pass."""
        with torch.no_grad():
            features = self._network.features(images)
        validate_finite_features(features)
        extra_layers = self._network.extra_layers
        sizes = [self._network.dims, *(layer.dims for layer in extra_layers.values())]
        return dict(zip(("features", *extra_layers), features.split(sizes, dim=1), strict=True))

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        """Synchronise as torchmetrics does, but send only the rows that are needed, also from ranks that have no images."""
        sent = [states for states in self._layers.values() if states.keeps_all_rows or self._gathers_rows]
        for states in sent:
            states.add_empty_rows(self)
        kept_back = {name for states in self._layers.values() if states not in sent for name in states.row_names}
        reductions = self._reductions
        self._reductions = {name: each for name, each in reductions.items() if name not in kept_back}
        try:
            super()._sync_dist(*args, **kwargs)
        finally:
            self._reductions = reductions

    def _as_tensor(self, value: float) -> torch.Tensor:
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        return torch.tensor(value, dtype=dtype, device=self.device)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], exclude_state: Sequence[str] = "") -> Any:
        """Move the states and the network but keep their dtypes; float64 states stay on a device that supports them."""
        device = fn(torch.zeros(1, device=self.device)).device
        object.__setattr__(self, "_network", self._network.on(device))

        def move(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(fn(tensor[:0] if tensor.ndim else tensor).device)

        if device.type == "mps":
            exclude_state = [
                *exclude_state,
                *(name for name in self._defaults if name.endswith(("_total", "_outer", "_groups"))),
            ]
        return super()._apply(move, exclude_state)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Load states; the network that torchmetrics' metrics store in checkpoints is ignored.

        Raises:
            MismatchError: they are those of another metric, or of another rank.
        """
        for name in [name for name in state_dict if name.startswith(f"{prefix}inception.")]:
            del state_dict[name]
        rank = state_dict.pop(f"{prefix}{_RANK}", None)
        if (identity := state_dict.get(f"{prefix}identity")) is not None:
            validate_identity(bytes(identity.tolist()), self._identity)
        has_images = any(int(state_dict.get(f"{prefix}{name}", 0)) for name in self._count_names)
        if rank is not None and has_images:
            validate_rank(rank.tolist(), get_rank())
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._computed = None  # of the earlier state
        if has_images:
            self._update_count = max(self._update_count, 1)  # 0 makes `compute` warn that it has no images

    @property
    def _count_names(self) -> list[str]:
        """Names of the states that are numbers of images."""
        return [states.sum_names[0] for states in self._layers.values()]

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]  # as torchmetrics'
        """Return the states if they are persistent, as in torchmetrics, and which rank's they are."""
        content = super().state_dict(*args, **kwargs)
        if self._persistent["identity"]:
            prefix = kwargs.get("prefix", args[1] if len(args) > 1 else "")
            content[f"{prefix}{_RANK}"] = torch.tensor((0, 1) if self._is_synced else get_rank())
        return content


def _split_names(metrics: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the names of metrics; None for the default.

    Raises:
        RequestError: there is none.
    """
    if metrics is None:
        return None
    names = tuple(name.strip() for name in metrics.split(",")) if isinstance(metrics, str) else tuple(metrics)
    if not names:
        raise RequestError("metrics is empty; expected names such as 'fid', or None for the default")
    return names


def _find_extra_layers(metrics: Sequence[str] | None, feature_options: dict[str, Any]) -> list[str]:
    """Return the layers that metrics need in addition to that of `dims`."""
    extractor, *settings = feature_options.items()
    if not isinstance(extractor[1], str) or find_extractor(extractor[1]) is None:
        return []
    spec = build_spec(extractor[1], **dict(settings))
    return [layer for layer in plan_metrics(metrics, spec).layers if layer not in ("features", spec.layer)]


def _validate_mask(mask: Any, n: int) -> torch.Tensor:
    mask = torch.as_tensor(mask)
    if mask.dtype != torch.bool or mask.shape != (n,):
        raise RequestError(f"mask is {mask.dtype} of shape {tuple(mask.shape)}; expected bool of shape ({n},)")
    return mask


def _copy_state(state: torch.Tensor | list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
    return list(state) if isinstance(state, list) else state
