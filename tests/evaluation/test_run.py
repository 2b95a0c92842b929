"""The one sentence, from images to scores, by the library's own names."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest
from helpers import make_image_folder
from PIL import Image

import frechet
from frechet.errors import (
    ImageDecodeError,
    MismatchError,
    NonFiniteFeaturesError,
    RequestError,
    SourceError,
    StatisticsError,
    TooFewImagesError,
)
from frechet.evaluation.provenance import describe_skipped
from frechet.features import extract
from frechet.features.spec import FeatureSpec
from frechet.images.loader import CHUNK_SIZE
from frechet.statistics.feature_statistics import FeatureStatistics

pytestmark = pytest.mark.usefixtures("small_inputs")

OFFLINE = {"extractor": "efficientnet-lite0"}


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sides")
    return make_image_folder(folder / "a", 20, seed=1), make_image_folder(folder / "b", 24, seed=2, size=(50, 30))


def values(score):
    return pytest.approx(float(score), rel=1e-6)


@pytest.mark.slow
def test_batch_size_and_workers_do_not_change_the_score(sides):
    expected = frechet.score(*sides, **OFFLINE)["fd"]
    for batch_size, workers in ((1, 1), (7, 4), (64, 2)):
        assert float(frechet.score(*sides, batch_size=batch_size, workers=workers, **OFFLINE)["fd"]) == values(expected)


@pytest.mark.slow
def test_folder_zip_npz_and_lists_give_the_same_score(sides, tmp_path):
    a = make_image_folder(tmp_path / "a", 10)
    images = [np.asarray(Image.open(path)) for path in sorted(a.iterdir())]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in a.iterdir():
            archive.write(path, path.name)
    np.savez(tmp_path / "a.npz", arr_0=np.stack(images))
    expected = frechet.score(a, sides[1], **OFFLINE)["fd"]
    for source in (tmp_path / "a.zip", tmp_path / "a.npz", images, (Image.fromarray(image) for image in images)):
        assert float(frechet.score(source, sides[1], **OFFLINE)["fd"]) == float(expected)


@pytest.mark.slow
def test_saved_statistics_give_the_same_score(sides, tmp_path):
    frechet.collect(sides[1], **OFFLINE).save(tmp_path / "b.npz")
    direct = frechet.score(*sides, **OFFLINE)["fd"]
    stored = frechet.score(sides[0], tmp_path / "b.npz", **OFFLINE)["fd"]
    assert float(stored) == values(direct)
    assert stored.n_reference == 24
    frechet.collect(sides[0], **OFFLINE).save(tmp_path / "a.npz")
    assert float(frechet.score(tmp_path / "a.npz", tmp_path / "b.npz")["fd"]) == values(direct)


@pytest.mark.slow
def test_mu_and_sigma_alone_give_the_same_score(sides, tmp_path):
    statistics = frechet.collect(sides[1], **OFFLINE)
    np.savez(tmp_path / "peer.npz", mu=statistics.mean, sigma=statistics.covariance)
    score = frechet.score(sides[0], tmp_path / "peer.npz", reference_size=24, **OFFLINE)["fd"]
    assert float(score) == pytest.approx(float(frechet.score(*sides, **OFFLINE)["fd"]), rel=1e-6)
    assert score.n_reference == 24
    assert any("does not record how it was computed" in warning for warning in score.warnings)
    assert "weights" in score.provenance["reference"]["assumed"]


@pytest.mark.slow
def test_the_score_does_not_depend_on_chunks(monkeypatch):
    """More images than one part holds, and a part without a single good image."""
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (8, 8, 3), np.uint8) for _ in range(CHUNK_SIZE * 2 + 10)]
    broken = [
        image.astype(float) if CHUNK_SIZE <= place < 2 * CHUNK_SIZE else image for place, image in enumerate(images)
    ]
    statistics = frechet.collect(broken, on_bad_image="skip", **OFFLINE)
    expected = frechet.collect(images[:CHUNK_SIZE] + images[2 * CHUNK_SIZE :], **OFFLINE)
    assert statistics.n == CHUNK_SIZE + 10
    assert len(statistics.skipped_images) == CHUNK_SIZE
    np.testing.assert_allclose(statistics.covariance, expected.covariance, rtol=1e-4, atol=1e-9)
    np.testing.assert_array_equal(statistics.indices, [*range(CHUNK_SIZE), *range(2 * CHUNK_SIZE, 2 * CHUNK_SIZE + 10)])


@pytest.mark.slow
def test_statistics_are_those_of_the_features(sides):
    statistics = frechet.collect(sides[0], **OFFLINE)
    features = statistics.features.astype(float)
    np.testing.assert_allclose(statistics.mean, features.mean(0), rtol=1e-12)
    np.testing.assert_allclose(statistics.covariance, np.cov(features, rowvar=False), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_a_subset_is_seeded_and_nested(sides):
    def indices(count, seed):
        rows = frechet.collect(sides[0], num_images=count, seed=seed, **OFFLINE).rows
        return {row.tobytes() for row in rows}

    assert indices(8, 0) == indices(8, 0)
    assert indices(8, 0) < indices(12, 0)
    assert indices(8, 0) != indices(8, 1)
    with pytest.raises(TooFewImagesError, match=r"20 images; --num-images .*21"):
        frechet.collect(sides[0], num_images=21, **OFFLINE)


@pytest.mark.slow
def test_provenance_records_how_a_score_was_computed(sides):
    score = frechet.score(*sides, seed=3, **OFFLINE)["fd"]
    assert score.label == "FD-EfficientNet-Lite0"
    assert float(score) == pytest.approx(sum(score.terms.values()))
    assert (score.n_generated, score.n_reference) == (20, 24)
    assert any(
        "20 generated and 24 reference images for 1,280 feature dimensions" in warning for warning in score.warnings
    )
    made = score.provenance
    assert made["extractor"] == made["preprocessing"] == "efficientnet-lite0"
    assert (made["layer"], made["precision"], made["is_official"]) == ("1280", "float32", True)
    assert (made["backend"], made["generated"]["label"], made["generated"]["seed"]) == ("openvino", str(sides[0]), 3)
    assert len(made["weights"]) == 64


@pytest.mark.slow
def test_notes_on_images_are_summarised_per_input(tmp_path):
    folder = make_image_folder(tmp_path / "a")
    for index in range(3):
        Image.new("RGBA", (9, 9), (index, 2, 3, 4)).save(folder / f"alpha{index}.png")
    warnings = frechet.score(folder, folder, **OFFLINE)["fd"].warnings
    alpha = [warning for warning in warnings if "alpha" in warning]
    assert len(alpha) == 2  # one per input
    assert "in 3 images" in alpha[0]
    assert "alpha0.png" in alpha[0]


@pytest.mark.slow
def test_bad_images_stop_the_run_or_are_listed(sides, tmp_path):
    folder = make_image_folder(tmp_path / "a")
    (folder / "003.png").write_bytes((folder / "003.png").read_bytes()[:90])
    with pytest.raises(ImageDecodeError, match=r"003\.png"):
        frechet.score(folder, sides[1], **OFFLINE)
    score = frechet.score(folder, sides[1], on_bad_image="skip", **OFFLINE)["fd"]
    assert score.n_generated == 5
    assert len(score.skipped_images) == 1
    assert "003.png" in score.skipped_images[0]


def test_fewer_than_two_images_are_rejected(sides, tmp_path):
    one = make_image_folder(tmp_path / "one", 1)
    with pytest.raises(TooFewImagesError, match="contains 1 image; at least 2 are required"):
        frechet.score(one, sides[1], **OFFLINE)
    two = make_image_folder(tmp_path / "two", 2)
    (two / "000.png").write_text("broken")
    with pytest.raises(TooFewImagesError, match="has 1 usable image; expected at least 2"):
        frechet.score(two, sides[1], on_bad_image="skip", **OFFLINE)


def test_non_finite_features_name_their_image(sides, monkeypatch):
    class Broken:
        batch_size = 8

        def map(self, batches):
            for batch in batches:
                features = np.ones((len(batch), 1280), np.float32)
                features[-1, 5] = np.nan
                yield features

    from frechet.execution.collect import collect_statistics
    from frechet.execution.settings import Settings
    from frechet.images.sources.registry import open_source

    settings = Settings(**OFFLINE)
    extractor = settings.load()
    object.__setattr__(extractor, "runner", Broken())
    with pytest.raises(NonFiniteFeaturesError, match=r"007\.png"):
        collect_statistics(open_source(sides[0]), settings, extractor)
    assert extract.NonFiniteFeaturesError is NonFiniteFeaturesError


FULL = {
    "extractor": "inception",
    "layer": "64",
    "weights": "a" * 64,
    "is_official": False,
    "preprocessing": "tensorflow",
    "precision": "float32",
}


def stored(d=64, n=100, **changes):
    x = np.random.default_rng(0).standard_normal((n, d))
    return FeatureStatistics(
        mean=x.mean(0),
        covariance=np.cov(x, rowvar=False),
        n=n,
        spec=FeatureSpec(**{**FULL, **changes}),
        label="stored.npz",
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("extractor", "efficientnet-lite0"),
        ("layer", "192"),
        ("weights", "b" * 64),
        ("preprocessing", "pytorch-fid"),
        ("precision", "bfloat16"),
    ],
)
def test_inputs_computed_differently_are_rejected(field, value):
    with pytest.raises(MismatchError, match=field) as caught:
        frechet.score(stored(**{field: value}), stored())
    assert value[:12] in str(caught.value)
    assert FULL[field][:12] in str(caught.value)


def test_inputs_of_different_dimension_are_rejected():
    with pytest.raises(MismatchError, match=r"64 dimensions and reference .* 192"):
        frechet.score(stored(), stored(d=192, n=300, layer="192"))


def test_official_weights_in_one_input_are_official():
    for one, other in ((False, True), (True, False)):
        assert frechet.score(stored(is_official=one), stored(is_official=other))["fid"].label == "FID-64"


def test_options_must_match_statistics():
    with pytest.raises(MismatchError, match=r"requests layer 192, .* layer 64"):
        frechet.score(stored(), stored(), dims=192)
    with pytest.raises(MismatchError, match=r"requests preprocessing clean, .* tensorflow"):
        frechet.score(stored(), stored(), preprocessing="clean")
    with pytest.raises(RequestError, match=r"^--num-images \(num_images=\) is 5, .* leave it out"):
        frechet.score(stored(), stored(), num_images=5)
    assert frechet.score(stored(), stored(), dims=64, preprocessing="tensorflow")["fid"].label.startswith("FID-64")


def test_a_reference_that_records_no_preprocessing_can_be_completed():
    silent = stored(**dict.fromkeys(FULL))
    score = frechet.score(stored(), silent, reference_preprocessing="tensorflow")["fid"]
    assert score.provenance["preprocessing"] == "tensorflow"
    with pytest.raises(MismatchError, match="preprocessing"):
        frechet.score(stored(), silent, reference_preprocessing="pytorch-fid")
    with pytest.raises(
        MismatchError,
        match=r"stored\.npz .* tensorflow, but --reference-preprocessing \(reference_preprocessing=\) is .*; leave it out",
    ):
        frechet.score(silent, stored(), reference_preprocessing="pytorch-fid")
    with pytest.raises(
        RequestError,
        match=r"unknown --reference-preprocessing \(reference_preprocessing=\) 'nonsense'; choose from pytorch-fid",
    ):
        frechet.score(stored(), silent, reference_preprocessing="nonsense")


def test_unknown_features_are_not_labelled_fid():
    x = np.random.default_rng(0).standard_normal((100, 7))
    silent = FeatureStatistics(
        mean=x.mean(0), covariance=np.cov(x, rowvar=False), n=None, spec=FeatureSpec(), label="s"
    )
    assert frechet.score(silent, silent)["fd"].label == "FD (unknown features, d = 7)"


def test_an_indefinite_covariance_is_rejected():
    wrong = stored()
    sigma = np.eye(64)
    sigma[0, 1] = sigma[1, 0] = 5
    object.__setattr__(wrong, "covariance", sigma)
    with pytest.raises(StatisticsError, match="not positive semidefinite"):
        frechet.score(wrong, stored())


@pytest.mark.parametrize("metrics", [["fid"], ["fid-infinity"]])
def test_an_indefinite_covariance_is_rejected_for_few_images(metrics):
    """Its negative direction, (1, -1, 0, ...), is one along which no image differs from another."""
    wrong, rows = stored(), np.random.default_rng(1).standard_normal((9, 64))
    rows[:, :2] = 1.0
    few = FeatureStatistics.from_features(rows.astype(np.float32), spec=wrong.spec)
    frechet.score(few, wrong, metrics=metrics)
    sigma = np.eye(64)
    sigma[0, 1] = sigma[1, 0] = 5
    object.__setattr__(wrong, "covariance", sigma)
    with pytest.raises(
        StatisticsError, match=r"stored\.npz: the covariance is not positive semidefinite.*-0\.67 times"
    ):
        frechet.score(few, wrong, metrics=metrics)
    if metrics == ["fid"]:
        with pytest.raises(StatisticsError, match=r"stored\.npz: the covariance is not positive semidefinite"):
            frechet.score(wrong, few, metrics=metrics)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"extractor": "nonsense"},
            "extractor 'nonsense'.*inception, .*efficientnet-lite0",
        ),
        ({"dims": 100}, "dims.*100.*1280"),
        (
            {"preprocessing": "tensorflow"},
            "'tensorflow' is not available for efficientnet-lite0; expected efficientnet-lite0$",
        ),
        ({"precision": "float7"}, "precision 'float7'.*float32"),
        ({"backend": "tpu"}, "backend 'tpu'.*openvino"),
        (
            {"backend": "openvino", "device": "cuda"},
            "'cuda' is not available for the openvino backend; choose from auto, cpu",
        ),
        ({"batch_size": 0}, r"--batch-size \(batch_size=\) is 0; expected a whole number of at least 1"),
        ({"workers": -1}, r"--workers \(workers=\) is -1"),
        ({"num_images": 1}, r"--num-images \(num_images=\) is 1"),
        ({"seed": 2**64}, r"--seed \(seed=\) is"),
        ({"on_bad_image": "ignore"}, "expected stop or skip"),
        ({"metrics": ["nonsense"]}, "metric 'nonsense'.*fid"),
        (
            {"metrics": "is", "splits": [5, 0]},
            r"--splits \(splits=\) is \[5, 0\]; expected whole numbers of at least 1",
        ),
        ({"metrics": "kid", "explain": 3}, r"--explain \(explain=\) is 3, .* add fd to the metrics"),
    ],
)
def test_invalid_options_name_the_valid_ones(sides, options, message):
    with pytest.raises(RequestError, match=message):
        frechet.score(*sides, **{**OFFLINE, **options})


@pytest.mark.slow
def test_collect_rejects_statistics(sides, tmp_path):
    frechet.collect(sides[0], **OFFLINE).save(tmp_path / "a.npz")
    with pytest.raises(SourceError, match=r"a\.npz already contains statistics; expected images"):
        frechet.collect(tmp_path / "a.npz", **OFFLINE)


def test_a_single_image_array_is_rejected():
    with pytest.raises(SourceError, match=r"shape \(299, 299, 3\); expected uint8 \(n, h, w, 3\)"):
        frechet.fid(np.zeros((299, 299, 3), np.uint8), np.zeros((4, 8, 8, 3), np.uint8))


@pytest.mark.slow
def test_the_same_lazy_image_may_come_twice(sides):
    lazy = Image.open(sorted(sides[0].iterdir())[0])
    assert frechet.collect([lazy] * 30, workers=8, **OFFLINE).n == 30


def test_a_generator_may_reuse_its_buffer():
    buffer = np.zeros((8, 8, 3), np.uint8)

    def images():
        for value in (0, 100, 200):
            buffer[:] = value
            yield buffer

    assert frechet.collect(images(), **OFFLINE).covariance.trace() > 0.1


def test_bfloat16_is_computed_or_rejected(sides):
    import openvino

    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        score = frechet.score(*sides, precision="bfloat16", **OFFLINE)["fd"]
        assert score.provenance["precision"] == "bfloat16"
        assert float(score) == pytest.approx(float(frechet.score(*sides, **OFFLINE)["fd"]), rel=0.05)
    else:
        with pytest.raises(RequestError, match="needs a processor with bfloat16"):
            frechet.collect(sides[0], precision="bfloat16", **OFFLINE)


@pytest.mark.slow
def test_a_reference_of_another_extractor_is_rejected_before_loading_weights(sides, tmp_path, no_weights):
    frechet.collect(sides[1], extractor="efficientnet-lite0").save(tmp_path / "r.npz")
    with pytest.raises(
        MismatchError, match=r"r\.npz .* efficientnet-lite0, but .* inception\. Pass --extractor efficientnet-lite0"
    ):
        frechet.score(sides[0], tmp_path / "r.npz", extractor="inception")


def test_an_empty_path_is_not_the_current_folder(sides, monkeypatch):
    monkeypatch.chdir(sides[0].parent)
    with pytest.raises(SourceError, match="an empty path is given"):
        frechet.score(sides[0], "", extractor="efficientnet-lite0")


@pytest.mark.slow
def test_only_frechet_distances_warn_about_few_images_and_list_influence(sides):
    scores = frechet.score(*sides, metrics="fd,kid", explain=2, extractor="efficientnet-lite0")
    assert scores["fd"].influence
    assert scores["kid"].influence is None
    alone = frechet.score(*sides, metrics="kid", extractor="efficientnet-lite0")["kid"]
    assert not any("feature dimensions" in warning for warning in alone.warnings)
    assert any("feature dimensions" in warning for warning in scores["fd"].warnings)
    assert not any("feature dimensions" in warning for warning in scores["kid"].warnings)


@pytest.mark.slow
@pytest.mark.parametrize(("metric", "dims"), [("fd-infinity", 1280), ("mifid", 1280), ("rfid", 2048)])
def test_metrics_based_on_frechet_distances_warn_about_few_images(metric, dims):
    """A line through distances that hold little but bias is no less biased."""
    x, y = np.random.default_rng(0).standard_normal((2, 20, dims)).astype(np.float32)
    extractor = "inception" if dims == 2048 else "efficientnet-lite0"
    score = frechet.score(x, y, features=True, metrics=metric, extractor=extractor)[metric]
    assert score.value > 100  # of equal distributions
    assert any(f"for {dims:,} feature dimensions" in warning for warning in score.warnings)


@pytest.mark.parametrize("name", ["score", "fid", "collect", "influence"])
def test_a_mistyped_keyword_gets_a_suggestion(name):
    sides = ["nowhere"] if name == "collect" else ["nowhere", "nowhere"]
    for wrong, advice in (
        ("batchsize", "did you mean 'batch_size'"),
        ("feature", "did you mean 'features'"),
        ("x", "choose from .*preprocessing"),
    ):
        with pytest.raises(TypeError, match=rf"^frechet\.{name}\(\) .*'{wrong}'; {advice}"):
            getattr(frechet, name)(*sides, **{wrong: 1})
    with pytest.raises(TypeError, match="did you mean 'metrics'"):
        frechet.score("nowhere", "nowhere", metric="fid")


def test_a_warning_names_the_first_skipped_images_and_where_all_of_them_are_listed():
    skipped = [f"{number}.png cannot be decoded" for number in range(5)]
    assert describe_skipped(skipped[:1]) == "skipped 1 image that could not be decoded: 0.png cannot be decoded"
    assert describe_skipped(skipped[:3]).endswith("decoded: " + "; ".join(skipped[:3]))
    shown = describe_skipped(skipped)
    assert shown.startswith("skipped 5 images")
    assert shown.endswith("2.png cannot be decoded; and 2 more (--json lists all of them under skipped_images)")


def test_a_score_warns_of_skipped_images(tmp_path):
    spec = FeatureSpec()
    one, other = (
        FeatureStatistics.from_features(
            np.random.default_rng(seed).standard_normal((60, 4)).astype(np.float32), spec=spec
        )
        for seed in range(2)
    )
    scores = frechet.score(replace(one, skipped_images=("a.png: damaged", "b.png: empty")), other, metrics="fd")
    assert (
        "generated: skipped 2 images that could not be decoded: a.png: damaged; b.png: empty" in scores["fd"].warnings
    )
