"""Images on their way to a PyTorch device, which resizes them, and features on their way back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import numpy as np
import torch

from frechet.preprocessing.matrix_resize import (
    NUM_CACHED_LENGTHS,
    Pixels,
    ResizeMatrices,
    make_axis_matrices,
    resize_by_size,
    resize_with_matrices,
)
from frechet.preprocessing.registry import Preprocessing


class DeviceImages:
    """Copies batches to a device, and resizes there the images that the host has left as they are.

    Args:
        device: the device.
        preprocessing: how images become the input of the network.
        size: height and width of that input in pixels.
    """

    def __init__(self, device: torch.device, preprocessing: Preprocessing, size: int) -> None:
        self.device, self.preprocessing, self.size = device, preprocessing, size
        self._copy_stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._get_matrices = lru_cache(maxsize=NUM_CACHED_LENGTHS)(self._make_matrices)

    def put(self, batch: Pixels) -> torch.Tensor:
        """Return a batch on the device.

        Args:
            batch: (n, size, size, 3) float32 in 0..255; or images, (h, w, 3) uint8 or (size, size, 3) float32.

        Returns:
            (n, size, size, 3) float32 in 0..255.
        """
        if not isinstance(batch, np.ndarray):
            images: torch.Tensor = resize_by_size(batch, self._resize_group, self._put_array)
            return images
        return torch.from_numpy(batch) if self.device.type == "cpu" else self._copy(batch)

    def _resize_group(self, images: list[np.ndarray]) -> torch.Tensor:
        pixels = self._copy(images)
        if pixels.dtype != torch.uint8:
            return pixels
        height, width = images[0].shape[:2]
        matrices = ResizeMatrices(columns=self._get_matrices(width), rows=self._get_matrices(height))
        resized: torch.Tensor = resize_with_matrices(pixels, matrices, is_clipped=self.preprocessing.is_clipped)
        return resized.contiguous()

    def _copy(self, images: Pixels) -> torch.Tensor:
        """Copy images of one shape to the device. On CUDA, the copy uses pinned memory and overlaps with computation."""
        dtype = torch.uint8 if images[0].dtype == np.uint8 else torch.float32
        staged = torch.empty((len(images), *images[0].shape), dtype=dtype, pin_memory=self._copy_stream is not None)
        np.stack(list(images), out=staged.numpy())
        if self._copy_stream is None:
            return staged.to(self.device)
        computing = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._copy_stream):
            copied = staged.to(self.device, non_blocking=True)  # PyTorch keeps the pinned memory until this is done
        computing.wait_stream(self._copy_stream)
        copied.record_stream(computing)
        return copied

    def _make_matrices(self, length: int) -> tuple[torch.Tensor, ...]:
        return tuple(map(self._put_array, make_axis_matrices(self.preprocessing, length, self.size)))

    def _put_array(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)


def iter_results(batches: Iterable[torch.Tensor]) -> Iterator[np.ndarray]:
    """Copy the features of batches to the host, in order; on an accelerator, while it computes the next batch."""
    pending: deque[Callable[[], np.ndarray]] = deque()
    for features in batches:
        pending.append(start_copy_to_host(features))
        if features.device.type == "cpu" or len(pending) > 1:
            yield pending.popleft()()
    while pending:
        yield pending.popleft()()


def start_copy_to_host(tensor: torch.Tensor) -> Callable[[], np.ndarray]:
    """Start to copy a tensor to the host, and return a function that waits for the copy and for nothing else."""
    if tensor.device.type != "cuda":
        return lambda: tensor.cpu().numpy()
    copied, done = tensor.to("cpu", non_blocking=True), torch.cuda.Event()
    done.record(torch.cuda.current_stream(tensor.device))

    def wait() -> np.ndarray:
        done.synchronize()
        return copied.numpy()

    return wait
