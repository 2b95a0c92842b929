"""Claims whose settings are known, computed by `frechet.score` or NumPy on images that the test prepares; diagnose must find the settings."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers import run
from PIL import Image
from seeded_weights import write_pth

import frechet
from frechet.errors import ImageDecodeError, RequestError
from frechet.evaluation.diagnosis import prepare
from frechet.evaluation.diagnosis.claim import Claim
from frechet.evaluation.diagnosis.quick import can_match
from frechet.execution.settings import Settings
from frechet.features.ops_model import OpsModel
from frechet.features.registry import Extractor, register_extractor
from frechet.networks.weights_file import WeightsFile

SIZE = 20
pytestmark = pytest.mark.usefixtures("without_type_checks")  # hundreds of equal distances per test
KERNEL = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
PREPROCESSINGS = ("pytorch-fid", "tensorflow", "clean", "torchmetrics")
CROPS = ("none", "adm", "torchvision", "long-edge", "stretch")


def patches(ops, images, weights, layers):
    """Return 2 features of each of 16 patches, (n, 32)."""
    return ops.flatten(ops.conv(ops.from_nhwc(images), *weights["patch"], stride=4, activation="relu"))


@pytest.fixture
def toy(extractor_table, tmp_path):
    """The options of `frechet.score` for a small extractor with all four preprocessings."""
    weights = write_pth(tmp_path / "toy.pth", {"patch.weight": KERNEL, "patch.bias": np.zeros(2, np.float32)})
    row = Extractor(
        title="Patches",
        model=OpsModel(
            function=patches,
            conv_layers=lambda: iter([("patch", "patch.weight", "")]),
            weights_file=WeightsFile(name="toy.pth", sha256="0"),
        ),
        layers={"32": 32},
        default_layer="32",
        input_size=16,
        preprocessings=PREPROCESSINGS,
    )
    register_extractor("patches", row)
    return {"extractor": "patches", "weights": weights}


def make_images(count, seed, low, high):
    """Return smooth images with noise, of random sizes from `low` to `high` - 1."""
    random = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        height, width = random.integers(low, high, 2)
        y, x = np.mgrid[0:height, 0:width] / 30
        waves = [np.sin(x * random.normal(1, 0.5) + y * random.normal(1, 0.5) + phase) for phase in random.random(3)]
        pixels = 127 + 80 * np.stack(waves, -1) + random.normal(0, 25, (height, width, 3))
        images.append(pixels.clip(0, 255).astype(np.uint8))
    return images


SQUARES = np.stack(make_images(30, 1, SIZE, SIZE + 1))
RAW = make_images(30, 2, 24, 60)
REFERENCE = make_images(40, 3, 30, 90)
# multiples of half a value, at which the roundings differ
FLOATS = (np.random.default_rng(4).integers(0, 511, SQUARES.shape) / 2 / 127.5 - 1).astype(np.float32)
ROUNDINGS = {
    "round": lambda x: np.rint((x + np.float32(1)) * np.float32(127.5)).astype(np.uint8),
    "truncate": lambda x: (x * np.float32(127.5) + np.float32(128)).clip(0, 255).astype(np.uint8),
    "floor": lambda x: ((x + np.float32(1)) / np.float32(2) * np.float32(255)).astype(np.uint8),
}


def name_settings(**changes):
    settings = {
        "preprocessing": "tensorflow",
        "generated_crop": "none",
        "reference_crop": "adm",
        "rounding": "none",
        "order": "as read",
        "num_images": "all",
    }
    return {**settings, **changes}


def draw_combination(number):
    """Draw settings at random, for squares, for images of many sizes and for floating-point images in turn."""
    random = np.random.default_rng(number)
    kind = ("squares", "raw", "floats")[number % 3]
    order, count = [("as read", "all"), ("as read", "20"), ("random", "20")][random.integers(3)]
    return kind, {
        "preprocessing": str(random.choice(PREPROCESSINGS)),
        "generated_crop": str(random.choice(CROPS)) if kind == "raw" else "none",
        "reference_crop": str(random.choice(CROPS)),
        "rounding": str(random.choice(list(ROUNDINGS))) if kind == "floats" else "none",
        "order": order,
        "num_images": count,
    }


def compute_claim(images, settings, toy):
    """Compute the value that these settings give, from two calls of `frechet.collect`."""

    def collect(images, crop, **options):
        crops = {} if crop == "none" else {"crop": crop, "size": SIZE}
        return frechet.collect(images, preprocessing=settings["preprocessing"], **crops, **options, **toy)

    if settings["order"] == "random":
        generated = collect(images, settings["generated_crop"], num_images=20)
    else:
        generated = collect(images[:20] if settings["num_images"] == "20" else images, settings["generated_crop"])
    reference = collect(REFERENCE, settings["reference_crop"])
    return frechet.score_statistics(generated, reference, interval="none")["fd"].value


def name_crops(settings):
    """Write crops as diagnose does, with their size."""
    return {
        key: value if value == "none" or "crop" not in key else f"{value}({SIZE})" for key, value in settings.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "quick"), [(number, False) for number in range(12)] + [(4, True), (5, True), (6, True)]
)
def test_the_combination_of_a_claim_is_found(toy, number, quick):
    kind, settings = draw_combination(number)
    given = {"squares": SQUARES, "raw": RAW, "floats": FLOATS}[kind]
    images = ROUNDINGS[settings["rounding"]](given) if kind == "floats" else given
    claimed = compute_claim(images, settings, toy)

    diagnosis = frechet.diagnose(given, REFERENCE, claimed=claimed, size=SIZE, counts=[20], quick=quick, **toy)

    assert diagnosis.verdict == "match"
    (match,) = diagnosis.matches
    assert name_crops(settings) in (match.settings, *match.equivalent)
    assert diagnosis.combinations[0] is match


@pytest.mark.slow
@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("change", ["blurred", "inverted"])
def test_a_claim_that_no_combination_gives(toy, change, quick):
    def blur(image):
        return np.asarray(Image.fromarray(image).resize((3, 3)).resize((SIZE, SIZE)))

    images = [blur(image) if change == "blurred" else 255 - image for image in SQUARES]
    claimed = compute_claim(images, name_settings(), toy)
    diagnosis = frechet.diagnose(SQUARES, REFERENCE, claimed=claimed, counts=[20], quick=quick, **toy)
    assert diagnosis.verdict == "none"
    assert not diagnosis.matches
    assert not diagnosis.close
    assert diagnosis.combinations[0].verdict == "far"


@pytest.mark.slow
def test_a_claim_computed_with_numpy(toy):
    """The value of images resized by Pillow, a convolution in float64 and SciPy's square root; no code of frechet."""
    from scipy.linalg import sqrtm

    def compute_features(images):
        small = [[Image.fromarray(image[..., c].astype(np.float32)) for c in range(3)] for image in images]
        x = np.stack(
            [[np.asarray(c.resize((16, 16), Image.Resampling.BICUBIC)).clip(0, 255) for c in image] for image in small]
        )
        blocks = ((x.astype(np.float64) - 128) / 128).reshape(-1, 3, 4, 4, 4, 4)  # image, channel, row, y, column, x
        return np.maximum(np.einsum("ncrykx,dcyx->nrkd", blocks, KERNEL.astype(np.float64)), 0).reshape(len(images), -1)

    def crop(image):
        height, width = image.shape[:2]
        size = min(height, width)
        top, left = round((height - size) / 2), round((width - size) / 2)
        square = Image.fromarray(image[top : top + size, left : left + size])
        return np.asarray(square.resize((SIZE, SIZE), Image.Resampling.LANCZOS))

    x, y = compute_features(SQUARES), compute_features([crop(image) for image in REFERENCE])
    root = sqrtm(np.cov(x.T) @ np.cov(y.T) + 0j)
    claimed = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(np.cov(x.T) + np.cov(y.T)) - 2 * np.trace(root).real
    diagnosis = frechet.diagnose(SQUARES, REFERENCE, claimed=f"{claimed:.5g}", **toy)
    (match,) = diagnosis.matches
    assert match.settings["preprocessing"] == "clean"
    assert match.settings["reference_crop"] == "long-edge(20)"


