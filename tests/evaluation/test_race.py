"""Races: the best of several models with as few images as that takes."""

import json
import signal
import time
import uuid
from dataclasses import replace

import numpy as np
import pytest
from forks import ForkedProgram
from helpers import run
from toy_network import corner

import frechet
from frechet.distances.elimination import SuccessiveElimination
from frechet.distances.interval import Interval
from frechet.distances.sequential import critical_value, plan_looks
from frechet.errors import GeneratorError, MismatchError, RequestError, TooFewImagesError
from frechet.evaluation.race_course import RaceCourse
from frechet.execution.settings import Settings
from frechet.execution.subset import select_indices

RANDOM = np.random.default_rng(0)
SHIFTS = {"good": 0.5, "near": 0.56, "bad": 0.8, "worst": 1.2}  # distances 4 shift²: 1, 1.25, 2.56, 5.76


def draw(shift, n=8000):
    return (RANDOM.standard_normal((n, 4)) + shift).astype(np.float32)


MODELS = {name: draw(shift) for name, shift in SHIFTS.items()}
REFERENCE = frechet.Statistics.from_features(draw(0, 50_000))
OPTIONS = {"extractor": corner, "preprocessing": "pytorch-fid"}


def race(models=None, reference=REFERENCE, *, features=True, **options):
    return frechet.race(MODELS if models is None else models, reference, features=features, **options)


def draw_images(n, brightest=256):
    return RANDOM.integers(0, brightest, (n, 4, 4, 3), np.uint8)


@pytest.fixture(scope="module")
def found():
    return race()


@pytest.fixture(scope="module")
def image_options():
    pytest.importorskip("torch")  # computes the features of `corner`
    return {"reference": frechet.collect(list(draw_images(500)), **OPTIONS), "features": False, **OPTIONS}


@pytest.mark.slow
def test_the_ranking_is_that_of_the_exact_distances(found):
    assert [model.name for model in found.models] == list(SHIFTS)
    assert found.winner == "good"
    assert [model.verdict for model in found.models] == ["best", *["worse than the best"] * 3]


@pytest.mark.slow
def test_worse_models_leave_earlier(found):
    sizes = [model.n_images for model in found.models]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] <= 8000
    assert found.images_used == sum(sizes)
    assert found.images_saved == 4 * 8000 - sum(sizes)
    for model in found.models[1:]:
        assert next(look.n_images for look in found.looks if model.name in look.left) == model.n_images
        assert model.eliminated_by in SHIFTS
        assert [look.n_images for look in found.looks if model.name in look.values][-1] == model.n_images


def test_no_model_is_said_to_need_more_images_than_the_race_took(found):
    """Each has less than a fifth of the 50,000 reference images, which a score with a fixed number of images warns about."""
    assert max(model.n_images for model in found.models) < 10_000
    assert not any("sample size" in note for note in found.notes)
    rows = MODELS["worst"][:100]
    assert any("sample size" in note for note in frechet.score(rows, REFERENCE, features=True)["fd"].warnings)


def test_intervals_contain_the_exact_differences(found):
    exact = {name: 4 * shift**2 for name, shift in SHIFTS.items()}
    assert len(found.pairs) == 6
    for pair in found.pairs:
        assert pair.low < exact[pair.one] - exact[pair.other] < pair.high
    for look in found.looks:
        assert all(low < exact[name] < high for name, (low, high) in look.intervals.items())


@pytest.mark.slow
def test_pairs_do_not_depend_on_the_order_of_the_models():
    models = {name: draw(shift, 400) for name, shift in (("near", 0.5), ("far", 2.0))}
    one, other = (race(dict(order)) for order in (models.items(), [*models.items()][::-1]))
    assert [pair.one for pair in one.pairs] == ["near"]
    assert one.pairs == other.pairs
    assert one.pairs[0].low < one.pairs[0].difference < one.pairs[0].high < 0


@pytest.mark.slow
def test_the_critical_value_is_shared_by_all_pairs(found):
    assert found.critical_value == pytest.approx(critical_value(plan_looks(50, 8000), 0.05 / 6))
    assert race(alpha=0.5).critical_value < found.critical_value


