"""Intervals, influence and FID∞ as a user meets them: in scores, tables, JSON and stored statistics."""

import json
from dataclasses import replace

import numpy as np
import pytest
from golden_images import make_tiles
from helpers import make_image_folder, run
from PIL import Image

import frechet
from frechet.distances import extrapolation
from frechet.distances.frechet import FrechetTerms, frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.errors import RequestError
from frechet.reports.details import format_details
from frechet.reports.diagnostics import compute_diagnostics
from frechet.reports.score_table import describe_scores
from frechet.reports.text import format_scores, iter_interval_notes, suggest_next_step
from frechet.results import Score, Scores

pytestmark = pytest.mark.usefixtures("small_inputs")

D = 12


def draw(seed, n, scale=1.0, shift=0.0):
    return (np.random.default_rng(seed).standard_normal((n, D)) * scale + shift).astype(np.float32)


@pytest.mark.parametrize("n", [None, 70])
def test_the_hint_does_not_ask_for_more_images_of_a_fixed_reference(n):
    reference = frechet.Statistics.from_features(draw(1, 70))
    given = replace(reference, n=n, group_moments=None, rows=None, indices=None)
    scores = frechet.score(draw(0, 60), given, features=True, reference_is="fixed")
    (count, _) = scores["fd"].n_to_halve_interval
    assert suggest_next_step(scores).endswith(f"use about {count:,} generated images")
    assert f"about {count:,} generated images\n" in format_details(scores)


def test_a_score_has_plain_and_corrected_value_and_interval():
    score = frechet.score(draw(0, 60), draw(1, 70, 1.5, 0.5), features=True)["fd"]
    low, high = score.interval_95
    assert low < score.corrected_value < high
    assert score.corrected_value < score.value
    assert score.interval_method == "jackknife with 5 groups"
    assert (score.reference_is, score.sampling_design) == ("sample", "independent")
    assert score.n_to_halve_interval == (240, 280)
    scores = frechet.score(draw(0, 60), draw(1, 70, 1.5, 0.5), features=True)
    text = format_scores(scores)
    assert "corrected" in text
    assert "95 %" in text
    assert "240 generated and 280 reference" in suggest_next_step(scores)


def test_numpy_integers_are_accepted(tmp_path):
    """A seed out of `np.arange`, a size out of an array's shape: all of it goes into JSON."""
    y = frechet.Statistics.from_features(draw(1, 70))
    np.savez(tmp_path / "peer.npz", mu=y.mean, sigma=y.covariance)
    chosen = {"features": True, "seed": np.int64(3), "reference_size": np.int64(70)}
    scores = frechet.score(draw(0, 60), tmp_path / "peer.npz", **chosen)
    assert json.loads(scores.to_json())["provenance"]["generated"]["seed"] == 3
    frechet.collect(draw(0, 60), features=True, seed=np.int64(3)).save(tmp_path / "x.npz")


def test_interval_none_is_recorded():
    score = frechet.score(draw(0, 60), draw(1, 70), features=True, interval="none")["fd"]
    assert score.interval_95 is None
    assert score.interval_unavailable_reason == "not requested"
    with pytest.raises(RequestError, match="'auto' or 'none'"):
        frechet.score(draw(0, 60), draw(1, 70), features=True, interval="yes")


def test_stored_statistics_give_the_interval_of_the_features(tmp_path):
    x, y = draw(0, 60), draw(1, 70, 1.5)
    direct = frechet.score(x, y, features=True)["fd"]
    frechet.Statistics.from_features(y).save(tmp_path / "y.npz")
    stored = frechet.score(x, tmp_path / "y.npz", features=True)["fd"]
    assert stored.corrected_value == pytest.approx(direct.corrected_value, rel=1e-9)
    assert stored.interval_95 == pytest.approx(direct.interval_95, rel=1e-9)


