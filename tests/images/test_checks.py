"""Data-quality checks made while images are decoded: duplicates, floats cast to uint8, file formats."""

import struct
import zlib

import numpy as np
import pytest
from helpers import make_image_folder
from PIL import Image
from toy import TOY

import frechet
from frechet.errors import RequestError
from frechet.evaluation.pair_checks import iter_pair_notes, iter_sample_size_notes
from frechet.execution.collect import collect_statistics
from frechet.execution.settings import Settings
from frechet.features.spec import FeatureSpec
from frechet.images.checks import (
    IMAGE_CHECK,
    ORDINARY,
    check_image,
    classify_compression,
    count_formats,
    find_duplicates,
    find_float_casts,
    quality_notes,
)
from frechet.images.decode import decode
from frechet.images.sources.registry import open_source
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.npz_format import read_statistics

pytestmark = pytest.mark.usefixtures("small_inputs")

OFFLINE = {"extractor": "efficientnet-lite0"}
RANDOM = np.random.default_rng(0)


def image_checks(images, kind=None):
    return np.array([check_image(image, kind) for image in images], IMAGE_CHECK)


@pytest.mark.parametrize("position", [0, 1, 777, 12_345, 256 * 256 * 3 - 1])
def test_a_single_ordinary_value_makes_an_image_ordinary(position):
    """Wherever it is, although few values are tested first."""
    image = np.full((256, 256, 3), 255, np.uint8)
    assert check_image(image, None)[2] != ORDINARY
    image.reshape(-1)[position] = 128
    assert check_image(image, None)[2] == ORDINARY


def photographs(n=40, size=24):
    """Smooth images that use the whole range, including exactly 0 and 255, as those of a camera."""
    waves = np.sin(
        RANDOM.uniform(0.1, 0.5, (n, 1, 1, 3)) * np.arange(size)[None, :, None, None]
        + RANDOM.uniform(0, 6, (n, 1, 1, 1))
    )
    noise = RANDOM.normal(0, 0.1, (n, size, size, 3))
    return np.clip(0.5 + 0.6 * waves + noise, 0, 1)


def cast(x):
    """The result of `astype(uint8)` on x86-64, modulo 256 (on other processors, negative values may become 0)."""
    return np.trunc(x).astype(np.int64).astype(np.uint8)


MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: cast(x),  # [0, 1]
        lambda x: cast(x * 0.999),  # [0, 1): only zeros remain
        lambda x: cast(2 * x - 1),  # [-1, 1]
        lambda x: cast(2.1 * x - 1.05),  # output of a diffusion model, not clipped
        lambda x: cast((x - MEAN) / STD),  # torchvision's normalisation
        lambda x: np.where(2 * x - 1 < 0, 0, cast(2 * x - 1)).astype(np.uint8),  # negative values saturated
    ],
    ids=["unit", "below one", "symmetric", "beyond", "normalised", "saturated"],
)
def test_floats_cast_to_uint8_are_detected(spoil):
    images = spoil(photographs())
    assert len(find_float_casts(image_checks(images))) == len(images)
    notes = quality_notes(image_checks(images), lambda indices: ["first.png"] * len(indices))
    (note,) = (note for note in notes if "floats" in note)
    assert "40 of 40" in note
    assert "first.png" in note
    assert "(x * 255).round().astype('uint8')" in note


def strokes(n=40, levels=2):
    """Black images with white strokes; with more than two levels their edges are grey, as in MNIST."""
    images = np.zeros((n, 28, 28, 3), np.uint8)
    for image in images:
        at = RANDOM.integers(4, 20)
        image[4:24, at : at + 4] = 255
        if levels > 2:
            image[4:24, at] = image[4:24, at + 3] = RANDOM.integers(60, 200)
    return images