@pytest.mark.slow
def test_the_gap_is_attributed_to_each_difference(toy):
    def value(**changes):
        return compute_claim(RAW, name_settings(**changes), toy)

    start = {"preprocessing": "pytorch-fid", "reference_crop": "none"}
    claimed = value(preprocessing="clean", reference_crop="torchvision")
    diagnosis = frechet.diagnose(RAW, REFERENCE, claimed=claimed, size=SIZE, **toy)
    effects = {effect.axis: effect for effect in diagnosis.effects}
    assert list(effects) == ["preprocessing", "reference_crop"]
    assert effects["reference_crop"].baseline == "none"
    assert effects["reference_crop"].value == "torchvision(20)"
    base = value(**start)
    alone = {
        name: value(**{**start, name: new}) - base
        for name, new in (("preprocessing", "clean"), ("reference_crop", "torchvision"))
    }
    for name, change in alone.items():
        assert effects[name].change == pytest.approx(change, rel=1e-6)
    assert diagnosis.baseline.value == pytest.approx(base, rel=1e-9)
    assert diagnosis.interaction == pytest.approx(claimed - base - sum(alone.values()), abs=1e-6)


@pytest.mark.slow
def test_the_baseline_is_what_score_computes_with_the_same_settings(toy):
    options = {"preprocessing": "clean", "crop": "adm", "size": SIZE, **toy}
    expected = frechet.score(RAW, REFERENCE, **options)["fd"].value
    diagnosis = frechet.diagnose(RAW, REFERENCE, claimed=expected, **options)
    assert diagnosis.baseline.value == pytest.approx(expected, rel=1e-9)
    assert diagnosis.combinations[0] is diagnosis.baseline
    assert diagnosis.effects == ()


