"""Models of the timm library as extractors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch

from frechet.errors import WeightsError

POOLINGS: Mapping[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "class token": lambda _, tokens: tokens[:, 0],
    "attention": lambda model, tokens: model.attn_pool(tokens),
    "mean of positions": lambda _, positions: positions.mean((2, 3)),
}


class TimmFeatures(torch.nn.Module):
    """A model of the timm library as a function of images, (n, 3, h, w) -> (n, d).

    Args:
        model: the model.
        pooling: what becomes of the result of its `forward_features`, a name in `POOLINGS`.
    """

    def __init__(self, model: Any, pooling: str) -> None:
        super().__init__()
        self.model, self.pool = model, POOLINGS[pooling]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.pool(self.model, self.model.forward_features(images))


def load_timm(architecture: str, pooling: str, weights: Path, model_kwargs: Mapping[str, Any]) -> TimmFeatures:
    """Load a model of the timm library from a safetensors file, without contacting a host.

    The model keeps its classifier, although the features do not depend on it: timm then rejects a file that lacks a tensor, which
    would otherwise be drawn at random.

    Args:
        architecture: name of the pretrained model in the library.
        pooling: a name in `POOLINGS`.
        weights: the file, or a folder with model.safetensors.
        model_kwargs: keyword arguments of `timm.create_model`.

    Raises:
        WeightsError: the file is missing, no safetensors file, damaged, incomplete, or of another model.
    """
    import timm

    path = weights / "model.safetensors" if weights.is_dir() else weights
    if path.suffix != ".safetensors" or not path.is_file():
        raise WeightsError(
            f"{weights} is not a safetensors file; expected the weights of timm's {architecture}. Pass model.safetensors, or a folder "
            "that contains it, as --weights (weights=)."
        )
    try:
        model = timm.create_model(
            architecture, pretrained=True, pretrained_cfg_overlay={"file": str(path)}, **model_kwargs
        )
    except Exception as error:  # the errors of timm, PyTorch and safetensors have no common base class
        reason = shorten(str(error), 300, placeholder=" ...")  # PyTorch names each tensor on a line of its own
        raise WeightsError(
            f"{path} cannot be loaded ({type(error).__name__}: {reason}). Expected all weights of timm's {architecture}, and no "
            "others; pass such a file as --weights (weights=)."
        ) from error
    return TimmFeatures(model.eval(), pooling)