@pytest.mark.parametrize(
    "images",
    [
        (photographs() * 255).astype(np.uint8),
        (photographs() * 20).astype(np.uint8),  # dark ones
        strokes(),
        strokes(levels=3),
        np.concatenate([strokes(20), np.zeros((20, 28, 28, 3), np.uint8)]),  # masks, many of them empty
        np.concatenate([(photographs(32) * 255).astype(np.uint8), np.zeros((8, 24, 24, 3), np.uint8)]),  # black frames
        np.concatenate([(photographs(36) * 255).astype(np.uint8), cast(photographs(4))]),  # a few casts
    ],
    ids=["photographs", "dark", "line art", "mnist", "masks", "black frames", "a few"],
)
def test_dark_binary_and_black_images_are_not_taken_for_casts(images):
    assert not len(find_float_casts(image_checks(images)))


def test_a_cast_is_reported_if_nearly_all_images_have_it():
    mixed = np.concatenate([cast(2 * photographs(98) - 1), (photographs(2) * 255).astype(np.uint8)])
    assert len(find_float_casts(image_checks(mixed))) == 98


def test_one_ordinary_pixel_anywhere_makes_an_image_ordinary():
    """The probe tests some of the pixels; if all of them are extreme, every pixel is tested."""
    image = np.zeros((100, 100, 3), np.uint8)
    image[57, 31, 1] = 100
    assert not len(find_float_casts(image_checks([image] * 3)))


def test_duplicates_are_counted_and_the_first_pair_is_named():
    images = (photographs(100) * 255).astype(np.uint8)
    images[70] = images[20]
    images[60] = images[30] = images[10]
    assert find_duplicates(image_checks(images)).tolist() == [10, 20, 30, 60, 70]
    (note,) = quality_notes(image_checks(images), lambda indices: [f"{index}.png" for index in indices])
    assert "5 of 100 images" in note
    assert "30.png == 10.png" in note


def test_few_duplicates_are_not_reported():
    images = RANDOM.integers(0, 256, (201, 4, 4, 3), np.uint8)
    images[5] = images[3]
    assert not len(find_duplicates(image_checks(images)))
    assert len(find_duplicates(image_checks(images[:199]))) == 2


def test_images_with_equal_bytes_but_different_shapes_differ():
    black = [np.zeros((2, 6, 3), np.uint8), np.zeros((6, 2, 3), np.uint8), np.zeros((3, 4, 3), np.uint8)]
    assert not len(find_duplicates(image_checks(black)))


@pytest.mark.parametrize("position", [0, 17, 2303, 2304, 4799])
def test_one_bit_anywhere_changes_the_digest(position):
    image = RANDOM.integers(0, 256, (40, 40, 3), np.uint8)
    other = image.copy()
    other.reshape(-1)[position] ^= 1
    assert not len(find_duplicates(image_checks([image, other])))


def test_the_format_is_read_from_the_bytes_not_from_the_extension(tmp_path):
    for index, kind in enumerate(("JPEG", "JPEG", "PNG", "WEBP")):
        Image.fromarray(RANDOM.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / f"{index}.png", kind)
    decoded = [decode(image_ref) for image_ref in open_source(tmp_path).iter_images(range(4))]
    found = np.array([check_image(image.rgb, image.format) for image in decoded], IMAGE_CHECK)
    assert count_formats(found) == {"JPEG": 2, "PNG": 1, "VP8": 1}  # lossy WebP
    assert count_formats(image_checks([image.rgb for image in decoded])) == {}  # arrays do not come from files


def test_compression_is_that_of_nearly_all_images():
    assert classify_compression({"JPEG": 96, "PNG": 4}, 100) == "lossy"
    assert classify_compression({"PNG": 90, "BMP": 6}, 100) == "lossless"
    for formats in ({"JPEG": 90, "PNG": 10}, {"JPEG": 50}, {"WEBP": 100}, {"TIFF": 100}, {}):
        assert classify_compression(formats, 100) is None
    assert classify_compression({"PNG": 5}, None) is None


def make_statistics(n=100, **formats):
    mean = np.random.default_rng().standard_normal(3)  # differs per call, so that no set is compared with itself
    return FeatureStatistics(mean=mean, covariance=np.eye(3), n=n, spec=FeatureSpec(), label="s", formats=formats)


