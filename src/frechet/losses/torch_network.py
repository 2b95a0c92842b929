"""Extractors as differentiable PyTorch functions of their tensors: networks of the table, and modules and functions of users."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from frechet.backends.torch import TorchOps, to_torch_tensors
from frechet.errors import RequestError
from frechet.features.extractor import Layer
from frechet.features.loading import load_extractor, load_network, resolve_extractor, validate_differentiable
from frechet.features.ops_model import OpsModel
from frechet.features.registry import find_extractor
from frechet.features.spec import FeatureSpec
from frechet.preprocessing.registry import Preprocessing

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class TorchNetwork:
    """A differentiable network and the tensors that it computes with.

    Attributes:
        run: (images (n, 3, h, h) in 0..255, its tensors, whether to recompute activations in the backward pass) -> (n, d).
        tensors: its weights by name, on the CPU.
        preprocessing: how images become the input.
        input_size: height and width h of the input in pixels.
        dims: number of features d.
        spec: what identifies the features.
        extra_layers: layers whose features follow those d in each row.
    """

    run: Callable[[torch.Tensor, Tensors, bool], torch.Tensor]
    tensors: Tensors
    preprocessing: Preprocessing
    input_size: int
    dims: int
    spec: FeatureSpec
    extra_layers: Mapping[str, Layer] = field(default_factory=dict)


def load_torch_network(extractor: Any, *, weights: str | Path | None = None, **options: Any) -> TorchNetwork:
    """Load an extractor.

    Args:
        extractor: name in the table, "module:attribute", or a function or torch.nn.Module (n, 3, h, w) -> (n, d). Of a
            module, a copy in evaluation mode is used.
        weights: path of a weights file that replaces the published one.
        **options: `dims`, `preprocessing`, `precision` and `extra_layers` as in
            `frechet.features.loading.resolve_extractor`.

    Raises:
        RequestError: an unknown name, an unsupported combination, or an extractor without a gradient.
        WeightsError: the weights are missing or damaged.
    """
    path = None if weights is None else Path(weights)
    row = find_extractor(extractor) if isinstance(extractor, str) else None
    if isinstance(extractor, str) and (row is None or isinstance(row.model, OpsModel)) and ":" not in extractor:
        return _load_ops_network(extractor, weights=path, **options)
    if isinstance(extractor, str) and extractor.startswith("onnx:"):
        raise RequestError(f"extractor is {extractor!r}, which has no gradient; pass a torch.nn.Module")
    return _load_function(extractor, weights=path, **options)


def _load_ops_network(name: str, **options: Any) -> TorchNetwork:
    loaded = load_network(name, **options)
    by_layer = to_torch_tensors(loaded.weights, torch.device("cpu"))
    counts = {layer: len(tensors) for layer, tensors in by_layer.items()}
    return TorchNetwork(
        run=partial(_run_ops_network, loaded.network, counts),
        tensors={f"{layer}:{part}": each for layer, parts in by_layer.items() for part, each in enumerate(parts)},
        preprocessing=loaded.preprocessing,
        input_size=loaded.input_size,
        dims=loaded.dims,
        spec=loaded.spec,
        extra_layers=loaded.extra_layers,
    )


def _run_ops_network(
    network: Callable[..., torch.Tensor],
    counts: Mapping[str, int],
    images: torch.Tensor,
    tensors: Tensors,
    gradient_checkpointing: bool,
) -> torch.Tensor:
    """Run a network of the table; a module-level function, so that partials of it can be pickled."""
    ops = TorchOps(gradient_checkpointing=gradient_checkpointing)
    weights = {layer: tuple(tensors[f"{layer}:{part}"] for part in range(n)) for layer, n in counts.items()}
    nhwc = images.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    return network(ops, nhwc, weights)


def _load_function(extractor: Any, **options: Any) -> TorchNetwork:
    """Load a function or module, whose parameters become constants."""
    if isinstance(extractor, torch.nn.Module):
        extractor = copy.deepcopy(extractor).cpu()
    validate_differentiable(resolve_extractor(extractor, **options)[1].spec)
    loaded: Any = load_extractor(extractor, device="cpu", **options)
    function, scale, shift = loaded.runner.function, loaded.runner.scale, loaded.runner.shift
    return TorchNetwork(
        run=partial(_run_function, function, scale, shift),
        tensors=_collect_tensors(function) if isinstance(function, torch.nn.Module) else {},
        preprocessing=loaded.preprocessing,
        input_size=loaded.input_size,
        dims=loaded.dims,
        spec=loaded.spec,
        extra_layers=loaded.extra_layers,
    )


def _run_function(
    function: Callable[[torch.Tensor], Any],
    scale: torch.Tensor,
    shift: torch.Tensor,
    images: torch.Tensor,
    tensors: Tensors,
    gradient_checkpointing: bool,
) -> torch.Tensor:
    """Normalise images and run a user's function or module with these tensors."""
    x = images * scale.to(images) + shift.to(images)
    if gradient_checkpointing and torch.is_grad_enabled():
        features: torch.Tensor = checkpoint(
            _call_function, function, x, tensors, use_reentrant=False, preserve_rng_state=False
        )
        return features
    return _call_function(function, x, tensors)


def _call_function(function: Callable[[torch.Tensor], Any], x: torch.Tensor, tensors: Tensors) -> torch.Tensor:
    if isinstance(function, torch.nn.Module):
        return _validate_output(functional_call(function, dict(tensors), (x,)), x)
    return _validate_output(function(x), x)


def _collect_tensors(module: torch.nn.Module) -> Tensors:
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    return {name: tensor.detach() for name, tensor in tensors.items()}


def _validate_output(features: Any, images: torch.Tensor) -> torch.Tensor:
    """Check the result of a user's function.

    Raises:
        RequestError: it is not a tensor (n, d), or has no gradient with respect to images that need one.
    """
    if not isinstance(features, torch.Tensor) or features.ndim != 2 or features.shape[0] != images.shape[0]:
        given = f"shape {tuple(features.shape)}" if isinstance(features, torch.Tensor) else type(features).__name__
        raise RequestError(
            f"the extractor returned {given} for {images.shape[0]} images; expected a tensor ({images.shape[0]}, d). Return "
            "one row of features per image."
        )
    if images.requires_grad and torch.is_grad_enabled() and not features.requires_grad:
        raise RequestError(
            "the extractor returned features without a gradient; expected a differentiable function of the images. Remove "
            "torch.no_grad, torch.inference_mode and .detach() from it."
        )
    return features
