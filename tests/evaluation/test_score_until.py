"""A score of a sample that grows until its interval is narrow enough."""

import json
from dataclasses import replace
from itertools import chain, repeat

import numpy as np
import pytest
from helpers import run
from PIL import Image
from toy_network import corner

import frechet
from frechet import Until
from frechet.errors import GeneratorError, RequestError, RunError, ToleranceNotReachedError, TooFewImagesError
from frechet.execution.chunks import Partition
from frechet.execution.settings import Settings
from frechet.execution.subset import select_indices
from frechet.execution.workers import make_job, open_job
from frechet.images.sources.registry import open_source

RANDOM = np.random.default_rng(0)
SAMPLES = (RANDOM.standard_normal((6000, 8)) + 0.7).astype(np.float32)  # distance 8 · 0.49 = 3.92 to the reference
REFERENCE = frechet.Statistics.from_features(RANDOM.standard_normal((20_000, 8)).astype(np.float32))
OPTIONS = {"extractor": corner, "preprocessing": "pytorch-fid"}
ABSOLUTE = Until(half_width=1e9, relative=False)  # reached at the first look


def score(samples=SAMPLES, *, reference=REFERENCE, features=True, **options):
    (found,) = frechet.score(samples, reference, features=features, **options).values()
    return found


def draw_images(n, random=RANDOM):
    return random.integers(0, 256, (n, 4, 4, 3), np.uint8)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    pytest.importorskip("torch")  # computes the features of `corner`
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, draw_images(600))
    return path


@pytest.fixture(scope="module")
def reference_images():
    pytest.importorskip("torch")  # computes the features of `corner`
    return frechet.collect(list(draw_images(300)), **OPTIONS)


@pytest.mark.slow
def test_sampling_stops_at_the_first_look_with_a_narrow_interval():
    found = score(until=Until(half_width=0.1))
    widths = [(look["high"] - look["low"]) / 2 / look["corrected_value"] for look in found.looks]
    assert widths[-1] <= 0.1 < min(widths[:-1])
    assert found.n_generated == found.looks[-1]["n"] < 3000
    assert found.interval_95 == (found.looks[-1]["low"], found.looks[-1]["high"])
    assert found.interval_95[0] < 3.92 < found.interval_95[1]
    assert "looks" in found.interval_method


@pytest.mark.slow
def test_an_absolute_width_is_one_in_units_of_the_metric():
    found = score(until=Until(half_width=0.3, relative=False))
    low, high = found.interval_95
    assert 0.2 < (high - low) / 2 <= 0.3


@pytest.mark.slow
def test_the_sample_is_a_seeded_subset():
    """The same images as those of `num_images`, whose statistics are those of NumPy."""
    found = score(until=Until(half_width=0.1), seed=5)
    rows = SAMPLES[select_indices(SAMPLES, Settings(num_images=found.n_generated, seed=5))]
    expected = frechet.fd(rows, REFERENCE, features=True, reference_is="fixed")
    assert found.value == pytest.approx(expected.value, rel=1e-9)
    assert found.corrected_value == pytest.approx(expected.corrected_value, abs=0.1 * expected.standard_error)
    assert score(until=Until(half_width=0.1), seed=6).value != found.value


@pytest.mark.slow
def test_the_interval_is_wider_than_that_of_one_look_by_the_critical_value():
    """2.71 standard errors hold at 14 looks in ratios of √2, by simulation, instead of 1.96 at one."""
    found = score(until=Until(half_width=0.1, max_images=4525))  # 50 · √2¹³
    low, high = found.interval_95
    assert (high - low) / 2 / found.standard_error == pytest.approx(2.74, rel=0.03)


@pytest.mark.slow
def test_images_are_those_of_a_run_with_as_many_images(images, reference_images):
    found = score(images, reference=reference_images, features=False, until=ABSOLUTE, seed=3, **OPTIONS)
    expected = frechet.fd(
        images, reference_images, num_images=found.n_generated, seed=3, reference_is="fixed", **OPTIONS
    )
    assert found.n_generated == 50
    for name in ("value", "corrected_value", "standard_error"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-9)


