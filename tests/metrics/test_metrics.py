"""Several metrics in one run: the network runs once, and a metric that cannot be computed gets a reason."""

import itertools
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from helpers import DATA, make_image_folder, run
from parity_kit import BACKENDS

import frechet
from frechet.distances import kernel
from frechet.distances.inception_score import legacy_permutation, split_inception_scores
from frechet.errors import FrechetError, RequestError, WeightsError
from frechet.features.loading import load_extractor
from frechet.metrics import METRICS
from frechet.results import ScoreUnavailableError
from frechet.statistics import accumulator
from frechet.statistics.feature_statistics import FeatureStatistics

pytestmark = pytest.mark.usefixtures("small_inputs")

OFFLINE = {"extractor": "efficientnet-lite0"}
SEVEN = ["fd", "kid", "is", "precision", "recall", "density", "coverage"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sides")
    return make_image_folder(folder / "a", 11, seed=1), make_image_folder(folder / "b", 13, seed=2, size=(50, 30))


@pytest.fixture(scope="module")
def sides():
    """Statistics of real features: generated, reference, held out (see test_metric_values.py)."""
    with np.load(DATA / "metrics.npz") as archive:
        rows = {key: archive[key].astype(np.float32) for key in ("generated", "reference", "held_out")}
    return [FeatureStatistics.from_features(side) for side in rows.values()]


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_seven_metrics_run_the_network_once(folders, backend, monkeypatch):
    images = []
    real = load_extractor("efficientnet-lite0", backend=backend, extra_layers=["logits"]).runner.__class__.map

    def counted(self, batches):
        for batch in batches:
            images.append(len(batch))
            yield from real(self, [batch])

    monkeypatch.setattr(
        f"frechet.backends.{backend}.{'OpenVINO' if backend == 'openvino' else 'Torch'}Runner.map", counted
    )
    together = frechet.score(*folders, metrics=SEVEN, backend=backend, **OFFLINE)
    assert sum(images) == 24
    assert list(together) == SEVEN
    for name in ("fd", "is"):
        alone = frechet.score(*folders, metrics=[name], backend=backend, **OFFLINE)[name]
        assert float(together[name]) == pytest.approx(float(alone), rel=1e-5)
    logits = frechet.collect(folders[0], dims=1000, backend=backend, **OFFLINE)
    expected = split_inception_scores(logits.features, 10, legacy_permutation(11, 0))
    assert float(together["is"]) == pytest.approx(expected.mean, rel=1e-5)
    assert together["is"].label == "Inception Score-EfficientNet-Lite0"
    assert together["is"].n_reference is None


@pytest.mark.slow
def test_other_layers_do_not_change_the_statistics_of_a_layer(folders):
    alone = frechet.collect(folders[1], **OFFLINE)
    scores = frechet.score(folders[0], alone, metrics=["fd", "vendi", "is", "precision"], **OFFLINE)
    assert list(scores) == [
        "fd",
        "vendi",
        "is",
        "precision",
    ]  # the Inception Score does not need logits of the reference
    both = frechet.score(*folders, metrics=["fd", "is"], **OFFLINE)
    assert both["fd"].provenance["weights"] == alone.spec.weights


@pytest.mark.slow
def test_weights_without_logits_make_only_the_inception_score_unavailable(weights, folders):
    scores = frechet.score(*folders, metrics=["fid", "is"], weights=weights)
    assert list(scores) == ["fid"]
    assert "fc.weight" in scores.unavailable["is"]
    with pytest.raises(WeightsError, match=r"fc\.weight .* Pass weights"):
        frechet.score(*folders, metrics=["is"], weights=weights)


@pytest.mark.slow
def test_metrics_without_a_reference_need_only_generated_images(folders):
    scores = frechet.score(folders[0], metrics=["is", "vendi"], splits=(5, 10), **OFFLINE)
    assert set(scores) == {"is", "vendi"}
    five, ten = scores["is"].splits
    assert (five["n"], five["mean"], five["std"]) == (5, float(scores["is"]), scores["is"].std)
    assert ten["n"] == 10
    assert ten["std"] > 0
    assert json.loads(scores.to_json())["scores"]["is"]["splits"] == [five, ten]
    assert scores.provenance["reference"] is None
    adm = frechet.score(folders[0], metrics="is,is@adm", splits=[1], **OFFLINE)
    assert float(adm["is@adm"]) == pytest.approx(float(adm["is"]), rel=1e-9)
    ten = frechet.score(folders[0], metrics="is,is@adm", splits=[10], **OFFLINE)["is@adm"]
    assert float(ten) == float(adm["is@adm"])  # 5,000 images per split, whatever `splits` is
    assert (ten.settings["splits"], ten.settings["split_size"]) == (None, 5000)
    with pytest.raises(RequestError, match=r"fd .* no reference is given; pass reference"):
        frechet.score(folders[0], **OFFLINE)


def test_failing_metrics_are_reported_and_the_others_computed(sides):
    generated, reference, _ = sides
    few = FeatureStatistics.from_features(generated.features[:4])
    scores = frechet.score_statistics(few, reference, metrics=["fd", "precision", "density", "ct", "is"])
    assert set(scores) == {"fd", "precision"}
    assert "k = 5 need at least 6 generated images; got 4" in scores.unavailable["density"]
    assert "--held-out (held_out=)" in scores.unavailable["ct"]
    assert "use extractor inception" in scores.unavailable["is"]
    with pytest.raises(ScoreUnavailableError, match="k = 5"):
        scores["density"]
    with pytest.raises(KeyError):
        scores["kid"]
    json.loads(scores.to_json())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metric", "sizes", "message"),
    [
        ("ct", (30, 2, 30), "3 cells; got 2"),
        ("mifid", (30, 0, 30), "zero for every image"),
        ("mifid", (0, 30, 30), "zero for every image"),
        ("fd-infinity", (7, 30, 30), "at least 8 images; got 7"),
        ("fd-infinity", (30, 7, 30), "at least 8 images; got 7"),
        ("realism", ("copy", 30, 30), "100 % of the generated images are copies"),
    ],
)
def test_inputs_that_a_metric_is_undefined_for_are_rejected(metric, sizes, message):
    rows = np.random.default_rng(0).standard_normal((90, 4)).astype(np.float32)
    rows[30:44] *= 0.01  # reference images with small neighbourhoods
    special = {0: rows[:30] * 0, "copy": rows[30:44]}
    inputs = [special.get(n, rows[30 * i : 30 * i + n] if isinstance(n, int) else None) for i, n in enumerate(sizes)]
    with pytest.raises(RequestError, match=message):
        frechet.score(*inputs[:2], held_out=inputs[2] if metric == "ct" else None, features=True, metrics=metric)


