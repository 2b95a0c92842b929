"""Each class alone, runs with other seeds, images that are made while they are scored."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest
from helpers import make_image_folder, run
from PIL import Image

import frechet
from frechet.errors import GeneratorError, ImageDecodeError, RequestError
from frechet.metrics import METRICS
from frechet.results import INTERVAL_FIELDS
from frechet.statistics import row_sample

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.usefixtures("small_inputs")


def colours(images):
    """Mean and deviation of each channel: an extractor without a network."""
    return torch.cat([images.mean((2, 3)), images.std((2, 3))], dim=1)


colours.input_size = 8
TOY = {"extractor": colours}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Classes cat and dog on both sides, hen on one alone, and a single image of fox."""
    folder = tmp_path_factory.mktemp("sides")
    for side, seed in (("a", 1), ("b", 2)):
        for name in ("cat", "dog", "hen" if side == "a" else "cow"):
            make_image_folder(folder / side / name, 12, seed=seed + len(name) + ord(name[0]))
        make_image_folder(folder / side / "fox", 1, seed=seed)
    return folder / "a", folder / "b"


def test_the_score_of_a_class_is_that_of_its_images(folders):
    scores = frechet.score(*folders, metrics=["fd", "vendi"], per_class=True, **TOY)
    assert set(scores["fd"].per_class) == {"cat", "dog"}
    for name in ("cat", "dog"):
        alone = frechet.score(folders[0] / name, folders[1] / name, **TOY)["fd"]
        assert scores["fd"].per_class[name] == pytest.approx(float(alone), rel=1e-9)
    assert float(scores["fd"]) == pytest.approx(float(frechet.score(*folders, **TOY)["fd"]), rel=1e-9)
    assert scores["vendi"].per_class["cat"] > 1
    assert any("fd has no value for class cow, fox, hen" in warning for warning in scores["fd"].warnings)
    assert not any("classes have no more images" in warning for warning in scores["fd"].warnings)


def test_classes_of_other_names_are_reported_with_examples(tmp_path):
    for side, names in (("a", "0123"), ("b", ("airplane", "bird"))):
        for name in names:
            make_image_folder(tmp_path / side / name, 3, seed=ord(name[0]))
    warnings = frechet.score(tmp_path / "a", tmp_path / "b", per_class=True, **TOY)["fd"].warnings
    expected = "fd has no values per class: the class names of the inputs differ (generated: 0, 1, 2, ...; reference: airplane, bird)."
    assert [warning for warning in warnings if "class" in warning and warning.startswith(expected)]
    assert not any("too few images" in warning for warning in warnings)


def test_skipped_images_of_a_subset_are_counted(tmp_path):
    for side, seed in (("a", 1), ("b", 2)):
        make_image_folder(tmp_path / side, 12, seed=seed)
    for path in sorted((tmp_path / "a").iterdir())[:4]:
        path.write_bytes(b"damaged")
    options = {"on_bad_image": "skip", "design": "independent", **TOY}
    score = frechet.score(tmp_path / "a", tmp_path / "b", num_images=10, **options)["fd"]
    n = score.n_generated
    assert n < 10
    assert any(f"generated: {n} of the 10 requested images were scored; skipped" in text for text in score.warnings)
    whole = frechet.score(tmp_path / "a", tmp_path / "b", **options)["fd"]
    assert not any("requested images" in warning for warning in whole.warnings)


@pytest.mark.slow
def test_a_class_is_compared_with_held_out_images_of_that_class(tmp_path):
    """C_T of a class beside held-out images of all kinds calls every generator a copier: those lie far from the class."""
    for seed, side in enumerate(("a", "b", "h")):
        for name in ("cat", "dog"):
            make_image_folder(tmp_path / side / name, 30, seed=10 * seed + ord(name[0]))
    a, b, held_out = (tmp_path / side for side in "abh")
    scores = frechet.score(a, b, held_out=held_out, metrics=["ct", "fls", "mmd"], per_class=True, **TOY)
    for name in ("cat", "dog"):
        alone = frechet.score(a / name, b / name, held_out=held_out / name, metrics=["ct", "fls"], **TOY)
        for key, score in alone.items():
            assert scores[key].per_class[name] == pytest.approx(float(score), rel=1e-9)
    bare = frechet.score(a, b, held_out=held_out / "cat", metrics=["ct", "mmd"], per_class=True, **TOY)
    assert bare["ct"].per_class == {}
    assert any("ct has no values per class" in warning and "class folder" in warning for warning in bare["ct"].warnings)
    assert bare["mmd"].per_class == scores["mmd"].per_class


