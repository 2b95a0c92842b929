"""Crops against the code in PIL that papers use, bit for bit, and everything that records or warns about them."""

import numpy as np
import pytest
from helpers import run
from PIL import Image

import frechet
from frechet.demo.photographs import NATURAL_PHOTOGRAPHS, OUT_OF_DOMAIN_PHOTOGRAPHS, _load_photograph
from frechet.errors import MismatchError, RequestError
from frechet.images.decode import decode
from frechet.images.image import ImageRef
from frechet.preprocessing.crop import CROPS, Crop


def adm_reference(pil_image, image_size):
    """center_crop_arr of ADM, DiT, SiT and RAE."""
    while min(*pil_image.size) >= 2 * image_size:
        pil_image = pil_image.resize(tuple(x // 2 for x in pil_image.size), resample=Image.BOX)
    scale = image_size / min(*pil_image.size)
    pil_image = pil_image.resize(tuple(round(x * scale) for x in pil_image.size), resample=Image.BICUBIC)
    arr = np.array(pil_image)
    crop_y = (arr.shape[0] - image_size) // 2
    crop_x = (arr.shape[1] - image_size) // 2
    return arr[crop_y : crop_y + image_size, crop_x : crop_x + image_size]


def center_crop_reference(image, size):
    """torchvision.transforms.functional.center_crop of an image that is large enough."""
    width, height = image.size
    top, left = round((height - size) / 2.0), round((width - size) / 2.0)
    return image.crop((left, top, left + size, top + size))


def torchvision_reference(image, size):
    """Resize(size) and CenterCrop(size) of a PIL image."""
    width, height = image.size
    if (width <= height and width == size) or (height <= width and height == size):
        resized = image
    elif width < height:
        resized = image.resize((size, int(size * height / width)), Image.BILINEAR)
    else:
        resized = image.resize((int(size * width / height), size), Image.BILINEAR)
    return np.array(center_crop_reference(resized, size))


def long_edge_reference(image, size):
    """CenterCropLongEdge() and Resize(size, LANCZOS)."""
    square = center_crop_reference(image, min(image.size))
    return np.array(square if square.size == (size, size) else square.resize((size, size), Image.LANCZOS))


def stretch_reference(image, size):
    """`scale` of EDM's dataset_tool.py."""
    return np.array(image.resize((size, size), Image.LANCZOS))


REFERENCES = {
    "adm": adm_reference,
    "torchvision": torchvision_reference,
    "long-edge": long_edge_reference,
    "stretch": stretch_reference,
}


def make_photographs(count=200):
    """Yield photographs of many sizes and modes: pieces of eleven, some smaller than the crops, two of 4,000 pixels."""
    random = np.random.default_rng(0)
    photographs = [_load_photograph(*each) for each in (*NATURAL_PHOTOGRAPHS, *OUT_OF_DOMAIN_PHOTOGRAPHS)]
    for index in range(count):
        whole = photographs[index % len(photographs)].convert("RGB")
        width, height = (int(random.integers(20, min(side, 500) + 1)) for side in whole.size)
        if index % 9 == 0:  # smaller than the crops
            width, height = (int(random.integers(9, 60)) for _ in range(2))
        left, top = int(random.integers(whole.width - width + 1)), int(random.integers(whole.height - height + 1))
        piece = whole.crop((left, top, left + width, top + height))
        if index in (50, 51):
            piece = whole.resize((4000, 2667) if index == 50 else (2001, 4000), Image.BILINEAR)
        if index % 11 == 1:
            piece = piece.convert("L")
        elif index % 11 == 2:
            piece.putalpha(piece.convert("L"))
        yield piece


@pytest.mark.slow
def test_crops_have_the_bits_of_the_code_in_pil():
    shapes, modes = set(), set()
    for index, image in enumerate(make_photographs()):
        size = (64, 97, 128)[index % 3]
        rgb = decode(ImageRef(0, "photograph", lambda image=image: image)).rgb
        shapes.add((image.width % 2, image.height % 2, image.width > image.height, min(image.size) < size))
        modes.add(image.mode)
        for name, reference in REFERENCES.items():
            cropped = Crop(name, size).apply(rgb)
            assert cropped.dtype == np.uint8
            np.testing.assert_array_equal(cropped, reference(image.convert("RGB"), size), err_msg=f"{name} {image}")
    assert len(shapes) == 16  # odd and even, landscape and portrait, smaller and larger
    assert modes == {"L", "RGB", "RGBA"}
    assert CROPS.keys() == REFERENCES.keys()


def test_halves_are_rounded_as_in_each_code():
    """An odd margin is cut half up, half down or half to even: three codes, three offsets."""
    columns = np.broadcast_to(np.arange(67, dtype=np.uint8)[None, :, None], (64, 67, 3)).copy()
    assert Crop("adm", 64).apply(columns)[0, 0, 0] == 1
    assert Crop("torchvision", 64).apply(columns)[0, 0, 0] == 2
    assert Crop("long-edge", 64).apply(columns)[0, 0, 0] == 2
    assert Crop("long-edge", 64).apply(columns[:, :65])[0, 0, 0] == 0


def test_images_of_the_size_of_the_crop_stay_as_they_are():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for name in CROPS:
        np.testing.assert_array_equal(Crop(name, 64).apply(image), image)


@pytest.fixture
def folders(tmp_path):
    """Photographs of several sizes, and the same cropped as ADM does, as files."""
    for index, image in enumerate(list(make_photographs(12))[1:9]):
        rgb = image.convert("RGB")
        for name, picture in (("whole", rgb), ("cropped", Image.fromarray(adm_reference(rgb, 32)))):
            (tmp_path / name).mkdir(exist_ok=True)
            picture.save(tmp_path / name / f"{index}.png")
    return tmp_path


@pytest.mark.slow
def test_only_the_same_crop_gives_zero_and_the_score_records_it(folders, toy_options):
    options = {**toy_options, "interval": "none", "design": "independent"}
    values = {}
    for name in (None, *CROPS):
        crop = {} if name is None else {"reference_crop": name, "size": 32}
        score = frechet.score(folders / "cropped", folders / "whole", **crop, **options)["fd"]
        values[name] = score.value
        assert score.provenance["reference"]["crop"] == (None if name is None else f"{name}(32)")
        assert score.provenance["generated"]["crop"] is None
        assert score.provenance["generated"]["sizes"] == {"32 x 32": 8}
    assert values["adm"] == pytest.approx(0, abs=1e-12)
    assert all(value > 1e-6 for name, value in values.items() if name != "adm")


@pytest.mark.slow
def test_crops_on_the_command_line(folders, toy_options):
    arguments = ["--extractor", "toy-name", "--weights", toy_options["weights"], "--interval", "none"]
    code, out, _ = run(
        "score", folders / "cropped", folders / "whole", "--crop", "adm", "--size", 32, *arguments
    )  # of cropped images, the crop changes nothing
    assert code == 0
    assert "adm(32) (generated), adm(32) (reference)" in out


@pytest.mark.slow
def test_statistics_record_the_crop(folders, toy_options):
    collected = frechet.collect(folders / "whole", crop="adm", size=32, **toy_options)
    collected.save(folders / "reference.npz")
    found = frechet.read_statistics(folders / "reference.npz")
    assert (found.crop, dict(found.sizes)) == ("adm(32)", {"32 x 32": 8})
    score = frechet.score(folders / "whole", found, crop="adm", size=32, interval="none", **toy_options)["fd"]
    assert score.value == pytest.approx(0, abs=1e-6)
    for options in ({"crop": "torchvision", "size": 32}, {"crop": "adm", "size": 31}):
        with pytest.raises(MismatchError, match=r"adm\(32\)"):
            frechet.score(folders / "whole", found, interval="none", **options, **toy_options)
    frechet.collect(folders / "whole", **toy_options).save(folders / "whole.npz")
    with pytest.raises(MismatchError, match="no crop"):
        frechet.score(folders / "whole", folders / "whole.npz", crop="adm", size=32, **toy_options)


@pytest.mark.slow
def test_work_directories_of_another_crop_are_rejected(folders, toy_options):
    options = {**toy_options, "work_dir": folders / "work", "interval": "none"}
    frechet.score(folders / "cropped", folders / "whole", reference_crop="adm", size=32, **options)
    with pytest.raises(RequestError, match=r"crop was adm\(32\) and is stretch\(32\)"):
        frechet.score(folders / "cropped", folders / "whole", reference_crop="stretch", size=32, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crop": "amd", "size": 32}, ("unknown crop 'amd'", "did you mean adm?")),
        ({"reference_crop": "amd", "size": 32}, ("unknown --reference-crop (reference_crop=) 'amd'", "adm?")),
        ({"crop": "adm"}, ("--crop (crop=) is adm", "size is missing", "--size")),
        ({"reference_crop": "adm"}, ("--reference-crop (reference_crop=) is adm", "size is missing")),
        ({"size": 32}, ("--size (size=) is 32", "no crop is given")),
        ({"crop": "adm", "size": 0}, ("--size (size=) is 0", "at least 1")),
    ],
)
def test_wrong_crops_are_rejected(folders, toy_options, options, words):
    with pytest.raises(RequestError) as caught:
        frechet.score(folders / "cropped", folders / "whole", **options, **toy_options)
    assert all(word in str(caught.value) for word in words), caught.value
    if "reference_crop" not in options:
        with pytest.raises(RequestError):
            frechet.collect(folders / "whole", **options, **toy_options)


@pytest.mark.slow
def test_a_crop_of_a_peers_statistics_is_rejected(folders, toy_options):
    own = frechet.collect(folders / "whole", **toy_options)
    np.savez(folders / "peer.npz", mu=own.mean, sigma=own.covariance)
    with pytest.raises(RequestError, match=r"--reference-crop \(reference_crop=\) is adm.*cannot be cropped"):
        frechet.score(folders / "whole", folders / "peer.npz", reference_crop="adm", size=32, **toy_options)
    with pytest.raises(RequestError, match=r"--crop \(crop=\) is adm, .* all inputs are statistics"):
        frechet.score(folders / "peer.npz", folders / "peer.npz", crop="adm", size=32)


def get_warnings(generated, reference, **options):
    return frechet.score(generated, reference, interval="none", **options)["fd"].warnings


@pytest.mark.slow
def test_differences_in_size_are_warned_about(folders, toy_options):
    many, square = folders / "whole", folders / "cropped"
    assert any("--reference-crop adm --size 32" in text for text in get_warnings(square, many, **toy_options))
    assert any("--generated-crop adm --size 32" in text for text in get_warnings(many, square, **toy_options))
    noise = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), np.uint8)
    assert any("16 x 16" in text and "32 x 32" in text for text in get_warnings(square, noise, **toy_options))
    cropped = get_warnings(square, many, reference_crop="adm", size=32, **toy_options)
    assert not any("crop and scale" in text for text in cropped)
    assert not any("crop and scale" in text for text in get_warnings(many, many, **toy_options))


@pytest.mark.slow
def test_enlarged_images_are_warned_about(folders, toy_options):
    warnings = get_warnings(folders / "cropped", folders / "whole", crop="adm", size=40, **toy_options)
    assert any(text.startswith("generated: enlarged to the 40 pixels of the crop in 8 images") for text in warnings)
