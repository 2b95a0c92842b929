"""Folders, archives and arrays: the order in which images are read, and the decoding of unusual pixels."""

import io
import os
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import make_image_folder
from PIL import Image

from frechet.errors import ImageDecodeError, SourceError
from frechet.images.decode import ALPHA_DROPPED, FIRST_FRAME_ONLY, SIXTEEN_BIT_SCALED, decode
from frechet.images.image import ImageRef
from frechet.images.loader import CHUNK_SIZE, load_batches
from frechet.images.sources.registry import open_source
from frechet.preprocessing import resize


def get_labels(source):
    return [image_ref.label for image_ref in source.iter_images(range(len(source)))]


def decode_all(source):
    return [decode(image_ref)[0] for image_ref in source.iter_images(range(len(source)))]


def test_the_error_about_a_folder_without_images_starts_with_its_path(tmp_path):
    (tmp_path / "notes.txt").write_text("not an image")
    with pytest.raises(SourceError) as caught:
        open_source(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path} contains no images")


def test_a_folder_is_read_recursively_in_order_for_extensions_of_any_case(tmp_path):
    for name in ("b/2.PNG", "b/10.png", "a/x.Jpg", "z.TIFF", "0.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    for name in (".hidden.png", ".cache/1.png", "notes.txt", "b/._2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("not an image")
    labels = get_labels(open_source(tmp_path))
    assert [os.path.relpath(name, tmp_path) for name in labels] == [
        "0.webp",
        "a/x.Jpg",
        "b/10.png",
        "b/2.PNG",
        "z.TIFF",
    ]


def test_a_link_to_a_parent_folder_is_not_followed_without_end(tmp_path):
    make_image_folder(tmp_path / "images")
    (tmp_path / "images" / "loop").symlink_to(tmp_path / "images")
    assert len(open_source(tmp_path / "images")) == 6


def test_folder_zip_npz_and_npy_give_the_same_pixels(tmp_path):
    folder = make_image_folder(tmp_path / "images")
    pixels = decode_all(open_source(folder))
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in sorted(folder.iterdir(), reverse=True):
            archive.write(path, f"inner/{path.name}")
        archive.writestr("__MACOSX/._000.png", "junk")
    np.savez(tmp_path / "stored.npz", arr_0=np.stack(pixels))
    np.savez_compressed(tmp_path / "deflated.npz", np.stack(pixels), labels=np.arange(6))
    np.save(tmp_path / "images.npy", np.stack(pixels))
    for name in ("images.zip", "stored.npz", "deflated.npz", "images.npy"):
        np.testing.assert_array_equal(decode_all(open_source(tmp_path / name)), pixels)
    np.testing.assert_array_equal(decode_all(open_source(np.stack(pixels))), pixels)
    np.testing.assert_array_equal(decode_all(open_source(Image.fromarray(p) for p in pixels)), pixels)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_selected_images_of_a_streamed_array(tmp_path, save):
    stack = np.random.default_rng(0).integers(0, 256, (9, 5, 4, 3), np.uint8)
    save(tmp_path / "s.npz", arr_0=stack)
    source = open_source(tmp_path / "s.npz")
    image_refs = list(source.iter_images([1, 4, 8]))
    assert [(ref.index, ref.label) for ref in image_refs] == [
        (index, f"{tmp_path / 's.npz'}[{source_index}]") for index, source_index in enumerate([1, 4, 8])
    ]
    np.testing.assert_array_equal([decode(ref).rgb for ref in image_refs], stack[[1, 4, 8]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "absent", "no such file or folder"),
        (lambda p: (p / "empty").mkdir() or p / "empty", "it is empty"),
        (
            lambda p: _text(p / "docs" / "readme.md") and p / "docs",
            r"in a supported format: found 1 file, readme\.md; supported: bmp, ",
        ),
        (lambda p: _text(p / "a.zip"), "named .zip but cannot be read"),
        (lambda p: _text(p / "a.npz"), "named .npz but cannot be read"),
        (lambda p: _text(p / "a.npy"), "cannot be read as a NumPy array file"),
        (lambda p: _text(p / "a.rar"), "file of type .rar"),
        (lambda p: _text(p / "a.png"), "A single image has no distribution"),
        (lambda p: _npz(p, arr_0=np.zeros((3, 4, 4, 3))), r"float64 of shape \(3, 4, 4, 3\); expected uint8.*\* 255"),
        (lambda p: _npz(p, arr_0=np.zeros((3, 4, 4), np.uint8)), r"shape \(3, 4, 4\).*\[\.\.\., None\]"),
        (lambda p: _npz(p, arr_0=np.zeros((3, 3, 8, 8), np.uint8)), r"channels last.*transpose\(0, 2, 3, 1\)"),
        (lambda p: _npz(p, arr_0=np.zeros((0, 8, 8, 3), np.uint8)), r"shape \(0, 8, 8, 3\).*No axis may be 0"),
        (lambda p: _npz(p, arr_0=np.array([object()] * 3)), "Python objects"),
        (lambda p: _npz(p, arr_0=np.zeros((3, 2048), np.float32)), r"shape \(3, 2048\).*--features \(features=True\)"),
        (
            lambda p: _npz(p, pictures=np.zeros(3)),
            r"contains the key pictures; expected arr_0 .*--features \(features=True\)\.$",
        ),
        (lambda p: _zip(p, {"a.txt": b"x"}), "contains no images"),
    ],
)
def test_paths_without_images_are_rejected_with_a_description_of_what_was_found(tmp_path, make, message):
    with pytest.raises(SourceError, match=message):
        open_source(make(tmp_path))


