"""The sentence for a paper and the metadata of a model card."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import run

import frechet
from frechet.evaluation.request import ScoreRequest
from frechet.evaluation.run import evaluate
from frechet.reports.publication import format_citation, format_model_card
from frechet.results import ProtocolRecord, Score, Scores


@pytest.fixture
def rows():
    return np.random.default_rng(0).standard_normal((2, 100, 4)).astype(np.float32)


def test_the_citation_names_values_numbers_software_and_papers(rows):
    scores = frechet.score(*rows, features=True, metrics="fd,kid")
    sentence, *rest = format_citation(scores).splitlines()
    low, high = scores["fd"].interval_95
    for part in (f"{scores['fd'].value:.4g}", f"{low:.4g} to {high:.4g}", frechet.__version__, "100 generated images"):
        assert part in sentence
    assert any("1706.08500" in line for line in rest)
    assert any("1801.01401" in line for line in rest)
    assert "@software{frechet," in rest
    entry = "\n".join(rest[rest.index("@software{frechet,") :])
    assert f"```bibtex\n{entry}\n```" in (Path(__file__).parents[2] / "README.md").read_text()


def test_a_citation_without_known_numbers_of_images_does_not_mention_images(rows, tmp_path):
    for name, each in zip("ab", rows, strict=True):
        np.savez(tmp_path / f"{name}.npz", mu=each.mean(0), sigma=np.cov(each, rowvar=False))
    scores = frechet.score(tmp_path / "a.npz", tmp_path / "b.npz", features=True)
    assert " from" not in format_citation(scores).splitlines()[0]


def cite(n_source=100, skipped=(), **fields):
    """Return the sentence about 60 of `n_source` generated images and all 50 of the reference."""
    record = {"n_source": n_source, "seed": 4, "skipped_images": list(skipped)}
    provenance = {"seed": 4, "generated": record, "reference": {"n_source": 50}}
    score = Score(metric="fd", label="FD", value=1.5, n_generated=60, n_reference=50, provenance=provenance, **fields)
    return format_citation(Scores({"fd": score}, provenance)).splitlines()[0]


def test_the_citation_of_repeated_runs_names_the_repetitions():
    sentence = cite(std=0.5, repeats=(1.0, 1.5, 2.0))
    assert "FD = 1.5 ± 0.5 (mean ± standard deviation of 3 repetitions with seeds 4 to 6) with frechet" in sentence
    assert "from random subsets of 60 of 100 generated images and 50 reference images." in sentence


def test_the_citation_names_the_choice_of_images():
    assert "from a random subset of 60 of 100 generated images (seed 4) and 50 reference images." in cite()
    assert "from 60 generated images and 50 reference images." in cite(n_source=60)
    skipped = "1 image skipped that could not be decoded"
    assert f"from 60 generated images ({skipped}) and 50" in cite(n_source=61, skipped=["a.png: broken"])
    assert f"random subset of 60 of 62 generated images (seed 4 and {skipped})" in cite(62, skipped=["a.png: broken"])


def test_the_citation_names_the_sampling_design():
    interval = {"corrected_value": 1.0, "interval_95": (0.5, 2.0)}
    design = "; sampling design: stratified generated images)"
    assert f"0.5 to 2{design}" in cite(sampling_design="stratified generated images", **interval)
    assert "sampling design" not in cite(sampling_design="independent", **interval)


def test_json_contains_the_citation(rows, tmp_path):
    """It followed the object on stdout, which was no JSON then."""
    for name, each in zip("ab", rows, strict=True):
        np.save(tmp_path / f"{name}.npy", each)
    inputs = (tmp_path / "a.npy", tmp_path / "b.npy", "--features", "--json")
    code, out, _ = run("score", *inputs, "--cite")
    content = json.loads(out)
    assert (code, content.pop("citation")[:11]) == (0, "We computed")
    assert content == json.loads(run("score", *inputs)[1])


def read_card(text):
    """Return the model, its only result, and the Markdown below the metadata."""
    yaml = pytest.importorskip("yaml")
    _, metadata, below = text.split("---\n", 2)
    (model,) = yaml.safe_load(metadata)["model-index"]
    (result,) = model["results"]
    return model, result, below


def test_the_model_card_is_read_by_the_hub(rows, tmp_path):
    for name, features in zip(('my "model": a', "reference: b"), rows, strict=True):
        np.save(tmp_path / f"{name}.npy", features)
    request = ScoreRequest(*sorted(tmp_path.iterdir()), features=True, metrics="fd,kid")
    scores = evaluate(request).scores
    text = format_model_card(scores, request)
    model, result, _ = read_card(text)
    assert (model["name"], result["dataset"]) == ('my "model": a.npy', {"name": "reference: b.npy", "type": "custom"})
    assert {metric["type"]: metric["value"] for metric in result["metrics"]} == {
        name: score.value for name, score in scores.items()
    }
    fd = result["metrics"][0]["args"]
    assert (fd["n_generated"], fd["n_reference"]) == (100, 100)
    assert (fd["corrected_value"], tuple(fd["interval_95"])) == (scores["fd"].corrected_value, scores["fd"].interval_95)
    cards = pytest.importorskip("huggingface_hub")
    (found, *_) = cards.ModelCard(text).data.eval_results
    assert (found.metric_type, found.metric_value) == ("fd", scores["fd"].value)
    assert found.metric_args["interval_95"] == list(scores["fd"].interval_95)


def test_the_model_card_states_what_the_scores_depend_on(monkeypatch):
    monkeypatch.delenv("FRECHET_WEIGHTS", raising=False)
    provenance = {
        "extractor": "inception",
        "layer": "64",
        "preprocessing": "clean",
        "backend": "torch",
        "generated": {"label": "samples"},
        "reference": {"label": "ref|1.npz", "sha256": "c0ffee"},
    }
    common = {
        "n_generated": 9000,
        "n_reference": 50000,
        "lower_is_better": True,
        "warnings": ("few *images*",),
        "provenance": provenance,
    }
    interval = {"corrected_value": 1.25, "interval_95": (1.0, 1.5), "standard_error": 0.1, "reference_is": "fixed"}
    fid = Score(metric="fid", label="FID", value=1.75, **interval, **common)
    kid = Score(metric="kid", label="KID", value=1e-05, **common)
    protocol = ProtocolRecord(
        name="my-protocol",
        title="A title",
        source="",
        deviations=("too few images",),
        not_computed=(),
        unverified=(),
        note="",
        published=(),
        accepted={},
        fdr={},
        mean_fdr=None,
        sentence="",
    )
    scores = Scores({"fid": fid, "kid": kid}, provenance).with_protocol(protocol)
    request = ScoreRequest("samples", "hf://datasets/me/images/ref|1.npz", metrics="fid,kid")
    _, result, below = read_card(format_model_card(scores, request))
    assert result["dataset"]["type"] == "me/images"
    names, values = zip(*((each["name"], each["value"]) for each in result["metrics"]), strict=True)
    assert names == ("FID, preprocessing clean", "KID, preprocessing clean")
    assert values == (1.75, 1e-05)  # YAML reads 1e-05 as text
    assert result["metrics"][1]["args"].keys().isdisjoint({"corrected_value", "interval_95"})
    lines = below.splitlines()
    assert "| FID | 1.75 | 1.25 | 1 to 1.5 | ↓ | 9,000 generated, 50,000 reference |" in lines
    assert "- reference: ref\\|1.npz, sha256 c0ffee" in lines
    assert "- features: inception, layer 64, preprocessing clean" in lines
    assert "- deviation: too few images" in lines
    assert "- warning: few \\*images\\*" in lines
    assert any(line.startswith("- protocol: my-protocol") for line in lines)
    assert lines[-1] == "      frechet score samples 'hf://datasets/me/images/ref|1.npz' --metrics fid,kid"


def test_the_model_card_of_a_score_without_reference_names_none(rows):
    provenance = {"generated": {"label": "samples"}, "reference": None}
    scores = Scores({"is": Score(metric="is", label="IS", value=2.0, n_generated=9, provenance=provenance)}, provenance)
    _, result, below = read_card(format_model_card(scores, ScoreRequest("samples", metrics="is")))
    assert result["dataset"]["name"] == "no reference"
    assert "n_reference" not in result["metrics"][0]["args"]
    assert "- reference" not in below


def test_both_are_available_on_the_command_line(rows, tmp_path):
    for name, features in zip("ab", rows, strict=True):
        np.save(tmp_path / f"{name}.npy", features)
    card = tmp_path / "card.md"
    inputs = (str(tmp_path / "a.npy"), str(tmp_path / "b.npy"), "--features")
    code, out, _ = run("score", *inputs, "--cite", "--model-card", str(card))
    assert code == 0
    assert "@software{frechet," in out
    assert card.read_text().startswith("---\nmodel-index:")
    assert card.read_text().endswith(f"frechet score {' '.join(inputs)}\n")
    code, _, err = run("score", *inputs, "--output", str(card), "--model-card", str(card), "--force")
    assert code == 2
    assert "--output and --model-card both name" in err
