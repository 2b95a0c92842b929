"""Features of images in PyTorch, differentiable with respect to the images: any size, resized by the convention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from frechet.backends.torch import CPU_BATCH_SIZE, DTYPES, TorchOps, disable_tf32, to_torch_tensors
from frechet.errors import RequestError
from frechet.features.loading import load_network
from frechet.features.spec import FeatureSpec
from frechet.preprocessing.value_range import validate_value_range

_ROWS_PER_BAND = 32  # rows of a resized image that are made by one product


class ImageFeatures(torch.nn.Module):
    """An extractor as a module without anything to train.

    Args:
        extractor, dims, convention, weights: as in `frechet.score`.
        precision: "float32", or "bfloat16" or "float16": the network runs under autocast.
        checkpoint: gradient checkpointing in the network: about a third more time, a fraction of the memory.
        value_range: the values that stand for black and white in the images.

    Raises:
        RequestError: an unknown name; what exists is named.
        WeightsError: the weights cannot be had.
    """

    def __init__(
        self,
        *,
        extractor: str = "inception",
        dims: int | None = None,
        preprocessing: str | None = None,
        weights: str | Path | None = None,
        precision: str = "float32",
        gradient_checkpointing: bool = False,
        value_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__()
        self.value_range = validate_value_range(value_range)
        loaded = load_network(
            extractor,
            dims=dims,
            preprocessing=preprocessing,
            weights=Path(weights) if weights is not None else None,
            precision=precision,
        )
        self._network = replace(loaded, weights={})  # they are buffers from here on
        self._tensor_counts: dict[str, int] = {}
        for name, tensors in to_torch_tensors(loaded.weights, torch.device("cpu")).items():
            self._tensor_counts[name] = len(tensors)
            for part, tensor in enumerate(tensors):
                self._register_constant(f"{name.replace('.', '/')}:{part}", tensor)
        self.gradient_checkpointing = gradient_checkpointing

    @property
    def spec(self) -> FeatureSpec:
        """How the features are made; a reference must share it."""
        return self._network.spec

    @property
    def dims(self) -> int:
        """d."""
        return self._network.dims

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.buffers()).device

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Features of a batch, differentiable.

        Args:
            images: (n, 3, h, w), floating point in `value_range`, on this module's device. Any height and width.

        Returns:
            (n, d) float32; float64 for float64 images.

        Raises:
            RequestError: images of another shape, dtype, range or device.
        """
        self._validate_images(images)
        low, high = self.value_range
        working_dtype = torch.float64 if images.dtype == torch.float64 else torch.float32
        x = (images.to(working_dtype) - low) * (255 / (high - low))
        with torch.autocast(x.device.type, enabled=False):  # the caller's
            x = self._resize(x).contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
        autocast_dtype = DTYPES[str(self.spec.precision)]
        network_dtype = (
            working_dtype if autocast_dtype == torch.float32 else torch.float32
        )  # autocast leaves doubles alone
        with disable_tf32(), torch.autocast(x.device.type, autocast_dtype, enabled=autocast_dtype != torch.float32):
            ops = TorchOps(gradient_checkpointing=self.gradient_checkpointing)
            weights = {name: self._get_weights(name, network_dtype) for name in self._tensor_counts}
            x = x.to(network_dtype)
            pieces = x.split(CPU_BATCH_SIZE) if x.device.type == "cpu" else [x]
            features = torch.cat([self._network.network(ops, piece, weights) for piece in pieces])
        return features.to(working_dtype)

    def _validate_images(self, images: torch.Tensor) -> None:
        if not isinstance(images, torch.Tensor):
            raise RequestError(f"images are {type(images).__name__}; expected a tensor (n, 3, h, w)")
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
            raise RequestError(f"images have shape {tuple(images.shape)}; expected (n, 3, h, w)")
        if not images.is_floating_point():
            raise RequestError(
                f"images are {images.dtype}, through which no gradient flows; give floats: images.float() / 255"
            )
        if images.device != self.device:
            raise RequestError(
                f"images are on {images.device} and the network on {self.device}; move it: .to({str(images.device)!r})"
            )
        if images.shape[0]:
            low, high = self.value_range
            lowest, highest = (float(value) for value in torch.aminmax(images.detach()))
            slack = 0.01 * (high - low)
            if lowest < low - slack or highest > high + slack:
                raise RequestError(
                    f"images range from {lowest:.4g} to {highest:.4g}; expected {low:g} to {high:g}. Clamp them, or say "
                    "value_range=(black, white), for instance (-1, 1)"
                )

    def _resize(self, x: torch.Tensor) -> torch.Tensor:
        """By the convention's resize, as products with two banded matrices."""
        preprocessing, input_size = self._network.preprocessing, self._network.input_size
        for axis in (2, 3):
            if x.shape[axis] != input_size:
                x = _apply_banded_matrix(preprocessing.resize_matrix(x.shape[axis], input_size), x, axis)
        return x.clamp(0.0, 255.0) if preprocessing.is_clipped else x

    def _get_weights(self, name: str, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        parts = range(self._tensor_counts[name])
        return tuple(self.get_buffer(f"{name.replace('.', '/')}:{part}").to(dtype) for part in parts)

    def _register_constant(self, name: str, tensor: torch.Tensor | None) -> None:
        """Moves with the module, is not trained and not stored with it."""
        if tensor is not None and tensor.is_inference():
            with torch.inference_mode(False):  # made while evaluating, it would let no gradient through later
                tensor = tensor.clone()
        self.register_buffer(name, tensor, persistent=False)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> ImageFeatures:
        """Move, but keep dtypes: a loss inside a module that is `.half()`-ed stays exact."""

        def move(tensor: torch.Tensor) -> torch.Tensor:
            device = fn(tensor[:0] if tensor.ndim else tensor).device
            if device.type == "mps" and tensor.dtype == torch.float64:
                return tensor  # stays where float64 is
            return tensor.to(device)

        super()._apply(move, recurse)
        return self


def _apply_banded_matrix(resize_matrix: np.ndarray, x: torch.Tensor, axis: int) -> torch.Tensor:
    """The matrix along the height (2) or width (3) of images; what it has far from its diagonal is zeros and left out."""
    weights = torch.from_numpy(resize_matrix).to(x)
    bands = []
    for start in range(0, len(resize_matrix), _ROWS_PER_BAND):
        taps = np.flatnonzero(resize_matrix[start : start + _ROWS_PER_BAND].any(axis=0))
        columns = slice(int(taps[0]), int(taps[-1]) + 1)
        band = weights[start : start + _ROWS_PER_BAND, columns]
        bands.append(band @ x[:, :, columns] if axis == 2 else x[..., columns] @ band.T)
    return torch.cat(bands, dim=axis)