@pytest.mark.slow
def test_a_tolerance_that_is_not_reached_names_the_number_of_images_that_reaches_it():
    """The half width falls with the square root of n: a third of it needs nine times as many images."""
    with pytest.raises(ToleranceNotReachedError) as caught:
        score(SAMPLES[:600], until=Until(half_width=1e-9, relative=False))
    ((low, high),) = (found.interval_95 for found in caught.value.scores.values())
    with pytest.raises(ToleranceNotReachedError, match="Allow about 5,400 images, or a wider interval"):
        score(SAMPLES[:600], until=Until(half_width=(high - low) / 6, relative=False))


@pytest.mark.slow
def test_a_reference_whose_error_is_larger_than_the_interval_needs_more_images():
    """With the reference as a sample of 300 images, no number of generated images reaches a tenth of the half width."""
    reference = frechet.Statistics.from_features(RANDOM.standard_normal((300, 8)).astype(np.float32))
    with pytest.raises(ToleranceNotReachedError, match="or use more reference images") as caught:
        score(SAMPLES[:600], reference=reference, reference_is="sample", until=Until(half_width=0.01))
    (found,) = caught.value.scores.values()
    low, high = found.interval_95
    share = found.variance_components[1] / sum(found.variance_components)
    target = (high - low) / 2 * np.sqrt(0.5 + share / 2)  # with half the variance of the generated images
    until = Until(half_width=target, relative=False)
    with pytest.raises(ToleranceNotReachedError, match="Allow about 1,200 images"):
        score(SAMPLES[:600], reference=reference, reference_is="sample", until=until)


def test_statistics_that_have_no_interval_with_any_number_of_images_are_reported_at_the_first_look():
    reference = replace(REFERENCE, group_moments=None, rows=None, indices=None)
    with pytest.raises(RequestError, match=r"--reference-is fixed, reference_is=\)$"):
        score(reference=reference, reference_is="sample", until=Until(half_width=0.01))


def test_a_percentage_of_a_value_that_is_not_positive_is_never_reached():
    """The distance of samples to their own moments is 0, and its bias-corrected value negative."""
    with pytest.raises(
        ToleranceNotReachedError, match=r"requires a value above 0; pass .* \(half_width=.*relative=False"
    ):
        score(SAMPLES[:300], reference=SAMPLES[:300], until=Until(half_width=0.05))


@pytest.mark.slow
def test_a_sample_that_grew_is_one_sample(images, reference_images):
    until = Until(half_width=1e-9, relative=False)
    with pytest.raises(ToleranceNotReachedError) as caught:
        score(images, reference=reference_images, features=False, until=until, **OPTIONS)
    (found,) = caught.value.scores.values()
    expected = frechet.fd(images, reference_images, reference_is="fixed", **OPTIONS)
    assert (found.n_generated, expected.n_generated) == (600, 600)
    for name in ("value", "corrected_value", "standard_error"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-9)


@pytest.mark.slow
def test_a_function_generates_no_more_images_than_needed(reference_images):
    asked = []

    def make(n):
        asked.append(n)
        return draw_images(n)

    until = Until(half_width=1e9, relative=False, max_images=100_000)
    assert score(make, reference=reference_images, features=False, until=until, **OPTIONS).n_generated == 50
    assert sum(asked) <= 64


@pytest.mark.slow
def test_equal_images_are_one_unit(tmp_path, reference_images):
    np.save(tmp_path / "copies.npy", np.repeat(draw_images(300), 2, axis=0))
    with pytest.raises(ToleranceNotReachedError) as caught:
        score(
            tmp_path / "copies.npy",
            reference=reference_images,
            features=False,
            until=Until(half_width=1e-9, relative=False),
            **OPTIONS,
        )
    (found,) = caught.value.scores.values()
    assert found.sampling_design == "duplicates: 600 generated images, as informative as 300 independent ones"


@pytest.mark.slow
def test_finished_steps_are_read_back(images, reference_images, tmp_path, extracted_counts):
    options = {"reference": reference_images, "features": False, "work_dir": tmp_path, **OPTIONS}
    short = score(images, until=ABSOLUTE, **options)
    assert extracted_counts == [50]
    longer = score(images, until=Until(half_width=2.0, relative=False), **options)
    assert extracted_counts[:2] == [50, 0]
    assert longer.looks[0] == short.looks[0]


