"""The `InceptionV3` module of pytorch-fid, with its arguments and output blocks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, its usual name

from frechet.backends.torch import TorchOps, disable_tf32
from frechet.errors import RequestError
from frechet.networks import inception
from frechet.networks.weights import load_weights


class InceptionV3(torch.nn.Module):
    """Feature maps of the Inception network of FID.

    Args:
        output_blocks: indices of the maps to return: 0 after the first max pool (64 channels), 1 after the second (192),
            2 before the auxiliary classifier (768), 3 the pooled features (2048).
        resize_input: whether to resize images to 299 x 299 (bilinear, half-pixel centres).
        normalize_input: whether to scale images from [0, 1] to [-1, 1].
        requires_grad: whether the weights require gradients. Gradients with respect to the images are always available.
        use_fid_inception: must be True, since the weights of torchvision are not those of FID.
        weights: path of a weights file; if None, the usual locations are searched and missing weights are downloaded.

    Raises:
        RequestError: a block is unknown, or `use_fid_inception` is False.
        WeightsError: the weights are missing or damaged.
    """

    DEFAULT_BLOCK_INDEX = 3
    BLOCK_INDEX_BY_DIM = {64: 0, 192: 1, 768: 2, 2048: 3}  # noqa: RUF012, pytorch-fid's own name and kind

    def __init__(
        self,
        output_blocks: Sequence[int] = (DEFAULT_BLOCK_INDEX,),
        resize_input: bool = True,
        normalize_input: bool = True,
        requires_grad: bool = False,
        use_fid_inception: bool = True,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        if not use_fid_inception:
            raise RequestError(
                "use_fid_inception=False selects the weights of torchvision, whose distances are not FID; use the default, or "
                "frechet.compat.fastfid with extractor='inception-torchvision'"
            )
        if not output_blocks or not set(output_blocks) <= {0, 1, 2, 3}:
            raise RequestError(f"output_blocks are {tuple(output_blocks)}; expected a non-empty subset of (0, 1, 2, 3)")
        self.resize_input = resize_input
        self.normalize_input = normalize_input
        self.output_blocks = sorted(output_blocks)
        self.last_needed_block = max(output_blocks)
        loaded = load_weights(inception.WEIGHTS, inception.conv_layers, Path(weights) if weights is not None else None)
        self.layers = torch.nn.ParameterDict(
            {
                f"{name.replace('.', '/')}:{part}": torch.nn.Parameter(_as_tensor(array), requires_grad=requires_grad)
                for name, arrays in loaded.conv_layers.items()
                for part, array in zip(("kernel", "bias"), arrays, strict=True)
            }
        )

    def forward(self, inp: torch.Tensor) -> list[torch.Tensor]:
        """Compute feature maps.

        Args:
            inp: images (n, 3, h, w), floating point in [0, 1].

        Returns:
            The maps of `output_blocks`, in ascending order of the block, each (n, c, h, w).
        """
        x = inp
        if self.resize_input:
            x = F.interpolate(
                x, size=(inception.INPUT_SIZE, inception.INPUT_SIZE), mode="bilinear", align_corners=False
            )
        if self.normalize_input:
            x = 2 * x - 1
        blocks = {str(d): block for d, block in self.BLOCK_INDEX_BY_DIM.items()}
        maps = []
        with disable_tf32():
            for stage, features in inception.iter_stages(TorchOps(), self._make_conv(), x, inception.FID_POOL_BRANCHES):
                block = blocks.get(stage)
                if block in self.output_blocks:
                    maps.append(features.mean((2, 3), keepdim=True) if block == 3 else features)
                if block == self.last_needed_block:
                    break
        return maps

    def _make_conv(self) -> inception.ConvFunction:
        pairs: dict[str, dict[str, torch.Tensor]] = {}
        for key in self.layers:
            name, _, part = key.rpartition(":")
            pairs.setdefault(name.replace("/", "."), {})[part] = self.layers[key]
        weights = {name: (pair["kernel"], pair["bias"]) for name, pair in pairs.items()}
        return inception.make_conv(TorchOps(), weights)


def _as_tensor(array: np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(np.array(array))
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