class CountingRunner:
    """A runner that counts its inputs."""

    def __init__(self, runner, counts):
        self.runner, self.counts, self.batch_size = runner, counts, runner.batch_size

    def map(self, batches):
        for batch in batches:
            self.counts["inputs"] += len(batch)
            yield from self.runner.map([batch])


@pytest.fixture
def counted(monkeypatch):
    """How often images are decoded, and how many inputs the networks get."""
    counts = {"decoded": 0, "inputs": 0}
    decode, load = prepare.decode, Settings.load

    def count_decode(image_ref, reserve):
        counts["decoded"] += 1
        return decode(image_ref, reserve)

    def load_counting(settings, *arguments):
        loaded = load(settings, *arguments)
        return replace(loaded, runner=CountingRunner(loaded.runner, counts))

    monkeypatch.setattr(prepare, "decode", count_decode)
    monkeypatch.setattr(Settings, "load", load_counting)
    return counts


@pytest.mark.slow
def test_images_are_decoded_once_and_distinct_inputs_run_once(toy, counted):
    """Squares have one input per preprocessing, whatever the crop; other images have one per preprocessing and crop."""
    diagnosis = frechet.diagnose(SQUARES, REFERENCE, claimed=1, **toy)
    assert counted["decoded"] == len(SQUARES) + len(REFERENCE)
    n_square = sum(
        image.shape[0] == image.shape[1] for image in REFERENCE
    )  # long-edge and stretch are the same for these
    assert counted["inputs"] == diagnosis.n_inputs == 4 * len(SQUARES) + 4 * 5 * len(REFERENCE) - 4 * n_square
    assert diagnosis.n_images == len(SQUARES) + len(REFERENCE)
    assert diagnosis.n_combinations == 4 * 5 * 5
    assert len(diagnosis.combinations) == 4 * 5


def test_images_of_the_networks_size_have_one_input_per_normalization(toy, counted):
    """No resize changes them, and three of the four preprocessings normalize in the same way."""
    x = np.random.default_rng(0).integers(0, 256, (2, 30, 16, 16, 3), np.uint8)
    diagnosis = frechet.diagnose(*x, claimed=1, **toy)
    assert counted["inputs"] == 2 * 2 * 30
    assert len(diagnosis.combinations) == 2


@pytest.mark.slow
def test_quick_runs_the_whole_set_for_the_combinations_that_are_left(toy, counted):
    """Nothing gives a million, so the subset of 15 and 20 images runs with everything, and all images with the baseline."""
    diagnosis = frechet.diagnose(SQUARES, REFERENCE, claimed=1_000_000, quick=True, **toy)
    assert diagnosis.verdict == "none"
    assert diagnosis.n_dropped == diagnosis.n_combinations - 1  # the baseline
    assert diagnosis.combinations == (diagnosis.baseline,)
    assert diagnosis.n_inputs == len(SQUARES) + len(REFERENCE)
    assert counted["inputs"] <= 4 * 15 + 4 * 5 * 20 + diagnosis.n_inputs