def test_values_are_those_of_scores_of_as_many_images(found):
    for model in found.models:
        rows = MODELS[model.name][select_indices(MODELS[model.name], Settings(num_images=model.n_images))]
        assert model.value == pytest.approx(float(frechet.fd(rows, REFERENCE, features=True)), rel=1e-9)


@pytest.mark.slow
def test_equal_models_are_not_distinguished():
    same = race({"a": draw(0.5, 1000), "b": draw(0.5, 1000), "c": draw(2, 1000)})
    assert same.winner is None
    assert [model.verdict for model in same.models] == ["not distinguished", "not distinguished", "worse than the best"]
    assert [model.n_images for model in same.models[:2]] == [1000, 1000]
    assert {note[:2] for note in same.notes if "sample size" in note} == {"a:", "b:"}


@pytest.mark.slow
def test_all_pairs_are_ranked():
    ranked = race(find="all-pairs")
    assert ranked.winner == "good"
    assert all(pair.is_decided for pair in ranked.pairs)
    assert [model.name for model in ranked.models] == list(SHIFTS)


def test_a_full_ranking_follows_the_decisions_and_then_the_estimates():
    """The estimate of c at its last look is below that of b at a later one, but c was worse than b when they were compared."""
    elimination = SuccessiveElimination(["a", "b", "c"], "all-pairs")
    elimination.better = {("a", "c"): "a", ("b", "c"): "b"}
    interval = Interval(0, 1, 0, 1, "", (1, 0))
    values = {"a": 5.2, "b": 5.1, "c": 5.0}
    course = RaceCourse(None, 2.0, {name: interval._replace(corrected_value=value) for name, value in values.items()})
    assert course.rank(elimination) == ["b", "a", "c"]


@pytest.mark.slow
def test_the_first_of_a_full_ranking_is_the_one_that_no_other_is_better_than():
    """The estimates of b and c at their last look, with more images than a took, may be below that of a, which won earlier."""
    random = np.random.default_rng(15)  # a seed with such estimates
    latents, reference = random.standard_normal((3000, 4)), random.standard_normal((20_000, 4))
    near = latents + 0.515
    models = {"a": latents + 0.5, "b": near, "c": near + 0.03 * random.standard_normal(latents.shape)}
    ranked = race(models, reference, find="all-pairs", paired_runs=True, seed=15)
    assert min(ranked.models, key=lambda model: model.corrected_value).name != "a"
    assert ranked.winner == "a"
    assert [pair.is_decided for pair in ranked.pairs if pair.one == "a"] == [True, True]


@pytest.mark.slow
def test_common_latents_save_images():
    latents = draw(0, 8000)
    models = {"a": latents + 0.5, "b": 1.01 * latents + 0.52}
    independent, paired = race(models), race(models, paired_runs=True)
    assert paired.winner == "a"
    assert paired.images_used < 0.2 * independent.images_used


@pytest.mark.slow
def test_the_error_of_a_shared_sampled_reference_cancels():
    """Without cancellation, 300 reference images alone add a standard error of √2 · √(4 / 300) = 0.16."""
    reference = frechet.Statistics.from_features(draw(0, 300))
    found = race({"a": draw(0.5, 20_000), "b": draw(0.5, 20_000)}, reference, reference_is="sample")
    assert found.models[0].n_images == 20_000
    low, high = found.models[1].difference_interval
    assert (high - low) / 2 < 0.15


@pytest.mark.slow
def test_functions_generate_no_more_images_than_needed(image_options):
    counts = {"dark": 0, "even": 0}

    def make(name, brightest):
        def generate(n):
            counts[name] += n
            return draw_images(n, brightest)

        return generate

    found = race({"dark": make("dark", 100), "even": make("even", 256)}, max_images=2000, **image_options)
    assert found.winner == "even"
    assert found.images_used < 1000
    assert sum(counts.values()) <= found.images_used + 2 * 64


