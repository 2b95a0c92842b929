"""The ops as PyTorch calls on a CPU, CUDA or Apple's MPS; differentiable with respect to the images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, its usual name
from torch.utils.checkpoint import checkpoint

from frechet._internal.fields import name_option
from frechet._internal.words import join_words
from frechet.backends.torch_images import DeviceImages, iter_results
from frechet.backends.torch_memory import choose_batch_size, run_or_halve
from frechet.errors import RequestError
from frechet.networks.ops import NO_PADDING, Activation, Array, Padding
from frechet.preprocessing.matrix_resize import Pixels
from frechet.preprocessing.registry import Scalars

CPU_BATCH_SIZE = (
    8  # with more images, the activations of a layer do not fit into the caches and are newly allocated for every batch
)
DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_MIN_CAPABILITIES = {"tf32": (8, 0), "bfloat16": (8, 0)}  # of CUDA devices


class TorchOps:
    """The operations of a network in PyTorch. Feature maps are NCHW in channels-last memory, so images are not copied.

    Args:
        gradient_checkpointing: whether to recompute the activations of each segment in the backward pass, which saves
            memory.
    """

    def __init__(self, *, gradient_checkpointing: bool = False) -> None:
        self.gradient_checkpointing = gradient_checkpointing

    def from_nhwc(self, images: Array) -> Array:
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

    def run_segment(self, function: Callable[[Array], Array], x: Array) -> Array:
        if not self.gradient_checkpointing or not torch.is_grad_enabled():
            return function(x)
        return checkpoint(function, x, use_reentrant=False, preserve_rng_state=False)

    def max_pool(self, x: Array, *, size: int, stride: int, padding: int = 0) -> Array:
        return F.max_pool2d(x, size, stride, padding)

    def avg_pool(self, x: Array, *, size: int, stride: int, padding: int = 0, count_include_pad: bool = False) -> Array:
        return F.avg_pool2d(x, size, stride, padding, count_include_pad=count_include_pad)

    def add(self, x: Array, y: Array) -> Array:
        return x + y

    def relu(self, x: Array) -> Array:
        return F.relu_(x)

    def concat(self, tensors: Sequence[Array]) -> Array:
        return torch.cat(list(tensors), dim=1)

    def scale_shift(self, images: Array, scale: Scalars, shift: Scalars) -> Array:
        return images * images.new_tensor(scale) + images.new_tensor(shift)

    def slice_channels(self, x: Array, start: int, stop: int) -> Array:
        return x[:, start:stop]

    def global_average_pool(self, x: Array) -> Array:
        return x.mean(dim=(2, 3))

    def flatten(self, x: Array) -> Array:
        return x.permute(0, 2, 3, 1).flatten(1)

    def matmul(self, x: Array, matrix: Array) -> Array:
        return x @ matrix


class TorchRunner:
    """Run a network on a device.

    Args:
        network: (ops, images (n, h, w, 3), weights) -> features (n, d).
        weights: layer -> its arrays.
        images: copies images to the device and resizes them there.
        precision: "float32", "tf32", "bfloat16" or "float16"; the last two run under autocast.
    """

    can_resize = True

    def __init__(
        self,
        network: Callable[[TorchOps, Array, Mapping[str, Array]], Array],
        weights: Mapping[str, Sequence[np.ndarray]],
        images: DeviceImages,
        precision: str,
    ) -> None:
        self.network = network
        self.images, self.device = images, images.device
        require_precision(self.device, precision)
        self.batch_size = choose_batch_size(self.device, otherwise=CPU_BATCH_SIZE if self.device.type == "cpu" else 32)
        self.dtype, self.uses_tf32 = DTYPES[precision], precision == "tf32"
        self.weights = to_torch_tensors(weights, self.device)

    def map(self, batches: Iterable[Pixels]) -> Iterator[np.ndarray]:
        """Yield the features (n, d) float32 of batches in order (see `frechet.features.extractor.Runner`).

        On CUDA, a batch is copied and computed while the host prepares the next one and waits for the previous one.
        """
        return iter_results(run_or_halve(self._forward, batch, torch.cat, self.device) for batch in batches)

    def _forward(self, batch: Pixels) -> torch.Tensor:
        with torch.inference_mode():
            with disable_tf32():
                images = self.images.put(batch)
            with set_tf32(self.uses_tf32), self._autocast():
                features: torch.Tensor = self.network(TorchOps(), images, self.weights)
            return features.float()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def to_torch_tensors(
    weights: Mapping[str, Sequence[np.ndarray]], device: torch.device
) -> dict[str, tuple[torch.Tensor, ...]]:
    """Copy weights to tensors on a device, with kernels in channels-last memory."""
    tensors_by_name = {}
    for name, arrays in weights.items():
        tensors = [torch.tensor(array, device=device) for array in arrays]  # a copy: files are mapped read-only
        tensors_by_name[name] = tuple(
            tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor for tensor in tensors
        )
    return tensors_by_name


def disable_tf32() -> AbstractContextManager[None]:
    """Disable TF32, whose ten-bit mantissa changes the third digit of a Fréchet distance, and restore it afterwards."""
    return set_tf32(False)


@contextmanager
def set_tf32(allowed: bool) -> Iterator[None]:
    """Set whether CUDA may compute in TF32, and restore it afterwards."""
    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    name: str
    value: bool | str
    try:
        switches, name, value = (cudnn, matmul), "allow_tf32", allowed
        before = [getattr(switch, name) for switch in switches]
    except RuntimeError:  # the program has used the newer switches of PyTorch, which cannot be mixed with these
        switches, name, value = (cudnn.conv, matmul), "fp32_precision", "tf32" if allowed else "ieee"
        before = [getattr(switch, name) for switch in switches]
    try:
        for switch in switches:
            setattr(switch, name, value)
        yield
    finally:
        for switch, previous in zip(switches, before, strict=True):
            setattr(switch, name, previous)


def choose_device(name: str) -> torch.device:
    """Return the device with a name.

    Args:
        name: "cpu", "cuda" for the current CUDA device of this thread, "cuda:N", "mps", or "auto" for the first available of
            CUDA, MPS and the CPU.

    Returns:
        The device; one of CUDA with its index, since other threads have another current device.

    Raises:
        RequestError: this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise RequestError(f"unknown device {name!r}; expected auto, cpu, cuda, cuda:N or mps") from None
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        raise RequestError(
            f"device {name!r} is not available to PyTorch {torch.__version__}; expected {join_words(['auto', *_list_devices()], 'or')}. "
            "Use device auto, or install PyTorch for the device (https://pytorch.org/get-started)"
        )
    return torch.device("cuda", torch.cuda.current_device()) if device == torch.device("cuda") else device


def _list_devices() -> list[str]:
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]


def require_precision(device: torch.device, precision: str) -> None:
    """Check that a device computes in a precision.

    Raises:
        RequestError: it does not.
    """
    least = _MIN_CAPABILITIES.get(precision)
    is_unsupported = precision == "tf32" and device.type != "cuda"
    if device.type == "cuda" and least:
        is_unsupported = torch.cuda.get_device_capability(device) < least
    if is_unsupported:
        raise RequestError(
            f"{name_option('precision')} is {precision!r}, which {device} does not support; it needs a CUDA device of compute capability 8.0 or "
            "higher. Use float32."
        )
