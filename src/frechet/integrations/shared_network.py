"""Networks that metric objects share: copies of a metric, and metrics with equal extractors, use the same weights in memory."""

from __future__ import annotations

import copy
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch

from frechet.losses.torch_features import ImageFeatures
from frechet.preprocessing.matrix_resize import ResizeMatrices, can_resize, make_resize_matrices, resize_with_matrices
from frechet.preprocessing.registry import Preprocessing

_NETWORKS: WeakValueDictionary[tuple[Any, ...], SharedNetwork] = WeakValueDictionary()


class SharedNetwork(ImageFeatures):
    """An extractor that is never changed, and of which deep copies are the object itself."""

    def __deepcopy__(self, _memo: dict[int, Any]) -> SharedNetwork:
        return self

    @property
    def _key(self) -> tuple[Any, ...] | None:
        """What identifies the network on its device; None if its weights have no digest."""
        layers = tuple(self.extra_layers.items())
        return None if self.spec.weights is None else (self.spec, self.dims, layers, self.device)

    def on(self, device: torch.device) -> SharedNetwork:
        """Return the network on a device: itself, another metric's, or a copy that this creates."""
        if device == self.device:
            return self
        moved = copy.copy(self)
        moved._buffers = {name: None if buffer is None else buffer.to(device) for name, buffer in self._buffers.items()}
        return _share(moved)

    def _resize(self, x: torch.Tensor) -> torch.Tensor:
        """Resize 8-bit images (n, 3, h, w) bit for bit as `frechet.score` does, where that rounds."""
        preprocessing, size = self._network.preprocessing, self._network.input_size
        if not preprocessing.is_rounded:
            return super()._resize(x)
        pixels = x.to(torch.uint8).permute(0, 2, 3, 1)
        height, width = x.shape[2:]
        if can_resize(preprocessing, height, width, size):
            columns, rows = make_resize_matrices(preprocessing, height, width, size)
            matrices = ResizeMatrices(_to_tensors(columns, x.device), _to_tensors(rows, x.device))
            resized: torch.Tensor = resize_with_matrices(pixels, matrices, is_clipped=preprocessing.is_clipped)
        else:
            resized = torch.from_numpy(_resize_on_host(pixels.cpu().numpy(), preprocessing, size)).to(x.device)
        return resized.permute(0, 3, 1, 2)


def _resize_on_host(pixels: np.ndarray, preprocessing: Preprocessing, size: int) -> np.ndarray:
    """Resize images (n, h, w, 3) uint8 to (n, size, size, 3) float32."""
    resized = np.empty((len(pixels), size, size, 3), np.float32)
    for image, out in zip(pixels, resized, strict=True):
        preprocessing.resize(image, out)
    return resized


def _to_tensors(matrices: tuple[np.ndarray, ...], device: torch.device) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(matrix).to(device) for matrix in matrices)


def load_shared_network(**options: Any) -> SharedNetwork:
    """Load a network for 8-bit images, or return the one in memory that has the same weights.

    Args:
        **options: arguments of `ImageFeatures`.
    """
    return _share(SharedNetwork(**options, value_range=(0.0, 255.0)).eval())


def _share(network: SharedNetwork) -> SharedNetwork:
    return network if network._key is None else _NETWORKS.setdefault(network._key, network)
