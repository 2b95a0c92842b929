"""`frechet verify`: honest runs are consistent at the nominal rate, and forged claims are not."""

import json
import re
from dataclasses import asdict, replace

import numpy as np
import pytest
from helpers import make_image_folder, run

import frechet
from frechet.errors import MismatchError, RequestError
from frechet.reports.run_verification import verify_run

N, D, SUBSET = 2000, 8, 200
CLAIMS = ("value", "corrected_value", "interval_half_width")
ALL_CLAIMS = ("value", "corrected_value", "standard_error", "interval_low", "interval_high")


def make_features(seed, n=N):
    return np.random.default_rng(seed).gamma(1.5, size=(n, D)).astype(np.float32)


@pytest.fixture(scope="module")
def reference():
    return frechet.collect(np.random.default_rng(99).standard_normal((4000, D)).astype(np.float32), features=True)


@pytest.fixture
def claim(tmp_path, reference):
    """A function that writes samples and their run, with fields of its score replaced, and returns both paths."""

    def write(samples, **forged):
        np.save(tmp_path / "samples.npy", samples)
        content = json.loads(frechet.score(samples, reference, features=True, metrics=["fd"]).to_json())
        content["scores"]["fd"] |= {name: change(content["scores"]["fd"][name]) for name, change in forged.items()}
        (tmp_path / "run.json").write_text(json.dumps(content))
        return tmp_path / "run.json", tmp_path / "samples.npy"

    return write


def verify(paths, reference, **options):
    found = verify_run(*paths, reference, features=True, **{"num_images": SUBSET, **options})
    return {check.claim: check for check in found.checks}


@pytest.mark.slow
def test_honest_runs_are_consistent_and_their_p_values_are_spread(claim, reference):
    """Of 20 p-values that are uniform, six or more are below 0.1 with a probability of 1 in 90."""
    p_values = []
    for seed in range(20):
        checks = verify(claim(make_features(seed)), reference, seed=seed)
        assert tuple(checks) == CLAIMS
        assert checks["interval_half_width"].is_consistent
        p_values.append(checks["value"].p_value)
    assert sum(p < 0.1 for p in p_values) < 6
    assert min(p_values) > 0.001
    assert min(p_values) < 0.3
    assert max(p_values) > 0.7