@pytest.mark.slow
def test_values_of_images_are_those_of_scores_of_as_many_images(image_options, tmp_path):
    for name, brightest in (("a", 256), ("b", 240), ("c", 100)):
        np.save(tmp_path / f"{name}.npy", draw_images(300, brightest))
    found = race({name: tmp_path / f"{name}.npy" for name in "abc"}, seed=2, **image_options)
    assert found.models[2].name == "c"
    for model in found.models:
        options = {"num_images": model.n_images, "seed": 2, "reference_is": "fixed", **OPTIONS}
        expected = frechet.fd(tmp_path / f"{model.name}.npy", image_options["reference"], **options)
        assert model.value == pytest.approx(expected.value, rel=1e-9)
        assert model.corrected_value == pytest.approx(expected.corrected_value, rel=1e-9)


@pytest.mark.slow
def test_a_race_resumes_with_the_same_bits(image_options, tmp_path, extracted_counts):
    for name, brightest in (("a", 256), ("b", 240), ("c", 100)):
        np.save(tmp_path / f"{name}.npy", draw_images(600, brightest))
    models = {name: tmp_path / f"{name}.npy" for name in "abc"}
    undisturbed = race(models, **image_options)

    class StopError(Exception):
        pass

    def stop(name, done, _total):
        if name == "b" and done > 100:
            raise StopError

    with pytest.raises(StopError):
        race(models, work_dir=tmp_path / "work", progress=stop, **image_options)
    before = sum(extracted_counts)
    resumed = race(models, work_dir=tmp_path / "work", **image_options)
    assert resumed.to_json() == undisturbed.to_json()
    assert 0 < sum(extracted_counts) - before < undisturbed.images_used


QUIET_COMMAND = """
import os, sys
from frechet.cli.main import main
sys.stderr = open(os.devnull, "w")
main(sys.argv[1:])
"""


@pytest.mark.subprocess
@pytest.mark.slow
def test_a_killed_race_resumes_with_the_same_bits(tmp_path):
    for seed, (name, brightest) in enumerate((("a", 256), ("b", 235), ("c", 120))):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(seed).integers(0, brightest, (2000, 4, 4, 3), np.uint8))
    np.save(tmp_path / "reference.npy", np.random.default_rng(9).integers(0, 256, (500, 4, 4, 3), np.uint8))
    arguments = ["race", "a.npy", "b.npy", "c.npy", "--reference", "reference.npy", "--json", "--find", "all-pairs"]
    arguments += ["--extractor", "toy_network:slow_corner", "--preprocessing", "pytorch-fid"]

    def start(*options):
        return ForkedProgram(tmp_path / f"output-{uuid.uuid4()}.txt", QUIET_COMMAND, *arguments, *options, cwd=tmp_path)

    undisturbed = start().finish()
    work_dir = tmp_path / "work"
    for count in (3, 8):  # kill when so many chunks are finished
        program = start("--work-dir", "work")
        deadline = time.monotonic() + 60
        while len(list(work_dir.rglob("chunk-*.npz"))) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        program.kill()
        assert program.wait() == -signal.SIGKILL
    resumed = start("--work-dir", "work").finish()
    assert resumed == undisturbed


