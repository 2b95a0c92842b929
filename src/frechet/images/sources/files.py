"""Open image files and archives, with limits on their size and on the decoders that may read them."""

from __future__ import annotations

import stat
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from PIL import Image

from frechet._internal.missing_path import describe_missing_path
from frechet._internal.remote_files import RemoteFile
from frechet.errors import ImageDecodeError, SourceError, UnreachableError
from frechet.images.image import ImageSource
from frechet.images.pixels import MAX_IMAGE_BYTES

File = Path | RemoteFile
EXTENSIONS = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
UNSUPPORTED_EXTENSIONS = frozenset(  # image formats that cameras, browsers and generators write and that are not read
    {".apng", ".avif", ".dib", ".exr", ".gif", ".heic", ".heif", ".ico", ".jfif"}
    | {".jp2", ".jpe", ".jxl", ".pbm", ".pnm", ".psd", ".tga"}
)
CONTAINER_EXTENSIONS = frozenset(  # files that may contain images and are read if they are passed themselves
    {".arrow", ".h5", ".hdf5", ".lmdb", ".npy", ".npz", ".parquet", ".tar", ".zip"}
)
_PIECE_BYTES = 1 << 20  # read at a time
_METADATA_FOLDERS = frozenset({"@eaDir", "__MACOSX"})  # previews made by Synology's server, and macOS's metadata
PILLOW_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # excludes decoders that start another program (EPS)


class FileSource(ImageSource):
    """Base class of sources that read all their images from one local or remote file."""

    def __init__(self, file: File) -> None:
        super().__init__(
            str(file),
            path=file if isinstance(file, Path) else None,
            url=file.url if isinstance(file, RemoteFile) else None,
        )
        self.file = file

    def fingerprints(self, source_indices: Sequence[int]) -> Iterator[str]:
        version = get_file_version(self.file)
        name = self.file.name if isinstance(self.file, Path) else self.label
        yield from (f"{name} {version} {source_index}" for source_index in source_indices)


def open_image_file(path: Path) -> Image.Image:
    """Open an image file without decoding it.

    Raises:
        ImageDecodeError: it is not a regular file, is too large, or its format is not supported.
    """
    try:
        state = path.stat()  # is_file() takes a file that must not be read for one that is missing
    except FileNotFoundError:
        raise ImageDecodeError("is missing, or is a broken link") from None
    if not stat.S_ISREG(state.st_mode):
        raise ImageDecodeError("is not a regular file")
    with open(path, "rb") as file:
        return open_image(file, state.st_size + 1)


def open_image(stream: BinaryIO, piece_bytes: int = _PIECE_BYTES) -> Image.Image:
    """Open an image in a stream of at most `MAX_IMAGE_BYTES` bytes without decoding it.

    Args:
        stream: the image.
        piece_bytes: number of bytes to read at a time; as many are allocated before any are read.

    Raises:
        ImageDecodeError: it is too large.
    """
    pieces = list(_iter_pieces(stream, piece_bytes))
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if len(data) > MAX_IMAGE_BYTES:
        raise ImageDecodeError(f"has more than {MAX_IMAGE_BYTES} bytes; larger images are not read")
    image = Image.open(BytesIO(data), formats=PILLOW_FORMATS)
    if image.format == "WEBP":  # TIFF's plugin sets this entry too
        image.info["compression"] = "webp_lossless" if _is_lossless_webp(data) else "webp_lossy"
    return image


def _iter_pieces(stream: BinaryIO, piece_bytes: int) -> Iterator[bytes]:
    """Yield what is in a stream, up to a byte more than is allowed.

    A damaged archive may claim that a file is larger than the archive, so that the file is not read at once.
    """
    left = MAX_IMAGE_BYTES + 1
    while left:
        wanted = min(left, piece_bytes)
        piece = stream.read(wanted)
        yield piece
        left -= len(piece)
        if len(piece) < wanted:
            return


