"""The images of a batch that is computed in micro-batches: how many each rank has, and whether they can be repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from frechet.errors import RequestError
from frechet.losses.torch_gather import gather_counts

MakeImages = Callable[[int, int], torch.Tensor]  # (start, stop) -> images start, ..., stop - 1, (stop - start, 3, h, w)
Span = tuple[int, int]


def split_into_spans(n: int, size: int) -> list[Span]:
    """Return the micro-batches (start, stop) of n images."""
    return [(start, min(start + size, n)) for start in range(0, n, size)]


def pad_spans(spans: list[Span], device: torch.device) -> list[Span]:
    """Return the micro-batches that this rank has to repeat until all ranks have equally many.

    DistributedDataParallel communicates in each forward and backward pass. A rank without images has none to repeat and
    passes no images.

    Args:
        spans: the micro-batches of this rank.
        device: device of the tensors that ranks exchange.
    """
    missing = max(gather_counts(len(spans), device)) - len(spans)
    return missing * (spans[-1:] or [(0, 0)])


def call_make_images(make_images: MakeImages, span: Span) -> torch.Tensor:
    """Compute the images of a micro-batch.

    Raises:
        RequestError: `make_images` returned another number of images, or ran BatchNorm on the statistics of a batch.
    """
    start, stop = span
    with _reject_batch_statistics():
        images = make_images(start, stop)
    if images.shape[0] != stop - start:
        raise RequestError(f"make_images({start}, {stop}) returned {images.shape[0]} images; expected {stop - start}")
    return images


def require_gradient(computed: torch.Tensor, span: Span) -> None:
    """Check that the images of a micro-batch, or their features, have a gradient.

    Raises:
        RequestError: they do not.
    """
    if not computed.requires_grad:
        raise RequestError(
            f"the images of make_images({span[0]}, {span[1]}) have no gradient; compute them from a tensor with "
            "requires_grad=True"
        )


@contextmanager
def _reject_batch_statistics() -> Iterator[None]:
    """Reject BatchNorm layers that normalise by the images of a micro-batch."""
    handle = register_module_forward_pre_hook(_require_fixed_statistics)
    try:
        yield
    finally:
        handle.remove()


def _require_fixed_statistics(module: torch.nn.Module, _args: Any) -> None:
    is_batch_norm = isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
    if is_batch_norm and (module.training or module.running_mean is None):
        raise RequestError(
            f"make_images ran {type(module).__name__} in training mode, which normalises each micro-batch by its own "
            "statistics, so the gradient would not be that of the whole batch. Put these layers into evaluation mode "
            "(layer.eval()), use GroupNorm, or call the loss on all images at once."
        )
