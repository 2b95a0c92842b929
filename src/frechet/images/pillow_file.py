"""Open image files with Pillow, with a limit on the decoders that may read them."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF")  # excludes decoders that start another program (EPS)


def open_image(data: bytes) -> Image.Image:
    """Open an image file without decoding it."""
    image = Image.open(BytesIO(data), formats=PILLOW_FORMATS)
    if image.format == "WEBP":  # TIFF's plugin sets this entry too
        image.info["compression"] = "webp_lossless" if _is_lossless_webp(data) else "webp_lossy"
    return image


def _is_lossless_webp(data: bytes) -> bool:
    """Return whether the first image of a WebP file is lossless (RFC 9649, section 2: chunks of a name, a size and data)."""
    position = 12
    while position + 8 <= len(data):
        name, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8L"
        position += 24 if name == b"ANMF" else 8 + size + size % 2  # a frame starts with 16 bytes, then chunks
    return False
