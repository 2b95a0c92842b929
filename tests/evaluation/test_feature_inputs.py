"""Features given directly: files, arrays, what is refused, and what is recorded."""

import json
import pickle

import numpy as np
import pytest
from helpers import run
from toy import TOY

import frechet
from frechet.distances.kernel import polynomial_mmd
from frechet.errors import MismatchError, RequestError, SourceError, StatisticsError
from frechet.evaluation.compute import compute_scores
from frechet.evaluation.inputs import require_compatible
from frechet.evaluation.layers import as_layers
from frechet.evaluation.plan import MetricPlan, MetricRequest
from frechet.evaluation.request import ScoreRequest
from frechet.evaluation.run import evaluate
from frechet.features.spec import FeatureSpec
from frechet.metrics import METRICS
from frechet.statistics import row_sample
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.npz_format import read_statistics
from frechet.statistics.row_sample import MAX_SAMPLE_ROWS

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def sides():
    random = np.random.default_rng(0)
    return random.standard_normal((300, 64)).astype(np.float32), random.standard_normal((200, 64)) * 1.1 + 0.1


@pytest.fixture(scope="module")
def expected(sides):
    """The Fréchet distance by its textbook formula, with SciPy's square root (both covariances have full rank)."""
    from scipy.linalg import sqrtm

    (mu1, s1), (mu2, s2) = ((x.astype(float).mean(0), np.cov(x.astype(float), rowvar=False)) for x in sides)
    return ((mu1 - mu2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * np.trace(sqrtm(s1 @ s2)).real


def saved(folder, sides):
    np.save(folder / "a.npy", sides[0])
    np.savez(folder / "b.npz", features=sides[1], labels=np.arange(200))
    return folder / "a.npy", folder / "b.npz"


def test_arrays_files_and_statistics_mix_freely(sides, expected, tmp_path):
    a, b = saved(tmp_path, sides)
    np.savez_compressed(tmp_path / "arr.npz", sides[1])
    np.savez(tmp_path / "clean.npz", feats=sides[1])
    np.savez(tmp_path / "peer.npz", mu=sides[1].mean(0), sigma=np.cov(sides[1], rowvar=False))
    torch.save(torch.from_numpy(sides[1]), tmp_path / "fidelity.pt")
    others = (b, sides[1], torch.from_numpy(sides[1]), FeatureStatistics.from_features(sides[1]))
    others += tuple(tmp_path / name for name in ("arr.npz", "clean.npz", "peer.npz", "fidelity.pt"))
    for other in others:
        score = frechet.score(a, other, features=True)["fd"]
        assert float(score) == pytest.approx(expected, rel=1e-6)
        assert score.label == "FD (unknown features, d = 64)"
        assert any("not record which network computed the features" in warning for warning in score.warnings)
        assert (score.n_generated, score.n_reference) in ((300, 200), (300, None))


@pytest.mark.slow
@pytest.mark.parametrize("d", [50, 64, 192, 768, 2048])
def test_features_of_unknown_origin_are_not_called_fid(d):
    """Those of a ResNet-50 have 2048 columns too, and those of a ViT-B 768."""
    x, y = np.random.default_rng(0).standard_normal((2, 12, d)).astype(np.float32)
    scores = frechet.score(x, y, features=True, interval="none")
    assert list(scores) == ["fd"]
    assert scores["fd"].label == f"FD (unknown features, d = {d})"
    assert any("--extractor" in warning for warning in scores["fd"].warnings)
    assert list(frechet.score_statistics(*(frechet.collect(side, features=True) for side in (x, y)))) == ["fd"]
    assert frechet.fid(x, y, features=True, interval="none").metric == "fd"
    with pytest.raises(RequestError, match=r"unknown extractor; use fd .*--extractor"):
        frechet.score(x, y, features=True, metrics=["rfid"])


@pytest.mark.parametrize("options", [{"extractor": "inception"}, {"dims": 64}])
def test_declared_features_of_inception_are_called_fid(sides, options, tmp_path):
    a, b = saved(tmp_path, sides)
    assert frechet.score(*sides, features=True, **options)["fid"].label == "FID-64"
    assert (
        frechet.score(a, FeatureStatistics.from_features(sides[1]), features=True, **options)["fid"].label == "FID-64"
    )
    flags = [text for name, value in options.items() for text in (f"--{name}", value)]
    code, out, _ = run("score", a, b, "--features", "--json", *flags)
    assert (code, list(json.loads(out)["scores"])) == (0, ["fid"])
    assert frechet.collect(a, features=True, **options).spec == FeatureSpec(extractor="inception", layer="64")


def test_an_explicit_inception_rejects_features_of_another_size(sides):
    with pytest.raises(MismatchError, match="50 features per image; expected 64, 192, 768"):
        frechet.score(sides[0][:, :50], sides[1][:, :50], features=True, extractor="inception")


def test_unknown_features_are_those_of_the_statistics_that_they_are_compared_with(sides):
    known = FeatureStatistics.from_features(sides[1], spec=FeatureSpec(extractor="inception", layer="64"))
    assert frechet.score(sides[0], known, features=True)["fid"].label == "FID-64"


def save_foreign(folder, x):
    """Statistics files of other tools, most of which know no other network than Inception."""
    moments = {"mu": x.mean(0), "sigma": np.cov(x, rowvar=False)}
    np.savez(folder / "moments.npz", **moments)
    np.savez(folder / "clean.npz", feats=x)
    torch.save(torch.from_numpy(x), folder / "fidelity.pt")
    np.savez(folder / "dgm.npz", reps=x, model="swav")
    pickled = {"num_images": len(x), "fid": moments, "fd_other": moments}
    (folder / "edm2.pkl").write_bytes(pickle.dumps(pickled))
    read_statistics(folder / "moments.npz").save(folder / "again.npz")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("moments.npz", "fid"),
        ("clean.npz", "fid"),
        ("fidelity.pt", "fid"),
        ("edm2.pkl", "fid"),
        ("again.npz", "fid"),
        ("edm2.pkl#fd_other", "fd"),
        ("dgm.npz", "fd"),
    ],
)
def test_statistics_files_of_other_tools_are_taken_for_inception_s(name, key, sides, tmp_path):
    for side, x in zip("ab", sides, strict=True):
        (tmp_path / side).mkdir()
        save_foreign(tmp_path / side, x)
    score = frechet.score(tmp_path / "a" / name, tmp_path / "b" / name, interval="none")[key]
    message = (
        "does not record how it was computed" if key == "fid" else "do not record which network computed the features"
    )
    assert any(message in warning for warning in score.warnings)
    assert list(frechet.score(tmp_path / "a" / name, sides[1], features=True, interval="none")) == ["fd"]
    declared = frechet.score(tmp_path / "a" / name, tmp_path / "b" / name, extractor="a.module:net", interval="none")
    assert declared["fd"].label == "FD-a.module:net"