def test_large_classes_have_metrics_that_need_every_image(folders, monkeypatch):
    """Of 8 d images or more a sample is kept where nothing else is asked: of one dimension, 12 are more than 8 d."""

    def means(images):
        return images.mean((2, 3))[:, :1]

    means.input_size = 8
    expected = frechet.score(*folders, metrics=["kid"], per_class=True, extractor=means)["kid"].per_class
    monkeypatch.setattr(row_sample, "MAX_SAMPLE_ROWS", 5)
    found = frechet.score(*folders, metrics=["kid"], per_class=True, extractor=means)["kid"].per_class
    assert set(found) == {"cat", "dog"}
    assert found == expected


@pytest.mark.slow
def test_a_warning_counts_classes_with_fewer_images_than_dimensions(folders):
    scores = frechet.score(*folders, metrics=["fd", "vendi"], per_class=True, extractor="efficientnet-lite0")
    small = [warning for warning in scores["fd"].warnings if "classes have no more images" in warning]
    assert small[0].startswith(
        "2 of 3 classes have no more images than the 1,280 feature dimensions (the smallest has 12)"
    )
    assert not any("classes have no more images" in warning for warning in scores["vendi"].warnings)


@pytest.mark.slow
def test_warnings_of_later_scores_reach_the_terminal_and_the_page(folders, tmp_path):
    pytest.importorskip("jinja2")
    page = tmp_path / "page.html"
    asked = ["--metrics", "vendi,fd", "--per-class", "--extractor", "efficientnet-lite0", "--report", page]
    code, _, err = run("score", *folders, *asked)
    assert code == 0
    for text, before in ((err, "warning: "), (page.read_text(), "<li>")):
        assert text.count(f"{before}2 of 3 classes have no more images than the 1,280 feature dimensions") == 1
        assert text.count(f"{before}fd has no value for class cow, fox, hen") == 1


def test_classes_come_from_arr_1_of_adm_files(tmp_path):
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (30, 9, 9, 3), np.uint8), np.repeat([3, 7], 15)
    np.savez(tmp_path / "a.npz", arr_0=images, arr_1=labels)
    np.savez(tmp_path / "b.npz", arr_0=images[::-1], arr_1=labels)
    scores = frechet.score(tmp_path / "a.npz", tmp_path / "b.npz", per_class=True, **TOY)["fd"].per_class
    assert set(scores) == {"3", "7"}
    assert scores["3"] == pytest.approx(float(frechet.score(images[:15], images[15:], **TOY)["fd"]), rel=1e-6)
    np.savez(tmp_path / "bad.npz", arr_0=images, arr_1=labels.astype(float))
    np.savez(tmp_path / "short.npz", arr_0=images, arr_1=labels[:-1])
    np.savez(tmp_path / "objects.npz", arr_0=images, arr_1=labels.astype(object))
    for name, message in (
        ("bad", "float64.*integer"),
        ("short", r"expected \(30,\)"),
        ("objects", r"type object; expected \(30,\), one integer per image\. Save them again as integers"),
    ):
        with pytest.raises(RequestError, match=message):
            frechet.score(tmp_path / f"{name}.npz", tmp_path / "b.npz", per_class=True, **TOY)


@pytest.mark.parametrize("sharded", ["{a-0,a-1}.npz", "a-*.npz"])
def test_sharded_files_use_their_own_class_labels(tmp_path, sharded):
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (30, 9, 9, 3), np.uint8), np.tile([3, 7, 7], 10)
    np.savez(tmp_path / "a-0.npz", arr_0=images[:11], arr_1=labels[:11])
    np.savez(tmp_path / "a-1.npz", arr_0=images[11:], arr_1=labels[11:])
    np.savez(tmp_path / "b.npz", arr_0=255 - images, arr_1=labels)
    found = frechet.score(tmp_path / sharded, tmp_path / "b.npz", per_class=True, **TOY)["fd"].per_class
    for label in (3, 7):
        alone = images[labels == label]
        assert found[str(label)] == pytest.approx(float(frechet.score(alone, 255 - alone, **TOY)["fd"]), rel=1e-6)
    assert set(found) == {"3", "7"}