@pytest.mark.parametrize("missing", ["group_moments", "rows"])
def test_generated_statistics_without_groups_or_rows_have_no_interval(missing):
    generated, reference = (frechet.Statistics.from_features(draw(seed, 300)) for seed in (0, 1))
    assert frechet.score(generated, reference)["fd"].interval_95 is not None
    score = frechet.score(replace(generated, **{missing: None}), reference)["fd"]
    assert score.interval_95 is score.reference_is is score.sampling_design is None
    for part in ("generated statistics", "score the images", "frechet stats"):
        assert part in score.interval_unavailable_reason


@pytest.fixture
def foreign_file(tmp_path):
    """A reference as pytorch-fid stores it, of 300 images."""
    y = draw(1, 300, 1.5)
    np.savez(tmp_path / "y.npz", mu=y.mean(0, dtype=np.float64), sigma=np.cov(y, rowvar=False))
    return tmp_path / "y.npz"


def test_a_foreign_file_is_a_fixed_reference_of_whatever_size(foreign_file):
    x, y = draw(0, 200), draw(1, 300, 1.5)
    score = frechet.score(x, foreign_file, features=True)["fd"]
    assert score.reference_is == "fixed"
    assert score.variance_components[1] == 0
    assert score.reference_groups is None
    sized = frechet.score(x, foreign_file, features=True, reference_size=300)["fd"]
    assert (sized.n_reference, sized.reference_is) == (300, "fixed")
    assert sized.interval_95 == score.interval_95
    assert sized.corrected_value == score.corrected_value
    images = frechet.score(x, y, features=True)["fd"]
    assert images.reference_is == "sample"
    assert images.standard_error > score.standard_error
    chosen = frechet.score(x, y, features=True, reference_is="fixed")["fd"]
    assert (chosen.reference_is, chosen.sampling_design) == ("fixed", "independent")
    assert chosen.interval_95 == pytest.approx(score.interval_95, rel=1e-6)


def test_a_foreign_file_has_no_interval_as_a_sample(foreign_file):
    x = draw(0, 200)
    score = frechet.score(x, foreign_file, features=True, reference_is="sample", reference_size=300)["fd"]
    assert score.interval_95 is score.corrected_value is score.reference_is is None
    for part in ("reference statistics", "sampling error of the reference is unknown", "--reference-is fixed"):
        assert part in score.interval_unavailable_reason
    assert np.isfinite(float(score))


@pytest.mark.parametrize(
    ("kind", "words"),
    [("sample", "between the generated and the reference distribution"), ("fixed", "this reference as it is")],
)
def test_text_json_and_page_state_what_the_interval_is_for(tmp_path, kind, words):
    scores = frechet.score(draw(0, 60), draw(1, 70, 1.5), features=True, reference_is=kind)
    assert words in format_scores(scores)
    assert words in " ".join(describe_scores([scores["fd"]]))
    assert json.loads(scores.to_json())["scores"]["fd"]["reference_is"] == kind
    for name, seed in (("x", 0), ("y", 1)):
        np.save(tmp_path / f"{name}.npy", draw(seed, 60))
    code, out, _ = run("score", tmp_path / "x.npy", tmp_path / "y.npy", "--features", "--reference-is", kind)
    assert code == 0
    assert words in out


def test_an_unknown_kind_of_reference_is_rejected():
    with pytest.raises(RequestError) as caught:
        frechet.score("nowhere", "nowhere else", reference_is="Gaussian")
    for part in ("reference_is", "'Gaussian'", "'sample'", "'fixed'"):
        assert part in str(caught.value)


def test_equal_sets_do_not_differ_significantly():
    score = frechet.score(draw(2, 60), draw(3, 70), features=True)["fd"]
    assert score.permutation_p_value > 0.05
    assert score.interval_95[0] == 0
    assert "no significant difference" in format_scores(frechet.score(draw(2, 60), draw(3, 70), features=True))