def test_more_rows_than_a_block_give_the_moments_of_all():
    x = (
        (np.random.default_rng(1).standard_normal((2 * MAX_SAMPLE_ROWS + 5, 3)) + 100)
        .astype(np.float32)
        .astype(np.float64)
    )
    statistics = FeatureStatistics.from_features(x, seed=4)
    np.testing.assert_allclose(statistics.mean, x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(statistics.covariance, np.cov(x, rowvar=False), rtol=1e-12)
    assert (statistics.n, statistics.seed) == (len(x), 4)
    np.testing.assert_array_equal(statistics.rows, x[statistics.indices].astype(np.float32))


@pytest.mark.parametrize("how", ["arrays", "npy", "clean-fid", "torch-fidelity"])
def test_metrics_that_need_every_row_get_every_row(tmp_path, monkeypatch, how):
    """From 8 d rows on a sample is kept of them; of 4,096 once, and KID, FID-infinity and the influences were refused."""
    monkeypatch.setattr(row_sample, "MAX_SAMPLE_ROWS", 50)
    random = np.random.default_rng(0)
    sides = [random.standard_normal((n, 4)).astype(np.float32) + i for i, n in enumerate((300, 200))]
    given = list(sides)
    for i, x in enumerate(sides):
        if how == "npy":
            np.save(tmp_path / f"{i}.npy", x)
            given[i] = tmp_path / f"{i}.npy"
        elif how == "clean-fid":
            np.savez(tmp_path / f"{i}.npz", feats=x)
            given[i] = tmp_path / f"{i}.npz"
        elif how == "torch-fidelity":
            torch.save(torch.from_numpy(x), tmp_path / f"{i}.pt")
            given[i] = tmp_path / f"{i}.pt"
    features = how in ("arrays", "npy")
    scores = frechet.score(*given, metrics=["kid", "fd-infinity", "fd"], explain=2, features=features)
    assert not scores.unavailable
    assert float(scores["kid"]) == pytest.approx(polynomial_mmd(*(x.astype(float) for x in sides)), rel=1e-5)
    assert len(scores["fd"].influence["raise"]) == 2
    plain = frechet.score(*given, features=features)["fd"]
    assert plain.value == scores["fd"].value
    assert plain.corrected_value == scores["fd"].corrected_value  # the groups hold every row, whatever is kept
    evaluation = evaluate(ScoreRequest(*given, features=features), keep_features=True)
    assert len(evaluation.statistics["generated"].features) == 300  # what a page is made of
    if features:
        assert len(frechet.influence(*given, features=True).change) == 300
        assert len(frechet.collect(given[0], features=True).rows) == 50


def at(place, value, n=5000):
    x = np.zeros((n, 4))
    x[place, 2] = value
    return x


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (at(17, np.nan), r"row 17 \(counted from 0\)"),
        (at(4500, np.inf), r"row 4500 \(counted from 0\)"),
        (at(3, 1e300), "row 3 .* beyond float32"),
        (np.zeros((1, 4)), "at least two rows"),
        (np.zeros((0, 4)), "at least two rows"),
        (np.zeros((5, 0)), r"expected features \(n, d\)"),
        (np.zeros(5), r"shape \(5,\); expected features \(n, d\)"),
        (np.zeros((5, 4, 2, 2)), "the mean over h and w"),
        (np.zeros((5, 8, 8, 3), np.uint8), "look like images, not features .* leave --features"),
        (np.zeros((5, 8, 8), np.uint8), "look like images"),
        (np.zeros((5, 4), np.int64), "int64 .*; expected floating-point"),
        (np.zeros((5, 4), np.uint8), "uint8 .*; expected floating-point"),
        ([[1.0, 2.0], [3.0]], "cannot become an array"),
        (torch.ones((3, 2), requires_grad=True), "cannot become an array"),
        (object(), "dtype object and shape"),
    ],
)
def test_invalid_features_are_rejected_with_dtype_and_shape(features, message):
    with pytest.raises(StatisticsError, match=message):
        frechet.score(features, features, features=True)