def test_other_processes_open_the_same_part_of_a_sample(images):
    source, extractor = open_source(images), "toy_network:corner"
    settings = Settings(extractor=extractor, preprocessing="pytorch-fid", seed=2)
    loaded = settings.load()
    indices = select_indices(source, settings, (100, 150))
    job = json.loads(json.dumps(make_job(Partition(source, indices, ranks=(100, 150)), settings, loaded)))
    assert open_job(job, loaded).source_indices == indices


@pytest.mark.slow
def test_the_command_prints_what_was_reached_and_fails(tmp_path):
    np.save(tmp_path / "x.npy", SAMPLES)
    REFERENCE.save(tmp_path / "y.npz")
    command = ["score", tmp_path / "x.npy", tmp_path / "y.npz", "--features", "--json"]
    code, out, error = run(*command, "--until-half-width", "10%", "--max-images", "4525")
    assert code == 0, error
    assert (
        json.loads(out)["scores"]["fd"]["n_generated"]
        == score(until=Until(half_width=0.1, max_images=4525)).n_generated
    )
    code, out, error = run(*command, "--until-half-width", "0.01", "--max-images", "500")
    assert code == 3
    low, high = json.loads(out)["scores"]["fd"]["interval_95"]
    for part in ("500", f"{(high - low) / 2:.4g}", "0.01", "Allow"):
        assert part in error
    code, _, error = run(*command, "--max-images", "500")
    assert code == 2
    assert "--until-half-width" in error


@pytest.mark.slow
def test_looks_are_printed(tmp_path):
    np.save(tmp_path / "x.npy", SAMPLES)
    REFERENCE.save(tmp_path / "y.npz")
    _, out, _ = run("score", tmp_path / "x.npy", tmp_path / "y.npz", "--features", "--until-half-width", "20%")
    assert "looks" in out


def repeat_images(n):
    return draw_images(n, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("error", "parts", "samples", "options"),
    [
        (
            TooFewImagesError,
            ("6,000", "--max-images (max_images=) is 9,000", "or add images"),
            SAMPLES,
            {"max_images": 9000},
        ),
        (TooFewImagesError, ("50 images", "40", "max_images"), SAMPLES, {"max_images": 40}),
        (TooFewImagesError, ("50 images", "45", "Add images"), SAMPLES[:45], {}),
        (RequestError, ("statistics", "cannot grow", "features"), REFERENCE, {}),
        (RequestError, ("kid", "fid"), SAMPLES, {"metrics": "kid", "reference": SAMPLES}),
        (RequestError, ("fd, kid", "one"), SAMPLES, {"metrics": "fd,kid", "reference": SAMPLES}),
        (
            RequestError,
            ("--num-images (num_images=) 100", "leave it out", "--max-images"),
            SAMPLES,
            {"num_images": 100},
        ),
        (RequestError, ("--explain (explain=) 3", "leave it out"), SAMPLES, {"explain": 3}),
        (RequestError, ("--repeat (repeat=) 2", "leave it out"), SAMPLES, {"repeat": 2}),
        (RequestError, ("--per-class (per_class=)", "leave it out"), SAMPLES, {"per_class": True}),
        (RequestError, ("--design (design=) 'paired'", "leave it out"), SAMPLES, {"design": "paired"}),
        (RequestError, ("--metrics (metrics=) is psnr", "Fréchet"), SAMPLES, {"metrics": "psnr", "reference": SAMPLES}),
        (RequestError, ("--metrics (metrics=) is rfid", "Fréchet"), SAMPLES, {"metrics": "rfid", "reference": SAMPLES}),
        (RequestError, ("reference", "none is given"), SAMPLES, {"reference": None}),
    ],
)
def test_requests_without_such_an_interval_are_rejected(error, parts, samples, options):
    until = Until(half_width=0.1, max_images=options.pop("max_images", None))
    with pytest.raises(error) as caught:
        score(samples, until=until, **options)
    assert all(part in str(caught.value) for part in parts), caught.value


def test_stratified_statistics_are_rejected():
    stratified = frechet.collect(SAMPLES, features=True, strata=np.arange(6000) % 20)
    with pytest.raises(RequestError, match=r"stratified.*without --strata"):
        score(stratified, until=ABSOLUTE)


