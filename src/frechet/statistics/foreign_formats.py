"""Statistics files of other tools, as arrays: which keys mean what, in which container.

    pytorch-fid, TTUR, EDM, StudioGAN   .npz  mu, sigma
    clean-fid                           .npz  mu, sigma; for KID feats (n, d)
    ADM's reference batches             .npz  mu, sigma; mu_s, sigma_s of the spatial tap; arr_0 images
    imeanflow                           .npz  ref_mu, ref_sigma
    EDM2                                .pkl  {"num_images", "fid": {"mu", "sigma"}, "fd_dinov2": {...}}
    torch-fidelity's cache              .pt   {"mu", "sigma"}, or the features (n, d)

None of them says how it was made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from frechet._internal.restricted_pickle import RestrictedUnpickler, resolve_stubs
from frechet.errors import StatisticsError, UnsafeFileError
from frechet.images.sources.npy import npz_keys
from frechet.networks.checkpoint import read_torch_file

SPATIAL_DIMS = 17 * 17 * 7  # d of ADM's spatial tap
STATISTICS_SUFFIXES = (".npz", ".pkl", ".pt")
FEATURE_KEYS = ("arr_0", "features", "feats")
_MAX_UNCHECKED_BYTES = 1 << 28  # bytes of one array, up to which it may be as small in its file as it likes
_STATISTICS_KEYS = frozenset({"mu", "sigma", "ref_mu", "ref_sigma", "feats"})


def is_statistics_file(path: Path) -> bool:
    """Whether the file is one of those above (or our own)."""
    suffix = path.suffix.lower()
    if suffix not in STATISTICS_SUFFIXES or not path.is_file():
        return False
    return suffix != ".npz" or bool(_STATISTICS_KEYS & set(npz_keys(path)))


def read_arrays(path: Path, dims: int | None) -> dict[str, Any]:
    """What the file holds, by the names of our own format.

    Args:
        path: one of the files above.
        dims: the number of features that is wanted, where a file has several statistics.

    Returns:
        `mu` and `sigma`, with `n` where it is said, or `features` that are all there is; for our own files all their keys.
    """
    suffix = path.suffix.lower()
    if suffix == ".npz":
        with _open_npz_safely(path) as archive:
            return _parse_npz({key: archive[key] for key in archive.files if key in _select_keys(archive.files, dims)})
    if suffix == ".pkl":
        with open(path, "rb") as file:
            return _parse_edm2(resolve_stubs(RestrictedUnpickler(file).load()), dims, path)
    return _parse_torch_fidelity(read_torch_file(path), path)


def read_feature_array(path: Path) -> np.ndarray:
    """The features in an .npy (mapped, not read), or under the one of `FEATURE_KEYS` that an .npz has."""
    if path.suffix.lower() == ".npy":
        return np.load(path, mmap_mode="r", allow_pickle=False)
    with _open_npz_safely(path) as archive:
        found = [key for key in FEATURE_KEYS if key in archive.files]
        if len(found) != 1:
            raise StatisticsError(
                f"{path} holds {', '.join(archive.files) or 'no arrays'}; expected features under exactly one of the keys "
                f"{', '.join(FEATURE_KEYS)}, or statistics mu and sigma"
            )
        return archive[found[0]]


@contextmanager
def _open_npz_safely(path: Path) -> Iterator[Any]:
    """An .npz, opened; of numbers, which no compression makes a hundred times smaller.

    Raises:
        UnsafeFile: an array in it would fill memory out of next to nothing.
    """
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
        for member in archive.zip.infolist():
            if member.file_size > max(_MAX_UNCHECKED_BYTES, 100 * member.compress_size):
                raise UnsafeFileError(
                    f"its {member.filename} has {member.compress_size} bytes and would unpack to {member.file_size}: no measured numbers do"
                )
        yield archive


def _select_keys(keys: list[str], dims: int | None) -> tuple[str, ...]:
    if dims == SPATIAL_DIMS and "mu_s" in keys:
        return ("mu_s", "sigma_s")
    return ("mu", "sigma", "ref_mu", "ref_sigma", "feats", "rows", "places", "frechet")


def _parse_npz(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    for name in ("mu", "sigma"):
        for alias in (f"{name}_s", f"ref_{name}"):
            if alias in arrays:
                arrays[name] = arrays.pop(alias)
    if "feats" in arrays and "mu" not in arrays:
        return {"features": arrays["feats"]}
    return arrays


def _parse_edm2(content: Any, dims: int | None, path: Path) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        raise StatisticsError(f"{path} holds a {type(content).__name__}; expected EDM2's {{'fid': {{'mu', 'sigma'}}}}")
    found = {key: value for key, value in content.items() if isinstance(value, Mapping) and "mu" in value}
    for value in found.values() if dims is not None else [found.get("fid", {})]:
        if "mu" in value and dims in (None, np.size(value["mu"])):
            return {"mu": value["mu"], "sigma": value.get("sigma"), "n": int(content.get("num_images") or 0) or None}
    raise StatisticsError(
        f"{path} has no statistics of {dims or 2048} dimensions; it has {', '.join(map(str, content))}"
    )


def _parse_torch_fidelity(content: Any, path: Path) -> dict[str, Any]:
    if isinstance(content, np.ndarray):
        return {"features": content}
    if isinstance(content, Mapping) and {"mu", "sigma"} <= set(content):
        return {"mu": content["mu"], "sigma": content["sigma"]}
    raise StatisticsError(f"{path} holds neither features (n, d) nor mu and sigma")