def test_unreadable_feature_files_are_rejected_by_name(tmp_path, sides):
    a, _ = saved(tmp_path, sides)
    np.save(tmp_path / "nan.npy", at(17, np.nan))
    np.savez(tmp_path / "two.npz", arr_0=sides[0], features=sides[0])
    np.savez(tmp_path / "other.npz", x=sides[0])
    np.save(tmp_path / "objects.npy", np.array([object()] * 3))
    np.save(tmp_path / "cut.npy", sides[0])
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-100])
    (tmp_path / "text.npy").write_text("text")
    (tmp_path / "a.csv").write_text("1,2")
    for name, message in (
        ("nan.npy", "row 17"),
        ("two.npz", "exactly one of the keys arr_0, features, feats"),
        ("other.npz", "contains x; expected features under exactly one"),
        ("objects.npy", "contain Python objects"),
        ("cut.npy", "truncated"),
        ("text.npy", "cannot be read as features"),
        ("a.csv", r"file of type .csv; expected features in an .npy or .npz"),
        ("absent.npy", "no such file"),
        (".", r"is a folder; --features .* \(frechet stats\)"),
    ):
        with pytest.raises(RequestError, match=message) as caught:
            frechet.score(a, tmp_path / name, features=True)
        assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize(
    ("options", "given", "expected", "fix"),
    [
        ({"dims": 192}, "requests layer 192", "generated statistics", "--dims"),
        ({"weights": "w.pth"}, "--weights (weights=) is w.pth", "applies to images", "leave it out"),
        ({"num_images": 5}, "--num-images (num_images=) is 5", "applies to images", "leave it out"),
        ({"extractor": "efficientnet-lite0"}, "64 features", "1280", "Pass another extractor"),
    ],
)
def test_image_options_are_rejected_for_features(sides, options, given, expected, fix):
    with pytest.raises(RequestError) as caught:
        frechet.score(*sides, features=True, **options)
    assert all(words in str(caught.value) for words in (given, expected, fix)), caught.value


def test_declared_features_must_match_the_reference(sides):
    made = FeatureStatistics.from_features(sides[1], spec=FeatureSpec(preprocessing="clean"), label="made")
    with pytest.raises(
        MismatchError, match=r"requests preprocessing tensorflow, .* reference statistics made .* clean"
    ):
        frechet.score(sides[0], made, features=True, preprocessing="tensorflow")
    score = frechet.score(sides[0], made, features=True, preprocessing="clean")["fd"]
    assert score.provenance["preprocessing"] == "clean"
    assert "convention" not in score.provenance["generated"]["assumed"]


