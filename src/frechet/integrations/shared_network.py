"""Networks that metric objects share: copies of a metric, and metrics with equal extractors, use the same weights in memory."""

from __future__ import annotations

import copy
from typing import Any
from weakref import WeakValueDictionary

import torch

from frechet.losses.torch_features import ImageFeatures

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


def load_shared_network(**options: Any) -> SharedNetwork:
    """Load a network for 8-bit images, or return the one in memory that has the same weights.

    Args:
        **options: arguments of `ImageFeatures`.
    """
    return _share(SharedNetwork(**options, value_range=(0.0, 255.0)).eval())


def _share(network: SharedNetwork) -> SharedNetwork:
    return network if network._key is None else _NETWORKS.setdefault(network._key, network)
