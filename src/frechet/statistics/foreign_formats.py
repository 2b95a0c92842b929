"""Read the statistics files of other tools as plain arrays. Nothing in them is executed.

    pytorch-fid, TTUR, EDM, StudioGAN   .npz  mu, sigma
    clean-fid                           .npz  mu, sigma; for KID feats (n, d)
    dgm-eval                            .npz  reps (n, d); model; hparams, which are Python objects and never read
    StudioGAN's features                .npz  real_feats (n, d); real_probs; real_labels
    ADM's reference batches             .npz  mu, sigma; mu_s, sigma_s of the spatial features; arr_0 images
    imeanflow                           .npz  ref_mu, ref_sigma
    EDM2                                .pkl  {"num_images", "fid": {"mu", "sigma"}, "fd_dinov2": {...}}
    FD-Loss                             .pkl  {"NAME.npz": {"mu", "sigma", "avg_mu", "avg_sigma"}, ...}
    StyleGAN2 and 3                     .pkl  {"num_items", "raw_mean", "raw_cov", "all_features", ...}
    torch-fidelity's cache              .pt   {"mu", "sigma"}, or the features (n, d)

None of these formats records how the features were computed. A file with several statistics is addressed as FILE#NAME.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from frechet._internal.array_headers import retry_parsing
from frechet._internal.choices import validate_choice
from frechet._internal.restricted_pickle import RestrictedUnpickler, resolve_stubs
from frechet._internal.words import count_of
from frechet.errors import RequestError, StatisticsError
from frechet.images.sources.npy import npz_keys, read_npy_header
from frechet.networks.checkpoint import read_torch_file
from frechet.statistics.safe_npz import open_npz_safely

SPATIAL_DIMS = 17 * 17 * 7  # d of the spatial features of ADM's sFID
STATISTICS_SUFFIXES = (".npz", ".pkl", ".pt")
FEATURE_KEYS = ("arr_0", "features", "feats")
_STORED_FEATURES = {"feats": "clean-fid (KID)", "reps": "dgm-eval", "real_feats": "StudioGAN"}
_USUAL_ENTRIES = ("mu", "ref_mu", "fid")  # of a file with several statistics, if no others are asked for
_MU = re.compile(r"(?<![^_])mu(?![^_])")  # in mu, ref_mu, mu_s
_INCEPTION_ENTRY = re.compile(r"^fid$|inception|guided_diffusion", re.IGNORECASE)
_ADDRESS = re.compile(r"(.+?\.(?:npz|pkl|pt))#(.+)", re.IGNORECASE | re.DOTALL)


class StoredStatistics(NamedTuple):
    """The arrays of one set of statistics in a file, which an archive reads when they are used.

    Attributes:
        arrays: the content of the file, or a part of it.
        keys: the key in `arrays` of "mu" and "sigma", or of "features".
        n: number of images, or None.
        extractor: the extractor that such statistics usually come from, or None.
    """

    arrays: Mapping[str, Any]
    keys: Mapping[str, str]
    n: int | None = None
    extractor: str | None = "inception"

    @property
    def dims(self) -> int | None:
        """Number of feature dimensions; None for features."""
        return int(np.size(self.arrays[self.keys["mu"]])) if "mu" in self.keys else None

    def load(self) -> dict[str, Any]:
        """Return `mu` and `sigma`, with `n` if the file records it, or `features`; and `extractor`."""
        arrays = {name: self.arrays[key] for name, key in self.keys.items() if key in self.arrays}
        return {**arrays, "extractor": self.extractor} | ({} if self.n is None else {"n": self.n})


class StatisticsFile(NamedTuple):
    """What a statistics file of another tool contains.

    Attributes:
        format: the tools that write this format.
        entries: its statistics by name.
    """

    format: str
    entries: Mapping[str, StoredStatistics]


def split_entry(path: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """Split FILE#NAME into the file and the name of one of its statistics, which is None without #NAME.

    Example:
        >>> str(split_entry("paper_ref_stats.pkl#clip")[0]), split_entry("paper_ref_stats.pkl#clip")[1]
        ('paper_ref_stats.pkl', 'clip')
    """
    text = os.fspath(path)
    address = _ADDRESS.fullmatch(text)
    if address is None or os.path.exists(text):  # noqa: PTH110, a Path would drop a trailing slash
        return Path(text), None
    return Path(address[1]), address[2]


def join_entry(path: Path, entry: str | None) -> Path:
    """Return the address FILE#NAME of one of the statistics in a file; the file itself if `entry` is None."""
    return path.with_name(f"{path.name}#{entry}") if entry else path


