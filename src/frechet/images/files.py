"""Open image files and archives, bounded in size and in what may decode them."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from frechet.errors import BadImage, SourceError

EXTENSIONS = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # no decoder that would start another program (EPS)
LARGEST = 1 << 29  # bytes of one image, unpacked: 512 MiB


def open_image_file(path: Path) -> Image.Image:
    """The image in a file, not yet decoded.

    Raises:
        BadImage: not a regular file, too large, or of no known format.
    """
    if not path.is_file():
        raise BadImage("is not a regular file" if path.exists() else "is gone, or is a link to nothing")
    with open(path, "rb") as file:
        return open_image(file)


def open_image(stream: BinaryIO) -> Image.Image:
    """The image in a stream of at most `LARGEST` bytes."""
    data = stream.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise BadImage(f"has more than {LARGEST} bytes; larger images are not read")
    return Image.open(BytesIO(data), formats=FORMATS)


def open_zip(path: Path) -> zipfile.ZipFile:
    """A zip (an .npz is one), opened.

    Raises:
        SourceError: no such file, or it cannot be read as a zip.
    """
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        raise SourceError(f"no such file: {path}") from None
    except Exception as error:  # BadZipFile, OSError, UnicodeDecodeError, NotImplementedError: damage has many names
        raise SourceError(
            f"{path} is named {path.suffix} but cannot be read as one ({error}); it may be cut short or be another kind of file"
        ) from None
