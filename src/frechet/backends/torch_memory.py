"""How many images a PyTorch device takes at a time, and what happens if they are too many."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from frechet.errors import RunError
from frechet.preprocessing.matrix_resize import Pixels

_MIN_BATCH_SIZE, _MAX_BATCH_SIZE = 8, 256
_BYTES_PER_IMAGE = 1 << 26  # of activations, several times what Inception needs in float32

Result = TypeVar("Result")


def choose_batch_size(device: torch.device, *, otherwise: int) -> int:
    """Return the batch size for a device: on CUDA a power of two from 8 to 256 by the free memory, else `otherwise`."""
    if device.type != "cuda":
        return otherwise
    free, _ = torch.cuda.mem_get_info(device)
    n_images = max(_MIN_BATCH_SIZE, min(_MAX_BATCH_SIZE, free // _BYTES_PER_IMAGE))
    return int(1 << n_images.bit_length() - 1)


def run_or_halve(
    run: Callable[[Pixels], Result], batch: Pixels, join: Callable[[list[Result]], Result], device: torch.device
) -> Result:
    """Run a batch, or both of its halves one after the other if the device runs out of memory.

    Args:
        run: compute the result of a batch.
        batch: the batch.
        join: join the results of two batches.
        device: the device, for the message.

    Raises:
        RunError: there is not enough memory for half of the batch either.
    """
    try:
        return run(batch)
    except torch.cuda.OutOfMemoryError:
        half = len(batch) // 2
    # the tensors of the first attempt are freed by now
    try:
        return join([run(part) for part in (batch[:half], batch[half:]) if len(part)])
    except torch.cuda.OutOfMemoryError as error:
        raise RunError(
            f"{device} ran out of memory with {len(batch)} images at a time, and with half as many. Set a smaller --batch-size "
            "(batch_size=), or free memory on the device."
        ) from error