@pytest.mark.parametrize(
    ("metrics", "match"),
    [
        (["nonsense"], "metric 'nonsense'; choose from fid"),
        (["kid@nobody"], "unknown preset 'nobody' of kid; choose from torch-fidelity, clean-fid"),
        (["vendi@adm"], "unknown preset 'adm' of vendi; vendi does not have presets"),
        (["kid@torch-fidelity"], "subsets of 1000 images needs at least 1000 images per input; got"),
        (["rfid"], "rfid .* an unknown extractor; use fd"),
    ],
)
def test_invalid_metric_requests_are_rejected(sides, metrics, match):
    with pytest.raises(FrechetError, match=match):
        frechet.score_statistics(*sides[:2], metrics=metrics)


@pytest.mark.slow
def test_all_selects_every_metric_that_fits_the_features(sides):
    generated, reference, held_out = sides
    scores = frechet.score_statistics(generated, reference, held_out=held_out, metrics=["all"])
    rows = {name: metric for name, metric in METRICS.items() if metric.layer == "features" and metric.extractor is None}
    fit = {name for name, metric in rows.items() if metric.requires_inception is not True and not metric.uses_latents}
    fit -= {"psnr", "ssim", "lpips", "rfid"}
    assert set(scores) == fit
    assert set(scores) >= {"fd", "kid", "ct", "fls", "mind", "vendi"}
    assert not scores.unavailable


def test_all_includes_rfid_of_pairs_only(fake_inception):
    x, y = np.random.default_rng(0).integers(0, 200, (2, 60, 4, 4, 3)).astype(np.uint8)
    found = {design: set(frechet.score(x, y, metrics="all", design=design)) for design in ("auto", "paired")}
    assert found["paired"] - found["auto"] == {"rfid"}
    assert "fid" in found["auto"]


def test_metrics_that_all_leaves_out_are_named_with_what_they_need(tmp_path):
    for seed, name in enumerate("xy"):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(seed).standard_normal((60, 4)).astype(np.float32))
    code, out, err = run("score", tmp_path / "x.npy", tmp_path / "y.npy", "--features", "--metrics", "all")
    assert code == 0, err
    (note,) = (line for line in err.splitlines() if line.startswith("note: --metrics all leaves out"))
    for part in ("cmmd (another extractor)", "rfid, psnr, ssim and lpips (pairs of images)", "ct and fls (--held-out)"):
        assert part in note
    assert not {"kid", "fid", "fid-infinity"} & set(re.split("[ ,]+", note))
    assert "rFID" not in out


def test_presets_are_separate_scores(sides):
    scores = frechet.score_statistics(
        *sides[:2], metrics=["precision", "precision@prdc", "mifid@torchmetrics", "mifid"]
    )
    assert float(scores["precision"]) != float(scores["precision@prdc"])
    assert scores["precision@prdc"].settings == {"k": 5, "closed": False}
    assert scores["precision@prdc"].label == "Precision (unknown features, d = 80), settings of prdc"
    assert float(scores["mifid"]) != float(scores["mifid@torchmetrics"])


