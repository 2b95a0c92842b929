"""Faster decoders return the bits of Pillow, which decodes whatever they may decode differently."""

import importlib.util
import io
import random
import struct
import zlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from golden_images import photographs
from PIL import Image, PngImagePlugin, features

import frechet
from frechet.errors import ImageDecodeError
from frechet.images import fast_decoders
from frechet.images.decode import decode
from frechet.images.fast_decoders import decode_ordinary_file, decode_pixels, describe_decoders, load_crc32
from frechet.images.file_header import _LatestJpeg
from frechet.images.image import EncodedImage, ImageRef
from frechet.images.pillow_file import open_image
from frechet.images.png_store import store_pixels

pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("simplejpeg", "imagecodecs"))), reason="the extra fast is not installed"
)


def encode(image, file_format, **options):
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def make_exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def to_16_bits(image):
    """Return a PNG of colour with 16 bits, which Pillow reads and does not write."""
    import imagecodecs

    return imagecodecs.png_encode(np.asarray(image.convert("RGB")).astype(np.uint16) * 257 + 3)


ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def to_interlaced(image):
    """Return an interlaced PNG, which Pillow does not write: seven passes (left, top, step in x and y) without filters."""
    pixels = np.asarray(image.convert("RGB"))
    passes = [pixels[top::down, left::right] for left, top, right, down in ADAM7]
    rows = b"".join(b"\0" + row.tobytes() for each in passes if each.size for row in each)
    header = struct.pack(">IIBBBBB", *image.size, 8, 2, 0, 0, 1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


FAST = {
    "JPEG": lambda image: encode(image, "JPEG", quality=90),
    "JPEG of low quality": lambda image: encode(image, "JPEG", quality=20),
    "JPEG without subsampling": lambda image: encode(image, "JPEG", quality=95, subsampling=0),
    "JPEG with 4:2:2": lambda image: encode(image, "JPEG", subsampling=1),
    "progressive JPEG": lambda image: encode(image, "JPEG", progressive=True),
    "grey JPEG": lambda image: encode(image.convert("L"), "JPEG"),
    "JPEG of RGB": lambda image: encode(image, "JPEG", keep_rgb=True),
    "JPEG with restarts": lambda image: encode(image, "JPEG", restart_marker_blocks=3),
    "JPEG with a comment": lambda image: encode(image, "JPEG", comment=b"a comment"),
    "JPEG with a colour profile": lambda image: encode(image, "JPEG", icc_profile=bytes(100_000)),  # in two segments
    "rotated JPEG": lambda image: encode(image, "JPEG", exif=make_exif(6)),
    "PNG": lambda image: encode(image, "PNG"),
    "PNG with alpha": lambda image: encode(with_alpha(image), "PNG"),
    "PNG with a transparent colour": lambda image: encode(image, "PNG", transparency=image.getpixel((0, 0))),
    "PNG with gamma": lambda image: encode(image, "PNG", pnginfo=make_gamma()),
    "rotated PNG": lambda image: encode(image, "PNG", exif=make_exif(3)),
    "interlaced PNG": to_interlaced,
    "animated PNG": lambda image: encode(image, "PNG", save_all=True, append_images=[image.rotate(90)]),
}
ORDINARY = {  # decoded without Pillow
    "JPEG",
    "JPEG of low quality",
    "JPEG without subsampling",
    "JPEG with 4:2:2",
    "progressive JPEG",
    "grey JPEG",
    "JPEG with restarts",
    "JPEG with a comment",
    "JPEG with a colour profile",
    "PNG",
}
SLOW = {
    "CMYK JPEG": lambda image: encode(image.convert("CMYK"), "JPEG"),
    "grey PNG": lambda image: encode(image.convert("L"), "PNG"),
    "PNG of black and white": lambda image: encode(image.convert("1"), "PNG"),
    "PNG of grey with alpha": lambda image: encode(with_alpha(image).convert("LA"), "PNG"),
    "PNG with a palette": lambda image: encode(image.convert("P"), "PNG"),
    "PNG with a transparent palette": lambda image: encode(image.convert("P"), "PNG", transparency=0),
    "PNG of 16 bits": to_16_bits,
    "grey PNG of 16 bits": lambda image: encode(
        Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257), "PNG"
    ),
    "several JPEGs": lambda image: encode(image, "MPO", save_all=True, append_images=[image.rotate(90)]),
    "PNG with data at its end": lambda image: encode(image, "PNG") + b"x",
    "WebP": lambda image: encode(image, "WEBP"),
    "TIFF": lambda image: encode(image, "TIFF"),
    "BMP": lambda image: encode(image, "BMP"),
}


