"""Read the statistics files of other tools as plain arrays. Nothing in them is executed.

    pytorch-fid, TTUR, EDM, StudioGAN   .npz  mu, sigma
    clean-fid                           .npz  mu, sigma; for KID feats (n, d)
    ADM's reference batches             .npz  mu, sigma; mu_s, sigma_s of the spatial features; arr_0 images
    imeanflow                           .npz  ref_mu, ref_sigma
    EDM2                                .pkl  {"num_images", "fid": {"mu", "sigma"}, "fd_dinov2": {...}}
    torch-fidelity's cache              .pt   {"mu", "sigma"}, or the features (n, d)

None of these formats records how the features were computed.
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

SPATIAL_DIMS = 17 * 17 * 7  # d of the spatial features of ADM's sFID
STATISTICS_SUFFIXES = (".npz", ".pkl", ".pt")
FEATURE_KEYS = ("arr_0", "features", "feats")
_MAX_UNCHECKED_BYTES = 1 << 28  # arrays up to this size may be compressed by any factor
_MAX_COMPRESSION = 100  # measured values compress far less
_STATISTICS_KEYS = frozenset({"mu", "sigma", "ref_mu", "ref_sigma", "feats"})


def is_statistics_file(path: Path) -> bool:
    """Return whether the file contains statistics, in our format or one of those listed in this module.

    Args:
        path: any path; an .npz file is opened to list its arrays, other files are judged by their suffix.

    Raises:
        SourceError: the file ends in .npz and is damaged.
    """
    suffix = path.suffix.lower()
    if suffix not in STATISTICS_SUFFIXES or not path.is_file():
        return False
    return suffix != ".npz" or bool(_STATISTICS_KEYS & set(npz_keys(path)))


@contextmanager
def open_npz_safely(path: Path) -> Iterator[Any]:
    """Open an .npz file for reading, without pickles and without arrays that would unpack to an absurd size.

    Args:
        path: the file.

    Yields:
        The archive, as `numpy.load` returns it.

    Raises:
        UnsafeFileError: an array is compressed more than a hundredfold, as a decompression bomb is.
    """
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
        for member in archive.zip.infolist():
            if member.file_size > max(_MAX_UNCHECKED_BYTES, _MAX_COMPRESSION * member.compress_size):
                raise UnsafeFileError(
                    f"its array {member.filename} has {member.compress_size} bytes and would unpack to "
                    f"{member.file_size}; expected measured values, which compress far less. Save it with numpy.savez."
                )
        yield archive


def read_foreign_arrays(path: Path, dims: int | None) -> dict[str, Any]:
    """Read the statistics or the features that a file of another tool contains.

    Args:
        path: file in one of the formats listed in this module.
        dims: number of feature dimensions, which selects the statistics in a file that contains several; None selects
            the usual ones.

    Returns:
        Either `mu` and `sigma`, with `n` if the file records it, or `features` (n, d) alone.

    Raises:
        StatisticsError: the file contains none of these, or none with `dims` dimensions.
        UnsafeFileError: a pickle refers to anything but arrays, or an array unpacks to an absurd size.
    """
    suffix = path.suffix.lower()
    if suffix == ".npz":
        with open_npz_safely(path) as archive:
            return _read_npz(archive, dims)
    if suffix == ".pkl":
        with open(path, "rb") as file:
            return _parse_edm2(resolve_stubs(RestrictedUnpickler(file).load()), dims, path)
    return _parse_torch_fidelity(read_torch_file(path), path)


def read_feature_array(path: Path) -> np.ndarray:
    """Read the features in an .npy or .npz file.

    Args:
        path: an .npy file, which is memory-mapped, or an .npz file with exactly one of the arrays in `FEATURE_KEYS`.

    Returns:
        The array as it is stored; its shape and dtype have not been checked.

    Raises:
        StatisticsError: the .npz file has none or several of these arrays.
        UnsafeFileError: the array unpacks to an absurd size.
    """
    if path.suffix.lower() == ".npy":
        return np.load(path, mmap_mode="r", allow_pickle=False)
    with open_npz_safely(path) as archive:
        keys = [key for key in FEATURE_KEYS if key in archive.files]
        if len(keys) != 1:
            raise StatisticsError(
                f"{path} holds {', '.join(archive.files) or 'no arrays'}; expected features under exactly one of the keys "
                f"{', '.join(FEATURE_KEYS)}, or statistics mu and sigma. Save them with numpy.savez(path, features=x)."
            )
        return archive[keys[0]]


def _read_npz(archive: Any, dims: int | None) -> dict[str, Any]:
    if dims == SPATIAL_DIMS and "mu_s" in archive.files:
        return {name: archive[f"{name}_s"] for name in ("mu", "sigma") if f"{name}_s" in archive.files}
    arrays = {name: archive[key] for name in ("mu", "sigma") for key in (name, f"ref_{name}") if key in archive.files}
    return {"features": archive["feats"]} if "mu" not in arrays and "feats" in archive.files else arrays


def _parse_edm2(content: Any, dims: int | None, path: Path) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        raise StatisticsError(
            f"{path} contains a {type(content).__name__}; expected EDM2's {{'fid': {{'mu', 'sigma'}}}}"
        )
    entries = {key: value for key, value in content.items() if isinstance(value, Mapping) and "mu" in value}
    for value in entries.values() if dims is not None else [entries.get("fid", {})]:
        if "mu" in value and dims in (None, np.size(value["mu"])):
            return {"mu": value["mu"], "sigma": value.get("sigma"), "n": int(content.get("num_images") or 0) or None}
    raise StatisticsError(
        f"{path} has no statistics of {dims or 2048} dimensions; it has {', '.join(map(str, content))}. "
        "Choose another extractor or layer, or another file."
    )


def _parse_torch_fidelity(content: Any, path: Path) -> dict[str, Any]:
    if isinstance(content, np.ndarray):
        return {"features": content}
    if isinstance(content, Mapping) and {"mu", "sigma"} <= set(content):
        return {"mu": content["mu"], "sigma": content["sigma"]}
    raise StatisticsError(f"{path} contains neither features (n, d) nor mu and sigma; expected torch-fidelity's cache")
