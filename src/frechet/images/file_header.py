"""Headers of ordinary JPEG and PNG files, read without Pillow; whatever is unusual about a file is left to Pillow."""

from __future__ import annotations

import struct
from typing import NamedTuple

_MAX_PIXELS = 1 << 24  # reading the header of a larger image with Pillow takes no time compared with its pixels

_PNG_START = struct.Struct(
    ">16s2I5s4x4x4s"
)  # signature and IHDR: size, bit depth to interlace, checksum; the next chunk's name
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_PNG_OF_RGB = b"\x08\x02\0\0\0"  # 8 bits, RGB, the only compression and filter method, not interlaced

_JPEG_START = b"\xff\xd8\xff"
_SEGMENT = struct.Struct(">HH")  # marker and length of a segment of a JPEG
_SOS, _DQT, _DHT, _DRI, _APP0, _APP2, _COM = 0xFFDA, 0xFFDB, 0xFFC4, 0xFFDD, 0xFFE0, 0xFFE2, 0xFFFE
_FRAMES = (0xFFC0, 0xFFC2)  # baseline and progressive
_MAX_KNOWN_BYTES = 4096  # of a header that is compared with the next file; a longer one contains a colour profile
_JFIF_BYTES, _ICC_HEADER_BYTES, _TABLE_BYTES = (
    14,
    14,
    65,
)  # of APP0 without a thumbnail; before a profile; of a table of 8 bits


class FileHeader(NamedTuple):
    """The header of an image file.

    Attributes:
        format: Pillow's name of the file format.
        size: width and height in pixels.
    """

    format: str
    size: tuple[int, int]


def parse_header(data: bytes) -> FileHeader | None:
    """Read the header of an image file that is an ordinary JPEG (grey or YCbCr) or PNG (RGB), both of 8 bits.

    Before its pixels, such a file has no orientation, transparency, palette or second frame, and no metadata except a JPEG's resolution,
    comment and colour profile, which other tools ignore too. What comes after the pixels of a PNG, or after the first scan of a JPEG, is
    not read, as by Pillow.

    Returns:
        The header, or None if anything is unusual: the file is to be read with Pillow, which decides what is wrong with it, if anything.
    """
    if data.startswith(_PNG_SIGNATURE):
        return _parse_png(data)
    return _latest_jpeg.parse(data) if data.startswith(_JPEG_START) else None


def guess_format(data: bytes) -> str | None:
    """Return "JPEG" or "PNG" if a file starts like one, otherwise None."""
    if data.startswith(_PNG_SIGNATURE):
        return "PNG"
    return "JPEG" if data.startswith(_JPEG_START) else None


def _parse_png(data: bytes) -> FileHeader | None:
    if len(data) < _PNG_START.size:
        return None
    _, width, height, kind, next_chunk = _PNG_START.unpack_from(data)
    if kind != _PNG_OF_RGB or next_chunk != b"IDAT":
        return None
    return _make_header("PNG", width, height)


def _parse_jpeg(data: bytes) -> tuple[FileHeader, int] | None:
    """Return the header, and the number of bytes that it was read from."""
    position, header = 2, None
    while position + _SEGMENT.size <= len(data):
        marker, length = _SEGMENT.unpack_from(data, position)
        segment = data[position + 4 : position + 2 + length]
        if marker == _SOS:
            return (header, position + _SEGMENT.size) if header else None
        if marker in _FRAMES and header is None:
            header = _parse_frame(segment)
            if header is None:
                return None
        elif not _is_ordinary_segment(marker, segment):
            return None
        position += 2 + length
    return None


def _parse_frame(segment: bytes) -> FileHeader | None:
    """Read a frame header (ISO 10918-1, B.2.2): bits, height, width, number of components, and three bytes for each."""
    if len(segment) < 6:
        return None
    bits, height, width, components = struct.unpack_from(">BHHB", segment)
    if bits != 8 or components not in (1, 3) or len(segment) != 6 + 3 * components:
        return None
    return _make_header("JPEG", width, height)


def _is_ordinary_segment(marker: int, segment: bytes) -> bool:
    if marker == _APP0:
        return len(segment) == _JFIF_BYTES and segment.startswith(b"JFIF\0")
    if marker == _DQT:
        return bool(segment) and len(segment) % _TABLE_BYTES == 0 and max(segment[::_TABLE_BYTES]) < 16
    if marker == _APP2:
        return segment.startswith(b"ICC_PROFILE\0") and len(segment) > _ICC_HEADER_BYTES
    return marker in (_DHT, _DRI, _COM)


def _make_header(file_format: str, width: int, height: int) -> FileHeader | None:
    return FileHeader(file_format, (width, height)) if 0 < width * height <= _MAX_PIXELS else None


class _LatestJpeg:
    """The JPEG header that was read last: the files of a data set often start with the same bytes, up to their pixels."""

    def __init__(self) -> None:
        self._known: tuple[bytes, FileHeader] | None = None  # one attribute, since several threads read and replace it

    def parse(self, data: bytes) -> FileHeader | None:
        known = self._known
        if known is not None and data.startswith(known[0]):
            return known[1]
        if (found := _parse_jpeg(data)) is None:
            return None
        header, n_bytes = found
        if n_bytes <= _MAX_KNOWN_BYTES:
            self._known = data[:n_bytes], header
        return header


_latest_jpeg = _LatestJpeg()
