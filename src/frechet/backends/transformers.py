"""PyTorch modules and functions as extractors: models of the transformers library, and those of users."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frechet.backends.torch import DTYPES, choose_device, disable_tf32, require_precision, set_tf32
from frechet.backends.torch_images import DeviceImages
from frechet.backends.torch_memory import choose_batch_size, run_or_halve
from frechet.errors import FrechetError, NonFiniteFeaturesError, RequestError, RunError, WeightsError
from frechet.networks.hub_weights import find_hub_weights
from frechet.preprocessing.matrix_resize import Pixels


class ModuleRunner:
    """Run a function of image tensors on a device.

    Args:
        function: (n, 3, h, w) float32 -> (n, d) tensor.
        images: copies images to the device of its input, and resizes and normalizes them there.
        precision: "float32", "tf32", "bfloat16" or "float16"; the last two run under autocast.
    """

    can_resize = True

    def __init__(self, function: Callable[[Any], Any], images: DeviceImages, precision: str) -> None:
        self.function, self.images, self.device, self.dtype = function, images, images.device, DTYPES[precision]
        require_precision(self.device, precision)
        self.batch_size, self.uses_tf32 = choose_batch_size(self.device, otherwise=16), precision == "tf32"
        normalization = images.preprocessing.scale, images.preprocessing.shift
        self.scale, self.shift = (
            torch.tensor(np.broadcast_to(np.asarray(x, np.float32), 3).reshape(3, 1, 1).copy(), device=self.device)
            for x in normalization
        )

    def map(self, batches: Iterable[Pixels]) -> Iterator[np.ndarray]:
        """Yield the features (n, d) float32 of batches in order (see `frechet.features.extractor.Runner`)."""
        for batch in batches:
            yield run_or_halve(self._forward, batch, np.concatenate, self.device)

    def _forward(self, batch: Pixels) -> np.ndarray:
        is_half = self.dtype != torch.float32
        with torch.inference_mode():
            with disable_tf32():
                images = self.images.put(batch).permute(0, 3, 1, 2) * self.scale + self.shift
            with set_tf32(self.uses_tf32), torch.autocast(self.device.type, self.dtype, enabled=is_half):
                features = _call(self.function, images)
        return validate_features(features, len(batch))


def _call(function: Callable[[Any], Any], images: torch.Tensor) -> Any:
    """Call an extractor's function.

    Raises:
        RunError: it raised an error, or tried to end the program.
    """
    try:
        return function(images)
    except (MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, FrechetError):
            raise
        tensors = function.parameters() if isinstance(function, torch.nn.Module) else ()
        dtypes = {str(each.dtype) for each in tensors if each.is_floating_point()} - {str(images.dtype)}
        fix = (
            f"its parameters are {', '.join(dtypes)}, and images are {images.dtype}: pass module.float()"
            if dtypes
            else "correct it"
        )
        raise RunError(
            f"the extractor raised {type(error).__name__} for images of shape {tuple(images.shape)}: {error}. Expected a function "
            f"of images (n, 3, h, w) that returns features (n, d); {fix}."
        ) from error


def validate_features(features: Any, n: int) -> np.ndarray:
    """Convert the result of an extractor for n images to an array (n, d) float32.

    Raises:
        NonFiniteFeaturesError: the features have another shape.
    """
    try:
        array = (
            features.float().cpu().numpy() if isinstance(features, torch.Tensor) else np.asarray(features, np.float32)
        )
    except (TypeError, ValueError, RuntimeError):
        raise NonFiniteFeaturesError(
            f"the extractor returned a {type(features).__name__} for {n} images; expected a tensor or an array ({n}, d). "
            "Return one row of numbers per image."
        ) from None
    if array.ndim != 2 or len(array) != n or not array.size:
        raise NonFiniteFeaturesError(
            f"the extractor returned features of shape {array.shape} for {n} images; expected ({n}, d). "
            "Return one row per image."
        )
    return array


def load_pretrained(
    model_class: str, output_field: str, name_or_path: str, device: str, model_kwargs: Mapping[str, Any]
) -> tuple[Callable[[Any], Any], torch.device, torch.nn.Module]:
    """Load a model of the transformers library from safetensors, without reading a pickle.

    No host is contacted for a model that is on this machine.

    Args:
        model_class: name of the class in the library.
        output_field: the field of its output that contains the features; of tokens (n, t, d), the first one is used.
        name_or_path: name of the model on huggingface.co, or a folder in the library's format.
        device: name of the device, as in `choose_device`.
        model_kwargs: keyword arguments of `from_pretrained`.

    Returns:
        The function (n, 3, h, w) -> (n, d), the device and the module.

    Raises:
        RequestError: the library is not installed.
        WeightsError: the model is neither on this machine nor can it be downloaded, or its weights are incomplete.
    """
    try:
        import transformers
    except ImportError:
        raise RequestError(
            "this extractor needs transformers, which is not installed; run pip install 'frechet[encoders]'"
        ) from None
    torch_device = choose_device(device)
    try:
        module, loading = getattr(transformers, model_class).from_pretrained(
            name_or_path,
            use_safetensors=True,
            local_files_only=_is_on_this_machine(name_or_path),
            output_loading_info=True,
            **model_kwargs,
        )
        module.eval().to(torch_device)
    except Exception as error:  # the errors of the library and of its HTTP client have no common base class
        raise WeightsError(
            f"{name_or_path} cannot be loaded ({type(error).__name__}: {error}). Pass a folder with its config.json and "
            "model.safetensors as --weights (weights=), or allow a download from huggingface.co."
        ) from error
    if missing := sorted(loading["missing_keys"]):  # the library draws these at random, and only logs a warning
        raise WeightsError(
            f"{name_or_path} lacks {len(missing)} of the weights of {model_class}, e.g. {missing[0]}; expected all of them. Pass a "
            "complete folder with config.json and model.safetensors as --weights (weights=)."
        )
    return _PretrainedFeatures(module, output_field), torch_device, module


class _PretrainedFeatures(torch.nn.Module):
    """A model of the transformers library as a function of images, (n, 3, h, w) -> (n, d)."""

    def __init__(self, model: torch.nn.Module, output_field: str) -> None:
        super().__init__()
        self.model, self.output_field = model, output_field

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = getattr(
            self.model(pixel_values=images, **_make_patch_noise(self.model, images)), self.output_field
        )
        return output if output.ndim == 2 else output[:, 0]


def _is_on_this_machine(name_or_path: str) -> bool:
    """Return whether a model is a folder, or its weights are in the Hub's cache."""
    if Path(name_or_path).is_dir():
        return True
    try:
        return find_hub_weights(name_or_path).is_file()
    except WeightsError:
        return False


def _make_patch_noise(module: Any, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the noise that a masked autoencoder sorts patches by: increasing, so that the patches stay in order."""
    if not hasattr(module.config, "mask_ratio"):
        return {}
    patches = module.embeddings.patch_embeddings.num_patches
    return {"noise": torch.arange(patches, device=images.device).expand(len(images), -1)}


def hash_state_dict(module: torch.nn.Module) -> str:
    """Return the sha256 (hex) over names, shapes and float32 values of a module's tensors, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().float().numpy(), "<f4").data)
    return digest.hexdigest()


def is_module(obj: Any) -> bool:
    """Return whether an object is a PyTorch module."""
    return isinstance(obj, torch.nn.Module)