def test_stored_features_record_their_declared_settings(tmp_path, sides, expected):
    a, b = saved(tmp_path, sides)
    code, out, _ = run("stats", b, tmp_path / "s.npz", "--features", "--preprocessing", "clean", "--dims", "64")
    assert (code, out) == (0, f"{tmp_path / 's.npz'}: 200 rows, 64 dimensions\n")
    stored = read_statistics(tmp_path / "s.npz")
    assert stored.spec == FeatureSpec(extractor="inception", layer="64", preprocessing="clean")
    code, out, err = run("score", a, tmp_path / "s.npz", "--features", "--json")
    assert code == 0
    assert json.loads(out)["scores"]["fid"]["value"] == pytest.approx(expected, rel=1e-6)
    code, _, err = run("stats", b, tmp_path / "t.npz", "--features", "--dims", "2048")
    assert code == 2
    assert "--dims (dims=) requests layer 2048, but" in err


def test_collect_rejects_statistics_as_features(tmp_path, sides):
    FeatureStatistics.from_features(sides[0]).save(tmp_path / "own.npz")
    np.savez(tmp_path / "peer.npz", mu=np.zeros(3), sigma=np.eye(3))
    for name in ("own.npz", "peer.npz"):
        with pytest.raises(SourceError, match="already contains statistics; expected features"):
            frechet.collect(tmp_path / name, features=True)


def test_features_are_not_mistaken_for_images(tmp_path, sides):
    a, b = saved(tmp_path, sides)
    for side, message in (
        (a, r"float32 of shape \(300, 64\)"),
        (b, "contains the keys? .*; expected arr_0"),
        (sides[0], r"the array of images is float\d+ of shape"),
    ):
        with pytest.raises(SourceError, match=message) as caught:
            frechet.score(side, side)
        assert "features" in str(caught.value).replace(str(tmp_path), "")


@pytest.mark.parametrize("seed", [0, 5])
def test_the_seed_of_the_request_is_recorded(sides, seed):
    assert frechet.score(*sides, features=True, seed=seed).provenance["seed"] == seed


def test_the_seed_of_statistics_is_recorded_if_the_request_has_none(sides):
    generated, reference = (FeatureStatistics.from_features(rows, seed=7) for rows in sides)
    scores = compute_scores(
        MetricPlan([MetricRequest(key="fd", metric=METRICS["fd"], settings={})]),
        {"generated": as_layers(generated), "reference": as_layers(reference)},
        seed=None,
    )
    assert scores.provenance["seed"] == 7


@pytest.mark.parametrize("order", [1, -1])
def test_features_of_every_image_are_kept_if_one_metric_of_several_needs_them(order):
    keys = ("precision", "fd")[::order]  # precision needs the features of every image
    plan = MetricPlan([MetricRequest(key=key, metric=METRICS[key], settings={}) for key in keys])
    assert plan.layers == {"features": True}
    assert MetricPlan(plan.requests[:1] if order < 0 else plan.requests[1:]).layers == {"features": False}


@pytest.mark.parametrize(
    ("name", "difference"),
    [("generated", "clean (generated) and none (reference)"), ("reference", "none (generated) and clean (reference)")],
)
def test_a_mismatch_names_the_value_of_each_input(name, difference):
    spec = FeatureSpec(extractor="toy", layer="6", preprocessing="clean")
    statistics = FeatureStatistics.from_features(np.eye(6, dtype=np.float32), spec=spec)
    with pytest.raises(MismatchError) as caught:
        require_compatible(statistics, name, TOY)
    assert f"preprocessing {difference}" in str(caught.value)


@pytest.mark.slow
def test_a_function_returns_features(sides):
    generated, reference = sides
    remaining = iter(generated)

    def take(n):
        return torch.from_numpy(np.stack([next(remaining) for _ in range(n)]))

    found = frechet.score(take, reference, metrics=["fd", "kid"], features=True, num_images=300)
    expected = frechet.score(generated, reference, metrics=["fd", "kid"], features=True)
    assert {name: score.value for name, score in found.items()} == {
        name: score.value for name, score in expected.items()
    }
    remaining = iter(generated)
    np.testing.assert_array_equal(frechet.collect(take, features=True, num_images=300).rows, generated)
    remaining = iter(generated)
    until = frechet.Until(half_width=1e9, max_images=300)
    assert frechet.score(take, reference, features=True, until=until)["fd"].n_generated == 128


def test_a_function_of_features_needs_a_number():
    with pytest.raises(RequestError, match="num_images="):
        frechet.score(lambda n: np.ones((n, 4)), np.ones((9, 4)), features=True)