def test_classes_come_from_arr_1_of_remote_files(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    images, labels = np.random.default_rng(0).integers(0, 256, (30, 9, 9, 3), np.uint8), np.repeat([3, 7], 15)
    np.savez(tmp_path / "a.npz", arr_0=images, arr_1=labels)
    np.savez(tmp_path / "b.npz", arr_0=255 - images, arr_1=labels)
    store = fsspec.filesystem("memory")
    store.pipe("/labelled/a.npz", (tmp_path / "a.npz").read_bytes())
    sides = "memory://labelled/a.npz", tmp_path / "b.npz"
    expected = frechet.score(tmp_path / "a.npz", tmp_path / "b.npz", per_class=True, **TOY)["fd"].per_class
    assert frechet.score(*sides, per_class=True, **TOY)["fd"].per_class == expected


def test_classes_of_shards_are_member_folders(folders, tmp_path):
    """Not the folder that the shards lie in."""
    for side, folder in zip("ab", folders, strict=True):
        for shard in range(2):
            with zipfile.ZipFile(tmp_path / f"{side}-{shard}.zip", "w") as archive:
                for path in sorted(folder.rglob("*.png"))[shard::2]:
                    archive.write(path, path.relative_to(folder))
    patterns = [f"{tmp_path}/{side}-{{0..1}}.zip" for side in "ab"]
    expected = frechet.score(*folders, per_class=True, **TOY)["fd"].per_class
    found = frechet.score(*patterns, per_class=True, **TOY)["fd"].per_class
    assert found == {name: pytest.approx(value, rel=1e-9) for name, value in expected.items()}


def test_per_class_is_rejected_without_classes(folders, tmp_path):
    flat = make_image_folder(tmp_path / "flat")
    with pytest.raises(RequestError, match=r"000\.png.*folder"):
        frechet.score(flat, folders[1], per_class=True, **TOY)
    known = frechet.collect(folders[0], **TOY)
    with pytest.raises(RequestError, match="features or statistics, which have no classes; pass images"):
        frechet.score(known, folders[1], per_class=True, **TOY)


class Maker:
    """Noise about a grey, and a record of what was asked for."""

    def __init__(self):
        self.random, self.asked = np.random.default_rng(0), []

    def __call__(self, count):
        self.asked.append(count)
        return self.random.integers(0, 256, (count, 6, 6, 3), np.uint8)


def test_a_function_gets_the_score_of_its_images():
    maker = Maker()
    found = frechet.collect(maker, num_images=150, **TOY)
    assert maker.asked == [64, 64, 22]
    made = Maker()
    expected = frechet.collect(np.concatenate([made(64), made(64), made(22)]), **TOY)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-6)
    assert found.n == 150


def test_a_function_may_make_tensors_and_reuse_their_memory():
    maker, memory = Maker(), torch.empty((64, 3, 6, 6), dtype=torch.uint8)

    def tensors(count):
        return memory[:count].copy_(torch.from_numpy(maker(count)).permute(0, 3, 1, 2))

    found = frechet.collect(tensors, num_images=150, **TOY)
    np.testing.assert_array_equal(found.mean, frechet.collect(Maker(), num_images=150, **TOY).mean)
    with pytest.raises(ImageDecodeError, match=r"is torch.float32 of shape \(3, 6, 6\); expected uint8 .*round...byte"):
        frechet.collect(lambda count: torch.rand(count, 3, 6, 6), num_images=20, **TOY)


def test_tensors_with_channels_last_are_reported_in_their_own_shape():
    images = torch.zeros((3, 8, 9, 3), dtype=torch.uint8)
    with pytest.raises(
        ImageDecodeError, match=r"torch.uint8 of shape \(8, 9, 3\); expected uint8 \(3, h, w\).*permute\(2, 0, 1\)"
    ):
        frechet.collect(images, **TOY)


def test_a_function_needs_num_images_and_must_return_as_many():
    with pytest.raises(RequestError, match="pass num_images"):
        frechet.collect(Maker(), **TOY)
    with pytest.raises(GeneratorError, match="returned 19 images when called with 20"):
        frechet.collect(lambda count: Maker()(count - 1), num_images=20, **TOY)


