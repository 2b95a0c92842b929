"""Features of images in PyTorch, differentiable with respect to images of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frechet.backends.torch import CPU_BATCH_SIZE, DTYPES, disable_tf32
from frechet.errors import RequestError
from frechet.features.extractor import Layer
from frechet.features.spec import FeatureSpec
from frechet.losses.torch_closed_form import reject_vmap
from frechet.losses.torch_exact import ExactModule
from frechet.losses.torch_network import load_torch_network
from frechet.losses.torch_value_range import TrainingRange, require_in_range
from frechet.losses.validation import make_nonfinite_error
from frechet.preprocessing.value_range import validate_value_range

_ROWS_PER_BAND = 32  # rows of a resized image that one matrix product computes


class ImageFeatures(ExactModule):
    """A feature extractor as a module without trainable parameters.

    TF32 is off in the forward pass. Gradients on CUDA use it unless `torch.backends.cudnn.allow_tf32` is False around `backward`.

    Args:
        extractor: name of the extractor, see `frechet extractors`; "module:attribute"; or a differentiable function or
            torch.nn.Module (n, 3, h, w) -> (n, d). Of a module, a copy in evaluation mode is used.
        dims: number of features per image, which selects the layer; the extractor's default if None.
        preprocessing: name of the preprocessing (resize and normalisation); the extractor's default if None. Where it rounds
            to 8 bits, such as "imagenet", pixels are rounded likewise, and the gradient is that without rounding.
        weights: path of a weights file; if None, the usual locations are searched and missing weights are downloaded.
        precision: "float32", or "bfloat16" or "float16" to run the network under autocast.
        gradient_checkpointing: recompute activations in the backward pass, which takes about a third more time and a
            fraction of the memory.
        value_range: pixel values (black, white) of floating-point images.
        extra_layers: names of layers to compute in the same pass, whose features follow in each row.

    Raises:
        RequestError: a name is unknown, `value_range` is not an increasing pair of numbers, or the extractor has no
            gradient.
        WeightsError: the weights are missing or damaged.

    Examples:
        >>> extractor = ImageFeatures(extractor="efficientnet-lite0")
        >>> extractor.features(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 1280])
    """

    @torch.inference_mode(False)  # inference tensors could not take part in autograd later
    def __init__(
        self,
        *,
        extractor: Any = "inception",
        dims: int | None = None,
        preprocessing: str | None = None,
        weights: str | Path | None = None,
        precision: str = "float32",
        gradient_checkpointing: bool = False,
        value_range: tuple[float, float] = (0.0, 1.0),
        extra_layers: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.value_range = validate_value_range(value_range)
        self._training_range = TrainingRange(self.value_range)
        self._network = load_torch_network(
            extractor,
            dims=dims,
            preprocessing=preprocessing,
            weights=weights,
            precision=precision,
            extra_layers=extra_layers,
        )
        self._reference_options = {
            "extractor": extractor,
            "dims": self.dims,
            "preprocessing": self.spec.preprocessing,
            "precision": precision,
        }
        self._register_constant("origin", torch.empty(0))  # keeps the device, even of a function without tensors
        for name, tensor in self._network.tensors.items():
            self._register_constant(_as_buffer_name(name), tensor)
        self.gradient_checkpointing = gradient_checkpointing

    @property
    def spec(self) -> FeatureSpec:
        """The properties of the features that a reference must share."""
        return self._network.spec

    @property
    def reference_options(self) -> dict[str, Any]:
        """The arguments of `load_reference` for references of these features."""
        return self._reference_options

    @property
    def dims(self) -> int:
        """Number of features d per image."""
        return self._network.dims

    @property
    def extra_layers(self) -> Mapping[str, Layer]:
        """The layers whose features follow the first d in each row."""
        return self._network.extra_layers

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
        images = self._validate_images(images)
        require_in_range(images, self.value_range)
        return self._compute_features(images)

    def training_features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the features of a batch of a training loop, whose values may leave the range.

        The first batch is checked for another scale, such as 0 to 255. Later, values out of the range are used as they are,
        with their gradient, and the first such batch is reported by a warning.

        Args:
            images: (n, 3, h, w), floating point, on the module's device; any h and w.

        Returns:
            Features (n, d), float64 for float64 images and float32 otherwise.

        Raises:
            RequestError: the images have another type, shape, dtype or device, or the first ones have another scale.
        """
        images = self._validate_images(images)
        self._training_range.check(images)
        return self._compute_features(images)

    def _compute_features(self, images: torch.Tensor) -> torch.Tensor:
        low, high = self.value_range
        working_dtype = torch.float64 if images.dtype == torch.float64 else torch.float32
        x = (images.to(working_dtype) - low) * (255 / (high - low))
        with (
            disable_tf32(),
            torch.autocast(x.device.type, enabled=False),
        ):  # the caller's settings must not round the resize
            x = self._resize(x)
        autocast_dtype = DTYPES[str(self.spec.precision)]
        is_half = autocast_dtype != torch.float32
        network_dtype = torch.float32 if is_half else working_dtype  # autocast does not convert float64
        with disable_tf32(), torch.autocast(x.device.type, autocast_dtype, enabled=is_half):
            features = self._run_network(x.to(network_dtype))
        return features.to(working_dtype)

    def _run_network(self, x: torch.Tensor) -> torch.Tensor:
        tensors = {name: _cast(self.get_buffer(_as_buffer_name(name)), x.dtype) for name in self._network.tensors}
        batches = x.split(CPU_BATCH_SIZE) if x.device.type == "cpu" else [x]
        return torch.cat([self._network.run(batch, tensors, self.gradient_checkpointing) for batch in batches])

    def _validate_images(self, images: Any) -> torch.Tensor:
        validate_image_tensor(images, self.device)
        if not images.is_floating_point():
            raise RequestError(
                f"images are {images.dtype}, which has no gradient; pass floating point: images.float() / 255"
            )
        return reject_vmap(images)

    def _resize(self, x: torch.Tensor) -> torch.Tensor:
        """Resize (n, 3, h, w) to the input size of the network, as products with two banded matrices.

        Where the preprocessing rounds to 8 bits after each axis, so does this; the gradient is that without rounding.
        """
        preprocessing, input_size = self._network.preprocessing, self._network.input_size
        resized = x
        for axis in (3, 2) if preprocessing.is_rounded else (2, 3):
            if x.shape[axis] != input_size:
                resized = _apply_banded_matrix(preprocessing.resize_matrix(x.shape[axis], input_size), resized, axis)
                if preprocessing.is_rounded:
                    resized = _round_straight_through(_clip_overshoot(resized, x))
        return _clip_overshoot(resized, x) if preprocessing.is_clipped else resized


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
        hint = ""
        if images.ndim == 4 and images.shape[1] == 1:
            hint = ". For grey images pass images.expand(-1, 3, -1, -1)"
        elif images.ndim == 4 and images.shape[3] == 3:
            hint = ": move the channels first, images.permute(0, 3, 1, 2)"
        elif images.ndim == 3 and images.shape[0] == 3:
            hint = ". For a single image pass images[None]"
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


def _clip_overshoot(resized: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
    """Clip resized images (n, c, h, w) to 0..255, or to the values of the original image where these exceed it.

    Clipping removes what bicubic interpolation adds; pixels that were out of range before keep their gradient.
    """
    if not resized.shape[0]:
        return resized
    lowest, highest = torch.aminmax(original.flatten(1), dim=1)
    shape = (-1, 1, 1, 1)
    return resized.clamp(lowest.clamp(max=0.0).view(shape), highest.clamp(min=255.0).view(shape))


def _round_straight_through(x: torch.Tensor) -> torch.Tensor:
    """Round to whole numbers, half upwards as Pillow does, with the gradient of the identity (Bengio et al. 2013, arXiv:1308.3432)."""
    return torch.floor(x.detach() + 0.5) + (x - x.detach())


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _as_buffer_name(name: str) -> str:
    """Return a tensor's name without dots, which buffers may not contain, and apart from the names of other buffers."""
    return "network/" + name.replace(".", "/")