def test_kid_has_an_interval(sides):
    score = frechet.score_statistics(*sides[:2], metrics=["kid"])["kid"]
    low, high = score.interval_95
    assert low < float(score) < high
    assert score.corrected_value == float(score)


def test_kid_is_unavailable_for_statistics_without_features(folders, sides, tmp_path):
    moments = {"mu": sides[1].mean, "sigma": sides[1].covariance}
    np.savez(tmp_path / "peer.npz", **moments)
    scores = frechet.score(sides[0], tmp_path / "peer.npz", metrics=["fd", "kid"])
    assert set(scores) == {"fd"}
    assert "pass the images" in scores.unavailable["kid"]


@pytest.mark.slow
def test_rfid_requires_equal_numbers_of_images(weights, folders):
    for options in ({}, {"design": "independent"}):
        with pytest.raises(RequestError, match="got 11 and 13"):
            frechet.score(*folders, metrics=["rfid"], weights=weights, dims=64, **options)
    score = frechet.score(folders[0], folders[0], metrics=["rfid"], weights=weights, dims=64)["rfid"]
    assert float(score) == pytest.approx(0, abs=1e-6)
    assert score.label.startswith("rFID-64")


@pytest.mark.slow
def test_features_larger_than_memory_are_kept_in_a_file(folders, monkeypatch):
    expected = frechet.score(*folders, metrics=["kid", "vendi"], **OFFLINE)
    shapes = []
    real = np.memmap

    def mapped(*arguments, **settings):
        shapes.append(settings["shape"])
        return real(*arguments, **settings)

    monkeypatch.setattr(accumulator, "MAX_IN_MEMORY_BYTES", 1000)
    monkeypatch.setattr(np, "memmap", mapped)
    found = frechet.score(*folders, metrics=["kid", "vendi"], **OFFLINE)
    assert shapes == [(11, 1280), (13, 1280)]
    assert float(found["kid"]) == float(expected["kid"])


def test_the_seed_changes_random_draws_and_nothing_else(sides):
    def scores(seed):
        chosen = [FeatureStatistics.from_features(side.features, seed=seed) for side in sides[:2]]
        return frechet.score_statistics(*chosen, metrics=["mind", "kid", "precision"])

    one, same, other = scores(1), scores(1), scores(2)
    assert float(one["mind"]) == float(same["mind"]) != float(other["mind"])
    assert float(one["kid"]) == float(other["kid"])
    assert float(one["precision"]) == float(other["precision"])


@pytest.mark.slow
def test_the_command_line_reports_available_and_unavailable_metrics(folders):
    code, out, err = run("score", *folders, "--extractor", "efficientnet-lite0", "--metrics", "fd,kid,ct", "--json")
    assert code == 2
    found = json.loads(out)
    assert set(found["scores"]) == {"fd", "kid"}
    assert "--held-out" in found["unavailable"]["ct"]
    assert "ct was not computed: it needs real images that the generator was not trained on. Pass them with" in err
    code, out, _ = run("score", folders[0], "--extractor", "efficientnet-lite0", "--metrics", "is", "--splits", "1,5")
    assert code == 0
    assert {"1 split", "5 splits"} <= set(re.split(r" {2,}", out.splitlines()[0]))
    assert "reference" not in out
    code, _, err = run("score", folders[0], "--metrics", "is", "--splits", "two")
    assert (code, "expected whole numbers" in err) == (2, True)


def test_results_have_a_short_repr(sides):
    score = frechet.Score(
        metric="fd", label="FD", value=2, corrected_value=1.5, interval_95=(1, 2), generated_groups=(0.1,) * 99
    )
    assert repr({"fd": score}) == "{'fd': <Score: FD: 2, bias-corrected 1.5, 95 % CI 1 to 2>}"
    assert repr(frechet.Score(metric="fd", label="FD", value=2)) == "<Score: FD: 2>"
    assert repr(frechet.influence(*sides[:2])) == "<ImageInfluence: 300 images>"
    assert repr(sides[0]) == "<Statistics: features in memory, 300 images, 80 features>"


def test_scores_can_be_formatted_and_name_their_metrics(sides):
    scores = frechet.score_statistics(sides[0], sides[1], metrics=["fd", "kid"], interval="none")
    assert f"{scores['fd']:.2f}" == f"{scores['fd'].value:.2f}"
    assert f"{scores['fd']}" == str(scores["fd"])
    assert repr(scores) == f"<Scores: {scores['fd']}, {scores['kid']}>"
    assert scores["KID"] is scores["kid"]
    with pytest.raises(KeyError, match="no score 'fid' in this run; choose from fd, kid"):
        scores["fid"]  # the features are not Inception's, and fid was not requested
    assert scores.get("fid") is None