@pytest.mark.slow
def test_runs_of_dependent_images_are_consistent(claim, reference):
    """The subset is drawn from the images themselves, so copies do not matter."""
    p_values = [
        verify(claim(np.repeat(make_features(seed, N // 4), 4, axis=0)), reference, seed=seed)["value"].p_value
        for seed in range(8)
    ]
    assert min(p_values) > 0.01


def test_the_steps_of_the_interval_are_reported(claim, reference):
    stages = []
    verify(claim(make_features(0)), reference, progress=lambda stage, done, total: stages.append((stage, done, total)))
    steps = [(done, total) for stage, done, total in stages if stage == "interval"]
    assert {done for done, _ in steps} == set(range(1, steps[0][1] + 1))


def test_all_images_give_the_claimed_numbers(claim, reference):
    checks = verify(claim(make_features(0)), reference, num_images=N)
    assert tuple(checks) == ALL_CLAIMS
    for check in checks.values():
        assert check.expected == pytest.approx(check.claimed, rel=1e-6)
        assert check.is_consistent
        assert check.p_value is None


@pytest.mark.parametrize(
    ("forged", "inconsistent"),
    [
        ({"value": lambda value: value * 1.002}, {"value"}),
        ({"corrected_value": lambda value: value * 0.995}, {"corrected_value"}),
        ({"interval_95": lambda interval: [0.97 * interval[0], interval[1]]}, {"interval_low"}),
        ({"interval_95": lambda interval: [interval[0], 0.97 * interval[1]]}, {"interval_high"}),
        ({"standard_error": lambda error: 0.5 * error}, {"standard_error"}),
    ],
)
def test_all_images_give_no_other_number_than_the_claimed_one(forged, inconsistent, claim, reference):
    checks = verify(claim(make_features(0, 300), **forged), reference)
    assert {name for name, check in checks.items() if not check.is_consistent} == set()  # of a subset
    checks = verify(claim(make_features(0, 300), **forged), reference, num_images=300)
    assert {name for name, check in checks.items() if not check.is_consistent} == inconsistent


def test_an_interval_that_the_images_do_not_have_is_rejected(claim, reference):
    forged = {name: lambda _: 1.0 for name in ("corrected_value", "standard_error")}
    paths = claim(make_features(0, 20), **forged, interval_95=lambda _: [0.5, 1.5])
    with pytest.raises(MismatchError, match="has the corrected value 1 of fd, but its images have none: at least 50"):
        verify(paths, reference)


@pytest.mark.parametrize(
    ("name", "count", "size", "message"),
    [
        ("n_generated", 50000, SUBSET, "fd of 50,000 generated images, but 2,000 were scored"),
        ("n_generated", 1900, N, "fd of 1,900 generated images, but 2,000 were scored"),
        ("n_reference", 50000, SUBSET, "fd for 50,000 reference images, but the reference has 4,000"),
    ],
)
def test_numbers_of_images_that_the_inputs_do_not_have_are_rejected(name, count, size, message, claim, reference):
    paths = claim(make_features(0), **{name: lambda _: count})
    with pytest.raises(MismatchError, match=message):
        verify(paths, reference, num_images=size)


def test_an_interval_of_few_images_may_be_longer_than_its_standard_error(tmp_path):
    """The corrected value is negative, so that the upper end is further away; the subset is almost the whole sample."""
    one, other = np.random.default_rng(6).standard_normal((2, 80, 48)).astype(np.float32)
    samples, reference, run_path = tmp_path / "a.npy", tmp_path / "b.npy", tmp_path / "run.json"
    np.save(samples, one)
    np.save(reference, other)
    scores = frechet.score(samples, reference, features=True)
    run_path.write_text(scores.to_json())
    (score,) = scores.values()
    assert score.interval_95[1] - score.corrected_value > 2.2 * 1.96 * score.standard_error
    check = verify((run_path, samples), reference, num_images=79)["interval_half_width"]
    assert check.expected == pytest.approx(check.claimed, rel=0.1)
    assert check.is_consistent


@pytest.mark.parametrize(
    ("forged", "inconsistent"),
    [
        ({"interval_95": lambda interval: [0.0, 10 * interval[1]]}, {"interval_half_width"}),
        ({"value": lambda value: 0.7 * value}, {"value"}),
        ({"value": lambda value: 1.4 * value}, {"value"}),
        ({"corrected_value": lambda value: 0.7 * value}, {"corrected_value", "interval_half_width"}),
        ({"interval_95": lambda interval: [np.mean(interval) * 0.999, np.mean(interval) * 1.001]}, {"interval_half_width"}),
    ],
)  # fmt: skip
def test_a_forged_claim_is_inconsistent(forged, inconsistent, claim, reference):
    checks = verify(claim(make_features(1), **forged), reference)
    assert {name for name, check in checks.items() if not check.is_consistent} == inconsistent


def test_samples_of_another_model_are_inconsistent(claim, reference, tmp_path):
    run_path, samples = claim(make_features(2))
    np.save(samples, 1.2 * make_features(3))
    assert not verify((run_path, samples), reference)["value"].is_consistent


def test_the_command_prints_the_claims_and_exits_with_2_if_one_is_inconsistent(claim, reference, tmp_path):
    reference.save(tmp_path / "reference.npz")
    inputs = [*claim(make_features(4)), tmp_path / "reference.npz", "--features", "--num-images", SUBSET]
    code, out, _ = run("verify", *inputs)
    assert (code, out.count(": consistent")) == (0, 3)
    claim(make_features(4), value=lambda value: 2 * value)
    code, out, _ = run("verify", *inputs)
    assert (code, out.count("INCONSISTENT")) == (2, 1)
    code, out, _ = run("verify", *inputs, "--json")
    assert [check["is_consistent"] for check in json.loads(out)] == [False, True, True]
    found = verify_run(*inputs[:3], features=True, num_images=SUBSET)
    assert json.loads(out) == [asdict(check) for check in found.checks]


@pytest.mark.parametrize("generated", [None, {"n_source": None}])
def test_a_run_that_does_not_record_its_images_is_verified(claim, reference, generated):
    run_path, samples = claim(make_features(5))
    content = json.loads(run_path.read_text())
    content["scores"]["fd"]["provenance"] = {"generated": generated}
    del content["scores"]["fd"]["n_generated"]
    run_path.write_text(json.dumps(content))
    assert verify((run_path, samples), reference, num_images=N)["value"].is_consistent


def test_other_inputs_than_those_of_the_run_are_rejected(claim, reference, tmp_path):
    run_path, samples = claim(make_features(5))
    other = frechet.collect(make_features(6), features=True)
    with pytest.raises(MismatchError, match="the reference differs"):
        verify((run_path, samples), other)
    with pytest.raises(RequestError, match=r"20 images .*at least 50"):
        verify((run_path, samples), reference, num_images=20)
    np.save(samples, make_features(5, N - 1))
    with pytest.raises(RequestError, match=r"has 1,999 images, and run scored 2,000"):
        verify((run_path, samples), reference)
    with pytest.raises(RequestError, match="contains statistics"):
        verify((run_path, replace(reference, rows=None)), reference)
    content = json.loads(run_path.read_text())
    content["scores"] = {"mmd": content["scores"]["fd"]}
    run_path.write_text(json.dumps(content))
    with pytest.raises(RequestError, match="has the metrics mmd; expected fid or fd"):
        verify((run_path, samples), reference)


@pytest.mark.slow
def test_images_are_scored_with_the_settings_of_the_run(toy_options, tmp_path):
    folders = [make_image_folder(tmp_path / name, 120, seed, (12, 14)) for seed, name in enumerate("ab")]
    statistics, run_path = tmp_path / "b.npz", tmp_path / "run.json"
    found = frechet.collect(folders[1], preprocessing="clean", **toy_options)
    np.savez(statistics, mu=found.mean, sigma=found.covariance)  # does not record its preprocessing, so the run has to
    scores = frechet.score(folders[0], statistics, metrics=["fd"], preprocessing="clean", **toy_options)
    run_path.write_text(scores.to_json())
    options = {"num_images": 120, "weights": toy_options["weights"]}
    (value, *_) = verify_run(run_path, folders[0], statistics, **options).checks
    assert value.expected == pytest.approx(scores["fd"].value, rel=1e-4)
    content = json.loads(scores.to_json())
    content["scores"]["fd"]["provenance"] = {"preprocessing": content["provenance"]["preprocessing"]}
    content["provenance"]["preprocessing"] = "imagenet"  # that of another extractor of the run
    run_path.write_text(json.dumps(content))
    assert verify_run(run_path, folders[0], statistics, **options).checks[0].expected == value.expected
    for other, message in (
        ({"crop": "adm", "size": 10}, "the crop is adm.*and that of run none"),
        ({"preprocessing": "pytorch-fid"}, r"preprocessing clean \(run\) and pytorch-fid"),
    ):
        with pytest.raises(MismatchError, match=message):
            verify_run(run_path, folders[0], statistics, **options, **other)


def test_a_size_without_a_crop_is_rejected():
    with pytest.raises(RequestError, match=r"^--size \(size=\) is 32, but no crop is given"):
        verify_run("run.json", "samples", "reference", size=32)


def test_the_subset_is_large_enough_by_default_and_its_sensitivity_is_stated(claim, reference):
    value = verify(claim(make_features(7)), reference, num_images=None)["value"]
    assert value.n_images == 1000
    assert value.detectable_difference == pytest.approx(
        (2.5758 + 0.8416) * value.standard_error, rel=1e-4
    )  # of a table


def test_the_command_states_the_size_of_the_subset(claim, reference, tmp_path):
    reference.save(tmp_path / "reference.npz")
    code, out, _ = run("verify", *claim(make_features(7)), tmp_path / "reference.npz", "--features")
    assert code == 0
    assert re.search(r"subset of 1,000 images, an error of [0-9.]+ in fd is detected with a probability of 80 %", out)


class ImageRun:
    """A run of images with the toy extractor, whose file can be forged, and its verification."""

    def __init__(self, tmp_path, toy_options):
        self.folder, self.path, self.options = tmp_path, tmp_path / "run.json", toy_options
        self.samples, self.reference = tmp_path / "samples", tmp_path / "reference"

    def score(self, **options):
        self.scores = frechet.score(self.samples, self.reference, **{"metrics": ["fd"], **self.options, **options})
        self.forge()
        return self.scores

    def forge(self, **forged):
        content = json.loads(self.scores.to_json())
        content["scores"]["fd"] |= {name: change(content["scores"]["fd"][name]) for name, change in forged.items()}
        self.path.write_text(json.dumps(content))

    def verify(self, **options):
        return verify_run(self.path, self.samples, self.reference, weights=self.options["weights"], **options)

    def list_claims(self, **options):
        """Return the claims that are checked, all of which have to be consistent, and the notes."""
        found = self.verify(**options)
        assert [check for check in found.checks if not check.is_consistent] == []
        return tuple(check.claim for check in found.checks), found.notes


@pytest.fixture
def image_run(tmp_path, toy_options):
    found = ImageRun(tmp_path, toy_options)
    for seed, path in enumerate((found.samples, found.reference)):
        for index, name in enumerate("ab"):
            make_image_folder(path / name, 40 + 10 * seed, 10 * seed + index, (9, 9))
    return found


@pytest.mark.slow
def test_a_run_of_strata_is_scored_with_strata(image_run):
    scores = image_run.score(strata="class")
    assert scores["fd"].sampling_design.startswith("stratified")
    assert image_run.list_claims() == (ALL_CLAIMS, ())
    image_run.forge(interval_95=lambda interval: [interval[0], 1.2 * interval[1]])
    assert not image_run.verify().checks[-1].is_consistent
    claims, (note,) = image_run.list_claims(num_images=70)
    assert claims == ("value",)
    assert (
        "the images are stratified generated images; stratified reference images, which a random subset is not" in note
    )
    assert "Pass --num-images 80" in note


@pytest.mark.slow
def test_strata_that_only_python_knows_are_named(image_run):
    image_run.score(strata=[0] * 30 + [1] * 50)
    for path in sorted((image_run.samples / "b").iterdir()):
        path.rename(image_run.samples / f"b{path.name}")
    for path in sorted((image_run.samples / "a").iterdir()):
        path.rename(image_run.samples / f"a{path.name}")
    claims, (note,) = image_run.list_claims()
    assert claims == ("value",)
    assert (
        "not checked: the corrected value and the interval of fd; the sampling design of the run cannot be repeated"
        in note
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "claims"),
    [
        ({"num_images": 60, "seed": 3}, ALL_CLAIMS),
        ({"num_images": 80}, ALL_CLAIMS),  # all of the samples, and some of the reference
        ({"design": "independent", "seed": 5}, ALL_CLAIMS),
        ({"interval": "none"}, ("value",)),
        ({"repeat": 2}, ("value",)),
        ({"metrics": "fd,mmd", "per_class": True}, ALL_CLAIMS),
    ],
)
def test_honest_runs_of_images_are_consistent(options, claims, image_run):
    image_run.score(**options)
    assert image_run.list_claims()[0] == claims


@pytest.mark.parametrize(
    ("forged", "reason"),
    [
        ({"looks": [{"n": 300}]}, "they are those of a sample that grew"),
        ({"sampling_design": "clusters: 300 generated images, as informative as 150 independent ones"}, "which images form clusters"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [200, 300])
def test_an_interval_that_cannot_be_computed_again_is_named(forged, reason, size, claim, reference):
    changes = {name: lambda _, value=value: value for name, value in forged.items()}
    paths = claim(make_features(0, 300), **changes, corrected_value=lambda value: 2 * value)
    found = verify_run(*paths, reference, features=True, num_images=size)
    assert [(check.claim, check.is_consistent) for check in found.checks] == [("value", True)]
    (note,) = found.notes
    assert reason in note


@pytest.mark.slow
def test_a_subset_is_drawn_from_the_images_that_the_run_chose(image_run):
    image_run.score(num_images=70, seed=3)
    assert image_run.list_claims(num_images=60)[0] == CLAIMS
    image_run.forge(value=lambda value: 3 * value)
    assert not image_run.verify(num_images=60).checks[0].is_consistent
    assert image_run.verify().is_complete


@pytest.mark.slow
def test_a_run_of_pairs_is_scored_as_pairs(image_run):
    for path in image_run.reference.glob("*/04?.png"):
        path.unlink()
    scores = image_run.score(design="paired")
    assert scores["fd"].sampling_design == "80 pairs"
    assert image_run.list_claims() == (ALL_CLAIMS, ())
    scores = image_run.score(design="independent")  # although their names are equal
    assert scores["fd"].sampling_design == "independent"
    assert image_run.list_claims() == (ALL_CLAIMS, ())


@pytest.mark.slow
def test_images_that_the_run_skipped_are_skipped(image_run):
    (image_run.samples / "a" / "000.png").write_bytes(b"damaged")
    image_run.score(on_bad_image="skip")
    assert image_run.list_claims() == (ALL_CLAIMS, ())
    image_run.forge(value=lambda value: 0.9 * value)
    assert not image_run.verify().checks[0].is_consistent


@pytest.mark.slow
def test_the_mean_of_different_subsets_is_rejected(image_run):
    image_run.score(num_images=60, repeat=2)
    with pytest.raises(RequestError, match=r"the mean of fd over 2 repetitions with different seeds \(--repeat\)"):
        image_run.verify()


@pytest.mark.slow
def test_what_is_not_checked_is_named(image_run):
    image_run.score(metrics="fd,mmd,kid", per_class=True)
    (note,) = image_run.verify().notes
    assert note.startswith("not checked: mmd, kid, per_class of fd;")
    code, out, err = run(
        "verify", image_run.path, image_run.samples, image_run.reference, "--weights", image_run.options["weights"]
    )
    assert code == 0
    assert "All 80 images of the run were scored, so that numbers must agree up to rounding" in out
    assert "larger subset" not in out
    assert note in err


def test_weights_that_are_not_the_published_ones_are_asked_for_before_a_download(tmp_path, monkeypatch, no_weights):
    monkeypatch.setattr("frechet.networks.weights.fetch_weights", lambda *_: pytest.fail("a download"))
    monkeypatch.setattr("frechet.networks.weights_file.download", lambda *_, **__: pytest.fail("a download"))
    folders = [make_image_folder(tmp_path / name, 4, seed, (9, 9)) for seed, name in enumerate("ab")]
    content = {"scores": {"fid": {"label": "FID", "value": 1.0}}, "schema": 2}
    content["provenance"] = {"extractor": "inception", "layer": "2048", "weights": "ab12" * 16, "is_official": False}
    (tmp_path / "run.json").write_text(json.dumps(content))
    with pytest.raises(
        RequestError, match=r"weights ab12ab12ab12\.\.\. of inception, .*not the published ones.*--weights"
    ):
        verify_run(tmp_path / "run.json", *folders)
