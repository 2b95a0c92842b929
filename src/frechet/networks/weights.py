"""Load a network's weights: validate and identify their tensors, and fold batch norms into the convolutions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frechet._internal.download import ProgressCallback
from frechet.errors import WeightsError
from frechet.networks.checkpoint import read_state_dict
from frechet.networks.weights_file import WeightsFile, fetch_weights, find_weights, is_official_file

_BATCH_NORM_EPSILON = 1e-3  # of every batch norm in Inception and EfficientNet-Lite
_BATCH_NORM_KEYS = ("weight", "bias", "running_mean", "running_var")

ConvLayer = tuple[str, str, str]  # (layer, key of its kernel, prefix of its batch norm; "" if it has a bias instead)
FoldedWeights = dict[str, tuple[np.ndarray, ...]]  # layer -> (kernel OIHW, bias O), float32; a head -> (matrix[, bias])


@dataclass(frozen=True)
class Weights:
    """Folded weights and their identity.

    Attributes:
        conv_layers: layer -> (kernel, bias), float32, with the batch norm folded in.
        digest: sha256 over the tensors of the network without its head; equal for all files with the same tensors.
        is_official: whether the file is byte for byte the published one.
        path: the file that was read.
        head_digest: sha256 over the tensors of the network and its head; None unless the head was requested.
    """

    conv_layers: FoldedWeights
    digest: str
    is_official: bool
    path: Path
    head_digest: str | None = None


def load_weights(
    file: WeightsFile,
    conv_layers: Callable[[], Iterator[ConvLayer]],
    override_path: Path | None = None,
    *,
    head: str | None = None,
    progress: ProgressCallback | None = None,
) -> Weights:
    """Find (or download), read, identify and fold a network's weights.

    Args:
        file: the published file.
        conv_layers: returns an iterator over the network's convolutions.
        override_path: weights file to use instead of searching for the published one.
        head: the layer that computes class scores; None if they are not needed.
        progress: called with (name, bytes done, total bytes) during a download.

    Returns:
        The folded weights with their identity.

    Raises:
        WeightsError: the weights were not found (the message lists the searched paths and the fix), are damaged, or
            belong to another network.
    """
    try:
        path = find_weights(file, override_path)
    except WeightsError:
        if not file.urls:
            raise
        path = fetch_weights(file, progress)
    if not path.is_file():
        raise WeightsError(f"{path} is not a file; expected the weights {file.name} or a file with the same layout")
    state = read_state_dict(path)
    tensors = _select_tensors(state, list(conv_layers()), path, file.n_kernel_values)
    folded = fold_batch_norms(tensors, conv_layers())
    digest = hash_tensors(tensors)
    _validate_n_classes(state, path, file)
    if head:
        tensors |= _select_head_tensors(state, head, path, file)
        folded[head] = tuple(np.ascontiguousarray(tensors[key].T, np.float32) for key in _head_keys(head, file))
    return Weights(
        conv_layers=folded,
        digest=digest,
        head_digest=hash_tensors(tensors) if head else None,
        is_official=is_official_file(path, file),
        path=path,
    )


def hash_tensors(tensors: Mapping[str, np.ndarray]) -> str:
    """Return the sha256 (hex) over names, shapes and float32 values of the tensors, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name], "<f4")
        digest.update(f"{name}{tensor.shape}".encode())
        digest.update(tensor.data)
    return digest.hexdigest()


def fold_batch_norms(tensors: Mapping[str, np.ndarray], conv_layers: Iterable[ConvLayer]) -> FoldedWeights:
    """Fold every batch norm into its convolution, computing in float64.

    With s = gamma / sqrt(variance + eps), the folded kernel is kernel * s and the bias is beta - mean * s. The weights of
    fully connected layers become kernels as large as the feature map.

    Args:
        tensors: the tensors of the state dict by key.
        conv_layers: the convolutions in the order of computation.

    Returns:
        layer -> (kernel OIHW, bias O), float32.
    """
    folded: FoldedWeights = {}
    channels = 0
    for layer, kernel, norm in conv_layers:
        weight = tensors[kernel]
        if not norm:
            size = round((weight.shape[1] / channels) ** 0.5) if weight.ndim == 2 else 0
            weight = weight.reshape(len(weight), channels, size, size) if size else weight
            folded[layer] = weight.astype(np.float32), tensors[_bias_key(kernel)].astype(np.float32)
        else:
            gamma, beta, mean, variance = (tensors[f"{norm}.{part}"].astype(np.float64) for part in _BATCH_NORM_KEYS)
            scale = gamma / np.sqrt(variance + _BATCH_NORM_EPSILON)
            weight = weight * scale[:, None, None, None]
            folded[layer] = weight.astype(np.float32), (beta - mean * scale).astype(np.float32)
        channels = len(weight)
    return folded