def is_statistics_file(path: Path) -> bool:
    """Return whether the file contains statistics, in our format or one of those listed in this module.

    Args:
        path: any path, or FILE#NAME; an .npz file is opened to list its arrays, other files are judged by their suffix.

    Raises:
        SourceError: the file ends in .npz and is damaged.
    """
    path, _ = split_entry(path)
    suffix = path.suffix.lower()
    if suffix not in STATISTICS_SUFFIXES or not path.is_file():
        return False
    return suffix != ".npz" or any(_is_statistics_key(key) for key in npz_keys(path))


def _is_statistics_key(key: str) -> bool:
    return key in {"mu", "sigma", "ref_mu", "ref_sigma", *_STORED_FEATURES}


def read_foreign_arrays(path: Path, dims: int | None, entry: str | None = None) -> dict[str, Any]:
    """Read the statistics or the features that a file of another tool contains.

    Args:
        path: file in one of the formats listed in this module.
        dims: number of feature dimensions, which selects the statistics in a file that contains several; None selects
            the usual ones.
        entry: name of the statistics in a file that contains several.

    Returns:
        Either `mu` and `sigma`, with `n` if the file records it, or `features` (n, d); and in both cases `extractor`, the name
        of the one that such statistics usually come from, or None.

    Raises:
        StatisticsError: the file contains none of these, or none with `dims` dimensions.
        RequestError: the file contains several, or none with this name.
        UnsafeFileError: a pickle refers to anything but arrays, or an array unpacks to an absurd size.
    """
    with open_foreign_file(path) as file:
        return _select_entry(file, path, dims, entry).load()