def remove_metadata(image):
    return Image.fromarray(np.asarray(image))


def with_alpha(image):
    image = image.convert("RGBA")
    image.putalpha(image.getchannel("R"))
    return image


def make_gamma():
    info = PngImagePlugin.PngInfo()
    info.add(b"gAMA", (20000).to_bytes(4, "big"))
    return info


def decode_file(data):
    try:
        return decode(ImageRef(0, "a", lambda: EncodedImage(data)))
    except ImageDecodeError as error:
        return error


@pytest.fixture
def pillow_decode(monkeypatch):
    """Decode with Pillow alone."""

    def decode_with_pillow(data):
        with monkeypatch.context() as context:
            context.setattr(fast_decoders, "load_decoder", lambda file_format: None)
            return decode_file(data)

    return decode_with_pillow


def assert_equal(found, expected):
    if isinstance(expected, ImageDecodeError):
        assert str(found) == str(expected)
    else:
        np.testing.assert_array_equal(found.rgb, expected.rgb)
        assert found[1:] == expected[1:]


@pytest.mark.parametrize("kind", [*FAST, *SLOW])
def test_every_kind_of_file_has_the_bits_and_notes_of_pillow(kind, pillow_decode):
    for photograph in (
        remove_metadata(photographs()[0].crop((0, 0, 131, 77))),
        remove_metadata(photographs()[-1].convert("RGB")),
    ):
        data = {**FAST, **SLOW}[kind](photograph)
        assert (decode_pixels(open_image(data)) is not None) == (kind in FAST)
        assert (decode_ordinary_file(data) is not None) == (kind in ORDINARY)
        assert_equal(decode_file(data), pillow_decode(data))


@pytest.mark.slow
def test_files_of_packages_have_the_bits_and_notes_of_pillow(pillow_decode):
    """JPEG and PNG files of many programs; those of scikit-image are of nearly every kind."""
    folder = Path(importlib.util.find_spec("skimage").origin).parent / "data"
    files = [*folder.glob("*.png"), *folder.glob("*.jp*g")]
    assert len(files) >= 10
    for file in files:
        data = file.read_bytes()
        assert_equal(decode_file(data), pillow_decode(data))


def test_a_header_that_was_read_before_is_recognised_only_as_a_whole():
    """Every changed byte of the header of a JPEG has the result of a file that is read first."""
    whole = FAST["JPEG with a comment"](remove_metadata(photographs()[0].crop((0, 0, 40, 30))))
    end = whole.index(b"\xff\xda") + 4
    results = set()
    for position in range(2, end):
        data = whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :]
        known = _LatestJpeg()
        assert known.parse(whole) == known.parse(whole + b"x") == ("JPEG", (40, 30))
        results.add(known.parse(data))
        assert known.parse(data) == _LatestJpeg().parse(data)
        assert known.parse(whole) == ("JPEG", (40, 30))
    assert {None, ("JPEG", (41, 30)), ("JPEG", (40, 31))} <= results
    assert all(_LatestJpeg().parse(whole[:length]) is None for length in range(end))


def test_pillows_limit_on_the_size_of_images_is_kept(monkeypatch):
    data = FAST["PNG"](remove_metadata(photographs()[0].crop((0, 0, 40, 30))))
    assert decode_ordinary_file(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    assert "exceeds limit" in str(decode_file(data))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("width", [1, 100, 700])
def test_a_png_with_stored_pixels_has_the_same_pixels(mode, width):
    """One or several stored blocks (700 x 41 pixels take more than 65,535 bytes), and several chunks (41 rows of noise)."""
    import imagecodecs

    pixels = np.random.default_rng(width).integers(0, 256, (41, width, len(mode)), np.uint8)
    pixels[20:] = pixels[20, 0]  # rows whose filter and compression differ
    data = encode(Image.fromarray(pixels, mode), "PNG")
    stored = store_pixels(data, imagecodecs.deflate_decode, imagecodecs.deflate_crc32)
    assert len(stored) > pixels.size
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(stored))), pixels)


