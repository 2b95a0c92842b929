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
    checks = verify_run(*paths, reference, features=True, **{"num_images": SUBSET, **options})
    return {check.claim: check for check in checks}


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
    for name in ("value", "corrected_value"):
        assert checks[name].expected == pytest.approx(checks[name].claimed, rel=1e-4)
    forged = verify(claim(make_features(0), value=lambda value: value * 1.001), reference, num_images=N)
    assert not forged["value"].is_consistent


def test_an_interval_of_few_images_may_be_longer_than_its_standard_error(tmp_path):
    """The corrected value is negative, so that the upper end is further away; the subset is the whole sample."""
    one, other = np.random.default_rng(6).standard_normal((2, 80, 48)).astype(np.float32)
    samples, reference, run_path = tmp_path / "a.npy", tmp_path / "b.npy", tmp_path / "run.json"
    np.save(samples, one)
    np.save(reference, other)
    scores = frechet.score(samples, reference, features=True)
    run_path.write_text(scores.to_json())
    (score,) = scores.values()
    assert score.interval_95[1] - score.corrected_value > 2.2 * 1.96 * score.standard_error
    check = verify((run_path, samples), reference, num_images=80)["interval_half_width"]
    assert check.expected == pytest.approx(check.claimed, rel=1e-4)
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
    assert json.loads(out) == [asdict(check) for check in found]


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
    (value, *_) = verify_run(run_path, folders[0], statistics, **options)
    assert value.expected == pytest.approx(scores["fd"].value, rel=1e-4)
    content = json.loads(scores.to_json())
    content["scores"]["fd"]["provenance"] = {"preprocessing": content["provenance"]["preprocessing"]}
    content["provenance"]["preprocessing"] = "imagenet"  # that of another extractor of the run
    run_path.write_text(json.dumps(content))
    assert verify_run(run_path, folders[0], statistics, **options)[0].expected == value.expected
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