def test_a_significant_difference_next_to_an_interval_that_starts_at_zero_is_explained():
    score = Score(
        metric="fd", label="FD", value=0.3, corrected_value=0.1, interval_95=(0.0, 0.4), permutation_p_value=0.041
    )
    scores = Scores({"fd": score}, {})
    expected = "significant difference (p = 0.041); the CI reaches 0, near which this test has more power"
    assert f"permutation test  {expected}" in format_scores(scores)
    assert expected in format_details(scores)
    assert (
        "FD shows a significant difference between the two inputs (permutation test, p = 0.041)"
        in describe_scores([score])[-1]
    )


def test_influential_images_are_those_whose_removal_changes_most():
    x, y = draw(0, 400), draw(1, 500)
    x[[7, 90]] += 4
    found = frechet.influence(x, y, features=True)
    assert {row["image"] for row in found.top_raising(2)} == {"image 7", "image 90"}
    p = Gaussian.from_features(y.astype(np.float64))
    whole = frechet_terms(Gaussian.from_features(x.astype(np.float64)), p).total
    without = frechet_terms(Gaussian.from_features(np.delete(x, 7, 0).astype(np.float64)), p).total
    assert found.change[7] == pytest.approx(without - whole, rel=1e-6)
    listed = frechet.score(x, y, features=True, explain=3)["fd"].influence
    assert len(listed["raise"]) == len(listed["lower"]) == 3
    assert listed["raise"][0]["change"] == listed["raise"][0]["mean"] + listed["raise"][0]["covariance"]


@pytest.mark.parametrize(("n", "is_unreliable"), [(D, True), (D + 1, False)])
def test_influential_images_are_unreliable_with_as_many_images_as_dimensions(n, is_unreliable):
    scores = frechet.score(draw(0, n), draw(1, 500), features=True, explain=2)
    assert any("is unreliable" in warning for warning in scores["fd"].warnings) == is_unreliable


@pytest.mark.slow
def test_explain_lists_files_with_escaped_names(tmp_path):
    folder = make_image_folder(tmp_path / "a", 20, seed=1)
    for index, image in enumerate(make_tiles("skimage/data/astronaut.png", 20)):
        Image.fromarray(np.asarray(image)).save(folder / f"real {index:02d}.png")
    Image.fromarray(np.full((32, 32, 3), 255, np.uint8)).save(folder / "bad\x1b[31m.png")
    reference = make_image_folder(tmp_path / "b", 30, seed=2)
    code, out, _ = run("score", folder, reference, "--extractor", "efficientnet-lite0", "--explain", 5)
    assert code == 0
    assert "images that raise FD-EfficientNet-Lite0 most" in out
    header, first = out.split("images that raise")[1].splitlines()[1:3]
    assert header.split() == ["change", "mean", "covariance", "image"]
    change, mean, covariance = map(float, first.split()[:3])
    assert change == pytest.approx(mean + covariance, rel=0.01)
    assert "real" in out.split("images that lower")[0]
    assert "\x1b" not in out
    code, out, _ = run("score", folder, reference, "--extractor", "efficientnet-lite0", "--explain", 5, "--json")
    assert len(json.loads(out)["scores"]["fd"]["influence"]["lower"]) == 5


def test_only_images_that_raise_are_listed_as_raising():
    x, y = draw(0, 40), draw(1, 500)
    found = frechet.influence(x, y, features=True)
    top_raising, top_lowering = found.top_raising(40), found.top_lowering(40)
    assert 0 < len(top_raising) < 40
    assert all(row["change"] < 0 for row in top_raising)
    assert all(row["change"] > 0 for row in top_lowering)
    assert len(top_raising) + len(top_lowering) == 40
    listed = compute_diagnostics(*(frechet.collect(side, features=True) for side in (x, y)))
    assert all(row.change < 0 for row in listed.raising)
    assert all(row.change > 0 for row in listed.lowering)
    assert (len(listed.raising), len(listed.lowering)) == (min(12, len(top_raising)), min(12, len(top_lowering)))
    assert [len(image.nearest) for image in listed.neighbours.near] == [3] * 12


