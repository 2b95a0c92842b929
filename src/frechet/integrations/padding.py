"""Which images of a batch a sampler repeats so that every rank gets the same number."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DistributedSampler

from frechet.errors import RequestError


def padding_mask(loader: Any, batch_index: int, n: int) -> torch.Tensor:
    """Return which images of a batch are counted: True for each image of the data set once, False for repeated ones.

    Args:
        loader: the DataLoader that the batch comes from, in the same order for all batches. Its sampler is a
            `torch.utils.data.DistributedSampler` (PyTorch, Lightning), or Accelerate has prepared it from a data set
            with a length. Other loaders of PyTorch repeat nothing.
        batch_index: number of batches that this rank has taken from the loader before.
        n: number of images in the batch.

    Returns:
        (n,) bool, for the argument `mask` of `update`.

    Raises:
        RequestError: the loader has no fixed batch size, or Accelerate has prepared it from an iterable data set or dispatches
            its batches, so that the number of repeated items is unknown.

    Examples:
        >>> from torch.utils.data import DataLoader
        >>> sampler = DistributedSampler(range(5), num_replicas=2, rank=1, shuffle=False)
        >>> loader = DataLoader(range(5), batch_size=4, sampler=sampler)
        >>> padding_mask(loader, 0, 3)  # of images 1, 3 and 0, which rank 0 has counted
        tensor([ True,  True, False])
    """
    kinds = {type(loader).__name__, type(getattr(loader, "dataset", None)).__name__}
    if kinds & {"IterableDatasetShard", "DataLoaderDispatcher"}:  # Accelerate's
        raise RequestError(
            "the loader is one of Accelerate's that repeats an unknown number of items at its end. Use a data set with a length, "
            "and dispatch_batches=False."
        )
    positions = torch.arange(n)
    own_batches = getattr(loader, "batch_sampler", None)
    batches = getattr(loader, "sampler", None) if own_batches is None else own_batches
    if type(batches).__name__ == "BatchSamplerShard":  # Accelerate's
        return _get_accelerate_positions(batches, batch_index, positions) < _count_samples(batches)
    sampler = getattr(batches, "sampler", batches)
    if not isinstance(sampler, DistributedSampler):
        return torch.ones(n, dtype=torch.bool)
    positions += batch_index * _get_batch_size(batches)
    return positions * sampler.num_replicas + sampler.rank < len(sampler.dataset)  # type: ignore[arg-type]


def _get_accelerate_positions(batches: Any, batch_index: int, positions: torch.Tensor) -> torch.Tensor:
    """Return the positions of images in the order of the data set: ranks take whole batches in turn, or parts of each."""
    size, ranks, rank = _get_batch_size(batches), batches.num_processes, batches.process_index
    if batches.split_batches:
        return batch_index * size + rank * (size // ranks) + positions
    return (batch_index * ranks + rank) * size + positions


def _count_samples(batches: Any) -> int:
    return len(batches.batch_sampler.sampler)


def _get_batch_size(batches: Any) -> int:
    size: int | None = getattr(batches, "batch_size", None)
    if size is None:
        raise RequestError(
            f"the loader's batches come from a {type(batches).__name__} with no batch size; expected batches of a fixed size. "
            "Pass batch_size= to the DataLoader, or compute the mask yourself."
        )
    return size
