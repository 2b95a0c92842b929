"""Modules whose tensors keep their dtypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

_Module = TypeVar("_Module", bound="ExactModule")


class ExactModule(torch.nn.Module):
    """A module whose buffers move between devices but keep their dtypes, so that `.half()` does not round a distance."""

    _stays_off_mps = False  # MPS has no float64, so that distances are computed on the CPU

    def _register_constant(self, name: str, tensor: torch.Tensor | None) -> None:
        """Register a buffer that moves with the module but is not part of its state dict."""
        if tensor is not None and tensor.is_inference():
            with torch.inference_mode(False):  # an inference tensor could not take part in autograd later
                tensor = tensor.clone()
        self.register_buffer(name, tensor, persistent=False)

    def _apply(self: _Module, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> _Module:
        def move(tensor: torch.Tensor) -> torch.Tensor:
            device = fn(tensor[:0] if tensor.ndim else tensor).device
            if device.type == "mps" and (self._stays_off_mps or tensor.dtype == torch.float64):
                return tensor
            return tensor.to(device)

        super()._apply(move, recurse)
        return self