@pytest.mark.parametrize("images", [3, None, b"bytes", {"a": 1}, Image.new("RGB", (2, 2))])
def test_objects_that_are_not_images_are_rejected(images):
    with pytest.raises(SourceError, match="expected a path, or an iterable"):
        open_source(images)


def _text(path):
    path.parent.mkdir(exist_ok=True)
    path.write_text("this is not what its name says")
    return path


def _npz(folder, **arrays):
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


def _zip(folder, members):
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return folder / "a.zip"


def image_ref(pixels):
    return ImageRef(0, "p", lambda: pixels)


def save_and_open(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(io.BytesIO(file.getvalue()))


def test_modes_are_converted_to_rgb_as_pillow_does():
    colour = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8))
    for image in (
        colour,
        colour.convert("L"),
        colour.convert("1"),
        save_and_open(colour.convert("P"), "PNG"),
        save_and_open(colour.convert("CMYK"), "JPEG"),
        save_and_open(colour, "JPEG", quality=30),
        colour.convert("HSV"),
        colour.convert("YCbCr"),
    ):
        rgb, note, *_ = decode(image_ref(image))
        np.testing.assert_array_equal(rgb, np.asarray(image.convert("RGB")))
        assert note is None


def test_alpha_is_dropped_not_blended_and_reported():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 4), np.uint8)
    rgb, note, *_ = decode(image_ref(save_and_open(Image.fromarray(pixels), "PNG")))
    np.testing.assert_array_equal(rgb, pixels[:, :, :3])
    assert note == ALPHA_DROPPED
    assert decode(image_ref(pixels))[1] == ALPHA_DROPPED
    assert decode(image_ref(save_and_open(Image.new("LA", (3, 3)), "PNG")))[1] == ALPHA_DROPPED
    palette = Image.new("P", (3, 3))
    assert decode(image_ref(save_and_open(palette, "PNG", transparency=b"\x00\x80")))[1] == ALPHA_DROPPED


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_values_are_scaled_not_clipped_and_reported(kind):
    deep = np.array([[0, 257, 32896], [65535, 1000, 128]], np.uint16)
    rgb, note, *_ = decode(image_ref(save_and_open(Image.fromarray(deep), kind)))
    np.testing.assert_array_equal(rgb[:, :, 0], [[0, 1, 128], [255, 4, 0]])
    assert note == SIXTEEN_BIT_SCALED


def test_exif_orientation_is_ignored():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(image_ref(save_and_open(image, "PNG", exif=exif)))[0].shape == (6, 5, 3)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((4, 4, 3)), "float64 of shape .*; expected uint8"),
        (np.zeros((3, 8, 8), np.uint8), "channels last"),
        (np.zeros((0, 8, 3), np.uint8), "shape"),
        (Image.new("F", (3, 3)), "floating-point"),
        (Image.fromarray(np.array([[200]], np.int32)), "32-bit pixels"),
        ("a string", "is a str"),
    ],
)
def test_pixels_of_unknown_range_or_shape_are_rejected(pixels, message):
    with pytest.raises(ImageDecodeError, match=message):
        decode(image_ref(pixels))


def test_a_decompression_bomb_is_rejected(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ImageDecodeError, match="exceeds limit"):
        decode(ImageRef(0, "bomb.png", lambda: save_and_open(Image.new("RGB", (50, 50)), "PNG")))


def test_a_zip_member_that_is_too_large_is_not_unpacked(tmp_path, monkeypatch):
    from frechet.images.sources import files

    monkeypatch.setattr(files, "MAX_IMAGE_BYTES", 1000)
    source = open_source(_zip(tmp_path, {"a.png": bytes(5000), "b.png": bytes(10)}))
    with pytest.raises(ImageDecodeError, match=r"a\.png: has more than 1000 bytes"):
        decode_all(source)


def test_a_zip_member_with_a_wrong_size_in_its_header_is_rejected(tmp_path):
    path = _zip(tmp_path, {"a.png": bytes(5000)})
    raw = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = raw.index(mark) + offset
        raw[at : at + 4] = struct.pack("<I", 10)
    path.write_bytes(raw)
    with pytest.raises(ImageDecodeError, match=r"a\.png"):
        decode_all(open_source(path))


# --- loading ----------------------------------------------------------------------------------------------------------


def batches(source, **changes):
    settings = {"size": 32, "batch_size": 7, "workers": 3, "skip_bad_images": False, **changes}
    return list(load_batches(source.iter_images(range(len(source))), resize.bilinear_half_pixel, **settings))