def test_an_exception_of_a_function_is_not_a_bad_image():
    def broken(_count):
        raise ZeroDivisionError("a division that nobody foresaw")

    with pytest.raises(GeneratorError, match="ZeroDivisionError: a division that nobody foresaw") as caught:
        frechet.collect(broken, num_images=20, on_bad_image="skip", **TOY)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_repeated_runs_report_mean_and_standard_deviation(folders):
    score = frechet.score(*folders, num_images=20, repeat=3, seed=4, **TOY)["fd"]
    alone = [float(frechet.score(*folders, num_images=20, seed=seed, **TOY)["fd"]) for seed in (4, 5, 6)]
    assert score.repeats == pytest.approx(alone, rel=1e-9)
    assert float(score) == pytest.approx(np.mean(alone), rel=1e-9)
    assert score.std == pytest.approx(np.std(alone, ddof=1), rel=1e-9)
    with pytest.raises(RequestError, match=r"^--repeat \(repeat=\) is 0"):
        frechet.score(*folders, repeat=0, **TOY)


def test_repeated_runs_have_no_interval_and_no_corrected_value():
    """Those of the first repetition were shown next to the mean of all of them."""
    generated, reference = np.random.default_rng(0).integers(0, 256, (2, 70, 6, 6, 3), np.uint8)
    options = {"num_images": 60, "seed": 4, **TOY}
    score = frechet.score(generated, reference, repeat=2, **options)["fd"]
    first = frechet.score(generated, reference, **options)["fd"]
    second = frechet.score(generated, reference, **{**options, "seed": 5})["fd"]
    assert score.std == pytest.approx(abs(first.value - second.value) / 2**0.5, rel=1e-9)
    assert first.interval_95 is not None
    assert {name: getattr(score, name) for name in INTERVAL_FIELDS} == dict.fromkeys(INTERVAL_FIELDS)
    assert "mean over repetitions" in score.interval_unavailable_reason


def test_repeated_runs_average_classes_and_explain_missing_intervals(folders):
    options = {"metrics": ["fd", "vendi"], "num_images": 30, "per_class": True, **TOY}
    found = frechet.score(*folders, repeat=2, seed=4, **options)
    alone = [frechet.score(*folders, seed=seed, **options) for seed in (4, 5)]
    for name, value in found["fd"].per_class.items():
        values = [one["fd"].per_class[name] for one in alone if name in one["fd"].per_class]
        assert value == pytest.approx(np.mean(values), rel=1e-9)
    assert set(found["fd"].per_class) == {name for one in alone for name in one["fd"].per_class} != set()
    assert found["vendi"].interval_unavailable_reason == METRICS["vendi"].interval_unavailable_reason


@pytest.mark.slow
def test_the_command_line_shows_classes(folders):
    code, out, _ = run("score", *folders, "--extractor", "efficientnet-lite0", "--per-class")
    assert code == 0
    assert "per class (mean" in out
    assert "dog" in out


def mean_colour(images):
    """A second extractor."""
    return images.mean((2, 3))


mean_colour.input_size = 8


@pytest.fixture
def two_extractors(monkeypatch):
    """Metrics of which one bears the name of another extractor than the one asked for."""
    row = replace(METRICS["fd-dinov2"], extractor="test_aggregate:mean_colour")
    monkeypatch.setitem(METRICS._entries, "fd-dinov2", row)
    return ["fd", "fd-dinov2"]


@pytest.mark.slow
def test_all_extractors_get_the_same_generated_images(two_extractors):
    """As many images in a list are scored alike; a function's next images would be others."""
    maker, reference = Maker(), np.random.default_rng(1).integers(0, 256, (90, 6, 6, 3), np.uint8)
    scores = frechet.score(maker, reference, metrics=two_extractors, num_images=90, **TOY)
    assert maker.asked == [64, 26]
    made = Maker()
    expected = frechet.score(
        np.concatenate([made(64), made(26)]), reference, metrics=two_extractors, num_images=90, **TOY
    )
    assert {key: float(score) for key, score in scores.items()} == {
        key: pytest.approx(float(score), rel=1e-9) for key, score in expected.items()
    }


@pytest.mark.slow
def test_each_repetition_generates_its_own_images(two_extractors):
    maker, reference = Maker(), Maker()(90)
    found = frechet.score(maker, reference, metrics=two_extractors, num_images=90, repeat=2, **TOY)
    assert maker.asked == [64, 26] * 2
    assert all(score.std > 0 for score in found.values())