@pytest.mark.parametrize(
    ("m", "whole", "value", "half"), [(5000, 7.9, 11.2, 18.2), (5000, 6.08, 11.2, 18.2), (10_000, 6.08, 7.9, 11.2)]
)
def test_a_subset_leaves_open_what_all_images_give(m, whole, value, half):
    """Distances of 2,500 to 20,000 CIFAR-10 images to others, d = 1280; their noise is 0.09 to 0.3."""
    assert can_match(Claim.parse(whole), m / 1280, value, half + 0.2, half - 0.2)
    assert not can_match(Claim.parse(15), m / 1280, value, half, half)
    assert not can_match(Claim.parse(0), 8, 2.5 * value, 2.5 * value, 2.5 * value)


@pytest.mark.slow
def test_a_reference_of_statistics_with_another_preprocessing(toy):
    """A frequent mistake: the reference file was computed with another preprocessing than the generated images."""
    generated = frechet.collect(SQUARES, preprocessing="clean", **toy)
    reference = frechet.collect(REFERENCE, preprocessing="tensorflow", crop="adm", size=SIZE, **toy)
    x, y = ((each.mean, each.covariance) for each in (generated, reference))
    from scipy.linalg import sqrtm

    claimed = ((x[0] - y[0]) ** 2).sum() + np.trace(x[1] + y[1]) - 2 * np.trace(sqrtm(x[1] @ y[1] + 0j)).real
    diagnosis = frechet.diagnose(SQUARES, reference, claimed=f"{claimed:.5g}", **toy)
    assert diagnosis.baseline.settings["preprocessing"] == "tensorflow"
    assert [match.settings["preprocessing"] for match in diagnosis.matches] == ["clean"]
    assert any("contains statistics" in text for text in diagnosis.not_varied)
    requested = frechet.diagnose(SQUARES, reference, claimed=f"{claimed:.5g}", preprocessing="clean", **toy)
    assert requested.baseline.verdict == "match"


@pytest.mark.slow
def test_images_of_which_only_the_last_ones_are_changed_by_a_crop(toy):
    """Variants share the features of the first ten images."""
    images = [*SQUARES[:10], *RAW[:15]]
    claimed = compute_claim(images, name_settings(generated_crop="adm", preprocessing="clean"), toy)
    (match,) = frechet.diagnose(images, REFERENCE, claimed=claimed, **toy).matches
    assert match.settings["generated_crop"] == "adm(20)"
    assert match.settings["preprocessing"] == "clean"


def test_the_order_is_varied_if_the_metric_depends_on_it(fake_inception):
    """Splits of images sorted by class, and of the same images in random order."""
    images = np.sort(np.random.default_rng(0).integers(0, 256, (40, 1, 1, 3)), axis=0) * np.ones((1, 12, 12, 1))
    images = images.astype(np.uint8)
    claimed = frechet.score(images, metrics="is@stylegan3")["is@stylegan3"].value
    diagnosis = frechet.diagnose(images, claimed=claimed, metric="is@stylegan3")
    assert {each["order"] for match in diagnosis.matches for each in (match.settings, *match.equivalent)} == {"as read"}
    assert {each.settings["order"] for each in diagnosis.combinations} == {"as read", "random"}


@pytest.mark.parametrize(
    ("claimed", "low", "high"),
    [("2.07", 2.065, 2.075), (2.07, 2.065, 2.075), ("2.070", 2.0695, 2.0705), ("12", 11.5, 12.5)],
)
def test_a_claim_is_given_by_every_value_that_rounds_to_it(claimed, low, high):
    claim = Claim.parse(claimed)
    assert claim.gives(low + 1e-9)
    assert claim.gives(high - 1e-9)
    assert not claim.gives(low - 1e-3)
    assert not claim.gives(high + 1e-3)


def test_the_command_keeps_the_trailing_zeros_of_a_claim(tmp_path, monkeypatch):
    """2.07 stands for 2.065 to 2.075, and 2.070 for 2.0695 to 2.0705."""
    asked = []
    monkeypatch.setattr(
        "frechet.cli.diagnose.diagnose", lambda *_, **options: asked.append(options["claimed"]) or 1 / 0
    )
    folders = [write_folder(tmp_path / name, SQUARES[:3]) for name in "ab"]
    for claimed in ("2.07", "2.070"):
        with pytest.raises(ZeroDivisionError):
            run("diagnose", *folders, "--claimed", claimed)
    assert [Claim.parse(each).gives(2.0749) for each in asked] == [True, False]