def test_batches_keep_the_order_and_never_cross_chunks():
    images = np.random.default_rng(0).integers(0, 256, (600, 4, 4, 3), np.uint8)
    loaded = batches(open_source(images), batch_size=100)
    assert [(batch.chunk_index, len(batch.image_refs)) for batch in loaded] == [
        (0, 100), (0, 100), (0, 56), (1, 100), (1, 100), (1, 56), (2, 88),
    ]  # fmt: skip
    assert [image_ref.index for batch in loaded for image_ref in batch.image_refs] == list(range(600))


@pytest.mark.parametrize(("batch_size", "workers", "largest"), [(64, 2, 32), (4, 2, 4), (8, 8, 4), (4, 64, 1)])
def test_a_thread_decodes_a_group_of_images_and_all_threads_have_work(monkeypatch, batch_size, workers, largest):
    submit, sizes = ThreadPoolExecutor.submit, []
    monkeypatch.setattr(
        ThreadPoolExecutor,
        "submit",
        lambda pool, fn, at, refs, outs: sizes.append(len(refs)) or submit(pool, fn, at, refs, outs),
    )
    images = np.zeros((256, 4, 4, 3), np.uint8)
    assert len(batches(open_source(images), batch_size=batch_size, workers=workers)) == 256 / batch_size
    assert set(sizes) == {largest}


@pytest.mark.parametrize(("batch_size", "ahead"), [(4, 4), (64, 4), (128, 2), (256, 2)])
def test_large_batches_are_decoded_less_far_ahead(batch_size, ahead):
    """The first batch is yielded when `ahead` batches after it have been started."""
    read = 0

    def iter_refs():
        nonlocal read
        for index in range(6 * batch_size):
            read += 1
            yield ImageRef(index, str(index), lambda: np.zeros((2, 2, 3), np.uint8))

    loading = load_batches(
        iter_refs(), resize.bilinear_half_pixel, size=2, batch_size=batch_size, workers=1, skip_bad_images=False
    )
    next(loading)
    loading.close()
    chunks = -(-(ahead + 1) * batch_size // CHUNK_SIZE)  # whole chunks are taken from the source
    assert read == min(6 * batch_size, chunks * CHUNK_SIZE)


def test_images_that_a_device_resizes_are_left_as_they_are():
    images = [np.full((4 + index, 5, 3), index, np.uint8) for index in range(6)]
    source = open_source([*images[:2], np.zeros((2, 2), np.float32), *images[2:]])
    (loaded,) = batches(
        source, batch_size=16, skip_bad_images=True, is_left_to_device=lambda height, width: (height, width) != (7, 5)
    )
    assert [image_ref.index for image_ref in loaded.image_refs] == [0, 1, 3, 4, 5, 6]
    assert loaded.image_checks["height"].tolist() == [4, 5, 6, 7, 8, 9]
    for index, (found, expected) in enumerate(zip(loaded.pixels, images, strict=True)):
        expected = np.full((32, 32, 3), 3, np.float32) if index == 3 else expected
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_a_bad_image_stops_the_run_by_default_and_is_named(folder):
    data = (folder / "002.png").read_bytes()
    (folder / "002.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageDecodeError, match=r"002\.png.*--on-bad-image skip \(on_bad_image=\)"):
        batches(open_source(folder))


def test_bad_images_can_be_skipped(folder):
    (folder / "002.png").write_text("not an image")
    (folder / "004.png").write_bytes(b"")
    loaded = batches(open_source(folder), skip_bad_images=True, batch_size=3)
    assert [image_ref.index for batch in loaded for image_ref in batch.image_refs] == [0, 1, 3, 5]
    assert [len(batch.pixels) for batch in loaded] == [2, 2]
    assert "002.png cannot be decoded: its content is not in a known image format" in loaded[0].skipped_images[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"\xff\xd8\xff\xe0" + bytes(396), r"starts like a JPEG file, .*\(400 bytes\); it may have been truncated"),
        (b"\x89PNG\r\n\x1a\n\0\0", "starts like a PNG file"),
        (b"RIFF\x10\0\0\0WEBPVP", "starts like a WebP file"),
        (b"II*\0\x08\0", "starts like a TIFF file"),
        (b"hello", "its content is not in a known image format"),
    ],
)
def test_a_file_that_is_not_recognised_is_described_by_its_start(tmp_path, content, reason):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageDecodeError, match=f"a.png cannot be decoded: .*{reason}"):
        batches(open_source(tmp_path))


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "TIFF"])
def test_only_the_first_frame_is_scored_and_this_is_reported(kind):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("white", "black", "red")]
    several = save_and_open(frames[0], kind, save_all=True, append_images=frames[1:])
    rgb, note, *_ = decode(image_ref(several))
    assert note == FIRST_FRAME_ONLY
    assert (rgb == 255).all()
    assert decode(image_ref(save_and_open(frames[0], kind)))[1] is None


def test_a_jpeg_with_a_depth_map_is_one_image():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("white", "black")]
    assert decode(image_ref(save_and_open(frames[0], "MPO", save_all=True, append_images=frames[1:])))[1] is None
