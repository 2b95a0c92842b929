"""LPIPS in PyTorch: the weighted distance between the feature maps of two images."""

from __future__ import annotations

from threading import Lock

import numpy as np
import torch

from frechet.backends.torch import TorchOps, choose_device, disable_tf32, to_torch_tensors
from frechet.networks.lpips import NETWORKS, LpipsWeights

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pixels in -1 to 1
_EPSILON = 1e-8  # added to squared norms, as in torchmetrics


class Lpips:
    """LPIPS of pairs of images (Zhang et al. 2018, arXiv:1801.03924, equation 1).

    Args:
        name: a key of `NETWORKS`.
        weights: its weights.
        device: name of a PyTorch device, or "auto".
    """

    def __init__(self, name: str, weights: LpipsWeights, device: str) -> None:
        self.network = NETWORKS[name]
        self.device = choose_device(device)
        self._weights = to_torch_tensors(weights.conv_layers, self.device)
        self._channels = [torch.from_numpy(each).to(self.device)[:, None, None] for each in weights.channels]
        self._lock = Lock()

    def __call__(self, generated: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Compute the distances of n pairs.

        Args:
            generated, reference: (n, h, w, 3) uint8, with h and w of at least `min_size` of the network.

        Returns:
            (n,) float64, 0 for equal images.
        """
        with self._lock, torch.inference_mode(), disable_tf32():
            images = torch.from_numpy(np.concatenate([generated, reference])).to(self.device)
            maps = self.network.run(TorchOps(), _standardise(images), self._weights)
            distances = [_compare(each, channels) for each, channels in zip(maps, self._channels, strict=True)]
            return np.asarray(torch.stack(distances).sum(dim=0).double().cpu())


def _standardise(images: torch.Tensor) -> torch.Tensor:
    pixels = 2 * (images.float() / 255) - 1
    return (pixels - pixels.new_tensor(_SHIFT)) / pixels.new_tensor(_SCALE)


def _compare(maps: torch.Tensor, channels: torch.Tensor) -> torch.Tensor:
    """Return the weighted squared distance of normalised channels, averaged over positions.

    Args:
        maps: (2 n, c, h, w), those of the generated images before those of the reference.
        channels: (c, 1, 1), the weights.

    Returns:
        (n,) distances.
    """
    one, other = (maps / (_EPSILON + (maps**2).sum(dim=1, keepdim=True)).sqrt()).chunk(2)
    return ((one - other) ** 2 * channels).sum(dim=1).mean(dim=(1, 2))
