"""Whether a chunk that was read from a file can be the chunk of a run that it is taken for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from frechet.execution.chunks import Chunk
from frechet.images.checks import IMAGE_CHECK
from frechet.images.loader import CHUNK_SIZE
from frechet.statistics.accumulator import LayerSummary


def require_valid_chunk(chunk: Chunk, images: range, layer_dims: Mapping[str, int]) -> None:
    """Check that a chunk consists of the images and the layers that it must have.

    Args:
        chunk: the chunk.
        images: indices of its images, among those to score.
        layer_dims: number of features of each layer.

    Raises:
        ValueError: images are missing, repeated or others, a layer is missing or has another shape, or features are not
            finite.
    """
    if chunk.n_images != len(images):
        raise ValueError(f"the chunk has {chunk.n_images} images; expected {len(images)}")
    _require_indices(chunk.indices, images)
    if chunk.image_checks.dtype != IMAGE_CHECK or chunk.image_checks.shape != chunk.indices.shape:
        raise ValueError(f"image_checks have shape {chunk.image_checks.shape}; expected {chunk.indices.shape}")
    if set(chunk.layers) != set(layer_dims):
        raise ValueError(f"the chunk has the layers {list(chunk.layers)}; expected {list(layer_dims)}")
    for name, layer in chunk.layers.items():
        _require_layer(layer, chunk.indices, layer_dims[name], holds_all_rows=len(images) <= CHUNK_SIZE)


def _require_indices(indices: np.ndarray, images: range) -> None:
    if indices.dtype != np.int64 or indices.ndim != 1 or (np.diff(indices) <= 0).any():
        raise ValueError("indices of images are not ascending integers")
    if len(indices) and not images.start <= indices[0] <= indices[-1] < images.stop:
        raise ValueError(f"indices of images are not from {images.start} to {images.stop - 1}")


def _require_layer(layer: LayerSummary, indices: np.ndarray, dims: int, *, holds_all_rows: bool) -> None:
    rows, groups = layer.rows, layer.stored_groups
    if rows.dtype != np.float32 or rows.shape != (len(layer.indices), dims) or not np.isfinite(rows).all():
        raise ValueError(f"rows are {rows.dtype} {rows.shape}; expected finite float32 ({len(layer.indices)}, {dims})")
    if holds_all_rows != (groups is None) or (holds_all_rows and not np.array_equal(layer.indices, indices)):
        raise ValueError("rows are not those of all images of a small chunk, or moments of groups are missing")
    if (np.diff(layer.indices) <= 0).any() or not np.isin(layer.indices, indices).all():
        raise ValueError("rows are not those of the images of the chunk")
    if groups is None:
        return
    n_groups = len(groups.n)
    if (
        (groups.mean.shape, groups.scatter.shape) != ((n_groups, dims), (n_groups, dims * (dims + 1) // 2))
        or groups.n.min(initial=0) < 0
        or groups.n.sum() != len(indices)
        or not (np.isfinite(groups.mean).all() and np.isfinite(groups.scatter).all())
    ):
        raise ValueError("moments of groups do not fit the images of the chunk, or are not finite")