@pytest.mark.slow
@pytest.mark.parametrize("evil", ["a\nb", "a\tb", "a\x1bb", "a\x85b", "a\u2028b", "a\u202eb"])
def test_file_names_never_break_a_line(evil, tmp_path):
    """In the table of images, and in the warnings on stderr."""
    folder, other = make_image_folder(tmp_path / "a", 6), make_image_folder(tmp_path / "b", 6, seed=1)
    for name in ("000.png", "001.png"):  # the same image twice, and transparent
        Image.new("RGBA", (8, 8), (250, 0, 0, 9)).save(folder / f"{evil}{name}")
        (folder / name).unlink()
    code, out, err = run("score", folder, other, "--extractor", "efficientnet-lite0", "--explain", 6)
    assert code == 0
    assert out.count(repr(evil)[1:-1]) == 2
    assert err.count(repr(evil)[1:-1]) >= 3
    assert evil not in out + err
    assert all(line.startswith(("warning: ", "note: ")) for line in err.splitlines())
    out_file = tmp_path / "a.npz"
    code, out, err = run("stats", folder, out_file, "--extractor", "efficientnet-lite0")
    assert (code, evil in err) == (0, False)
    assert all(line.startswith("warning: ") for line in err.splitlines())


def test_statistics_without_every_images_features_cannot_be_explained(tmp_path):
    x = draw(0, 5000)
    np.savez(tmp_path / "x.npz", mu=x.mean(0, dtype=np.float64), sigma=np.cov(x, rowvar=False))
    with pytest.raises(RequestError, match="pass the images"):
        frechet.score(tmp_path / "x.npz", draw(1, 50), features=True, explain=3)
    with pytest.raises(RequestError, match="pass the images"):
        frechet.score(tmp_path / "x.npz", draw(1, 50), features=True, metrics=["fd-infinity"])


@pytest.mark.slow
@pytest.mark.usefixtures("without_type_checks")
def test_infinity_finds_the_intercept_of_the_bias():
    """In many draws the plain value lies above the truth by its bias, and the extrapolated one around it."""
    truth = D * (1.5 - 1) ** 2
    plain, infinite = [], []
    for seed in range(40):
        found = frechet.score(
            draw(2 * seed, 40 * D),
            draw(2 * seed + 1, 40 * D, 1.5),
            features=True,
            metrics=["fd", "fd-infinity"],
            interval="none",
            seed=seed,
        )
        plain.append(float(found["fd"]))
        infinite.append(float(found["fd-infinity"]))
    assert np.mean(plain) > truth * 1.02
    assert abs(np.mean(infinite) - truth) < 0.4 * (np.mean(plain) - truth)


def test_infinity_is_fitted_to_available_sizes(monkeypatch):
    """A distance of exactly 3 + 5 (1/n + 1/m) has the intercept 3, whatever a quarter of the images is rounded to."""
    sizes = []

    def from_features(rows):
        sizes.append(len(rows))
        gaussian = object.__new__(extrapolation.Gaussian)
        vars(gaussian).update(n=len(rows))
        return gaussian

    def terms(p, q):
        bias = sum(1 / gaussian.n for gaussian in (p, q))
        return FrechetTerms(3 + 5 * bias, 1 + 2 * bias)

    monkeypatch.setattr(extrapolation.Gaussian, "from_features", from_features)
    monkeypatch.setattr(extrapolation, "frechet_terms", terms)
    found = extrapolation.frechet_infinity(np.zeros((9, 1)), np.zeros((26, 1)))
    assert set(sizes) >= {2, 9, 6, 26}
    assert tuple(found) == pytest.approx((3, 1), abs=1e-9)


def test_infinity_is_seeded_and_labelled():
    x, y = draw(0, 60), draw(1, 70, 1.5)
    one, other = (
        frechet.score(x, y, features=True, metrics=["fd-infinity"], seed=seed)["fd-infinity"] for seed in (0, 0)
    )
    assert float(one) == float(other)
    assert one.interval_95 is None
    assert "FID∞" in one.interval_unavailable_reason