def _bias_key(kernel: str) -> str:
    return f"{kernel.removesuffix('weight')}bias"


def _companion_keys(kernel: str, norm: str) -> list[str]:
    """Return the keys of the tensors that a layer needs in addition to its kernel."""
    return [f"{norm}.{part}" for part in _BATCH_NORM_KEYS] if norm else [_bias_key(kernel)]


def _select_tensors(
    state: Mapping[str, np.ndarray], conv_layers: list[ConvLayer], path: Path, n_kernel_values: int | None
) -> dict[str, np.ndarray]:
    """Return the tensors that the network uses, validated; `num_batches_tracked` and the head may be missing."""
    keys = [kernel for _, kernel, _ in conv_layers]
    keys += [key for _, kernel, norm in conv_layers for key in _companion_keys(kernel, norm)]
    missing = [key for key in keys if key not in state]
    if missing:
        raise WeightsError(
            f"{path} has {len(state)} tensors but not {missing[0]} ({len(missing)} missing in total); "
            "these are the weights of another network, or in another layout. Pass a file with the expected tensors."
        )
    for _, kernel, norm in conv_layers:
        shapes = {state[key].shape for key in _companion_keys(kernel, norm)}
        if state[kernel].ndim not in ((4,) if norm else (2, 4)) or shapes != {(state[kernel].shape[0],)}:
            raise WeightsError(
                f"{path}: {kernel} has shape {state[kernel].shape}, but its bias or batch norm has {sorted(shapes)}; "
                f"expected {(state[kernel].shape[0],)}. Download the file again."
            )
    n_values = sum(state[kernel].size for _, kernel, _ in conv_layers)
    if n_kernel_values is not None and n_values != n_kernel_values:
        raise WeightsError(
            f"the kernels in {path} have {n_values:,} values, expected {n_kernel_values:,}; "
            "these are the weights of another network. Pass the weights of this extractor."
        )
    bad = next((key for key in keys if not np.isfinite(state[key]).all()), None)
    if bad:
        raise WeightsError(f"{path}: {bad} contains NaN or infinity; the file is damaged. Download it again.")
    return {key: state[key] for key in keys}


def _validate_n_classes(state: Mapping[str, np.ndarray], path: Path, file: WeightsFile) -> None:
    """Reject weights of the same network trained on other classes, if the file contains a head."""
    head = state.get("fc.weight")
    if file.n_classes is not None and head is not None and head.shape[0] != file.n_classes:
        raise WeightsError(
            f"{path} has {head.shape[0]} classes, but {file.name} has {file.n_classes}: these are other weights of the "
            "same network. Use extractor inception for 1008 classes and inception-torchvision for torchvision's 1000."
        )


def _head_keys(head: str, file: WeightsFile) -> list[str]:
    return [f"{head}.weight", f"{head}.bias"] if file.has_head_bias else [f"{head}.weight"]


def _select_head_tensors(
    state: Mapping[str, np.ndarray], head: str, path: Path, file: WeightsFile
) -> dict[str, np.ndarray]:
    """Return the tensors of the head, validated."""
    keys = _head_keys(head, file)
    for key in keys:
        dims = 2 if key.endswith("weight") else 1
        if key not in state or state[key].ndim != dims or not np.isfinite(state[key]).all():
            raise WeightsError(
                f"{path} has no valid {key} ({'classes, features' if dims == 2 else 'classes'}), which class scores "
                "need. Pass weights that include the head."
            )
    return {key: state[key] for key in keys}
