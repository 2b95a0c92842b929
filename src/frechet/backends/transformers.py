"""Whole PyTorch modules as extractors: those of the transformers library, and whatever a user brings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from frechet.backends.torch import DTYPES, choose_device, disable_tf32
from frechet.errors import NonFiniteFeaturesError, RequestError, WeightsError


class ModuleRunner:
    """A function of image tensors on a device.

    Args:
        function: (n, 3, h, w) float32 -> (n, d) tensor.
        scale, shift: (3,) by channel: what it is given is x * scale + shift of x in 0..255.
    """

    batch_size = 16

    def __init__(
        self, function: Callable[[Any], Any], device: torch.device, precision: str, scale: Any, shift: Any
    ) -> None:
        self.function, self.device, self.dtype = function, device, DTYPES[precision]
        self.scale, self.shift = (torch.tensor(np.broadcast_to(x, 3).reshape(3, 1, 1).copy()) for x in (scale, shift))

    def map(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """(n, h, w, 3) float32 in 0..255 -> (n, d) float32, in order."""
        for batch in batches:
            images = torch.from_numpy(batch).permute(0, 3, 1, 2)
            images = (images * self.scale.float() + self.shift.float()).to(self.device)
            is_half = self.dtype != torch.float32
            with torch.inference_mode(), disable_tf32(), torch.autocast(self.device.type, self.dtype, enabled=is_half):
                features = self.function(images)
            yield validate_features(features, len(batch))


def validate_features(features: Any, n: int) -> np.ndarray:
    """(n, d) float32 of what an extractor gave.

    Raises:
        BadFeatures: it is of another shape.
    """
    found = features.float().cpu().numpy() if isinstance(features, torch.Tensor) else np.asarray(features, np.float32)
    if found.ndim != 2 or len(found) != n:
        raise NonFiniteFeaturesError(
            f"the extractor gave features of shape {found.shape} for {n} images; expected ({n}, d)"
        )
    return found


def load_pretrained(
    model_class: str, output_field: str, name_or_path: str, device: str, model_kwargs: Mapping[str, Any]
) -> tuple[Callable[[Any], Any], torch.device, torch.nn.Module]:
    """(images -> features, device, module) of a model of the transformers library; no pickle is read.

    Args:
        model: the library's class.
        output: the field of its output that is the features; of tokens (n, t, d), the first one.
        source: a folder in the library's format, or the model's name on its hub.
        device: as in `choose_device`.
        wishes: what the library is asked for beyond its defaults.

    Raises:
        RequestError: the library is not installed.
        WeightsError: there is no such model here, and it cannot be downloaded.
    """
    try:
        import transformers
    except ImportError:
        raise RequestError("this extractor needs the transformers library: pip install 'frechet[encoders]'") from None
    torch_device = choose_device(device)
    try:
        module = (
            getattr(transformers, model_class)
            .from_pretrained(name_or_path, use_safetensors=True, **model_kwargs)
            .eval()
            .to(torch_device)
        )
    except Exception as error:  # the library's and its hub's errors have many names
        raise WeightsError(
            f"{name_or_path} cannot be loaded ({type(error).__name__}: {error}). Give a folder with its config.json and "
            "model.safetensors as --weights (weights=), or let it be downloaded from huggingface.co"
        ) from error

    def features(images: torch.Tensor) -> torch.Tensor:
        found = getattr(module(pixel_values=images, **_make_patch_noise(module, images)), output_field)
        return found if found.ndim == 2 else found[:, 0]

    return features, torch_device, module


def _make_patch_noise(module: Any, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a masked autoencoder would draw at random: here the patches stay in order (none is masked)."""
    if not hasattr(module.config, "mask_ratio"):
        return {}
    patches = module.embeddings.patch_embeddings.num_patches
    return {"noise": torch.arange(patches, device=images.device).expand(len(images), -1)}


def hash_state_dict(module: torch.nn.Module) -> str:
    """sha256 (hex) over the module's tensors in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().float().numpy(), "<f4").data)
    return digest.hexdigest()


def is_module(obj: Any) -> bool:
    """Whether it is a PyTorch module."""
    return isinstance(obj, torch.nn.Module)