def test_jpeg_compared_with_png_is_reported_in_both_directions():
    for one, other, word in (
        (make_statistics(JPEG=100), make_statistics(PNG=100), "generated"),
        (make_statistics(PNG=100), make_statistics(JPEG=100), "reference"),
    ):
        (note,) = iter_pair_notes(one, other)
        assert note.startswith(f"the {word} images are JPEG")
        assert "arXiv:2104.11222" in note
    for one, other in (
        (make_statistics(PNG=100), make_statistics(PNG=100)),
        (make_statistics(JPEG=100), make_statistics(JPEG=99, PNG=1)),
        (make_statistics(PNG=100), make_statistics()),
    ):
        assert not list(iter_pair_notes(one, other))


@pytest.mark.parametrize(
    ("generated", "reference", "limited"),
    [
        (100, 500, "generated"),
        (50_000, 9_999, "reference"),
        (100, 499, None),
        (10_000, 1_000_000, None),
        (None, 500, None),
        (100, None, None),
    ],
)
def test_the_input_with_far_fewer_images_is_named(generated, reference, limited):
    notes = list(iter_sample_size_notes(make_statistics(generated), make_statistics(reference)))
    assert [f"the {limited} sample size limits" in note for note in notes] == ([True] if limited else [])


# --- end to end ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flawed_folders(tmp_path_factory):
    """A folder of PNG images cast from floats, and a folder of JPEG images with a duplicate."""
    root = tmp_path_factory.mktemp("flawed_folders")
    folder = make_image_folder(root / "cast", 0)
    for index, image in enumerate(cast(2 * photographs(6, 40) - 1)):
        Image.fromarray(image).save(folder / f"{index}.png")
    (root / "jpeg").mkdir()
    for index in (0, 1, 2, 3, 4, 2):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 32, 3), np.uint8)
        Image.fromarray(pixels).save(root / "jpeg" / f"{len(list((root / 'jpeg').iterdir()))}.jpg")
    return folder, root / "jpeg"


def data_warnings(score):
    return [warning for warning in score.warnings if "feature dimensions" not in warning]


@pytest.mark.slow
def test_a_score_reports_each_mistake_in_its_inputs_once(flawed_folders):
    warnings = data_warnings(frechet.score(*flawed_folders, **OFFLINE)["fd"])
    assert [warning.partition(":")[0] for warning in warnings[:2]] == ["generated", "reference"]
    assert "look like floats" in warnings[0]
    assert "0.png" in warnings[0]
    assert "2 of 6 images are identical" in warnings[1]
    assert f"{flawed_folders[1] / '5.jpg'} == {flawed_folders[1] / '2.jpg'}" in warnings[1]
    assert warnings[2].startswith("the reference images are JPEG")
    assert warnings[3].startswith("the generated images are")
    assert "40 x 32" in warnings[3]
    assert len(warnings) == 4


@pytest.mark.slow
def test_threads_and_batches_do_not_change_the_warnings(flawed_folders):
    expected = data_warnings(frechet.score(*flawed_folders, **OFFLINE)["fd"])
    for batch_size, workers in ((1, 1), (2, 5)):
        assert (
            data_warnings(frechet.score(*flawed_folders, batch_size=batch_size, workers=workers, **OFFLINE)["fd"])
            == expected
        )


@pytest.mark.slow
def test_labels_are_right_if_images_were_skipped(flawed_folders, tmp_path):
    """Indices count the images that could be decoded; labels are those of the source."""
    for path in flawed_folders[1].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "1.jpg").write_text("broken")
    (note,) = frechet.collect(tmp_path, on_bad_image="skip", **OFFLINE).notes
    assert f"{tmp_path / '5.jpg'} == {tmp_path / '2.jpg'}" in note