def test_long_values_of_options_are_not_printed():
    with pytest.raises(RequestError, match=r"--strata \(strata=\); leave it out") as caught:
        score(strata=np.arange(6000) % 20, until=ABSOLUTE)
    assert len(str(caught.value)) < 200


@pytest.mark.slow
def test_pairs_with_a_sampled_reference_are_rejected(images, tmp_path):
    """The interval of pairs is not that of independent inputs: equal names show pairs, as they do in a usual run."""
    pairs = [frechet.collect(each[:600], features=True, design="paired") for each in (SAMPLES, SAMPLES - 0.7)]
    with pytest.raises(RequestError, match=r"pairs.*--reference-is .* is 'sample'.*Pass 'fixed'"):
        score(pairs[0], reference=pairs[1], reference_is="sample", until=ABSOLUTE)
    found = score(pairs[0], reference=pairs[1], until=ABSOLUTE)
    assert found.sampling_design == "independent"
    unpaired = [frechet.Statistics.from_features(each[:600], keep_all=True) for each in (SAMPLES, SAMPLES - 0.7)]
    expected = score(unpaired[0], reference=unpaired[1], until=ABSOLUTE)
    assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-9)

    for folder in ("samples", "reference"):
        (tmp_path / folder).mkdir()
        for number in range(60):
            Image.fromarray(draw_images(1)[0]).save(tmp_path / folder / f"{number}.png")
    options = {"reference": tmp_path / "reference", "features": False, "until": ABSOLUTE, **OPTIONS}
    with pytest.raises(RequestError, match=r"pairs.*--reference-is .* is 'sample'.*Pass 'fixed'"):
        score(tmp_path / "samples", reference_is="sample", **options)
    assert score(tmp_path / "samples", **options).n_generated == 50
    independent = score(tmp_path / "samples", reference_is="sample", design="independent", **options)
    assert independent.sampling_design == "independent"


@pytest.mark.slow
def test_functions_are_rejected_without_a_limit_or_with_repeated_images(reference_images):
    with pytest.raises(RequestError, match="max_images"):
        score(draw_images, reference=reference_images, features=False, until=Until(half_width=0.1), **OPTIONS)
    until = Until(half_width=1e-9, max_images=400)
    with pytest.raises(GeneratorError, match=r"image 64 == generated image 0.*new random numbers"):
        score(repeat_images, reference=reference_images, features=False, until=until, **OPTIONS)
    sizes = chain([64], repeat(10))
    with pytest.raises(GeneratorError, match="10 images"):
        score(lambda _: draw_images(next(sizes)), reference=reference_images, features=False, until=until, **OPTIONS)


@pytest.mark.parametrize("half_width", [0, -1, float("nan"), float("inf"), "5%", None, True, np.arange(10_000)])
def test_widths_are_positive_numbers(half_width):
    with pytest.raises(RequestError, match="half_width") as caught:
        Until(half_width=half_width)
    assert len(str(caught.value)) < 120


def test_widths_may_be_numbers_of_numpy():
    assert Until(half_width=np.float32(0.125)) == Until(half_width=0.125)


@pytest.mark.parametrize("relative", ["no", None, 1])
def test_relative_is_a_truth_value(relative):
    with pytest.raises(RequestError, match=r"relative is .*True"):
        Until(half_width=0.1, relative=relative)


def test_a_function_as_the_reference_needs_a_number_of_images():
    with pytest.raises(RequestError, match=r"reference.* function.*frechet\.collect"):
        score(draw_images, reference=draw_images, features=False, until=Until(half_width=0.1, max_images=100))
    with pytest.raises(RequestError, match=r"reference.* function.*frechet\.collect"):
        frechet.fid(list(draw_images(4)), draw_images)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5%", Until(half_width=0.05)), ("0.2", Until(half_width=0.2, relative=False))],
)
def test_widths_are_read_from_text(text, expected):
    assert Until.from_text(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-5%", "five", "nan%", "inf", "1_0%"])
def test_text_without_a_width_is_rejected(text):
    with pytest.raises(RequestError, match="5%"):
        Until.from_text(text)


@pytest.mark.slow
def test_a_tolerance_that_is_not_reached_is_a_failed_run():
    with pytest.raises(RunError, match="half the width"):
        score(until=Until(half_width=1e-4))
