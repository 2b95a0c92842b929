"""Features of images in PyTorch, differentiable with respect to images of any size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frechet.backends.torch import CPU_BATCH_SIZE, DTYPES, TorchOps, disable_tf32, to_torch_tensors
from frechet.errors import RequestError
from frechet.features.loading import load_network
from frechet.features.spec import FeatureSpec
from frechet.losses.validation import make_nonfinite_error
from frechet.preprocessing.value_range import is_out_of_range, make_range_error, validate_value_range

_ROWS_PER_BAND = 32  # rows of a resized image that one matrix product computes


class ImageFeatures(torch.nn.Module):
    """A feature extractor as a module without trainable parameters.

    Args:
        extractor: name of the extractor, see `frechet extractors`.
        dims: number of features per image, which selects the layer; the extractor's default if None.
        preprocessing: name of the preprocessing (resize and normalisation); the extractor's default if None.
        weights: path of a weights file; if None, the usual locations are searched and missing weights are downloaded.
        precision: "float32", or "bfloat16" or "float16" to run the network under autocast.
        gradient_checkpointing: recompute activations in the backward pass, which takes about a third more time and a
            fraction of the memory.
        value_range: pixel values (black, white) of floating-point images.

    Raises:
        RequestError: a name is unknown, or `value_range` is not an increasing pair of numbers.
        WeightsError: the weights are missing or damaged.

    Examples:
        >>> extractor = ImageFeatures(extractor="efficientnet-lite0")
        >>> extractor.features(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 1280])
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
        self._network = replace(loaded, weights={})  # the weights become buffers, so that they move with the module
        self._tensor_counts: dict[str, int] = {}
        for name, tensors in to_torch_tensors(loaded.weights, torch.device("cpu")).items():
            self._tensor_counts[name] = len(tensors)
            for part, tensor in enumerate(tensors):
                self._register_constant(f"{name.replace('.', '/')}:{part}", tensor)
        self.gradient_checkpointing = gradient_checkpointing

    @property
    def spec(self) -> FeatureSpec:
        """The properties of the features that a reference must share."""
        return self._network.spec

    @property
    def dims(self) -> int:
        """Number of features d per image."""
        return self._network.dims

    @property
    def device(self) -> torch.device:
        """Device of the network's weights."""
        return next(self.buffers()).device

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the features of a batch, differentiable with respect to the images.

        Args:
            images: (n, 3, h, w), floating point in `value_range`, on the module's device; any h and w.

        Returns:
            Features (n, d), float64 for float64 images and float32 otherwise.

        Raises:
            RequestError: the images have another type, shape, dtype, device or range of values.
        """
        self._validate_images(images)
        low, high = self.value_range
        working_dtype = torch.float64 if images.dtype == torch.float64 else torch.float32
        x = (images.to(working_dtype) - low) * (255 / (high - low))
        with torch.autocast(x.device.type, enabled=False):  # the caller's autocast must not round the resize
            x = self._resize(x).contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
        autocast_dtype = DTYPES[str(self.spec.precision)]
        is_half = autocast_dtype != torch.float32
        network_dtype = torch.float32 if is_half else working_dtype  # autocast does not convert float64
        with disable_tf32(), torch.autocast(x.device.type, autocast_dtype, enabled=is_half):
            features = self._run_network(x.to(network_dtype))
        return features.to(working_dtype)

    def _run_network(self, x: torch.Tensor) -> torch.Tensor:
        ops = TorchOps(gradient_checkpointing=self.gradient_checkpointing)
        weights = {name: self._get_weights(name, x.dtype) for name in self._tensor_counts}
        batches = x.split(CPU_BATCH_SIZE) if x.device.type == "cpu" else [x]
        return torch.cat([self._network.network(ops, batch, weights) for batch in batches])

    def _validate_images(self, images: Any) -> None:
        validate_image_tensor(images, self.device)
        if not images.is_floating_point():
            raise RequestError(
                f"images are {images.dtype}, which has no gradient; pass floating point: images.float() / 255"
            )
        if images.shape[0]:
            lowest, highest = (float(value) for value in torch.aminmax(images.detach()))
            if is_out_of_range(lowest, highest, self.value_range):
                raise make_range_error(lowest, highest, self.value_range)

    def _resize(self, x: torch.Tensor) -> torch.Tensor:
        """Resize (n, 3, h, w) to the input size of the network, as products with two banded matrices."""
        preprocessing, input_size = self._network.preprocessing, self._network.input_size
        for axis in (2, 3):
            if x.shape[axis] != input_size:
                x = _apply_banded_matrix(preprocessing.resize_matrix(x.shape[axis], input_size), x, axis)
        return x.clamp(0.0, 255.0) if preprocessing.is_clipped else x

    def _get_weights(self, name: str, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        parts = range(self._tensor_counts[name])
        return tuple(self.get_buffer(f"{name.replace('.', '/')}:{part}").to(dtype) for part in parts)

    def _register_constant(self, name: str, tensor: torch.Tensor | None) -> None:
        """Register a buffer that moves with the module but is not part of its state dict."""
        if tensor is not None and tensor.is_inference():
            with torch.inference_mode(False):  # an inference tensor could not take part in autograd later
                tensor = tensor.clone()
        self.register_buffer(name, tensor, persistent=False)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> ImageFeatures:
        """Move the buffers but keep their dtypes, so that `.half()` on an enclosing module leaves the loss exact."""

        def move(tensor: torch.Tensor) -> torch.Tensor:
            device = fn(tensor[:0] if tensor.ndim else tensor).device
            if device.type == "mps" and tensor.dtype == torch.float64:
                return tensor  # MPS has no float64
            return tensor.to(device)

        super()._apply(move, recurse)
        return self


def validate_image_tensor(images: Any, device: torch.device | None = None) -> None:
    """Check that `images` is a tensor (n, 3, h, w) with at least one pixel per image.

    Args:
        images: the object to check.
        device: device that the images must be on; None for any device.

    Raises:
        RequestError: the type, the shape or the device is another one.
    """
    if not isinstance(images, torch.Tensor):
        raise RequestError(f"images are {type(images).__name__}; expected a tensor (n, 3, h, w)")
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
        is_grey = images.ndim == 4 and images.shape[1] == 1
        hint = ". For grey images pass images.expand(-1, 3, -1, -1)" if is_grey else ""
        raise RequestError(f"images have shape {tuple(images.shape)}; expected (n, 3, h, w){hint}")
    if device is not None and images.device != device:
        raise RequestError(
            f"images are on {images.device} and the network is on {device}; move one of them, e.g. with "
            f".to({str(images.device)!r})"
        )


def validate_finite_features(features: torch.Tensor) -> None:
    """Check that all features (n, d) are finite.

    Raises:
        NonFiniteFeaturesError: a feature is NaN or infinite; the message names the first such image by its index.
    """
    is_nonfinite = ~torch.isfinite(features.detach()).all(dim=1)
    if bool(is_nonfinite.any()):
        raise make_nonfinite_error(int(is_nonfinite.int().argmax()))


def _apply_banded_matrix(resize_matrix: np.ndarray, x: torch.Tensor, axis: int) -> torch.Tensor:
    """Multiply images (n, c, h, w) along axis 2 or 3 by a matrix, leaving out the zeros far from its diagonal."""
    weights = torch.from_numpy(resize_matrix).to(x)
    bands = []
    for start in range(0, len(resize_matrix), _ROWS_PER_BAND):
        taps = np.flatnonzero(resize_matrix[start : start + _ROWS_PER_BAND].any(axis=0))
        columns = slice(int(taps[0]), int(taps[-1]) + 1)
        band = weights[start : start + _ROWS_PER_BAND, columns]
        bands.append(band @ x[:, :, columns] if axis == 2 else x[..., columns] @ band.T)
    return torch.cat(bands, dim=axis)
