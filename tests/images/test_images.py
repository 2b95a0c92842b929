"""What can be read, in which order, and what is done to unusual pixels."""

import io
import os
import struct
import zipfile

import numpy as np
import pytest
from helpers import make_image_folder
from PIL import Image

from frechet.errors import ImageDecodeError, SourceError
from frechet.images.decode import ALPHA_DROPPED, FIRST_FRAME_ONLY, SIXTEEN_BIT_SCALED, decode
from frechet.images.image import ImageRef
from frechet.images.loader import load_batches
from frechet.images.sources.registry import open_source
from frechet.preprocessing import resize


def names(source):
    return [image_ref.label for image_ref in source.iter_images(range(len(source)))]


def read(source):
    return [decode(image_ref)[0] for image_ref in source.iter_images(range(len(source)))]


def test_a_folder_is_read_recursively_in_order_whatever_the_case(tmp_path):
    for name in ("b/2.PNG", "b/10.png", "a/x.Jpg", "z.TIFF", "0.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    for name in (".hidden.png", ".cache/1.png", "notes.txt", "b/._2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no image")
    found = names(open_source(tmp_path))
    assert [os.path.relpath(name, tmp_path) for name in found] == ["0.webp", "a/x.Jpg", "b/10.png", "b/2.PNG", "z.TIFF"]


def test_a_link_back_into_the_tree_ends(tmp_path):
    make_image_folder(tmp_path / "images")
    (tmp_path / "images" / "loop").symlink_to(tmp_path / "images")
    assert len(open_source(tmp_path / "images")) == 6


def test_folder_zip_npz_and_npy_give_the_same_pixels(tmp_path):
    folder = make_image_folder(tmp_path / "images")
    pixels = read(open_source(folder))
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in sorted(folder.iterdir(), reverse=True):
            archive.write(path, f"inner/{path.name}")
        archive.writestr("__MACOSX/._000.png", "junk")
    np.savez(tmp_path / "stored.npz", arr_0=np.stack(pixels))
    np.savez_compressed(tmp_path / "deflated.npz", np.stack(pixels), labels=np.arange(6))
    np.save(tmp_path / "images.npy", np.stack(pixels))
    for name in ("images.zip", "stored.npz", "deflated.npz", "images.npy"):
        np.testing.assert_array_equal(read(open_source(tmp_path / name)), pixels)
    np.testing.assert_array_equal(read(open_source(np.stack(pixels))), pixels)
    np.testing.assert_array_equal(read(open_source(Image.fromarray(p) for p in pixels)), pixels)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_chosen_images_of_a_streamed_array(tmp_path, save):
    stack = np.random.default_rng(0).integers(0, 256, (9, 5, 4, 3), np.uint8)
    save(tmp_path / "s.npz", arr_0=stack)
    source = open_source(tmp_path / "s.npz")
    got = [(p.index, p.label, decode(p)[0]) for p in source.iter_images([1, 4, 8])]
    assert [(index, name.rpartition("[")[2]) for index, name, _ in got] == [(0, "1]"), (1, "4]"), (2, "8]")]
    np.testing.assert_array_equal([image for *_, image in got], stack[[1, 4, 8]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "absent", "no such file or folder"),
        (lambda p: (p / "empty").mkdir() or p / "empty", "it is empty"),
        (lambda p: _text(p / "docs" / "readme.md") and p / "docs", r"1 files \(1 x .md; the first is readme.md\)"),
        (lambda p: _text(p / "a.zip"), "named .zip but cannot be read"),
        (lambda p: _text(p / "a.npz"), "named .npz but cannot be read"),
        (lambda p: _text(p / "a.npy"), "not a NumPy array file"),
        (lambda p: _text(p / "a.rar"), "file of type .rar"),
        (lambda p: _text(p / "a.png"), "One image has no distribution"),
        (lambda p: _npz(p, arr_0=np.zeros((3, 4, 4, 3))), "float64; expected uint8"),
        (lambda p: _npz(p, arr_0=np.zeros((3, 4, 4), np.uint8)), r"shape \(3, 4, 4\)"),
        (lambda p: _npz(p, arr_0=np.zeros((3, 3, 8, 8), np.uint8)), "channels last"),
        (lambda p: _npz(p, arr_0=np.zeros((0, 8, 8, 3), np.uint8)), "none of them zero"),
        (lambda p: _npz(p, arr_0=np.array([object()] * 3)), "Python objects"),
        (lambda p: _npz(p, pictures=np.zeros(3)), "it has pictures"),
        (lambda p: _zip(p, {"a.txt": b"x"}), "holds no images"),
    ],
)
def test_what_holds_no_images_is_refused_with_what_was_seen(tmp_path, make, message):
    with pytest.raises(SourceError, match=message):
        open_source(make(tmp_path))