@pytest.mark.parametrize("shift", [100, 1000])
def test_kid_of_features_far_from_the_origin(shift):
    """The U-statistic and its jackknife in float64, by their definitions; float32 would lose every digit of the kernel's differences."""
    random = np.random.default_rng(0)
    x, y = ((random.standard_normal((n, 20)) + shift).astype(np.float32) for n in (50, 40))

    def value(x, y):
        def kernel(a, b):
            return (a @ b.T / 20 + 1) ** 3

        own = [(kernel(a, a).sum() - np.trace(kernel(a, a))) / (len(a) * (len(a) - 1)) for a in (x, y)]
        return sum(own) - 2 * kernel(x, y).mean()

    exact = [side.astype(np.float64) for side in (x, y)]
    found = kernel.kid(x, y)
    assert found.value == pytest.approx(value(*exact), rel=1e-5)
    left = [[value(np.delete(exact[0], i, 0), exact[1]) for i in range(50)]]
    left.append([value(exact[0], np.delete(exact[1], i, 0)) for i in range(40)])
    jackknife = sum((len(one) - 1) * np.var(one) for one in left)
    assert 0.5 * jackknife**0.5 < found.standard_error < 1.01 * jackknife**0.5
    subsets = kernel.kid_over_subsets(x, y, subsets=1, subset_size=40, seed=3)
    draws = np.random.RandomState(3)
    some = [side[draws.choice(len(side), 40, replace=False)] for side in exact]
    assert subsets.value == pytest.approx(value(*some), rel=1e-5)


@pytest.mark.parametrize("spread", [0.3, 0.03, 0.01])
def test_standard_error_of_kid_for_features_with_little_spread_around_their_mean(spread):
    """For two samples of one distribution, the whole variance is degenerate, with a closed form for normal features of
    mean 1: the doubly centred kernel is 3·2² (x - 1)·(y - 1)/d plus smaller terms, its mean square 144 spread⁴/d."""
    random = np.random.default_rng(0)
    n, d = 400, 512
    x, y = ((1 + spread * random.standard_normal((n, d))).astype(np.float32) for _ in range(2))
    expected = (144 * spread**4 / d * 8 / n**2) ** 0.5
    assert kernel.kid(x, y).standard_error == pytest.approx(expected, rel=0.25 if spread > 0.1 else 0.05)


@pytest.mark.slow
@pytest.mark.usefixtures("without_type_checks")
def test_the_variance_of_kid_is_unbiased():
    """Its exact expectation over all samples of 5 and 4 images from two distributions on two points each."""
    points, odds = np.array([[[0.0, 1], [1, -0.5]], [[0.5, 0.2], [-1, 2]]]), np.array([[0.3, 0.7], [0.6, 0.4]])
    found = []
    for one in itertools.product(range(2), repeat=5):
        for other in itertools.product(range(2), repeat=4):
            i, j = list(one), list(other)
            x, y = points[0, i], points[1, j]
            estimate, _ = kernel._kid_variances(
                kernel._kernel_sums(x), kernel._kernel_sums(y), kernel._kernel_sums(x, y)
            )
            found.append((odds[0, i].prod() * odds[1, j].prod(), kernel.kid(x, y).value, estimate))
    weights, values, estimates = np.array(found).T
    variance = weights @ values**2 - (weights @ values) ** 2
    assert weights @ estimates == pytest.approx(variance, rel=1e-9)


def test_order_matters_for_adms_inception_score_and_is_checked(monkeypatch, fake_inception):
    """Class-sorted images score far lower in consecutive splits; the shuffled value is that of a run on shuffled images."""
    row = METRICS["is"]
    monkeypatch.setitem(METRICS._entries, "is", replace(row, presets={"adm": {**row.presets["adm"], "split_size": 40}}))
    random = np.random.default_rng(0)
    colors = np.repeat(random.integers(0, 256, (8, 1, 1, 3)), 30, axis=0)
    images = np.clip(colors + random.integers(-20, 21, (240, 4, 4, 3)), 0, 255).astype(np.uint8)
    shuffled = images[legacy_permutation(240, 0)]
    sorted_score, mixed_score = (frechet.score(each, metrics="is@adm")["is@adm"] for each in (images, shuffled))
    assert sorted_score.value - 1 < 0.5 * (mixed_score.value - 1)
    assert sorted_score.terms["shuffled"] == pytest.approx(mixed_score.value, rel=1e-6)
    assert any("sorted by class" in warning for warning in sorted_score.warnings)
    assert not any("sorted by class" in warning for warning in mixed_score.warnings)
    assert "shuffled" not in frechet.score(images[:40], metrics="is@adm")["is@adm"].terms  # one split has no order
