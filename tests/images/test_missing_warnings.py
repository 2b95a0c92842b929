"""Warnings about what is ignored or not comparable: EXIF orientation, lossy formats, sizes, archives next to images."""

import zipfile
from io import BytesIO

import numpy as np
import pytest
from helpers import make_image_folder
from PIL import Image

import frechet
from frechet.errors import SourceError
from frechet.images.decode import ORIENTATION_IGNORED, decode
from frechet.images.image import EncodedImage, ImageRef
from frechet.images.sources.files import is_hidden
from frechet.images.sources.registry import open_source

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 16, 3), np.uint8)


def decode_saved(file_format, **options):
    stream = BytesIO()
    Image.fromarray(PIXELS).save(stream, file_format, **options)
    return decode(ImageRef(0, "image", lambda: EncodedImage(stream.getvalue())))


def make_exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation  # the tag's number in the EXIF standard
    return exif


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "noted"), [(1, False), (3, True), (6, True), (8, True), (0, False), (99, False)]
)
def test_an_ignored_orientation_is_noted(file_format, orientation, noted):
    decoded = decode_saved(file_format, exif=make_exif(orientation))
    assert (decoded.note == ORIENTATION_IGNORED) == noted
    assert decoded.rgb.shape == PIXELS.shape  # as in other tools, the pixels are not rotated


def test_a_tiff_is_rotated_as_pillow_does():
    stream = BytesIO()
    Image.fromarray(PIXELS).save(stream, "TIFF", exif=make_exif(6))
    expected = np.asarray(Image.open(BytesIO(stream.getvalue())).convert("RGB"))
    decoded = decode(ImageRef(0, "image", lambda: EncodedImage(stream.getvalue())))
    assert decoded.rgb.shape == (16, 24, 3)
    np.testing.assert_array_equal(decoded.rgb, expected)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's, when it opens the file
def test_damaged_exif_is_not_an_error():
    assert decode_saved("JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff").note is None


@pytest.mark.parametrize(
    ("file_format", "options", "expected"),
    [
        ("WEBP", {"lossless": True}, "VP8L"),
        ("WEBP", {"lossless": False}, "VP8"),
        ("WEBP", {"lossless": False, "exif": make_exif(1)}, "VP8"),  # extended header
        ("WEBP", {"lossless": True, "exif": make_exif(1)}, "VP8L"),
        ("WEBP", {"lossless": True, "save_all": True, "append_images": [Image.new("RGB", (16, 24))]}, "VP8L"),
        ("WEBP", {"lossless": False, "save_all": True, "append_images": [Image.new("RGB", (16, 24))]}, "VP8"),
        ("TIFF", {"compression": "jpeg"}, "JTIF"),
        ("TIFF", {"compression": "tiff_lzw"}, "TIFL"),
        ("TIFF", {}, "TIFL"),
        ("JPEG", {}, "JPEG"),
    ],
)
def test_the_format_says_how_the_pixels_are_compressed(file_format, options, expected):
    """Expected: what the encoder was asked for; for lossless ones the pixels are the original's."""
    decoded = decode_saved(file_format, **options)
    assert decoded.format == expected
    assert (decoded.rgb == PIXELS).all() == (expected in ("VP8L", "TIFL"))


def make_folder(path, suffix, size=(40, 32), count=6, **options):
    make_image_folder(path, count, seed=hash(suffix) % 7, size=size)
    for file in [*path.iterdir()]:
        Image.open(file).save(file.with_suffix(f".new{suffix}"), **options)
        file.unlink()
    return path


def get_warnings(generated, reference, toy_options):
    return " ".join(frechet.score(generated, reference, **toy_options)["fd"].warnings)


@pytest.mark.parametrize(
    ("suffix", "options", "noted"),
    [
        (".webp", {"lossless": False}, "lossy WebP"),
        (".webp", {"lossless": True}, None),
        (".tif", {"compression": "jpeg"}, "JPEG"),
    ],
)
def test_lossy_webp_and_tiff_against_lossless_files(tmp_path, toy_options, suffix, options, noted):
    generated, reference = make_folder(tmp_path / "a", suffix, **options), make_folder(tmp_path / "b", ".png")
    warnings = get_warnings(generated, reference, toy_options)
    assert (f"the generated images are {noted}" in warnings) if noted else ("lossless format" not in warnings)


def make_sizes(path, *sizes):
    path.mkdir()
    for index, size in enumerate(sizes):
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (*size, 3), np.uint8)).save(path / f"{index}.png")
    return path


@pytest.mark.parametrize(("edge", "noted"), [(15, True), (25, False), (100, True)])
def test_images_of_less_than_half_the_size(tmp_path, toy_options, edge, noted):
    """The reference has an average edge of 40 pixels."""
    generated = make_sizes(tmp_path / "a", (edge, edge + 2), (edge + 2, edge), (edge, edge + 2))
    reference = make_sizes(tmp_path / "b", (38, 42), (42, 38), (40, 40))
    warnings = get_warnings(generated, reference, toy_options)
    assert ("less than half as large" in warnings) == noted
    assert ("the generated images are on average" in warnings) == (noted and edge < 40)


@pytest.mark.parametrize("container", ["folder", "zip", "tar"])
def test_an_archive_next_to_previews_is_named(tmp_path, toy_options, container):
    folder = make_image_folder(tmp_path / "previews", 3)
    np.savez(folder / "samples.npz", arr_0=np.zeros((9, 8, 8, 3), np.uint8))
    if container == "zip":
        with zipfile.ZipFile(tmp_path / "previews.zip", "w") as archive:
            for file in folder.iterdir():
                archive.write(file, file.name)
    elif container == "tar":
        import tarfile

        with tarfile.open(tmp_path / "previews.tar", "w") as archive:
            archive.add(folder, "previews")
    source = folder if container == "folder" else tmp_path / f"previews.{container}"
    warnings = get_warnings(source, make_image_folder(tmp_path / "b", 3, seed=1), toy_options)
    assert "samples.npz" in warnings
    assert "pass the file itself" in warnings


def test_previews_of_synologys_server_are_not_scored(tmp_path):
    folder = make_image_folder(tmp_path / "images", 3)
    make_image_folder(folder / "@eaDir" / "000.png", 2)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for file in folder.rglob("*.png"):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    assert len(open_source(folder)) == len(open_source(tmp_path / "images.zip")) == 3


def test_hidden_names():
    hidden = [
        ".a.png",
        "a/.b.png",
        ".a/b.png",
        "...",
        "..a/b.png",
        "a/@eaDir/b.png",
        "__MACOSX/a.png",
        "@eaDir",
        ".\n",
        "a/.\nb",
    ]
    shown = [
        "a.png",
        "./a.png",
        "../a/b.png",
        "a/../b.png",
        "a.b/c.d",
        "x@eaDir/a.png",
        "@eaDirs/a.png",
        "__MACOSX\n",
        "",
        "a.",
    ]
    assert [name for name in hidden + shown if is_hidden(name)] == hidden


def test_a_saved_dataset_is_explained(tmp_path):
    for name in ("data-00000-of-00001.arrow", "state.json", "dataset_info.json"):  # what datasets' save_to_disk writes
        (tmp_path / name).touch()
    with pytest.raises(SourceError, match=r"data-00000-of-00001\.arrow, pass it itself, or a pattern"):
        open_source(tmp_path)