@pytest.mark.parametrize("what", [3, None, b"bytes", {"a": 1}, Image.new("RGB", (2, 2))])
def test_objects_that_are_no_images_are_refused(what):
    with pytest.raises(SourceError, match="expected a path, or an iterable"):
        open_source(what)


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


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(io.BytesIO(file.getvalue()))


def test_modes_become_rgb_as_pillow_converts_them():
    colour = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8))
    for image in (
        colour,
        colour.convert("L"),
        colour.convert("1"),
        saved(colour.convert("P"), "PNG"),
        saved(colour.convert("CMYK"), "JPEG"),
        saved(colour, "JPEG", quality=30),
        colour.convert("HSV"),
        colour.convert("YCbCr"),
    ):
        rgb, note, _ = decode(image_ref(image))
        np.testing.assert_array_equal(rgb, np.asarray(image.convert("RGB")))
        assert note is None


def test_alpha_is_dropped_not_blended_and_told():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 4), np.uint8)
    rgb, note, _ = decode(image_ref(saved(Image.fromarray(pixels), "PNG")))
    np.testing.assert_array_equal(rgb, pixels[:, :, :3])
    assert note == ALPHA_DROPPED
    assert decode(image_ref(pixels))[1] == ALPHA_DROPPED
    assert decode(image_ref(saved(Image.new("LA", (3, 3)), "PNG")))[1] == ALPHA_DROPPED
    palette = Image.new("P", (3, 3))
    assert decode(image_ref(saved(palette, "PNG", transparency=b"\x00\x80")))[1] == ALPHA_DROPPED


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped_and_told(kind):
    deep = np.array([[0, 257, 32896], [65535, 1000, 128]], np.uint16)
    rgb, note, _ = decode(image_ref(saved(Image.fromarray(deep), kind)))
    np.testing.assert_array_equal(rgb[:, :, 0], [[0, 1, 128], [255, 4, 0]])
    assert note == SIXTEEN_BIT_SCALED


def test_exif_orientation_is_left_alone():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(image_ref(saved(image, "PNG", exif=exif)))[0].shape == (6, 5, 3)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((4, 4, 3)), "float64; expected uint8"),
        (np.zeros((3, 8, 8), np.uint8), "channels last"),
        (np.zeros((0, 8, 3), np.uint8), "shape"),
        (Image.new("F", (3, 3)), "floating-point"),
        (Image.fromarray(np.array([[200]], np.int32)), "32-bit values"),
        ("a string", "is a str"),
    ],
)
def test_pixels_of_unknown_meaning_are_refused(pixels, message):
    with pytest.raises(ImageDecodeError, match=message):
        decode(image_ref(pixels))


def test_a_bomb_is_refused_by_pillows_guard(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ImageDecodeError, match="exceeds limit"):
        decode(ImageRef(0, "bomb.png", lambda: saved(Image.new("RGB", (50, 50)), "PNG")))


def test_a_zip_member_that_unpacks_to_too_much_is_not_unpacked(tmp_path, monkeypatch):
    from frechet.images.sources import files

    monkeypatch.setattr(files, "MAX_IMAGE_BYTES", 1000)
    source = open_source(_zip(tmp_path, {"a.png": bytes(5000), "b.png": bytes(10)}))
    with pytest.raises(ImageDecodeError, match=r"a\.png: has more than 1000 bytes"):
        read(source)


def test_a_zip_member_that_lies_about_its_size_is_refused(tmp_path):
    path = _zip(tmp_path, {"a.png": bytes(5000)})
    raw = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = raw.index(mark) + offset
        raw[at : at + 4] = struct.pack("<I", 10)
    path.write_bytes(raw)
    with pytest.raises(ImageDecodeError, match=r"a\.png"):
        read(open_source(path))


