"""PNG files whose pixels are stored instead of compressed, because libdeflate inflates faster than the libraries that read PNG."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

_HEADER_BYTES = 33  # signature and IHDR
_CHANNELS = {
    b"\x08\x02\0\0\0": 3,
    b"\x08\x06\0\0\0": 4,
}  # by bit depth to interlace: RGB and RGBA of 8 bits, not interlaced
_END = b"\0\0\0\0IEND\xaeB`\x82"
_MAX_BLOCK_BYTES = 65535  # of a stored block (RFC 1951, section 3.2.4)
_ZLIB_HEADER = b"\x78\x01"  # a window of 32 KB, which is all that libdeflate supports; no preset dictionary

Inflate = Callable[..., bytes]
Crc32 = Callable[[Any], int]


def store_pixels(data: bytes, inflate: Inflate, crc32: Crc32) -> bytes | None:
    """Return a PNG file with the same pixels in stored blocks, whose decoder only has to undo the filters of the rows.

    Args:
        data: a PNG file.
        inflate: inflate a zlib stream into `out` bytes (`imagecodecs.deflate_decode`).
        crc32: compute the CRC-32 of bytes.

    Returns:
        The file, without metadata; None if it is not RGB or RGBA of 8 bits, is interlaced, or a checksum is wrong.

    Raises:
        Exception: an error of `inflate`, if the stream is damaged.
    """
    channels = _CHANNELS.get(data[24:29])
    if channels is None:
        return None
    width, height = struct.unpack_from(">2I", data, 16)
    stream = _join_pixel_chunks(data, crc32)
    n_bytes = height * (1 + width * channels)
    if not stream.startswith(b"\x78"):
        return None
    rows = inflate(stream, out=n_bytes)
    if len(rows) != n_bytes:
        return None
    body = b"".join((b"IDAT", _ZLIB_HEADER, *_iter_stored_blocks(rows), stream[-4:]))
    return b"".join(
        (data[:_HEADER_BYTES], struct.pack(">I", len(body) - 4), body, struct.pack(">I", crc32(body)), _END)
    )


def _join_pixel_chunks(data: bytes, crc32: Crc32) -> bytes:
    """Return the content of the first run of IDAT chunks; nothing if there is none, or a checksum is wrong."""
    pieces: list[memoryview] = []
    position, view = _HEADER_BYTES, memoryview(data)
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] == b"IDAT":
            if int.from_bytes(data[end : end + 4], "big") != crc32(view[position + 4 : end]):
                return b""
            pieces.append(view[position + 8 : end])
        elif pieces:
            break
        position = end + 4
    return b"".join(pieces)


def _iter_stored_blocks(rows: bytes) -> Iterator[bytes | memoryview]:
    """Yield the parts of a deflate stream that stores bytes: a header (is it the last block; length and its complement), the bytes."""
    view = memoryview(rows)
    for start in range(0, len(rows), _MAX_BLOCK_BYTES):
        block = view[start : start + _MAX_BLOCK_BYTES]
        yield struct.pack("<BHH", start + len(block) == len(rows), len(block), len(block) ^ 0xFFFF)
        yield block