@pytest.mark.parametrize(
    "claimed", [None, "", "2,07", "nan", float("nan"), "inf", "1e400", "0e400", "1e5000000000", True, "FID"]
)
def test_a_claim_that_is_no_number_is_rejected(claimed):
    with pytest.raises(RequestError, match=r"expected a finite number such as 2\.07|no claimed value"):
        frechet.diagnose(SQUARES, REFERENCE, claimed=claimed)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"counts": "1"}, "at least 2"),
        ({"counts": "many"}, "at least 2"),
        ({"metric": "precission"}, "did you mean precision"),
        ({"metric": "kid", "quick": True}, "leave it out"),
        ({"generated": lambda n: SQUARES[:n]}, "pass the images"),
        ({"generated": FLOATS[0]}, "expected"),
        ({"generated": FLOATS * 3}, "value_range"),
        ({"reference": None}, "no reference is given"),
    ],
)
def test_bad_input_is_explained(toy, changes, words):
    arguments = {"generated": SQUARES, "reference": REFERENCE, "claimed": 2.07, **toy, **changes}
    with pytest.raises(RequestError, match=words):
        frechet.diagnose(**arguments)


def test_statistics_of_the_generated_images_cannot_be_varied(toy):
    statistics = frechet.collect(SQUARES, **toy)
    with pytest.raises(RequestError) as caught:
        frechet.diagnose(statistics, REFERENCE, claimed=2.07, **toy)
    for word in ("preprocessing", "crop", "rounding", "order", "number"):
        assert word in str(caught.value)


def test_nan_in_an_image_names_it(toy):
    x = FLOATS.copy()
    x[3, 0, 0, 0] = np.nan
    with pytest.raises(ImageDecodeError, match=r"\[3\] contains NaN"):
        frechet.diagnose(x, REFERENCE, claimed=2.07, **toy)


@pytest.mark.slow
@pytest.mark.parametrize("on_bad_image", ["stop", "skip"])
def test_images_that_cannot_be_decoded(toy, on_bad_image):
    """An image with too many pixels stops the run, or is skipped and named; the value is that of the others."""
    options = {"on_bad_image": on_bad_image, "max_pixels": 90 * 90, **toy}
    images = [*REFERENCE, np.zeros((100, 100, 3), np.uint8)]
    if on_bad_image == "stop":
        with pytest.raises(ImageDecodeError, match="image 40"):
            frechet.diagnose(SQUARES, images, claimed=1, **options)
        return
    diagnosis = frechet.diagnose(SQUARES, images, claimed=1, **options)
    assert len(diagnosis.skipped_images) == 1
    assert "image 40" in diagnosis.skipped_images[0]
    assert diagnosis.baseline.value == pytest.approx(frechet.score(SQUARES, REFERENCE, **toy)["fd"].value, rel=1e-9)


def write_folder(path, images):
    path.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(path / f"{index:03d}.png")
    return path


@pytest.mark.slow
def test_the_command_writes_json_and_a_page(toy, tmp_path):
    claimed = compute_claim(SQUARES, name_settings(), toy)
    generated, reference = write_folder(tmp_path / "a", SQUARES), write_folder(tmp_path / "<b>", REFERENCE)
    options = ["--extractor", "patches", "--weights", toy["weights"]]
    outputs = ["--output", tmp_path / "out.json", "--report", tmp_path / "page.html"]
    code, out, err = run("diagnose", generated, reference, "--claimed", f"{claimed:.4f}", *options, *outputs)
    assert code == 0, err
    assert "1 of 20 distinct combinations gives" in out
    assert "reference crop adm(20) instead of none" in out
    diagnosis = json.loads((tmp_path / "out.json").read_text())
    assert diagnosis["verdict"] == "match"
    assert diagnosis["combinations"][0]["settings"]["reference_crop"] == "adm(20)"
    page = (tmp_path / "page.html").read_text()
    assert "adm(20)" in page
    assert "Explanation of the difference" in page
    assert "<b>" not in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [([], "--claimed 2.07"), (["--claimed", "nan"], "finite number"), (["--num-images", "5"], "No such option")],
)
def test_errors_of_the_command(tmp_path, arguments, words):
    folders = [write_folder(tmp_path / name, SQUARES[:3]) for name in "ab"]
    code, out, err = run("diagnose", *folders, *arguments)
    assert (code, out) == (2, "")
    assert words in err
