"""Features of images in PyTorch, differentiable with respect to the images: any size, resized by the convention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from frechet.backends.torch import CPU_BATCH, DTYPES, TorchOps, full_precision, tensors_of
from frechet.errors import RequestError
from frechet.features.registry import load_network
from frechet.features.spec import Recipe
from frechet.preprocessing.registry import checked_range

_BAND = 32  # rows of a resized image that are made by one product


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
        convention: str | None = None,
        weights: str | Path | None = None,
        precision: str = "float32",
        checkpoint: bool = False,
        value_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__()
        self.value_range = checked_range(value_range)
        loaded = load_network(
            extractor,
            dims=dims,
            convention=convention,
            weights=Path(weights) if weights is not None else None,
            precision=precision,
        )
        self._loaded = replace(loaded, weights={})  # they are buffers from here on
        self._layers: dict[str, int] = {}
        for name, tensors in tensors_of(loaded.weights, torch.device("cpu")).items():
            self._layers[name] = len(tensors)
            for part, tensor in enumerate(tensors):
                self._constant(f"{name.replace('.', '/')}:{part}", tensor)
        self.checkpoint = checkpoint

    @property
    def recipe(self) -> Recipe:
        """How the features are made; a reference must share it."""
        return self._loaded.recipe

    @property
    def dims(self) -> int:
        """d."""
        return self._loaded.dims

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
        self._require_images(images)
        low, high = self.value_range
        work = torch.float64 if images.dtype == torch.float64 else torch.float32
        x = (images.to(work) - low) * (255 / (high - low))
        with torch.autocast(x.device.type, enabled=False):  # the caller's
            x = self._resized(x).contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
        half = DTYPES[str(self.recipe.precision)]
        inside = work if half == torch.float32 else torch.float32  # autocast leaves doubles alone
        with full_precision(), torch.autocast(x.device.type, half, enabled=half != torch.float32):
            ops = TorchOps(recompute=self.checkpoint)
            weights = {name: self._weights(name, inside) for name in self._layers}
            x = x.to(inside)
            pieces = x.split(CPU_BATCH) if x.device.type == "cpu" else [x]
            features = torch.cat([self._loaded.network(ops, piece, weights) for piece in pieces])
        return features.to(work)

    def _require_images(self, images: torch.Tensor) -> None:
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
            least, most = (float(value) for value in torch.aminmax(images.detach()))
            slack = 0.01 * (high - low)
            if least < low - slack or most > high + slack:
                raise RequestError(
                    f"images range from {least:.4g} to {most:.4g}; expected {low:g} to {high:g}. Clamp them, or say "
                    "value_range=(black, white), for instance (-1, 1)"
                )

    def _resized(self, x: torch.Tensor) -> torch.Tensor:
        """By the convention's resize, as products with two banded matrices."""
        convention, pixels = self._loaded.convention, self._loaded.pixels
        for axis in (2, 3):
            if x.shape[axis] != pixels:
                x = _mixed(convention.matrix(x.shape[axis], pixels), x, axis)
        return x.clamp(0.0, 255.0) if convention.clipped else x

    def _weights(self, name: str, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        parts = range(self._layers[name])
        return tuple(self.get_buffer(f"{name.replace('.', '/')}:{part}").to(dtype) for part in parts)

    def _constant(self, name: str, tensor: torch.Tensor | None) -> None:
        """Moves with the module, is not trained and not stored with it."""
        if tensor is not None and tensor.is_inference():
            with torch.inference_mode(False):  # made while evaluating, it would let no gradient through later
                tensor = tensor.clone()
        self.register_buffer(name, tensor, persistent=False)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> ImageFeatures:
        """Move, but keep dtypes: a loss inside a module that is `.half()`-ed stays exact."""

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            place = fn(tensor[:0] if tensor.ndim else tensor).device
            if place.type == "mps" and tensor.dtype == torch.float64:
                return tensor  # stays where float64 is
            return tensor.to(place)

        super()._apply(moved, recurse)
        return self


def _mixed(matrix: np.ndarray, x: torch.Tensor, axis: int) -> torch.Tensor:
    """The matrix along the height (2) or width (3) of images; what it has far from its diagonal is zeros and left out."""
    weights = torch.from_numpy(matrix).to(x)
    bands = []
    for start in range(0, len(matrix), _BAND):
        taps = np.flatnonzero(matrix[start : start + _BAND].any(axis=0))
        near = slice(int(taps[0]), int(taps[-1]) + 1)
        band = weights[start : start + _BAND, near]
        bands.append(band @ x[:, :, near] if axis == 2 else x[..., near] @ band.T)
    return torch.cat(bands, dim=axis)