@pytest.mark.parametrize(
    ("error", "parts", "options"),
    [
        (RequestError, ("1 model", "at least 2", "--until-half-width"), {"models": {"a": MODELS["good"]}}),
        (RequestError, ("list", "mapping"), {"models": [MODELS["good"], MODELS["bad"]]}),
        (RequestError, ("--find (find=)", "worst", "choose from best, all-pairs"), {"find": "worst"}),
        (RequestError, ("alpha", "1.5", "between 0 and 1"), {"alpha": 1.5}),
        (RequestError, ("max_images", "0"), {"max_images": 0}),
        (RequestError, ("reference_is", "distribution"), {"reference_is": "distribution"}),
        (RequestError, ("paired_runs", "no", "True"), {"paired_runs": "no"}),
        (MismatchError, ("dinov2-vitl14", "1024"), {"metrics": "fd-dinov2"}),  # its own extractor, as in frechet.score
        (RequestError, ("--num-images (num_images=) 100", "leave it out"), {"num_images": 100}),
        (RequestError, ("kid", "Fréchet"), {"metrics": "kid", "reference": MODELS["bad"]}),
        (TooFewImagesError, ("8,000", "--max-images (max_images=) is 9,000"), {"max_images": 9000}),
        (TooFewImagesError, ("50 images", "20"), {"max_images": 20}),
        (
            RequestError,
            ("paired_runs", "good: 8,000", "short: 100"),
            {"models": {"good": MODELS["good"], "short": MODELS["bad"][:100]}, "paired_runs": True},
        ),
        (RequestError, ("reference", "function", "frechet.collect"), {"reference": draw_images}),
        (RequestError, ("alpha", "..."), {"alpha": list(range(1000))}),
        (RequestError, ("statistics", "cannot grow"), {"models": {"good": MODELS["good"], "bad": REFERENCE}}),
    ],
)
def test_invalid_races_are_rejected(error, parts, options):
    with pytest.raises(error) as caught:
        race(**options)
    assert all(part in str(caught.value) for part in parts), caught.value


def test_a_reference_without_a_sampling_error_is_reported_at_the_first_look():
    """More images of the models do not help."""
    reference = replace(REFERENCE, group_moments=None, rows=None, indices=None)
    with pytest.raises(RequestError, match=r"--reference-is fixed, reference_is=\)$"):
        race(reference=reference, reference_is="sample")


@pytest.mark.slow
def test_a_model_that_repeats_one_image_needs_different_images(image_options):
    copies = np.repeat(draw_images(3), 100, axis=0)
    with pytest.raises(TooFewImagesError, match=r"same: .* got 3 generated.* if they are different\.$"):
        race({"good": draw_images(300), "same": copies}, **image_options)


def test_stratified_statistics_are_rejected():
    """A random part of a sample with as many images of each class is not such a sample: its interval would be too narrow."""
    stratified = frechet.collect(MODELS["good"], features=True, strata=np.arange(8000) % 20)
    with pytest.raises(RequestError, match=r"stratified.*without --strata"):
        race({"a": stratified, "b": MODELS["near"]})


@pytest.mark.slow
def test_pairs_with_a_sampled_reference_are_rejected():
    reference = frechet.collect(draw(0), features=True, design="paired")
    paired = frechet.Statistics.from_features(MODELS["worst"], grouped_by="pair", keep_all=True)
    models = {"a": MODELS["good"], "b": paired}
    with pytest.raises(RequestError, match=r"pairs.*--reference-is .* is 'sample'.*Pass 'fixed'"):
        race(models, reference, reference_is="sample")
    assert race(models, reference).winner == "a"
    assert race(models, frechet.collect(draw(0), features=True), reference_is="sample").winner == "a"


def test_mixtures_of_images_and_features_are_rejected(image_options, tmp_path):
    np.save(tmp_path / "images.npy", draw_images(100))
    features = frechet.collect(tmp_path / "images.npy", **OPTIONS)
    features = frechet.Statistics.from_features(features.rows, spec=features.spec, keep_all=True)
    for models in ({"a": tmp_path / "images.npy", "b": features}, {"a": features, "b": tmp_path / "images.npy"}):
        with pytest.raises(RequestError, match="another model of"):
            race(models, **image_options)


def test_a_function_that_repeats_images_is_rejected(image_options):
    def repeat(n):
        return np.random.default_rng(0).integers(0, 256, (n, 4, 4, 3), np.uint8)

    with pytest.raises(GeneratorError, match="new random numbers"):
        race({"a": repeat, "b": draw_images}, max_images=500, **image_options)


