"""The ops as PyTorch calls: on a CPU, on CUDA, on Apple's MPS; differentiable where gradients are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, its usual name
from torch.utils.checkpoint import checkpoint

from frechet.errors import RequestError
from frechet.networks.ops import NO_PADDING, Activation, Array, Padding
from frechet.preprocessing.registry import Scalars

CPU_BATCH = 8  # images at a time: what a layer makes of more leaves the caches, and is new memory every time
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchOps:
    """Inside, tensors are NCHW by name and NHWC in memory (channels last): images enter without being moved.

    Args:
        recompute: gradient checkpointing: a segment's insides are forgotten and computed again in the backward pass.
    """

    def __init__(self, *, recompute: bool = False) -> None:
        self.recompute = recompute

    def enter(self, images: Array) -> Array:
        return images.permute(0, 3, 1, 2)

    def conv(
        self,
        x: Array,
        kernel: Array,
        bias: Array,
        *,
        stride: int = 1,
        padding: Padding = NO_PADDING,
        groups: int = 1,
        activation: Activation = "none",
    ) -> Array:
        (top, bottom), (left, right) = padding
        if top == bottom and left == right:
            x = F.conv2d(x, kernel, bias, stride, (top, left), groups=groups)
        else:
            x = F.conv2d(F.pad(x, (left, right, top, bottom)), kernel, bias, stride, groups=groups)
        if activation == "relu":
            return F.relu_(x)
        return F.hardtanh_(x, 0.0, 6.0) if activation == "relu6" else x

    def segment(self, part: Callable[[Array], Array], x: Array) -> Array:
        if not self.recompute or not torch.is_grad_enabled():
            return part(x)
        return checkpoint(part, x, use_reentrant=False, preserve_rng_state=False)

    def max_pool(self, x: Array, *, size: int, stride: int, padding: int = 0) -> Array:
        return F.max_pool2d(x, size, stride, padding)

    def average_pool(self, x: Array, *, size: int, stride: int, padding: int = 0, counted: bool = False) -> Array:
        return F.avg_pool2d(x, size, stride, padding, count_include_pad=counted)

    def add(self, x: Array, y: Array) -> Array:
        return x + y

    def relu(self, x: Array) -> Array:
        return F.relu_(x)

    def concat(self, parts: Sequence[Array]) -> Array:
        return torch.cat(list(parts), dim=1)

    def scale_shift(self, images: Array, scale: Scalars, shift: Scalars) -> Array:
        return images * images.new_tensor(scale) + images.new_tensor(shift)

    def channels(self, x: Array, start: int, stop: int) -> Array:
        return x[:, start:stop]

    def global_mean(self, x: Array) -> Array:
        return x.mean(dim=(2, 3))

    def positions(self, x: Array) -> Array:
        return x.permute(0, 2, 3, 1).flatten(1)

    def matmul(self, x: Array, matrix: Array) -> Array:
        return x @ matrix


class TorchRunner:
    """A network with its weights on a device."""

    def __init__(
        self,
        network: Callable[[TorchOps, Array, Mapping[str, Array]], Array],
        weights: Mapping[str, Sequence[np.ndarray]],
        device: torch.device,
        precision: str,
    ) -> None:
        self.network = network
        self.device = device
        self.batch_size = CPU_BATCH if device.type == "cpu" else 32
        self.dtype = DTYPES[precision]
        self.weights = tensors_of(weights, device)

    def map(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """(n, h, w, 3) float32 in 0..255 -> (n, d) float32, in order; on CUDA a batch is copied while another runs."""
        queued: torch.Tensor | None = None
        for batch in batches:
            features = self._started(batch)
            if queued is not None:
                yield queued.cpu().numpy()
            queued = features
            if self.device.type == "cpu":  # nothing runs by itself there, so nothing is gained by waiting
                yield queued.numpy()
                queued = None
        if queued is not None:
            yield queued.cpu().numpy()

    def _started(self, batch: np.ndarray) -> torch.Tensor:
        images = torch.from_numpy(batch)
        if self.device.type == "cuda":
            images = images.pin_memory().to(self.device, non_blocking=True)
        else:
            images = images.to(self.device)
        with torch.inference_mode(), full_precision(), self._autocast():
            features: torch.Tensor = self.network(TorchOps(), images, self.weights)
            return features.float()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def tensors_of(
    weights: Mapping[str, Sequence[np.ndarray]], device: torch.device
) -> dict[str, tuple[torch.Tensor, ...]]:
    """Weights as tensors on a device, kernels channels last."""
    placed = {}
    for name, arrays in weights.items():
        tensors = [torch.tensor(array, device=device) for array in arrays]  # a copy: files are mapped read-only
        placed[name] = tuple(
            tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor for tensor in tensors
        )
    return placed


@contextmanager
def full_precision() -> Iterator[None]:
    """TF32 off: its ten bits of mantissa move a Fréchet distance in the third digit. What was set before is restored."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def choose_device(wish: str) -> torch.device:
    """The device of that name; "auto" is CUDA, else MPS, else the CPU.

    Raises:
        RequestError: there is no such device here.
    """
    if wish == "auto":
        wish = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(wish)
    except RuntimeError:
        raise RequestError(f"no device {wish!r}; expected auto, cpu, cuda, cuda:N or mps") from None
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, False):
        raise RequestError(f"this PyTorch ({torch.__version__}) sees no device {wish}; use device auto")
    return device
