"""Models of the timm library."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frechet._internal.download import ProgressCallback
from frechet.errors import RequestError, WeightsError
from frechet.features.extractor import LoadedExtractor
from frechet.features.loaded_model import LoadedModel, make_extractor, measure_dims, require_torch
from frechet.features.models import LoadRequest, Model
from frechet.networks.hub_weights import fetch_hub_weights, find_in_hub_cache


@dataclass(frozen=True, kw_only=True)
class TimmModel(Model):
    """A pretrained model of the timm library, with weights from the Hugging Face Hub.

    Attributes:
        architecture: its name in the library, which is that of the weights on huggingface.co/timm, too.
        pooling: how the result of its `forward_features` becomes features: "class token", "attention" or "mean of positions".
        model_kwargs: keyword arguments of `timm.create_model`.
    """

    backends = ("torch",)
    downloads_on_use = False

    architecture: str
    pooling: str
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hub_name(self) -> str:
        """Name of the weights on huggingface.co."""
        return f"timm/{self.architecture}"

    @property
    def weights_source(self) -> str:
        """URL of the model."""
        return f"https://huggingface.co/{self.hub_name}"

    def find_weights(self) -> Path:
        """Return the path of the weights in the Hub's cache without downloading them."""
        path = find_in_hub_cache(self.hub_name, extra="timm")
        if path is None:
            raise WeightsError(
                f"weights {self.hub_name} are not in the cache of the Hugging Face Hub; run frechet weights fetch NAME (frechet "
                "extractors lists the names), or pass model.safetensors as --weights (weights=)"
            )
        return path

    def fetch_weights(self, progress: ProgressCallback | None = None) -> Path:  # noqa: ARG002, the library shows its own
        """Download the weights into the Hub's cache, and return the folder."""
        return fetch_hub_weights(self.hub_name, extra="timm")

    def check(self) -> str:
        """Check that the libraries and the weights are available, and describe the weights."""
        _require_timm()
        return f"{self.find_weights()} (from {self.hub_name})"

    def load(self, request: LoadRequest) -> LoadedExtractor:
        """Load the model with the timm library, from the Hub's cache or from `request.weights`."""
        _require_timm()
        from frechet.backends.timm import load_timm
        from frechet.backends.torch import choose_device
        from frechet.backends.torch_images import DeviceImages
        from frechet.backends.transformers import ModuleRunner, hash_state_dict

        assert request.input_size is not None
        device = choose_device(request.device)
        weights = request.weights or self.find_weights()
        function = load_timm(self.architecture, self.pooling, weights, self.model_kwargs)
        digest = hash_state_dict(function.model)
        images = DeviceImages(device, request.preprocessing, request.input_size)
        runner = ModuleRunner(function.to(device), images, str(request.spec.precision))
        dims = measure_dims(runner, request.input_size)
        return make_extractor(request, LoadedModel(runner, dims, request.input_size, digest, "torch", str(device)))


def _require_timm() -> None:
    """Require that PyTorch and timm are installed, and what timm needs."""
    require_torch()
    for package in ("timm", "torchvision"):
        if importlib.util.find_spec(package) is None:
            raise RequestError(
                f"this extractor needs {package}, which is not installed; run pip install 'frechet[timm]'"
            )