@pytest.mark.slow
def test_paired_runs_need_images_in_the_same_order(image_options, tmp_path):
    """A function returns its images one after the other, and those of files are taken in a random order."""
    np.save(tmp_path / "files.npy", draw_images(400))
    options = {"paired_runs": True, "max_images": 400, **image_options}
    for models in ({"a": draw_images, "b": tmp_path / "files.npy"}, {"a": tmp_path / "files.npy", "b": draw_images}):
        with pytest.raises(
            RequestError,
            match=r"a: a function, b: images, which are taken in different orders|a: images, b: a function, which",
        ):
            race(models, **options)
    models = {"a": tmp_path / "files.npy", "b": draw_images}
    assert race(models, **{**options, "paired_runs": False}).images_used <= 800
    with pytest.raises(RequestError, match="a with --on-bad-image skip"):
        race(dict.fromkeys("ab", tmp_path / "files.npy"), on_bad_image="skip", **options)


@pytest.mark.slow
def test_notes_and_provenance_name_the_model(image_options, tmp_path):
    np.save(tmp_path / "twice.npy", np.repeat(draw_images(150), 2, axis=0))
    np.save(tmp_path / "once.npy", draw_images(300, 100))
    found = race({name: tmp_path / f"{name}.npy" for name in ("once", "twice")}, **image_options)
    assert {name: each["label"] for name, each in found.provenance["models"].items()} == {
        name: str(tmp_path / f"{name}.npy") for name in ("once", "twice")
    }
    assert found.provenance["models"]["once"]["n"] == next(
        each.n_images for each in found.models if each.name == "once"
    )
    assert found.provenance["paired_runs"] is False
    assert "generated" not in found.provenance
    assert any("duplicate" in note or "identical" in note for note in found.notes)
    assert all(note.startswith("twice: ") for note in found.notes if "duplicate" in note or "identical" in note)
    same = {name: draw(shift, 2000) for name, shift in (("a", 0.5), ("b", 1))}
    common = [note for note in race(same).notes if "network" in note]
    assert len(common) == 1
    assert not common[0].startswith(("a: ", "b: "))
    for name, rows in same.items():
        np.save(tmp_path / f"{name}.npy", rows)
    notes = race({name: tmp_path / f"{name}.npy" for name in same}, reference=draw(0)).notes
    expected = "the models and features in memory do not record which network computed the features"
    assert [note.partition(";")[0] for note in notes if "network" in note] == [expected]


@pytest.mark.slow
def test_a_race_resumes_with_its_models_in_another_order(image_options, tmp_path, extracted_counts):
    for brightest in (256, 100):
        np.save(tmp_path / f"{brightest}.npy", draw_images(300, brightest))
    models = {"a b/c": tmp_path / "256.npy", "a/b c": tmp_path / "100.npy"}
    first = race(models, work_dir=tmp_path / "work", **image_options)
    before = sum(extracted_counts)
    again = race(dict(reversed(models.items())), work_dir=tmp_path / "work", **image_options)
    assert sum(extracted_counts) == before
    assert again.models == first.models
    with pytest.raises(RequestError, match="subset_seed was 0 and is 1"):
        race(models, work_dir=tmp_path / "work", seed=1, **image_options)


@pytest.fixture
def files(tmp_path):
    for name in ("good", "worst"):
        np.save(tmp_path / f"{name}.npy", MODELS[name])
    REFERENCE.save(tmp_path / "reference.npz")
    return [tmp_path / "good.npy", tmp_path / "worst.npy", "--reference", tmp_path / "reference.npz", "--features"]


@pytest.mark.slow
def test_the_command_prints_the_ranking_and_writes_files(files, tmp_path):
    code, out, _ = run("race", *files, "--output", tmp_path / "race.json")
    assert code == 0
    assert out.index("good ") < out.index("worst ")
    assert "images were used" in out
    content = json.loads((tmp_path / "race.json").read_text())
    assert content["winner"] == "good"
    assert content["images_used"] + content["images_saved"] == 2 * content["max_images"] == 16_000
    assert json.loads(run("race", *files, "--json")[1]) == content


def test_runs_are_named_by_their_last_folder_or_by_their_path():
    from frechet.cli.race import _name_models

    assert list(_name_models(["out/a-1.5/", "out/b.zip", "s3://x/c.tar"])) == ["a-1.5", "b", "c"]
    runs = ["one/a/", "two/a/", "b/"]
    assert _name_models(runs) == dict(zip(runs, runs, strict=True))
    runs = ["a.npz", "a.zip", "a.npz.zip"]  # the name of the last one is the path of the first
    assert _name_models(runs) == dict(zip(runs, runs, strict=True))