# --- resizing ---------------------------------------------------------------------------------------------------------


def dense(taps, given):
    matrix = np.zeros((len(taps.first), given))
    for row, (first, second, weight) in enumerate(zip(*taps, strict=True)):
        matrix[row, first] += 1 - weight
        matrix[row, second] += weight
    return matrix


@pytest.mark.parametrize("taps", [resize.half_pixel_taps, resize.tf1_taps])
@pytest.mark.parametrize("shape", [(32, 32), (40, 500), (500, 40), (299, 299), (1, 7), (700, 640)])
def test_a_bilinear_resize_is_its_matrices(taps, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    function = {resize.half_pixel_taps: resize.bilinear_half_pixel, resize.tf1_taps: resize.bilinear_tf1}[taps]
    out = np.empty((299, 299, 3), np.float32)
    function(image, out)
    rows, columns = dense(taps(shape[0], 299), shape[0]), dense(taps(shape[1], 299), shape[1])
    expected = np.einsum("ih,hwc,jw->ijc", rows, image, columns, optimize=True)
    np.testing.assert_allclose(out, expected, atol=1e-4)


def test_half_pixel_taps_by_hand():
    # 2 -> 4: centres at -.25 (clamped to 0), .25, .75, 1.25
    np.testing.assert_allclose(dense(resize.half_pixel_taps(2, 4), 2), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])


def test_corner_taps_by_hand():
    # 2 -> 4: sources at 0, .5, 1, 1.5 (clamped)
    np.testing.assert_allclose(dense(resize.tf1_taps(2, 4), 2), [[1, 0], [0.5, 0.5], [0, 1], [0, 1]])


def test_the_bicubic_resize_is_neither_rounded_nor_out_of_range():
    image = (np.random.default_rng(0).random((50, 70, 3)) > 0.5).astype(np.uint8) * 255
    out = np.empty((224, 224, 3), np.float32)
    resize.bicubic_pillow(image, out)
    assert out.min() == 0
    assert out.max() == 255
    assert np.abs(out - out.round()).max() > 0.1


# --- loading ----------------------------------------------------------------------------------------------------------


def batches(source, **changes):
    settings = {"size": 32, "batch_size": 7, "workers": 3, "skip_bad_images": False, **changes}
    return list(load_batches(source.iter_images(range(len(source))), resize.bilinear_half_pixel, **settings))


def test_batches_keep_the_order_and_never_cross_a_part():
    images = np.random.default_rng(0).integers(0, 256, (600, 4, 4, 3), np.uint8)
    loaded = batches(open_source(images), batch_size=100)
    assert [(batch.chunk_index, len(batch.image_refs)) for batch in loaded] == [
        (0, 100), (0, 100), (0, 56), (1, 100), (1, 100), (1, 56), (2, 88),
    ]  # fmt: skip
    assert [image_ref.index for batch in loaded for image_ref in batch.image_refs] == list(range(600))


def test_a_bad_image_stops_by_default_and_is_named(folder):
    data = (folder / "002.png").read_bytes()
    (folder / "002.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageDecodeError, match=r"002\.png.*--on-bad-image skip \(on_bad_image=\)"):
        batches(open_source(folder))


def test_a_bad_image_can_be_left_out(folder):
    (folder / "002.png").write_text("not an image")
    (folder / "004.png").write_bytes(b"")
    loaded = batches(open_source(folder), skip_bad_images=True, batch_size=3)
    assert [image_ref.index for batch in loaded for image_ref in batch.image_refs] == [0, 1, 3, 5]
    assert [len(batch.pixels) for batch in loaded] == [2, 2]
    assert "002.png: is not an image" in loaded[0].skipped_images[0]


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_counts_and_that_is_told(kind):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("white", "black", "red")]
    several = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    rgb, note, _ = decode(image_ref(several))
    assert note == FIRST_FRAME_ONLY
    assert (rgb == 255).all()
    assert decode(image_ref(saved(frames[0], kind)))[1] is None


def test_a_telephones_photograph_with_a_map_beside_it_is_one_image():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("white", "black")]
    assert decode(image_ref(saved(frames[0], "MPO", save_all=True, append_images=frames[1:])))[1] is None
