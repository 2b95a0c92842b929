"""Open anything that images can be read from: the table of the kinds of storage."""

from __future__ import annotations

import importlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from frechet._internal.home import expand_home
from frechet._internal.missing_path import describe_missing_path
from frechet._internal.remote_files import RemoteFile, is_url, redact_url
from frechet._internal.special_files import describe_special_file
from frechet.errors import SourceError
from frechet.images.image import ImagesLike, ImageSource
from frechet.images.sources.files import EXTENSIONS
from frechet.images.sources.memory import open_objects
from frechet.images.sources.sharded import ShardedSource, expand_pattern, is_pattern

# Extension of a file, or kind of folder -> class in a module of this package, imported when it is first needed.
# The class is called with the file (a Path or RemoteFile), the folder (a Path) or the URL.
_SOURCES = {
    "folder": "folder.FolderSource",
    "folder with data.mdb": "lmdb.LmdbSource",
    "URL of a folder": "remote_folder.RemoteFolderSource",
    ".zip": "zip.ZipSource",
    ".npz": "npy.ArraySource",
    ".npy": "npy.ArraySource",
    ".tar": "tar.TarSource",
    ".parquet": "parquet.TableSource",
    ".arrow": "parquet.TableSource",
    ".h5": "hdf5.Hdf5Source",
    ".hdf5": "hdf5.Hdf5Source",
    ".lmdb": "lmdb.LmdbSource",
}
_MAX_OPEN_THREADS = 16  # for shards


def open_source(images: ImagesLike) -> ImageSource:
    """Open anything that images can be read from.

    Args:
        images: a path or URL of a folder, archive, array file or table; a pattern that names several such files
            (shards/{000..127}.tar, data/*.parquet); Python objects, see `frechet.images.sources.memory.open_objects`; or
            an ImageSource, which is returned as it is.

    Raises:
        SourceError: there is nothing, or no image; the message describes what was found.
    """
    if isinstance(images, ImageSource):
        return images
    if not isinstance(images, (str, os.PathLike)):
        return open_objects(images)
    text = expand_home(os.fspath(images))
    if not text:
        raise SourceError(
            "an empty path is given (an unset variable?); expected a folder or file, or . for this folder"
        )
    opener = _open_shards if is_pattern(text) else _open_url if is_url(text) else _open_path
    source = opener(text)
    is_absolute = is_url(text) or re.match(r"\{(?:[^{}]*[,:])?/", text)  # or braces around whole paths or URLs
    source.location = text if is_absolute else os.path.abspath(text)  # noqa: PTH100, keeps links as they are
    return source


def _create_source(kind: str, location: Path | RemoteFile | str) -> ImageSource:
    module, _, name = _SOURCES[kind].partition(".")
    source: ImageSource = getattr(importlib.import_module(f"frechet.images.sources.{module}"), name)(location)
    return source


def _open_path(text: str) -> ImageSource:
    path = Path(text)
    try:
        is_folder = path.is_dir()
        path.stat()
    except FileNotFoundError:
        raise SourceError(describe_missing_path(path)) from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:  # a NUL byte
        raise SourceError(f"{text!r} is not a path ({error}); expected a file or folder") from None
    if is_folder:
        return _create_source("folder with data.mdb" if (path / "data.mdb").is_file() else "folder", path)
    if problem := describe_special_file(path):
        raise SourceError(problem)
    suffix = path.suffix.lower()
    if suffix not in _SOURCES:
        expected = ", ".join(kind for kind in _SOURCES if kind.startswith("."))
        raise SourceError(
            f"{path} is a file of type {path.suffix or '(none)'}; expected a folder, {expected}{_suggest_fix(path)}"
        )
    return _create_source(suffix, path)


def _suggest_fix(path: Path) -> str:
    """Return what to do with a file that images cannot be read from, or an empty text."""
    if path.suffix.lower() in EXTENSIONS:
        return ". A single image has no distribution; pass the folder that contains all images."
    if re.search(r"\.(tar\.\w+|t[bgx]z)$", path.name, re.IGNORECASE):
        return ". A compressed tar cannot be read in place: unpack it to a .tar or a folder."
    return ""


def _open_url(url: str) -> ImageSource:
    """Open a URL: a file if its name has a known extension, otherwise a folder."""
    suffix = PurePosixPath(redact_url(url).removesuffix("?...")).suffix.lower()
    if suffix in _SOURCES:
        return _create_source(suffix, RemoteFile(url))
    if suffix in EXTENSIONS:
        raise SourceError(
            f"{redact_url(url)} is one image, and a single image has no distribution; pass the URL of the folder that contains all images"
        )
    return _create_source("URL of a folder", url)


def _open_shards(pattern: str) -> ImageSource:
    names = expand_pattern(pattern)
    with ThreadPoolExecutor(_MAX_OPEN_THREADS) as pool:
        return ShardedSource(redact_url(pattern) if is_url(pattern) else pattern, list(pool.map(open_source, names)))