@contextmanager
def open_foreign_file(path: Path) -> Iterator[StatisticsFile]:
    """Open a statistics file of another tool; its arrays can be loaded until it is closed.

    Args:
        path: file in one of the formats listed in this module.

    Yields:
        Its format, and its statistics by name. An .npz file or a dict without statistics has the entry "mu", whose arrays
        are missing.

    Raises:
        StatisticsError, UnsafeFileError: see `read_foreign_arrays`.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy" and path.is_file():
        raise StatisticsError(
            f"{path} contains one array, such as images or features; expected a statistics file. Create one with: frechet stats "
            f"{path} FILE.npz (with --features if the array contains features)"
        )
    if suffix == ".npz":
        with open_npz_safely(path) as archive:
            yield _parse_arrays(archive)
    elif suffix == ".pkl":
        with open(path, "rb") as file:
            content = resolve_stubs(RestrictedUnpickler(file).load())
        yield _parse_pickle(content, path)
    else:
        yield _parse_torch_fidelity(read_torch_file(path), path)


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
        with open(path, "rb") as file:
            read_npy_header(file)  # NumPy would allocate as many bytes as the header declares to have
        return retry_parsing(lambda: np.load(path, mmap_mode="r", allow_pickle=False))
    with open_npz_safely(path) as archive:
        keys = [key for key in FEATURE_KEYS if key in archive]
        if len(keys) != 1:
            raise StatisticsError(
                f"{path} contains {', '.join(archive) or 'no arrays'}; expected features under exactly one of the keys "
                f"{', '.join(FEATURE_KEYS)}, or statistics mu and sigma. Save them with numpy.savez(path, features=x)."
            )
        return archive[keys[0]]


def _select_entry(file: StatisticsFile, path: Path, dims: int | None, name: str | None) -> StoredStatistics:
    """Return the statistics with this name, or the only ones that `dims` or the format leaves a choice of."""
    entries = file.entries
    if name is not None:
        by_name = {each.removesuffix(".npz"): entry for each, entry in entries.items()}
        validate_choice(name.removesuffix(".npz"), by_name, "entry", f"in {path.name}")
        return by_name[name.removesuffix(".npz")]
    if len(entries) == 1:
        return next(iter(entries.values()))
    fitting = [each for each in entries if dims in (None, entries[each].dims)]
    usual = [each for each in _USUAL_ENTRIES if each in fitting] or fitting
    if usual and (len(usual) == 1 or usual != fitting):
        return entries[usual[0]]
    kind = RequestError if fitting else StatisticsError
    raise kind(
        f"{path} has {'several' if fitting else 'no'} statistics{f' of {dims:,} dimensions' if dims else ''}; it has "
        f"{', '.join(f'{each} ({entry.dims})' for each, entry in entries.items())}. "
        f"Select one with {path.name}#NAME."
    )


def _parse_arrays(arrays: Mapping[str, Any]) -> StatisticsFile:
    """Parse flat arrays: pairs such as mu and sigma, ref_mu and ref_sigma, mu_s and sigma_s, or features."""
    entries = {
        key: StoredStatistics(arrays, {"mu": key, "sigma": _MU.sub("sigma", key, count=1)})
        for key in arrays
        if _MU.search(key)
    }
    features = [key for key in _STORED_FEATURES if key in arrays]
    if features and not entries:
        extractor = None if features[0] == "reps" else "inception"  # dgm-eval's come from one of nine encoders
        stored = StoredStatistics(arrays, {"features": features[0]}, extractor=extractor)
        return StatisticsFile(_STORED_FEATURES[features[0]], {features[0]: stored})
    kind = "imeanflow" if "ref_mu" in arrays else "ADM" if "mu_s" in arrays else "pytorch-fid, TTUR, EDM and others"
    return StatisticsFile(kind, entries or {"mu": StoredStatistics(arrays, {"mu": "mu", "sigma": "sigma"})})


def _parse_pickle(content: Any, path: Path) -> StatisticsFile:
    if not isinstance(content, Mapping):
        raise StatisticsError(
            f"{path} contains a {type(content).__name__}; expected EDM2's {{'fid': {{'mu', 'sigma'}}}}, or the statistics "
            "of FD-Loss or StyleGAN"
        )
    if {"num_items", "raw_mean", "raw_cov"} <= set(content):
        return StatisticsFile("StyleGAN", {"features": _parse_stylegan(content, path)})
    n = int(content.get("num_images") or 0) or None
    entries = {
        str(key): StoredStatistics(value, {"mu": "mu", "sigma": "sigma"}, n, _guess_extractor(str(key)))
        for key, value in content.items()
        if isinstance(value, Mapping) and "mu" in value
    }
    if not entries:
        raise StatisticsError(
            f"{path} contains the entries {', '.join(map(str, content))}; expected entries with mu and sigma. Compute statistics from the "
            "images with frechet stats."
        )
    return StatisticsFile("EDM2" if "fid" in entries else "FD-Loss", entries)


def _guess_extractor(entry: str) -> str | None:
    """Return "inception" for EDM2's "fid" and FD-Loss's names of Inception's statistics; the others are of other encoders."""
    return "inception" if _INCEPTION_ENTRY.search(entry) else None


def _parse_stylegan(content: Mapping[str, Any], path: Path) -> StoredStatistics:
    """Compute mean and covariance from the sums of x and x xᵀ; StyleGAN divides both by n, and this by n - 1."""
    n = int(content["num_items"])
    if n < 2:
        raise StatisticsError(
            f"{path} contains the sums of {count_of(n, 'image')}; at least 2 are required for a covariance"
        )
    if content.get("capture_all") and content.get("all_features"):
        return StoredStatistics({"features": np.concatenate(content["all_features"])}, {"features": "features"})
    if not content.get("capture_mean_cov"):  # the sums are then zeros that nothing was added to
        raise StatisticsError(f"{path} has neither features nor sums of them; expected capture_all or capture_mean_cov")
    mean = content["raw_mean"] / n
    covariance = (content["raw_cov"] - n * np.outer(mean, mean)) / (n - 1)
    return StoredStatistics({"mu": mean, "sigma": covariance}, {"mu": "mu", "sigma": "sigma"}, n)


def _parse_torch_fidelity(content: Any, path: Path) -> StatisticsFile:
    if isinstance(content, np.ndarray):
        features = StoredStatistics({"features": content}, {"features": "features"})
        return StatisticsFile("torch-fidelity", {"features": features})
    if isinstance(content, Mapping) and {"mu", "sigma"} <= set(content):
        return StatisticsFile("torch-fidelity", {"mu": StoredStatistics(content, {"mu": "mu", "sigma": "sigma"})})
    raise StatisticsError(f"{path} contains neither features (n, d) nor mu and sigma; expected torch-fidelity's cache")
