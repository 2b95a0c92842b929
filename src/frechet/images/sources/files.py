"""Open image files and archives, bounded in size and in what may decode them."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from PIL import Image

from frechet._internal.remote_files import RemoteFile
from frechet.errors import ImageDecodeError, SourceError, UnreachableError

File = Path | RemoteFile
EXTENSIONS = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
UNSUPPORTED_EXTENSIONS = (
    frozenset(  # images that are not read, of kinds that generators write and cameras and browsers save
        {".apng", ".avif", ".dib", ".exr", ".gif", ".heic", ".heif", ".ico", ".jfif"}
        | {".jp2", ".jpe", ".jxl", ".pbm", ".pnm", ".psd", ".tga"}
    )
)
PILLOW_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # no decoder that would start another program (EPS)
MAX_IMAGE_BYTES = 1 << 29  # bytes of one image, unpacked: 512 MiB


def open_image_file(path: Path) -> Image.Image:
    """The image in a file, not yet decoded.

    Raises:
        BadImage: not a regular file, too large, or of no known format.
    """
    if not path.is_file():
        raise ImageDecodeError("is not a regular file" if path.exists() else "is gone, or is a link to nothing")
    with open(path, "rb") as file:
        return open_image(file)


def open_image(stream: BinaryIO) -> Image.Image:
    """The image in a stream of at most `LARGEST` bytes."""
    data = stream.read(MAX_IMAGE_BYTES + 1)
    if len(data) > MAX_IMAGE_BYTES:
        raise ImageDecodeError(f"has more than {MAX_IMAGE_BYTES} bytes; larger images are not read")
    return Image.open(BytesIO(data), formats=PILLOW_FORMATS)


def open_zip(path: File) -> zipfile.ZipFile:
    """A zip (an .npz is one), opened.

    Raises:
        SourceError: no such file, or it cannot be read as a zip.
    """
    try:
        return zipfile.ZipFile(path if isinstance(path, Path) else path.open())
    except FileNotFoundError:
        raise SourceError(f"no such file: {path}") from None
    except UnreachableError as error:
        raise SourceError(str(error)) from error
    except Exception as error:  # BadZipFile, OSError, UnicodeDecodeError, NotImplementedError: damage has many names
        raise SourceError(
            f"{path} is named {path.suffix} but cannot be read as one ({error}); it may be cut short or be another kind of file"
        ) from None


def get_file_size(file: File) -> int:
    """In bytes."""
    return file.size if isinstance(file, RemoteFile) else file.stat().st_size


def get_file_version(file: File) -> str:
    """Size and time of a file, or that it is gone."""
    if isinstance(file, RemoteFile):
        return file.version
    try:
        state = file.stat()
    except OSError as error:
        return f"is not there: {error.strerror}"
    return f"{state.st_size} {state.st_mtime_ns}"


def read_range(file: File, start: int, count: int) -> bytes:
    """A range of a file's bytes; safe to call from several threads.

    Raises:
        BadImage: the file is gone, or shorter than it was.
    """
    if isinstance(file, RemoteFile):
        return file.read(start, count)
    with open(file, "rb") as stream:
        stream.seek(start)
        data = stream.read(count)
    if len(data) != count:
        raise ImageDecodeError(f"is cut short: {file} has become shorter since the run began")
    return data


def is_hidden(name: str) -> bool:
    """Whether a file of an archive is one that nobody means."""
    return any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def is_image(name: str) -> bool:
    """Whether its name says so."""
    return PurePosixPath(name).suffix.lower() in EXTENSIONS


def count_unsupported(names: Iterable[str]) -> Counter[str]:
    """How many images of kinds that are not read there are, by their kind."""
    kinds = (PurePosixPath(name).suffix.lower() for name in names)
    return Counter(kind for kind in kinds if kind in UNSUPPORTED_EXTENSIONS)


def describe_contents(names: Sequence[str]) -> str:
    """What is there instead of images, in words."""
    expected = " ".join(sorted(extension.removeprefix(".") for extension in EXTENSIONS))
    if not names:
        return f"it is empty (images are {expected}; hidden files are skipped)"
    kinds = Counter(PurePosixPath(name).suffix.lower() or "no extension" for name in names)
    listed = ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common(5))
    return f"among its {len(names)} files ({listed}; the first is {names[0]}) none is {expected}"