def test_a_png_with_a_wrong_checksum_is_not_stored():
    import imagecodecs

    data = bytearray(encode(Image.fromarray(np.zeros((9, 9, 3), np.uint8)), "PNG"))
    arguments = imagecodecs.deflate_decode, imagecodecs.deflate_crc32
    assert store_pixels(bytes(data), *arguments)
    data[-13] ^= 1  # of the chunk of pixels, before IEND
    assert store_pixels(bytes(data), *arguments) is None


@pytest.mark.slow
@pytest.mark.parametrize("min_bytes_to_store", [0, 1 << 20])
def test_damaged_files_have_the_result_of_pillow(pillow_decode, monkeypatch, min_bytes_to_store):
    """Truncated files, and files with some bytes changed: an error, or the same pixels."""
    monkeypatch.setattr(fast_decoders, "_MIN_BYTES_TO_STORE", min_bytes_to_store)
    generator = random.Random(0)
    photograph = remove_metadata(photographs()[0].crop((0, 0, 40, 30)))
    errors = 0
    for kind in [FAST["JPEG"], FAST["progressive JPEG"], FAST["PNG"], FAST["PNG with alpha"]]:
        whole = kind(photograph)
        for number in range(150):
            data = bytearray(whole)
            if number % 3:
                for _ in range(generator.choice([1, 1, 2, 8])):
                    data[generator.randrange(len(data))] = generator.randrange(256)
            else:
                del data[generator.randrange(20, len(data)) :]
            expected = pillow_decode(bytes(data))
            errors += isinstance(expected, ImageDecodeError)
            assert_equal(decode_file(bytes(data)), expected)
    assert 100 < errors < 500


@pytest.mark.parametrize("count", [0, 1, 7, 1000, 200_000])
def test_the_crc_is_that_of_zlib(count):
    data = np.random.default_rng(count).integers(0, 256, count, np.uint8)
    assert load_crc32() is not zlib.crc32
    for start in (0, 1, 2**32 - 1):
        assert load_crc32()(data.data, start) == zlib.crc32(data.data, start)


def test_provenance_names_the_decoders(toy_options, folder):
    import imagecodecs
    import simplejpeg

    found = frechet.score(folder, folder, **toy_options)["fd"].provenance["decoders"]
    assert found == describe_decoders()
    for library in (simplejpeg, imagecodecs):
        assert f"{library.__name__} {library.__version__}" in found


@pytest.fixture
def uncached(monkeypatch):
    """Look again, during the test, for the libraries that work."""
    for name in ("describe_decoders", "load_crc32", "load_decoder"):
        monkeypatch.setattr(fast_decoders, name, getattr(fast_decoders, name).__wrapped__)


@pytest.mark.parametrize("error", [ImportError, ValueError, OSError, AttributeError])
def test_libraries_that_cannot_be_imported_are_not_used(uncached, monkeypatch, error):
    """NumPy's "dtype size changed" is a ValueError, a missing shared library an ImportError or OSError."""

    def import_module(name):
        raise error(f"{name} does not fit this machine")

    monkeypatch.setattr(fast_decoders.importlib, "import_module", import_module)
    photograph = photographs()[0].convert("RGB").crop((0, 0, 40, 30))
    for file_format in ("JPEG", "PNG"):
        data = encode(photograph, file_format)
        np.testing.assert_array_equal(decode_file(data).rgb, np.asarray(Image.open(io.BytesIO(data))))
    assert fast_decoders.load_crc32()(b"123456789", 0) == 0xCBF43926  # the check value of CRC-32
    assert fast_decoders.describe_decoders() == f"pillow {Image.__version__}"


def test_a_folder_with_the_name_of_a_library_is_not_used(uncached, monkeypatch):
    monkeypatch.setattr(fast_decoders.importlib, "import_module", ModuleType)
    assert fast_decoders.describe_decoders() == f"pillow {Image.__version__}"


def test_parts_of_a_library_that_are_missing_are_not_recorded(uncached, monkeypatch):
    import imagecodecs

    monkeypatch.setattr(imagecodecs, "SPNG", type("SPNG", (), {"available": False}))
    monkeypatch.setattr(
        features, "check_feature", lambda name: name != "libjpeg_turbo"
    )  # Pillow has another JPEG library
    assert fast_decoders.describe_decoders() == f"pillow {Image.__version__}"
    assert decode_pixels(open_image(FAST["JPEG"](photographs()[0]))) is None