@pytest.mark.slow
def test_stored_statistics_give_the_same_warnings(flawed_folders, tmp_path):
    frechet.collect(flawed_folders[1], **OFFLINE).save(tmp_path / "reference.npz")
    assert read_statistics(tmp_path / "reference.npz").formats == {"JPEG": 6}
    stored = data_warnings(frechet.score(flawed_folders[0], tmp_path / "reference.npz", **OFFLINE)["fd"])
    assert stored == data_warnings(frechet.score(*flawed_folders, **OFFLINE)["fd"])


@pytest.mark.slow
def test_a_set_compared_with_itself_is_reported(flawed_folders):
    same = data_warnings(frechet.score(flawed_folders[1], flawed_folders[1], **OFFLINE)["fd"])
    different = data_warnings(frechet.score(*flawed_folders, **OFFLINE)["fd"])
    assert [sum("compared with itself" in warning for warning in warnings) for warnings in (same, different)] == [1, 0]


def write_16_bit(folder, largest, mode="grey", count=3):
    """Write PNG files with 16 bits per channel whose values are at most `largest`, which some have."""
    for number in range(count):
        values = np.random.default_rng(number).integers(0, largest + 1, (9, 8), np.uint16)
        values[0, 0] = largest
        if mode == "grey":
            Image.fromarray(values).save(folder / f"{number}.png")
        else:
            (folder / f"{number}.png").write_bytes(encode_16_bit_png(np.stack([values] * 3, axis=2)))


def encode_16_bit_png(rgb):
    """Encode (h, w, 3) uint16 as PNG, which Pillow cannot write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = rgb.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in rgb)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def collect_notes(folder):
    return collect_statistics(open_source(folder), Settings(), TOY).notes


@pytest.mark.parametrize("mode", ["grey", "colour"])
@pytest.mark.parametrize(
    ("largest", "bits"), [(4095, 12), (3007, 12), (1023, 10), (255, 8), (4351, None), (65535, None)]
)
def test_values_that_do_not_use_16_bits_are_reported(tmp_path, mode, largest, bits):
    write_16_bit(tmp_path, largest, mode)
    notes, first = collect_notes(tmp_path), tmp_path / "0.png"
    assert sum(f"16-bit values scaled to 8 bits in 3 images (the first: {first})" in note for note in notes) == 1
    found = [note for note in notes if "16 bits per channel" in note]
    assert len(found) == (bits is not None)
    if bits:
        shown = f"{largest:,}" if mode == "grey" else f"{largest | 255:,}"  # of colours, Pillow keeps the high byte
        assert f"the 3 images with 16 bits per channel (the first: {first}) exceeds {shown} of 65,535" in found[0]
        assert f"{bits}-bit values. Multiply the values by 65535 / {2**bits - 1}" in found[0]
        assert not any("floats" in note for note in notes)  # although few values are left of 8 bits


def test_images_among_which_one_uses_16_bits_are_not_reported(tmp_path):
    write_16_bit(tmp_path, 4095)
    Image.fromarray(np.full((9, 8), 5000, np.uint16)).save(tmp_path / "bright.png")
    assert not any("16 bits per channel" in note for note in collect_notes(tmp_path))
    (tmp_path / "bright.png").unlink()
    make_image_folder(tmp_path / "8-bit", count=2)
    assert any("the 3 images with 16 bits per channel" in note for note in collect_notes(tmp_path))


@pytest.mark.parametrize(
    ("largest", "fix"),
    [
        (4095, "at most 4,095, as in 12-bit images: (x * (255 / 4095)).round().astype('uint8')"),
        (1000, "at most 1,000, as in 10-bit images: (x * (255 / 1023)).round().astype('uint8')"),
        (255, "at most 255, as in 8-bit images: x.astype('uint8')"),
        (65535, "For 16-bit images: (x // 257).astype('uint8')"),
    ],
)
def test_arrays_of_16_bits_are_rejected_with_the_fix_for_their_range(largest, fix):
    images = np.full((4, 8, 8, 3), largest, np.uint16)
    with pytest.raises(RequestError) as caught:
        open_source(images)
    assert fix in str(caught.value)
    assert eval(fix.rpartition(": ")[2], {"x": images}).max() == (249 if largest == 1000 else 255)