@pytest.mark.slow
def test_infinity_and_explain_keep_every_row(monkeypatch, tmp_path):
    monkeypatch.setattr(
        "frechet.statistics.accumulator.row_sample_size", lambda n, dims: 4
    )  # as if there were more than 8 d
    sides = make_image_folder(tmp_path / "a", 8, seed=1), make_image_folder(tmp_path / "b", 9, seed=2)
    options = {"extractor": "efficientnet-lite0"}
    assert np.isfinite(float(frechet.score(*sides, metrics=["fd-infinity"], **options)["fd-infinity"]))
    listed = frechet.score(*sides, explain=8, **options)["fd"].influence
    assert len(listed["raise"]) + len(listed["lower"]) == 8
    small = frechet.collect(sides[0], **options)
    assert small.features is None
    with pytest.raises(RequestError, match="pass the images"):  # before the reference is looked at
        frechet.score(small, [np.zeros((2, 2, 3), np.uint8), None], metrics=["fd-infinity"], **options)


def test_options_are_validated_before_any_file_is_read():
    with pytest.raises(RequestError, match="'auto' or 'none'"):
        frechet.score("nowhere", "nowhere else", interval="yes")
    with pytest.raises(RequestError, match=r"^--explain \(explain=\) is -1"):
        frechet.score("nowhere", "nowhere else", explain=-1)


def test_infinity_has_its_own_label():
    scores = frechet.score(draw(0, 60), draw(1, 70), features=True, metrics=["fd", "fd-infinity"])
    assert len({score.label for score in scores.values()}) == 2


@pytest.mark.parametrize("reference_is", [None, "sample"])
def test_too_few_images_are_the_reason_whatever_the_reference_is(tmp_path, reference_is):
    """An input without group moments, since it has fewer than 1.5 images per dimension, is not statistics without rows."""
    frechet.Statistics.from_features(draw(1, 15)).save(tmp_path / "few.npz")
    for reference in (draw(1, 15), tmp_path / "few.npz"):
        score = frechet.score(draw(0, 16), reference, features=True, reference_is=reference_is)["fd"]
        reason = score.interval_unavailable_reason
        assert reason.startswith("at least 50 images per input are required"), reason
        assert reason.endswith("got 16 generated" + (" and 15 reference" if reference_is else "")), reason


def test_each_reason_for_a_missing_interval_of_these_images_is_a_note():
    """That of coverage was only in the JSON; FID∞ has no interval of any images."""
    x = draw(0, 60)
    scores = frechet.score(x, x + 1e-3, features=True, metrics="fd,fd-infinity,coverage,recall")
    (note,) = iter_interval_notes(scores)
    assert note.startswith("note: no confidence interval for Coverage and Recall: fewer than 10 images are inside")
    few = frechet.score(x[:20], x[:20] + 1e-3, features=True, metrics="fd,coverage")
    assert [note.partition(":")[2].partition(":")[0] for note in iter_interval_notes(few)] == [
        " no confidence interval for FD",
        " no confidence interval for Coverage",
    ]
    assert not list(iter_interval_notes(frechet.score(x, draw(1, 70), features=True, interval="none")))


def test_influential_images_are_suggested_only_if_a_metric_has_them(tmp_path, toy_options):
    x, y = (make_image_folder(tmp_path / name, 60, seed, size=(8, 8)) for seed, name in enumerate("xy"))

    def suggest(metrics, **options):
        return suggest_next_step(frechet.score(x, y, metrics=metrics, interval="none", **toy_options, **options))

    assert "--explain 20" in suggest(["precision", "fd"])
    assert suggest(["precision"]) is None
    assert suggest(["fd"], explain=20) is None
    assert suggest_next_step(frechet.score(draw(0, 60), draw(1, 70), features=True, interval="none")) is None
    with pytest.raises(RequestError, match="none of the metrics is a Fréchet distance"):
        suggest(["precision"], explain=20)