def test_names_of_runs_do_not_contain_signatures():
    from frechet.cli.race import _name_models

    runs = [f"https://user:word@host/{folder}/a.npz?signature=secret{i}" for i, folder in enumerate("xyy")]
    assert _name_models([runs[0], "b.npz"]) == {"a": runs[0], "b": "b.npz"}
    assert _name_models(runs[:2]) == {
        f"https://host/{folder}/a.npz?...": run for folder, run in zip("xy", runs, strict=False)
    }
    assert list(_name_models(runs).values()) == runs
    assert len(_name_models(runs)) == 3
    assert "secret" not in "".join(_name_models(runs))
    code, _, error = run("race", runs[0], runs[0], "--reference", "reference.npz")
    assert code == 2
    assert "twice" in error
    assert "secret" not in error


def test_the_command_rejects_a_run_that_is_given_twice(files):
    code, _, error = run("race", files[0], *files)
    assert code == 2
    assert "twice" in error


@pytest.mark.slow
def test_the_page_shows_the_plot_and_escapes_names(tmp_path):
    from frechet.reports.race_formats import render_race_page

    found = race({"<b>a</b>": MODELS["good"], "$x$": MODELS["worst"], "c\x1b": MODELS["bad"]})
    page = render_race_page(found)
    assert "<b>a</b>" not in page
    assert "\x1b" not in page
    assert page.count("<svg") >= 1
    assert "images were used" in page


@pytest.mark.slow
def test_a_race_is_printed_as_its_ranking(found):
    lines = str(found).splitlines()
    assert len(lines) == 2 + len(SHIFTS)
    assert [line.split()[0] for line in lines[2:]] == list(SHIFTS)
    assert lines[2].endswith("best")
    assert repr(found).endswith("of 4 models, winner 'good'>")


# Functions that generate features ------------------------------------------------------------------------------------


def make_features(shift):
    random = np.random.default_rng(int(100 * shift))
    calls = []

    def generate(n):
        calls.append(n)
        return random.standard_normal((n, 4)) + shift

    return generate, calls


@pytest.mark.slow
def test_functions_of_features_are_called_for_no_more_rows_than_needed():
    (good, good_calls), (bad, bad_calls) = make_features(0.5), make_features(0.8)
    found = race({"good": good, "bad": bad}, max_images=8000)
    assert found.winner == "good"
    assert sum(good_calls) + sum(bad_calls) < found.images_used + 2 * 64 < 8000
    random = np.random.default_rng(50)
    rows = np.concatenate([random.standard_normal((n, 4)) for n in good_calls]) + 0.5
    assert found.models[0].value == pytest.approx(
        frechet.fd(rows[: found.models[0].n_images], REFERENCE, features=True, interval="none").value, rel=1e-6
    )


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (lambda n: np.full((n, 4), np.nan), "row 0 .* contains NaN"),
        (lambda n: np.ones((n, 4)), "repeats them: 49 of 50 rows"),
        (lambda n: np.zeros((n, 2, 2, 3), np.uint8), "expected floating-point features"),
        (lambda n: np.ones((n + 1, 4)), "returned 65 rows when called with 64"),
        (lambda n: 1 / 0, "failed when called with 64: ZeroDivisionError"),
        (MODELS["bad"][:20], r"the first interval requires 50 images .* has 20"),
        (MODELS["bad"][:200], r"has 200 images; --max-images \(max_images=\) is 2,000, expected from 50 to 200"),
        (np.where(np.arange(300)[:, None] == 19, np.nan, MODELS["bad"][:300]), "row 19"),
    ],
)
def test_errors_name_the_model(model, problem):
    with pytest.raises((RequestError, GeneratorError), match=problem) as caught:
        race({"good": make_features(0.5)[0], "broken": model}, max_images=2000)
    assert "model 'broken'" in str(caught.value)