def _is_lossless_webp(data: bytes) -> bool:
    """Return whether the first image of a WebP file is lossless (RFC 9649, section 2: chunks of a name, a size and data)."""
    position = 12
    while position + 8 <= len(data):
        name, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8L"
        position += 24 if name == b"ANMF" else 8 + size + size % 2  # a frame starts with 16 bytes, then chunks
    return False


def open_zip(path: File) -> zipfile.ZipFile:
    """Open a zip file (an .npz file is one).

    Raises:
        SourceError: the file does not exist, or cannot be read as a zip.
    """
    try:
        return zipfile.ZipFile(path if isinstance(path, Path) else path.open())
    except FileNotFoundError:
        raise SourceError(describe_missing_path(Path(str(path)), "file")) from None
    except UnreachableError as error:
        raise SourceError(str(error)) from error
    except Exception as error:  # BadZipFile, OSError, UnicodeDecodeError, NotImplementedError: damage has many names
        raise SourceError(
            f"{path} is named {path.suffix} but cannot be read as one ({error}); it may be truncated or another kind of file"
        ) from None


def get_file_size(file: File) -> int:
    """Return the size of a file in bytes."""
    return file.size if isinstance(file, RemoteFile) else file.stat().st_size


def get_file_version(file: File) -> str:
    """Return the size and modification time of a file (for a URL: what the store reports), or that it is missing."""
    if isinstance(file, RemoteFile):
        return file.version
    try:
        state = file.stat()
    except OSError as error:
        return f"is not there: {error.strerror}"
    return f"{state.st_size} {state.st_mtime_ns}"


def read_range(file: File, start: int, count: int) -> bytes:
    """Read `count` bytes of a file from `start`; safe to call from several threads.

    Raises:
        ImageDecodeError: the file is shorter than it was when it was opened.
    """
    if isinstance(file, RemoteFile):
        return file.read(start, count)
    with open(file, "rb") as stream:
        stream.seek(start)
        data = stream.read(count)
    if len(data) != count:
        raise ImageDecodeError(f"is truncated: {file} has become shorter since the run started")
    return data


def is_hidden(name: str) -> bool:
    """Return whether a file name is hidden, or belongs to the metadata that macOS and Synology's servers add."""
    return any(
        (part.startswith(".") and part != "..") or part in _METADATA_FOLDERS for part in PurePosixPath(name).parts
    )


def is_image(name: str) -> bool:
    """Return whether a file name has the extension of a supported image format."""
    return PurePosixPath(name).suffix.lower() in EXTENSIONS


def count_unsupported(names: Iterable[str]) -> Counter[str]:
    """Return the number of image files in unsupported formats, by extension."""
    extensions = (PurePosixPath(name).suffix.lower() for name in names)
    return Counter(extension for extension in extensions if extension in UNSUPPORTED_EXTENSIONS)


def list_containers(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of archives, array files and tables, which are not opened when they lie among images."""
    return tuple(name for name in names if PurePosixPath(name).suffix.lower() in CONTAINER_EXTENSIONS)


def describe_contents(names: Sequence[str]) -> str:
    """Describe, for an error message that ends with "contains no images", the files of a source."""
    supported = ", ".join(sorted(extension.removeprefix(".") for extension in EXTENSIONS))
    if not names:
        return f": it is empty (hidden files are skipped); supported: {supported}"
    if len(names) == 1:
        found = f"1 file, {names[0]}"
    else:
        counts = Counter(PurePosixPath(name).suffix.lower() or "without extension" for name in names)
        listed = ", ".join(f"{count:,} {extension}" for extension, count in counts.most_common(5))
        found = f"{len(names):,} files ({listed}; the first is {names[0]})"
    containers = list_containers(names)
    fix = f". To read {containers[0]}, pass it itself, or a pattern of such files." if containers else ""
    return f" in a supported format: found {found}; supported: {supported}{fix}"