def test_pil_images_are_not_modified(two_extractors):
    """Of every kind: a palette's indices are no colours."""
    arrays = Maker()(30)
    pictures = [Image.fromarray(array) for array in arrays]
    pictures = [p.convert("P") if i % 3 == 0 else p.convert("L") if i % 3 == 1 else p for i, p in enumerate(pictures)]
    scores = frechet.score(lambda count: pictures[:count], arrays, metrics=two_extractors, num_images=30, **TOY)
    expected = frechet.score(pictures, arrays, metrics=two_extractors, **TOY)
    assert [float(score) for score in scores.values()] == pytest.approx([float(s) for s in expected.values()], rel=1e-9)


def test_an_iterator_is_read_once_for_all_runs(two_extractors):
    one, other = Maker()(30), Maker()(40)
    scores = frechet.score(iter(one), (image for image in other), metrics=two_extractors, repeat=2, **TOY)
    expected = frechet.score(one, other, metrics=two_extractors, repeat=2, **TOY)
    assert not scores.unavailable
    assert [float(score) for score in scores.values()] == pytest.approx([float(s) for s in expected.values()], rel=1e-9)


def test_class_names_are_plain_text(tmp_path):
    images, labels = np.random.default_rng(0).integers(0, 256, (30, 9, 9, 3), np.uint8), np.repeat([3, 7], 15)
    for name in "ab":
        np.savez(tmp_path / f"{name}.npz", arr_0=images if name == "a" else 255 - images, arr_1=labels)
    score = frechet.score(tmp_path / "a.npz", tmp_path / "b.npz", per_class=True, **TOY)["fd"]
    assert [type(key) for key in score.per_class] == [str, str]


def test_repetitions_that_do_not_depend_on_the_seed_cause_a_warning():
    x, y = np.random.default_rng(0).normal(size=(2, 100, 4)).astype("float32")
    statistics = frechet.Statistics.from_features(x)
    repeated = frechet.score(statistics, y, metrics="fd", features=True, repeat=3)["fd"]
    assert any("the repetitions have the same value" in warning for warning in repeated.warnings)
    once = frechet.score(statistics, y, metrics="fd", features=True)["fd"]
    assert not any("repetitions" in warning for warning in once.warnings)


@pytest.fixture
def stored(tmp_path):
    """A file of statistics with the features of every image, and features."""
    x, y = np.random.default_rng(0).normal(size=(2, 1200, 3)).astype("float32")
    frechet.Statistics.from_features(x, seed=5, keep_all=True).save(tmp_path / "x.npz")
    return tmp_path / "x.npz", y


@pytest.fixture
def few_subsets(monkeypatch):
    """Reduce the 100 subsets of clean-fid's KID to two."""
    presets = {"clean-fid": {**METRICS["kid"].presets["clean-fid"], "subsets": 2}}
    monkeypatch.setitem(METRICS._entries, "kid", replace(METRICS["kid"], presets=presets))


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["kid@clean-fid", "mind", "fd-infinity"])
def test_repetitions_draw_from_features_in_a_statistics_file(stored, few_subsets, metric):
    """All draws had the seed of the file, so that the deviation between three runs was 0."""
    repeated = frechet.score(*stored, metrics=metric, features=True, repeat=3)[metric]
    assert len(set(repeated.repeats)) == 3
    assert not any("seed" in warning for warning in repeated.warnings)
    features = np.random.default_rng(0).normal(size=(2, 1200, 3)).astype("float32")[0]
    for seed in (0, 7):
        found, expected = (
            frechet.score(x, stored[1], metrics=metric, features=True, seed=seed)[metric] for x in (stored[0], features)
        )
        assert found.value == pytest.approx(expected.value, rel=1e-9)
        assert (found.provenance["seed"], found.provenance["generated"]["seed"]) == (seed, 5)


@pytest.mark.parametrize(("seed", "metrics", "has_effect"), [(3, "fd", False), (0, "fd", True), (3, "fd,mind", True)])
def test_a_seed_without_an_effect_causes_a_warning(stored, tmp_path, seed, metrics, has_effect):
    frechet.Statistics.from_features(stored[1]).save(tmp_path / "y.npz")
    warnings = frechet.score(stored[0], tmp_path / "y.npz", metrics=metrics, seed=seed)["fd"].warnings
    assert any("the seed 3 has no effect" in warning and "--seed" in warning for warning in warnings) != has_effect
    code, out, err = run("score", stored[0], tmp_path / "y.npz", "--metrics", metrics, "--seed", seed)
    assert (code, "no effect" in out + err) == (0, not has_effect)
